"""A real browser: Debian's chromium, told what to do by chromedriver over the W3C WebDriver protocol.

Standard library only. The browser has no window, a profile of its own below the directory it is given, and
a resolver that knows no name: what is not on 127.0.0.1 cannot be reached. Its console and every
request it makes are kept, so a test can say that there was no error and that nothing left the origin.
"""

import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess

import procs

ENTER, TAB = "\ue007", "\ue004"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key WebDriver marks elements with


def missing():
    """Why there can be no browser here, or None."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return "%s is not installed (Debian: chromium chromium-driver)" % program
    return None


class Browser:
    def __init__(self, directory, timeout=60):
        self.directory = directory
        self.timeout = timeout
        self.driver = None
        self.port = 0
        self.session = None
        self.console = []  # {"level", "message"}, and ...
        self.requests = []  # ... every address asked for, http or not: what look() has found

    # ---- life ----

    def start(self):
        os.makedirs(self.directory, exist_ok=True)
        log = os.path.join(self.directory, "chromedriver.out")
        with open(log, "wb") as sink:
            # A session, and so a process group, of its own: the browser's processes go with it.
            self.driver = procs.spawn(
                ["chromedriver", "--port=0", "--log-level=SEVERE"],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "HOME": self.directory, "TMPDIR": self.directory},
            )

        def listening():
            if self.driver.poll() is not None:
                raise AssertionError("chromedriver ended with %s" % self.driver.returncode)
            with open(log, errors="replace") as file:
                found = re.search(r"started successfully on port (\d+)", file.read())
            return found and int(found.group(1))

        self.port = procs.wait_until(listening, self.timeout, "chromedriver listens")
        arguments = [
            "--headless=new",
            "--user-data-dir=" + os.path.join(self.directory, "profile"),
            "--window-size=1280,900",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",  # a container's may be too small
            "--disable-gpu",
            "--lang=en",
            "--no-default-browser-check",
            "--no-first-run",
            "--no-sandbox",  # it wants an ordinary user and namespaces; the pages are our own
        ]
        answer = self._ask(
            "POST",
            "/session",
            {
                "capabilities": {
                    "alwaysMatch": {
                        "goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")},
                        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                        "timeouts": {"pageLoad": self.timeout * 1000, "script": self.timeout * 1000},
                    }
                }
            },
        )
        self.session = answer["sessionId"]

    def close(self):
        """Asks the browser to go, then ends what is left of it, by process id."""
        if self.session is not None:
            try:
                self._call("DELETE", "")
            except (OSError, http.client.HTTPException, AssertionError):
                pass  # it is ended below
            self.session = None
        if self.driver is not None:
            try:
                os.killpg(self.driver.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            procs.end(self.driver)
            self.driver = None

    # ---- the protocol ----

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Content-Type": "application/json; charset=utf-8"},
            )
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        finally:
            connection.close()
        if answer.status != 200:
            raise AssertionError("%s %s: %s: %s" % (method, path, value["error"], value["message"][:500]))
        return value

    def _call(self, method, path, body=None):
        return self._ask(method, "/session/%s%s" % (self.session, path), body)

    # ---- what a user does ----

    def open(self, url):
        self._call("POST", "/url", {"url": url})

    def resize(self, width, height):
        """The page's own size, as a device of that size would give it; windows have a least width."""
        self._devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def dark(self, on):
        value = "dark" if on else "light"
        self._devtools("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": value}]})

    def find(self, selector):
        return self._call("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def click(self, selector):
        self._call("POST", "/element/%s/click" % self._reachable(selector), {})

    def type(self, selector, text):
        self._call("POST", "/element/%s/value" % self._reachable(selector), {"text": text})

    def _reachable(self, selector):
        """The element, once it is in sight: a page shows some only after it has heard from the server."""
        self.wait(selector + " can be seen", "return document.querySelector(arguments[0])?.checkVisibility()", selector)
        return self.find(selector)

    def press(self, key):
        """One key, wherever the focus is."""
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    # ---- what a user sees ----

    def run(self, script, *arguments):
        """The value of a function's body, run in the page."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector):
        """What is to be read there; empty when it is hidden or not there."""
        return self.run(
            "const e = document.querySelector(arguments[0]); return e && e.checkVisibility() ? e.innerText : '';", selector
        )

    def wait(self, what, script, *arguments):
        """Waits until SCRIPT gives something true, and returns that."""
        return procs.wait_until(lambda: self.run(script, *arguments), self.timeout, what, pause=0.05)

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self._call("GET", "/screenshot")))

    def _devtools(self, command, parameters):
        self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self):
        """Brings .console and .requests up to now."""
        for line in self._call("POST", "/se/log", {"type": "browser"}):
            self.console.append({"level": line["level"], "message": line["message"]})
        for line in self._call("POST", "/se/log", {"type": "performance"}):
            event = json.loads(line["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            elif event["method"] == "Network.webSocketCreated":
                self.requests.append(event["params"]["url"])

    def forget(self):
        """Nothing has been complained of and nobody asked, from now on."""
        self.look()
        self.console, self.requests = [], []
