#!/usr/bin/env python3
"""Builds and runs everything that is tested, and counts it.

    tests/run.py [CONFIG...] [--only GROUP]... [--match TEXT]...

For each build CONFIG (debug asan tsan when none is named) the groups of PLAN run in order. Each
program has a process group, a temporary directory (TMPDIR) and a deadline of its own; what it leaves
behind is ended and removed. Output goes to build/<config>/results/ and is shown when something failed.

A program fails when a test in it fails, when it exits non-zero, dies, outlives its deadline, runs
no test at all, or when a sanitizer reports anything in it or in a process it started. The last line is
always `N passed, N failed, N skipped`; the exit code is 0 only if something ran and nothing failed.
"""

import argparse
import concurrent.futures
import glob
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARIADB = os.path.join(ROOT, "infra", "scripts", "mariadb.sh")

# What runs under each build, phase by phase; the groups of one phase run beside each other: the first ones compute,
# the last ones mostly wait. Fuzz corpora need no second look for races: the targets have one thread.
PLAN = {
    "debug": (("unit",), ("fuzz",), ("integration", "drills")),
    "release": (("unit",), ("fuzz",), ("integration", "drills")),
    "asan": (("unit",), ("fuzz",), ("integration", "drills")),
    "tsan": (("unit",), ("integration", "drills")),
}

# Seconds one program may take. A sanitizer slows it several times; the deadline only catches hangs.
DEADLINE = {"unit": 60, "fuzz": 60, "integration": 300, "drills": 900}
DEADLINE_FACTOR = {"asan": 3, "tsan": 5}

# Sanitizer builds repeat drills to look for reports, not to meet more moments: those that go through
# most of the code, in small sizes. The others trace the server, which LeakSanitizer does not bear, or
# wait for the disk.
SANITIZED_DRILLS = ("blackbox/test_auth", "blackbox/test_contract", "blackbox/test_http", "blackbox/test_import",
                    "blackbox/test_openapi", "blackbox/test_slo_alerts", "blackbox/test_stop", "blackbox/test_tls", "blackbox/test_db_tls",
                    "sim/test_alert_minutes",
                    "crash/test_kill_server", "crash/test_kill_mariadb", "crash/test_lost_commit")
SHORT_DRILLS = {"KILL_ROUNDS": "3", "KILL_EVENTS": "5000", "POWER_ROUNDS": "2", "DB_ROUNDS": "2",
                "IMPORT_EVENTS": "3000", "IMPORT_KILLS": "3", "ALERT_HISTORIES": "15"}

# Programs of a group that run at one time. Integration programs share a database server; drills
# mostly wait, for timeouts and restarts, so there can be more of them than processors; under a
# sanitizer they also compute.
AT_ONCE = {"unit": os.cpu_count() or 1, "fuzz": os.cpu_count() or 1, "integration": 1, "drills": 4}
SANITIZED_AT_ONCE = 3

SANITIZER_REPORT = re.compile(
    r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|FATAL: ThreadSanitizer"
    r"|: runtime error: |SUMMARY: \w+Sanitizer"
)


class Outcome:
    """What came of one program: counts, why something failed, why something was skipped."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.reasons = []
        self.skips = []

    def fail(self, reason):
        self.failed += 1
        self.reasons.append(reason)

    def fail_whole(self, reason):
        """What befell the program, not one test: it counts only if no test has been counted for it."""
        self.failed = max(self.failed, 1)
        self.reasons.append(reason)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def line(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read_cmocka(output, outcome):
    """Counts cmocka's standard output. Returns whether there was any."""
    announced = counted = 0
    running = None
    said = []
    found = False
    for line in output.splitlines():
        begin = re.search(r"\[={10}\] .*?Running (\d+) test\(s\)", line)
        if begin:
            found = True
            announced, counted, running = int(begin.group(1)), 0, "group setup"
            continue
        if running is None:
            continue
        event = re.search(r"\[( RUN      |       OK |  FAILED  |  SKIPPED )\] (.*)", line)
        if event:
            kind, name = event.group(1).strip(), event.group(2)
            if kind == "RUN":
                running, said = name, []
            else:
                counted += 1
                if kind == "OK":
                    outcome.passed += 1
                elif kind == "SKIPPED":
                    outcome.skipped += 1
                    outcome.skips.append(f"{name}: {' '.join(said) or 'the test gives no reason'}")
                else:
                    outcome.fail(name)
        elif re.search(r"\[={10}\] .*?\d+ test\(s\) run", line):
            # Failed set-ups and tear-downs have no event of their own.
            if counted < announced:
                outcome.failed += announced - counted
                outcome.reasons.append(f"{announced - counted} of {announced} tests did not run through")
            running = None
        else:
            said.append(line.strip())
    if running is not None:
        outcome.fail(f"ended inside: {running} ({announced - counted} of {announced} tests open)")
    return found


