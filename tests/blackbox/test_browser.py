"""The dashboard and /docs as people have them: in a real browser, on a real server with a real MariaDB.

What is to be read on the page is compared with what the API says, and every page is also asked whether
it complained (console), whether anything but the server was asked (requests), and whether
it scrolls sideways in a narrow window. Skipped where there is no browser.
"""

import json
import os
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import browser
import procs
import runner

# A name that runs when it is taken for markup, one that turns a line around, one as long as a name can be.
MARKUP = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
TURNING = "\u202e\u05d0\u05d1 gnp.exe"
LONG = "W" * 255
HOSTILE = (MARKUP, TURNING, LONG)

# The rows of the table, as text: a service's name stands in front of each of its objectives.
ROWS = """
return [...document.querySelectorAll('#services tbody')].flatMap((body) => [...body.rows].map((row) =>
  [body.rows[0].cells[0].textContent, ...[...row.cells].filter((cell) => cell.tagName === 'TD').map((cell) => cell.innerText)]));
"""


def events(service, good, bad=0):
    one = [{"service": service, "status": 503, "latency_ms": 5}] * bad
    return one + [{"service": service, "status": 200, "latency_ms": 5}] * good


def floor_percent(good, bad, digits):
    """Attained, cut off after DIGITS, from integers."""
    units = good * 10 ** (digits + 2) // (good + bad)
    return "%d.%0*d %%" % (units // 10**digits, digits, units % 10**digits)


def plain(number, digits):
    """As the page prints a number: at most DIGITS digits behind the point, thousands in commas."""
    if number is None:
        return "no data"
    text = "{:,.{}f}".format(number, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def expected_rows(status):
    """What the page has to show of an answer of /slo/status."""
    rows = []
    for service in status["services"]:
        for one in service["objectives"]:
            some = one["good"] + one["bad"] > 0
            limit = " \u2264 %s ms" % plain(one["threshold_ms"], 3) if one["type"] == "latency" else ""
            rows.append(
                [
                    service["service"],
                    "%s%s, %s" % (one["type"], limit, one["window"]),
                    one["health"].replace("_", " "),
                    floor_percent(one["good"], one["bad"], 3) if some else "no data",
                    "%.3f %%" % (one["target"] * 100),
                    "%.1f %%" % (one["error_budget_remaining"] * 100) if some else "no data",
                    *[plain(one["burn_rate"][window], 2) for window in ("5m", "1h", "6h", "3d")],
                    plain(service["latency_ms"]["p99"], 1),
                    plain(one["good"] + one["bad"], 0),
                ]
            )
    return rows


class InABrowser(runner.Drill):
    """One browser for all: it takes seconds to start, and each server is an origin of its own."""

    deadline_seconds = 300
    page = None
    directory = None

    def setUp(self):
        super().setUp()
        reason = browser.missing()
        if reason:
            self.skipTest(reason)
        if InABrowser.page is None:
            InABrowser.directory = tempfile.mkdtemp(prefix="sluice-browser-")
            InABrowser.page = browser.Browser(self.directory, 120 * procs.SLOWNESS)
            self.page.start()
        self.page.resize(1280, 900)
        self.page.open("about:blank")
        self.page.forget()

    @classmethod
    def tearDownClass(cls):
        if cls.page is not None:
            cls.page.close()
            cls.page = None
            shutil.rmtree(cls.directory, ignore_errors=True)
        super().tearDownClass()

    def send(self, server, given, headers=()):
        with server.client() as client:
            answer = client.post("/events/bulk?ids=0", given, headers)
        self.assertEqual(answer.status, 202, answer)

    def ask(self, server, path, headers=()):
        with server.client() as client:
            answer = client.get(path, headers)
        self.assertEqual(answer.status, 200, answer)
        return answer.json()

    def origin(self, server):
        return "http://127.0.0.1:%d" % server.port

    def wait_state(self, text):
        self.page.wait("the page says " + text, "return document.getElementById('state').textContent.startsWith(arguments[0])", text)

    def check_quiet(self, server, allowed=()):
        """The page never complained, and asked nobody but its server."""
        self.page.look()
        complaints = [c for c in self.page.console if not any(text in c["message"] for text in allowed)]
        self.assertEqual(complaints, [])
        asked = [url for url in self.page.requests if not url.startswith("data:")]
        self.assertTrue(asked)
        self.assertEqual([url for url in asked if not url.startswith(self.origin(server) + "/")], [])

    def check_fits(self, width, parts="html"):
        """None of PARTS is wider than what shows it, in a window of WIDTH."""
        self.page.resize(width, 800)
        wide = self.page.run(
            "return [...document.querySelectorAll(arguments[0])].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.tagName)",
            parts,
        )
        self.assertEqual(wide, [])

    def focused(self):
        return self.page.run("const e = document.activeElement; return e.id || e.innerText || e.className;")

    def check_rows(self, server):
        """The table becomes what /slo/status says, with its next poll at the latest."""
        seen = {}

        def same():
            seen["page"] = self.page.run(ROWS)
            seen["api"] = expected_rows(self.ask(server, "/slo/status"))
            return seen["page"] == seen["api"]

        try:
            procs.wait_until(same, 60 * procs.SLOWNESS, "the page and the API agree", pause=0.1)
        except AssertionError:
            self.assertEqual(seen["page"], seen["api"])
            raise
        return seen["page"]

    def test_the_dashboard(self):
        db = self.database()
        server = self.server(db, DB_RETRY_BACKOFF_MAX_MS=500)
        page = self.page
        page.open(self.origin(server) + "/")
        self.wait_state("Live")
        self.assertEqual(page.text("#services .none"), "No services yet")
        self.assertEqual(page.text("#firing"), "0")
        self.assertFalse(page.text("#alerts"))

        # Traffic, with the page open: it follows by itself.
        self.send(server, events("well", 2000) + events("broken", 100, 6) + events("near the edge", 5000, 4))
        for name in HOSTILE:
            self.send(server, events(name, 50))
        page.wait("all services are there", "return document.getElementById('count').textContent === arguments[0]", "6")
        page.wait("the alert is there", "return document.getElementById('firing').textContent === '1'")
        shown = self.check_rows(server)
        self.assertEqual([row[0] for row in shown][:4:2], ["broken", "near the edge"])
        self.assertEqual(shown[0][1:6], ["availability, 30d", "violated", "94.339 %", "99.900 %", "-5560.4 %"])
        self.assertEqual(shown[2][2:4], ["at risk", "99.920 %"])
        self.assertEqual({row[0] for row in shown[4:]}, {"well", *HOSTILE})
        self.assertEqual(page.text("#health"), "violated")

        # The alert and its sentence.
        alerts = self.ask(server, "/slo/alerts?state=firing")["alerts"]
        self.assertEqual([(a["service"], a["severity"]) for a in alerts], [("broken", "page")])
        self.assertIn("5.66 % of events failed", alerts[0]["summary"])
        self.assertIn("page " + alerts[0]["summary"] + " (default-availability, since ", page.text("#alert-list"))
        self.assertIn("1 firing: page broken", page.run("return document.getElementById('alerts-said').textContent"))

        # A hostile name is text: in the table, and in an alert.
        for name in HOSTILE:
            self.send(server, events(name, 0, 6))
        page.wait("their alerts are there", "return document.getElementById('firing').textContent === '4'")
        self.assertEqual(page.run("return document.title"), "Sluice")
        self.assertEqual(page.run("return document.querySelectorAll('img, #services script, #alerts script').length"), 0)
        self.assertEqual(
            set(page.run("return [...document.querySelectorAll('#alert-list bdi')].map((e) => e.textContent)")),
            {"broken", *HOSTILE},
        )
        # The one that turns lines around stays on the left, with its figures to the right of it, in order.
        self.assertTrue(
            page.run(
                "const body = [...document.querySelectorAll('#services tbody')].find((b) => b.rows[0].cells[0].textContent === arguments[0]);"
                "const left = [...body.rows[0].cells].map((cell) => cell.getBoundingClientRect().left);"
                "return left.every((x, i) => i === 0 || left[i - 1] < x);",
                TURNING,
            )
        )
        self.check_rows(server)

        # Narrow, without a mouse.
        self.check_fits(1280, "html, .scroll, #alerts")
        self.check_fits(375, "html, .scroll, #alerts")
        self.assertIn("Burn 6h", page.run("return [...document.querySelectorAll('#services td')].map((e) => getComputedStyle(e, '::before').content).join()"))
        met = []
        while len(met) < 8 and "API" not in met:
            page.press(browser.TAB)
            met.append(self.focused())
        self.assertEqual([m for m in met if m.endswith(("JSON", "API"))], ["Status as JSON", "Alerts as JSON", "API"])
        self.assertEqual(page.run("return getComputedStyle(document.activeElement).outlineStyle"), "solid")
        page.resize(1280, 900)

        # Without its database the page goes on, and says so; then it is well again by itself.
        db.stop()
        self.wait_state("Degraded")
        self.send(server, events("well", 0, 20))
        page.wait(
            "new events count all the same",
            "return document.getElementById('services').innerText.includes(arguments[0])",
            "2,020",
        )
        self.assertNotEqual(page.text("#pending"), "0")
        db.restart()
        self.wait_state("Live")

        self.check_quiet(server)
        self.assertFalse([url for url in page.requests if url.count(self.origin(server) + "/dashboard.js") > 1])
        self.assertEqual(len([url for url in page.requests if url.endswith(":%d/" % server.port)]), 1)  # no reload

    def test_the_dashboard_asks_for_a_key(self):
        server = self.server(API_KEYS="acme:acme-key", ADMIN_KEY="admin-key")
        self.send(server, events("theirs", 10), (("X-API-Key", "acme-key"),))
        page = self.page
        page.open(self.origin(server) + "/")
        self.wait_state("This server asks for an API key")
        self.assertEqual(page.run(ROWS), [])
        page.type("#key", "wrong" + browser.ENTER)
        self.wait_state("This key does not open this page")
        page.type("#key", "acme-key")
        page.click("#access button")
        page.wait("the service is there", "return document.getElementById('services').innerText.includes('theirs')")
        self.wait_state("Live")
        self.assertNotIn("acme-key", page.run("return document.documentElement.outerHTML + location.href + document.cookie"))
        # A reload keeps the key; the admin looks at a tenant, and at the server itself.
        page.open(self.origin(server) + "/")
        page.wait("the service is there", "return document.getElementById('services').innerText.includes('theirs')")
        page.type("#key", "admin-key" + browser.ENTER)
        self.wait_state("This key does not open this page: the admin key stands for no tenant")
        page.open(self.origin(server) + "/?tenant=acme")
        page.wait("the service is there", "return document.getElementById('services').innerText.includes('theirs')")
        self.assertEqual(page.text("h1"), "Sluice: acme")
        page.open(self.origin(server) + "/?tenant=_sluice")
        self.wait_state("Live")
        self.check_quiet(server, allowed=("401 (Unauthorized)", "403 (Forbidden)"))  # the browser's own words

    def test_the_docs(self):
        server = self.server()
        page = self.page
        page.open(self.origin(server) + "/docs")
        page.wait("the routes are there", "return document.querySelector('#routes form.try') !== null")
        spec = self.ask(server, "/openapi.json")
        routes = {"%s %s" % (m.upper(), path) for path, item in spec["paths"].items() for m in item if m in ("get", "post", "put", "delete")}
        shown = page.run("return [...document.querySelectorAll('#routes form.try')].map((form) => form.getAttribute('aria-label'))")
        self.assertEqual(sorted(shown), sorted("Try " + route for route in routes))

        def answer(route, fill=""):
            """Sends the form of a route, after FILL has done something to it; the answer's status and body."""
            route_id = "route-" + route.lower().replace(" /", "-").replace("/", "-")
            page.run(
                "const form = document.querySelector('#' + arguments[0] + ' form.try'); const fields = form.elements;"
                "const named = (text) => [...form.querySelectorAll('label')].find((l) => l.textContent.startsWith(text)).control;"
                "document.getElementById(arguments[0]).open = true;" + fill,
                route_id,
            )
            page.click("#%s form.try button" % route_id)
            page.wait("an answer to " + route, "return document.querySelector('#' + arguments[0] + ' .status') !== null", route_id)
            return page.text("#%s .status" % route_id), page.text("#%s [role=status] > pre" % route_id)

        body = json.dumps({"service": "tried", "status": 200, "latency_ms": 7})
        status, text = answer("POST /events", "named('Body').value = %s;" % json.dumps(body))
        self.assertEqual(status, "202 Accepted")
        self.assertFalse(json.loads(text)["duplicate"])
        status, text = answer("GET /slo/status", "named('service').value = 'tried';")
        self.assertEqual(status, "200 OK")
        self.assertEqual([(s["service"], s["total"]) for s in json.loads(text)["services"]], [("tried", 1)])
        self.check_fits(375)
        self.check_quiet(server)


if __name__ == "__main__":
    runner.main()
