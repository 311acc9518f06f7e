"""Runs a file's unittest cases: own directory, deadline and clean-up for each, one closing line.

The closing line is "N passed, N failed, N skipped" and the exit code is 1 when anything failed.
Arguments are substrings of test names; -v is accepted and ignored.
"""

import faulthandler
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unittest

import procs
from database import MariaDB
from sluice import Server


class DeadlineExceeded(Exception):
    pass


class Drill(unittest.TestCase):
    """Base of all cases: processes and mounts made through it are gone when the test ends."""

    deadline_seconds = 120

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="sluice-drill-")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.servers = []
        self.seed = int(os.environ.get("DRILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
        self.random = random.Random(self.seed)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def say(self, text, *values):
        print("    " + (text % values if values else text), flush=True)

    def database(self, **options):
        """A private MariaDB, started."""
        db = MariaDB(self.path("db%d" % self.random.randrange(10**9)), **options)
        self.addCleanup(db.destroy)
        db.start()
        return db

    def server(self, db=None, start=True, **env):
        """A server of its own WAL_DIR (default DIR/wal); env names are API.md's variables."""
        env.setdefault("WAL_DIR", self.path("wal"))
        if db is not None:
            env.setdefault("DB_URL", db.url)
        server = Server(env, self.path("server%d" % len(self.servers)))
        self.servers.append(server)
        self.addCleanup(server.destroy)
        if start:
            server.start()
        return server

    def mount(self, *args):
        """Mounts and unmounts at the end, whatever happens. ARGS as for mount(8), target last."""
        procs.run(["mount", *args])
        self.addCleanup(self.unmount, args[-1])

    def unmount(self, target):
        for attempt in range(50):
            if not os.path.ismount(target):
                return
            done = procs.run(["umount", target], check=False)
            if done.returncode != 0:
                time.sleep(0.1)
        procs.run(["umount", "-l", target], check=False)

    def loop_ext4(self, name, megabytes):
        """An ext4 file system in a file, mounted on a loop device; skips where that cannot be had."""
        if os.geteuid() != 0:
            self.skipTest("mounting needs root")
        if not os.path.exists("/dev/loop-control"):
            self.skipTest("no loop devices here")
        image, target = self.path(name + ".img"), self.path(name)
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        procs.run(["mkfs.ext4", "-q", "-F", image])
        os.makedirs(target, exist_ok=True)
        probe = procs.run(["mount", "-o", "loop", image, target], check=False)
        if probe.returncode != 0:
            self.skipTest("cannot mount a loop device: " + probe.stderr.strip())
        self.addCleanup(self.unmount, target)
        return image, target

    def check_stderr(self):
        for server in self.servers:
            report = server.sanitizer_report()
            if report:
                self.fail("sanitizer or assert report of the server:\n" + report)


def _alarm(signum, frame):
    raise DeadlineExceeded("the test's deadline has passed")


class _Result(unittest.TestResult):
    """One line per test, details of a failure at once; also checks the server's stderr."""

    def __init__(self):
        super().__init__()
        self.passed = 0

    def startTest(self, test):
        super().startTest(test)
        self._began = time.monotonic()
        self._broken = False
        signal.alarm(int(getattr(test, "deadline_seconds", 120) * procs.SLOWNESS))

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def _line(self, word, test, extra=""):
        print(
            "%-4s %s (%.1f s)%s"
            % (word, test.id().split(".", 1)[-1], time.monotonic() - self._began, extra),
            flush=True,
        )

    def addSuccess(self, test):
        if not self._broken:
            self.passed += 1
            self._line("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line("skip", test, ": " + reason)

    def _bad(self, test, err):
        if not self._broken:
            self._line("FAIL", test)
            if getattr(test, "seed", None):
                print("    DRILL_SEED=%d" % test.seed)
        self._broken = True
        # The drill's own lines and the message; unittest's frames say nothing.
        parts = traceback.format_exception(*err)
        text = "".join(part for part in parts if "/unittest/" not in part.split("\n")[0])
        print("    " + text[:4000].replace("\n", "\n    "), flush=True)

    def addFailure(self, test, err):
        self.failures.append((test, ""))
        self._bad(test, err)
        self._server_logs(test)

    def addError(self, test, err):
        self.errors.append((test, ""))
        self._bad(test, err)
        self._server_logs(test)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.failures.append((subtest, ""))
            print("    in %s" % subtest)
            self._bad(test, err)

    @staticmethod
    def _server_logs(test):
        for server in getattr(test, "servers", []):
            tail = server.tail()
            if tail:
                print("    -- last lines of the server:\n    " + tail.replace("\n", "\n    "), flush=True)

    @property
    def failed(self):
        return len({test.id() for test, _ in self.failures + self.errors})


def _flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _flatten(item)
        else:
            yield item


def main():
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _alarm)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    result = _Result()
    if not os.access(Server.binary(), os.X_OK):
        print("no server at %s (SLUICE_BIN)" % Server.binary())
        print("0 passed, 1 failed, 0 skipped")
        sys.exit(1)
    previous = None
    for test in _flatten(suite):
        if not words or any(word in test.id() for word in words):
            if previous is not None and previous is not type(test):
                previous.tearDownClass()
            previous = type(test)
            test.run(result)
    if previous is not None:
        previous.tearDownClass()
    print("%d passed, %d failed, %d skipped" % (result.passed, result.failed, len(result.skipped)))
    sys.exit(1 if result.failed else 0)