def without_passed(output):
    """The lines of OUTPUT, but for what cmocka says of tests that passed."""
    kept = []
    begin = None
    for line in output.splitlines():
        if re.search(r"\[ RUN      \] ", line):
            begin = len(kept)
        kept.append(line)
        if begin is not None and re.search(r"\[       OK \] ", line):
            del kept[begin:]
            begin = None
    return kept


def read_counts(output, outcome):
    """Counts a program that ends with a closing line of ours. Returns whether it did."""
    lines = output.strip().splitlines()
    match = re.fullmatch(r"(\d+) inputs ran, (\d+) failed", lines[-1] if lines else "")
    if match:
        outcome.passed += int(match.group(1))
        outcome.failed += int(match.group(2))
        outcome.reasons += [text for text in lines if text.startswith("FAILED ")]
        return True
    match = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", lines[-1] if lines else "")
    if not match:
        return False
    passed, failed, skipped = (int(n) for n in match.groups())
    outcome.passed += passed
    outcome.failed += failed
    outcome.skipped += skipped
    outcome.reasons += [text[4:].strip() for text in lines if text.startswith("FAIL")]
    outcome.skips += [text[4:].strip() for text in lines if text.startswith("skip ")]
    return True


class Runner:
    def __init__(self, arguments):
        self.only = arguments.only
        self.match = arguments.match
        self.total = Outcome()
        self.children = set()
        self.lock = threading.Lock()
        self.stopping = False
        # Readable by `nobody`, who runs the private database when we are root.
        self.scratch = tempfile.mkdtemp(prefix="sluice-")
        self.directories = itertools.count(1)
        os.chmod(self.scratch, 0o711)
        self.database = None
        self.tsan_prefix = []

    # ---- processes ----

    def start(self, command, **options):
        with self.lock:
            if self.stopping:
                raise KeyboardInterrupt
            child = subprocess.Popen(command, cwd=ROOT, start_new_session=True,
                                     stdin=subprocess.DEVNULL, **options)
            self.children.add(child)
        return child

    def end(self, child):
        """Ends whatever is left of a child's process group, and forgets it. A drill gets time to unmount."""
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
        with self.lock:
            self.children.discard(child)

    def stop_all(self):
        with self.lock:
            self.stopping = True
            children = list(self.children)
        for child in children:
            self.end(child)

    def run_program(self, name, config, group, command, environment):
        """Runs COMMAND to its end or deadline and judges it. Returns (name, outcome, seconds, log)."""
        outcome = Outcome()
        # Short names: a socket's path has about a hundred bytes, and drills add their own folders.
        with self.lock:
            directory = os.path.join(self.scratch, str(next(self.directories)))
        os.mkdir(directory)
        os.chmod(directory, 0o1777)  # for a database that runs as `nobody`, too
        reports = os.path.join(directory, "sanitizer")
        log = os.path.join(ROOT, "build", config, "results", name.replace("/", "-") + ".log")
        os.makedirs(os.path.dirname(log), exist_ok=True)
        deadline = DEADLINE[group] * DEADLINE_FACTOR.get(config, 1)
        environment = dict(environment, TMPDIR=directory, TEST_RUN=directory, **sanitizer_options(reports))

        began = time.monotonic()
        with open(log, "wb") as sink:
            child = self.start(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)
            try:
                status = child.wait(timeout=deadline)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                self.end(child)
                kill_marked("TEST_RUN=" + directory)
        seconds = time.monotonic() - began
        if self.stopping:
            raise KeyboardInterrupt

        for report in sorted(glob.glob(reports + ".*")):
            with open(report, "rb") as source, open(log, "ab") as sink:
                shutil.copyfileobj(source, sink)
        with open(log, "r", errors="replace") as source:
            output = source.read()
        remove_tree(directory)

        if not read_cmocka(output, outcome):
            read_counts(output, outcome)
        if SANITIZER_REPORT.search(output):
            outcome.fail_whole("a sanitizer reported something")
        if status is None:
            outcome.fail_whole(f"still running after {deadline} s")
        elif status < 0:
            outcome.fail_whole(f"died of {signal.Signals(-status).name}")
        elif status != 0 and outcome.failed == 0:
            outcome.fail_whole(f"exit code {status}")
        elif outcome.passed + outcome.failed + outcome.skipped == 0:
            outcome.fail_whole("ran no test")
        return name, outcome, seconds, log, output

    # ---- reporting ----

    def report(self, config, result):
        name, outcome, seconds, log, output = result
        self.total.add(outcome)
        word = "FAILED" if outcome.failed else "ok"
        counts = [f"{outcome.passed} passed"]
        counts += [f"{outcome.failed} FAILED"] if outcome.failed else []
        counts += [f"{outcome.skipped} skipped"] if outcome.skipped else []
        say(f"  {word:<6} {config:<7} {name:<44} {', '.join(counts)} ({seconds:.1f} s)")
        for reason in outcome.skips:
            say(f"         skipped: {reason}")
        if outcome.failed:
            for reason in outcome.reasons:
                say(f"         failed: {reason}")
            for line in without_passed(output)[-120:]:
                say(f"         | {line}")
            say(f"         whole output: {os.path.relpath(log, ROOT)}")

    def failed(self, config, name, reason):
        self.total.failed += 1
        say(f"  FAILED {config:<7} {name:<44} {reason}")

    def skipped(self, config, name, reason):
        self.total.skipped += 1
        say(f"  skip   {config:<7} {name:<44} {reason}")

    # ---- what a group needs ----

    def build(self, config):
        began = time.monotonic()
        make = os.environ.get("MAKE", "make")
        jobs = str(os.cpu_count() or 1)
        child = self.start([make, "--no-print-directory", "-k", "-j" + jobs, "CONFIG=" + config, "all",
                            "test-programs"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           errors="replace",
                           env={k: v for k, v in os.environ.items()
                                if k not in ("CC", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")})
        output, _ = child.communicate()
        self.end(child)
        say(f"{config}: built in {time.monotonic() - began:.0f} s")
        if child.returncode != 0:
            lines = [text for text in output.splitlines() if not re.match(r"  (CC|AR|LINK) ", text)]
            for line in lines[-120:]:
                say(f"         | {line}")
            self.failed(config, "build", "the build failed")

    def start_database(self, config):
        """Starts a private MariaDB; returns the variables that tell programs where it is."""
        directory = os.path.join(self.scratch, "mariadb-" + config)
        started = subprocess.run([MARIADB, "start", directory], cwd=ROOT, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                                 start_new_session=True, text=True, errors="replace", check=False)
        self.database = directory
        if started.returncode != 0:
            say(started.stdout)
            return None
        return {"TEST_DB_SOCKET": os.path.join(directory, "s"), "TEST_DB_USER": "root",
                "TEST_DB_PASSWORD": ""}

    def stop_database(self):
        if self.database is None:
            return
        directory, self.database = self.database, None
        subprocess.run([MARIADB, "stop", directory], cwd=ROOT, stdout=subprocess.DEVNULL, timeout=60,
                       start_new_session=True, check=False)

    def probe_tsan(self):
        """
        How a TSan program must be started here: ThreadSanitizer cannot map its memory over some
        layouts that address randomisation picks. None: it cannot run at all.
        """
        program = os.path.join(self.scratch, "probe")
        subprocess.run(["gcc", "-fsanitize=thread", "-x", "c", "-", "-o", program], text=True,
                       input="int main(void) { return 0; }", check=True)
        for prefix, words in ((["setarch", "-R"], "under setarch -R (no address randomisation)"),
                              ([], "as they are (setarch -R is not permitted)")):
            try:
                if all(subprocess.run(prefix + [program], stdin=subprocess.DEVNULL, check=False,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                       .returncode == 0 for _ in range(10)):
                    say(f"tsan: programs run {words}")
                    return prefix
            except FileNotFoundError:
                pass
        return None

    # ---- groups ----

    def programs(self, config, group):
        """The (name, command) pairs of GROUP that --match lets through."""
        prefix = self.tsan_prefix if config == "tsan" else []
        found = []
        if group in ("unit", "integration"):
            for source in sorted(glob.glob(os.path.join(ROOT, "tests", group, "test_*.c"))):
                name = os.path.basename(source)[:-2]
                found.append((f"{group}/{name}",
                              prefix + [os.path.join("build", config, "tests", group, name)]))
        elif group == "fuzz":
            for source in sorted(glob.glob(os.path.join(ROOT, "fuzz", "fuzz_*.c"))):
                name = os.path.basename(source)[len("fuzz_"):-2]
                found.append((f"fuzz/{name}", [os.path.join("build", config, "fuzz", "replay_" + name),
                                               os.path.join("fuzz", "corpus", name)]))
        elif group == "drills":
            # Backwards: the crash drills are the long ones and go first.
            for script in sorted(glob.glob(os.path.join(ROOT, "tests", "*", "test_*.py")), reverse=True):
                name = os.path.relpath(script, os.path.join(ROOT, "tests"))[:-3]
                found.append((name, [sys.executable, os.path.relpath(script, ROOT)]))
            if config in DEADLINE_FACTOR:
                found = [pair for pair in found if pair[0] in SANITIZED_DRILLS]
        if self.match:
            found = [pair for pair in found if any(text in pair[0] for text in self.match)]
        return found

    def environment(self, config, group):
        """The variables for programs of GROUP; None when what they need did not start."""
        # SLUICE_BIN and the factor are for the drills, which start the server themselves.
        environment = dict(os.environ, SLUICE_BIN=os.path.join(ROOT, "build", config, "sluice"),
                           DRILL_DEADLINE_FACTOR=str(DEADLINE_FACTOR.get(config, 1)))
        if config in DEADLINE_FACTOR:
            environment = {**SHORT_DRILLS, **environment}
        if group == "integration":
            variables = self.start_database(config)
            if variables is None:
                self.failed(config, "integration", "the private MariaDB did not start")
                return None
            environment.update(variables)
        return environment

    def submit_group(self, config, group, pool):
        """Hands the programs of GROUP to POOL. Returns the futures."""
        found = self.programs(config, group)
        environment = self.environment(config, group) if found else None
        running = []
        for name, command in found if environment else []:
            built = [part for part in command if part.startswith("build" + os.sep)]
            if not all(os.path.exists(os.path.join(ROOT, program)) for program in built):
                self.failed(config, name, "was not built")
                continue
            running.append(pool.submit(self.run_program, name, config, group, command, environment))
        return running

    def run_phase(self, config, groups):
        """Runs the programs of GROUPS to their ends, of each group as many at a time as it may have."""
        pools = [concurrent.futures.ThreadPoolExecutor(max_workers=at_once(config, group)) for group in groups]
        try:
            running = [future for group, pool in zip(groups, pools)
                       for future in self.submit_group(config, group, pool)]
            for future in concurrent.futures.as_completed(running):
                self.report(config, future.result())
        except BaseException:
            self.stop_all()  # else the pools would wait for what still runs
            raise
        finally:
            for pool in pools:
                pool.shutdown(wait=True, cancel_futures=True)
            self.stop_database()

    def run(self, configs):
        for config in configs:
            if config == "tsan":
                self.tsan_prefix = self.probe_tsan()
                if self.tsan_prefix is None:
                    self.skipped(config, "all", "ThreadSanitizer cannot map its memory on this kernel")
                    continue
            self.build(config)
            for phase in PLAN[config]:
                self.run_phase(config, [group for group in phase if not self.only or group in self.only])

    def close(self):
        self.stop_all()
        self.stop_database()
        remove_tree(self.scratch)


def at_once(config, group):
    return min(AT_ONCE[group], SANITIZED_AT_ONCE) if config in DEADLINE_FACTOR else AT_ONCE[group]


def kill_marked(marker):
    """Kills what was started with MARKER in its environment, also in a session of its own."""
    wanted = os.fsencode(marker)
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as source:
                if wanted in source.read().split(b"\0"):
                    os.kill(int(entry), signal.SIGKILL)
        except OSError:
            pass  # gone meanwhile, or not ours to see


def remove_tree(directory):
    """Removes DIRECTORY; a file system that a killed drill left mounted in it is detached first."""
    with open("/proc/mounts", encoding="utf-8") as source:
        targets = [line.split()[1] for line in source]
    for target in reversed(targets):
        if target.startswith(directory + os.sep):
            subprocess.run(["umount", "-l", target], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def sanitizer_options(reports):
    """Reports go to files, so a program that swallows its child's output cannot hide them."""
    common = f"log_path={reports}:exitcode=66"
    return {
        "ASAN_OPTIONS": common + ":detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1",
        "UBSAN_OPTIONS": common + ":print_stacktrace=1",
        "TSAN_OPTIONS": f"{common}:second_deadlock_stack=1:suppressions='{ROOT}/tests/tsan.supp'",
    }


def say(text):
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="debug, release, asan, tsan")
    parser.add_argument("--only", action="append", choices=sorted(DEADLINE), help="run only this group")
    parser.add_argument("--match", action="append", metavar="TEXT", help="only programs named like this")
    arguments = parser.parse_args()
    for config in arguments.configs:
        if config not in PLAN:
            parser.error(f"no build '{config}'")

    def interrupted(_number, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    runner = Runner(arguments)
    try:
        runner.run(arguments.configs or ["debug", "asan", "tsan"])
    except KeyboardInterrupt:
        runner.stop_all()
        runner.total.fail("interrupted")
        say("interrupted")
    finally:
        runner.close()
    if runner.total.passed + runner.total.failed == 0:
        runner.failed("", "tests", "nothing ran")
    say(runner.total.line())
    return 1 if runner.total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
