"""Faults of the log's disk and directory: failed syncs, full disks, a full log, twins, old copies.

After a failed commit nothing may be acked any more, /ready is never 200 again, the process ends
non-zero by itself, and a restart loses nothing that was acked.
"""

import os
import re
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner
from http_client import ConnectionLost
from load import Load, Plan


def strace(call, fault):
    return ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", "inject=%s:%s" % (call, fault))


class ReadyWatch:
    """Asks /ready all the time and keeps (moment, status or None)."""

    def __init__(self, server):
        self.server = server
        self.seen = []
        self.going = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while self.going:
            asked = time.monotonic()
            self.seen.append((asked, self.server.ready_status()))
            time.sleep(0.003)

    def stop(self):
        self.going = False
        self.thread.join(30)

    def statuses_after(self, moment):
        return {status for asked, status in self.seen if asked > moment}


class FailedSync(runner.Drill):
    deadline_seconds = 180

    def needs_strace(self):
        probe = procs.run(["strace", "-o", "/dev/null", "true"], check=False)
        if probe.returncode != 0:
            self.skipTest("strace cannot trace here: " + probe.stderr.strip())

    def start_with_fault(self, call, fault, db, **env):
        self.needs_strace()
        server = self.server(db, start=False, **env)
        server.start()  # creates log and schema without a fault
        server.stop()
        server.start(wrap=strace(call, fault))
        return server

    def until_end(self, server, load):
        """Waits for the server's own end; returns its exit code after the checks all faults share."""
        watch = ReadyWatch(server)
        # What was answered as failed is known when the load notes its first refusal; the watch is
        # compared with the process's end, which is later.
        code = server.wait_exit(60)
        ended = time.monotonic()
        watch.stop()
        self.assertNotEqual(code, 0, "the server ended with 0 after its log had failed")
        self.assertGreater(code, 0, "the server died of signal %d" % -code)
        self.assertEqual(watch.statuses_after(ended) - {None}, set())
        return watch

    def fault_drill(self, call, fault, codes):
        db = self.database()
        server = self.start_with_fault(call, fault, db)
        load = Load(
            self.dir,
            server.port,
            self.seed,
            # Nobody sends again: so what was refused must not be found afterwards.
            plan=Plan(workers=1, connections=8, rate=3000, bulk_share=0.02, retry_share=0, twin_share=0),
        )
        self.addCleanup(load.kill)
        self.until_end(server, load)
        acked = load.acked()
        time.sleep(0.2)
        self.assertEqual(load.acked(), acked, "an ack came after the process had ended")
        ledger = load.stop()
        self.say("answers: %r codes: %r", dict(ledger.statuses), dict(ledger.codes))
        self.assertTrue(
            set(ledger.codes) <= codes, "other refusals than promised: %r" % dict(ledger.codes)
        )
        self.assertTrue(
            any("failed" in str(line).lower() for line in server.lines() if line.get("level") in ("error", "ERROR")),
            "no error line tells of the failure: " + server.tail(),
        )
        server.start()  # no fault this time
        # Un-acked ones may be sent again with their ids: at most once each, still.
        oracle.judge(self, db, server, [ledger])
        self.check_stderr()
        return ledger

    def test_a_failed_meta_write_is_answered_outcome_unknown(self):
        """LMDB ends a commit with one 120-byte pwrite64; a traced run tells which number it has.

        Each request is too large for the stage, so it is a commit of LMDB's own.
        """
        self.needs_strace()
        base = self.server(None)
        base.stop()
        twin = self.path("twin")
        procs.run(["cp", "-a", base.wal_dir, twin])

        def post(server, number):
            events = [{"type": "t", "id": "m%d-%d" % (number, i), "payload": {"x": "x" * 40000}} for i in (1, 2)]
            with server.client() as client:
                return client.post("/events/bulk", events)

        trace = self.path("trace")
        server = self.server(None, start=False, WAL_DIR=twin)
        server.start(wrap=("strace", "-D", "-f", "-qq", "-o", trace, "-e", "trace=pwrite64"))
        for number in range(12):
            self.assertEqual(post(server, number).status, 202)
        server.stop()
        calls = {}
        for line in open(trace, errors="replace"):
            found = re.match(r"(\d+) +pwrite64\(\d+, .*, (\d+), \d+(?:\)| <)", line)
            if found:
                calls.setdefault(found.group(1), []).append(int(found.group(2)))
        committer = max(calls.values(), key=lambda sizes: sizes.count(120))
        places = [place for place, size in enumerate(committer, 1) if size == 120]
        self.assertGreater(len(places), 8, "no 120-byte meta writes seen: %r" % committer[:40])

        base.start(wrap=strace("pwrite64", "error=EIO:when=%d" % places[6]))
        acked, failed = [], None
        for number in range(12):
            try:
                answer = post(base, number)
            except (ConnectionLost, OSError):
                break
            if answer.status == 202:
                self.assertIsNone(failed, "an ack came after the failed commit")
                acked.append(number)
            elif failed is None:
                failed = answer
        self.assertIsNotNone(failed, "the failed commit was never answered")
        self.assertEqual((failed.status, failed.json()["error"]), (500, "outcome_unknown"))
        self.assertGreater(base.wait_exit(30), 0)
        base.start()
        for number in acked:
            self.assertEqual(post(base, number).json()["duplicates"], 2, "events m%d" % number)
        for number in range(12):
            self.assertIn(post(base, number).json()["duplicates"], (0, 2))  # a retry is safe either way
        for number in range(12):
            self.assertEqual(post(base, number).json()["duplicates"], 2)
        self.check_stderr()

    def test_ready_is_503_between_the_failed_commit_and_the_end(self):
        """The failing event's own answer is here; nothing after it may say 200."""
        server = self.start_with_fault("fdatasync", "error=EIO:when=20+", None)
        failed_at = None
        with server.client() as client:
            for number in range(200):
                try:
                    answer = client.post("/events", {"type": "t", "id": "e%d" % number})
                except (ConnectionLost, OSError):
                    break
                if answer.status == 202:
                    self.assertIsNone(failed_at, "an ack came after a failed commit")
                    acked = number
                    continue
                failed_at = failed_at or time.monotonic()
                self.assertIn(answer.status, (500, 503))
                self.assertEqual(answer.header("content-type"), "application/problem+json")
                self.assertIn(answer.json()["error"], ("log_failed", "outcome_unknown", "shutting_down"))
                if answer.status == 503:
                    self.assertIsNotNone(answer.header("retry-after"))
                self.assertIn(server.ready_status(), (503, None))
        self.assertGreater(server.wait_exit(30), 0)
        server.start()
        with server.client() as client:
            for number in range(acked + 1):
                self.assertEqual(
                    client.post("/events", {"type": "t", "id": "e%d" % number}).status, 200, "event e%d" % number
                )
        self.check_stderr()

    def test_a_slow_sync_delays_acks_but_breaks_nothing(self):
        db = self.database()
        server = self.start_with_fault("fdatasync", "delay_enter=300000:when=30+40", db)
        load = Load(self.dir, server.port, self.seed, plan=Plan(workers=1, connections=16, rate=3000))
        self.addCleanup(load.kill)
        time.sleep(4)
        ledger = load.stop()
        self.assertEqual(dict(ledger.codes), {})
        oracle.judge(self, db, server, [ledger])
        self.check_stderr()


PROMISED = {"503 log_failed", "503 shutting_down", "500 outcome_unknown"}


def _fault_test(call, number):
    def test(self):
        self.fault_drill(call, "error=EIO:when=%d" % number, PROMISED)

    test.__doc__ = "%s number %d of the committer fails once, under load." % (call, number)
    return test


for _call, _number in (("fdatasync", 8), ("fdatasync", 41), ("pwrite64", 30), ("pwrite64", 61), ("writev", 9)):
    setattr(
        FailedSync,
        "test_eio_from_%s_number_%d_ends_acks_and_the_process_and_a_restart_loses_nothing" % (_call, _number),
        _fault_test(_call, _number),
    )


class FullDisk(runner.Drill):
    deadline_seconds = 180

    @staticmethod
    def fill(directory):
        """Takes the last byte of the file system; returns the filler's path."""
        path = os.path.join(directory, "filler")
        with open(path, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 512):
                block = b"\0" * size
                try:
                    while True:
                        file.write(block)
                except OSError:
                    pass
            try:
                os.fsync(file.fileno())
            except OSError:
                pass
        return path

    def full_disk_drill(self, disk):
        db = self.database()
        server = self.server(
            db, WAL_DIR=os.path.join(disk, "wal"), WAL_MAX_BYTES=32 << 20, WAL_RETAIN_BYTES=1 << 20
        )
        load = Load(
            self.dir,
            server.port,
            self.seed,
            plan=Plan(workers=1, connections=8, rate=4000, retry_share=0, twin_share=0),
        )
        self.addCleanup(load.kill)
        procs.wait_until(lambda: load.acked() > 1000, 30, "acks before the disk is full")
        db.pause()  # so that the log must grow
        filler = self.fill(disk)
        try:
            give_up = time.monotonic() + 40
            while server.running() and load.acked() < 400000 and time.monotonic() < give_up:
                if self.refused(server):
                    break
                time.sleep(0.05)
            time.sleep(0.5)
        finally:
            db.resume()
        ledger = load.stop()
        self.say("answers: %r codes: %r", dict(ledger.statuses), dict(ledger.codes))
        self.assertTrue(
            set(ledger.codes)
            <= {"503 log_failed", "503 log_full", "503 shutting_down", "500 outcome_unknown", "503 backpressure"},
            dict(ledger.codes),
        )
        if not server.running():
            self.assertGreater(server.process.returncode, 0, "died of a signal: %s" % server.tail())
        else:
            server.stop()
        os.unlink(filler)
        server.start()
        oracle.judge(self, db, server, [ledger], own_prefixes=False)
        self.check_stderr()
        server.stop()

    @staticmethod
    def refused(server):
        try:
            with server.client(timeout=5) as client:
                return client.post("/events", {"type": "probe-full"}).status >= 500
        except (OSError, ConnectionLost):
            return True

    def tmpfs(self, megabytes):
        if os.geteuid() != 0:
            self.skipTest("mounting needs root")
        target = self.path("tmpfs")
        os.makedirs(target)
        probe = procs.run(
            ["mount", "-t", "tmpfs", "-o", "size=%dm" % megabytes, "tmpfs", target], check=False
        )
        if probe.returncode != 0:
            self.skipTest("cannot mount tmpfs: " + probe.stderr.strip())
        self.addCleanup(self.unmount, target)
        return target

    def test_ext4_fills_up_while_appending(self):
        _, disk = self.loop_ext4("small", 64)
        self.full_disk_drill(disk)

    def test_tmpfs_fills_up_while_appending(self):
        self.full_disk_drill(self.tmpfs(64))

    def refuses_to_start(self, server):
        server.launch()
        code = server.wait_exit(20)
        self.assertGreater(code, 0, "a start on a full disk ended with %d: %s" % (code, server.tail()))
        self.check_stderr()

    def test_a_start_on_a_full_disk_with_no_log_is_refused_cleanly(self):
        _, disk = self.loop_ext4("small", 64)
        wal = os.path.join(disk, "wal")
        os.makedirs(wal)
        self.fill(disk)
        self.refuses_to_start(self.server(None, start=False, WAL_DIR=wal, WAL_MAX_BYTES=16 << 20))

    def test_a_start_on_a_full_disk_without_lock_file_does_not_die_of_a_signal(self):
        _, disk = self.loop_ext4("small", 64)
        wal = os.path.join(disk, "wal")
        server = self.server(None, WAL_DIR=wal, WAL_MAX_BYTES=16 << 20)
        with server.client() as client:
            self.assertEqual(client.post("/events", {"type": "t", "id": "kept"}).status, 202)
        server.stop()
        locks = [name for name in os.listdir(wal) if name == "lock.mdb" or name.endswith("-lock")]
        for name in locks:
            os.unlink(os.path.join(wal, name))
        filler = self.fill(disk)
        server.launch()
        time.sleep(2)
        if server.running():
            server.kill()
        else:
            self.assertGreater(server.process.returncode, 0, server.tail())
        os.unlink(filler)
        server.start()
        with server.client() as client:
            self.assertEqual(client.post("/events", {"type": "t", "id": "kept"}).status, 200)
        server.stop()
        self.check_stderr()


class LogFull(runner.Drill):
    deadline_seconds = 180

    def test_the_log_fills_up_refuses_and_drains_by_itself_when_mysql_is_back(self):
        db = self.database()
        limit = 16 << 20
        server = self.server(
            db, WAL_MAX_BYTES=limit, WAL_RETAIN_BYTES=1 << 20, DB_RETRY_BACKOFF_MAX_MS=500
        )
        db.stop()
        ledgers = []
        for round_number in range(2):
            load = Load(
                self.dir,
                server.port,
                self.seed,
                run="f%d" % round_number,
                plan=Plan(workers=1, connections=8, bulk_share=0.5, bulk_events=200, retry_share=0.05),
            )
            self.addCleanup(load.kill)
            answer = procs.wait_until(lambda: self.full_answer(server), 60, "the log is full", pause=0.05)
            self.assertEqual(answer.status, 503)
            self.assertIsNotNone(answer.header("retry-after"))
            time.sleep(0.5)
            ledger = load.stop()
            ledgers.append(ledger)
            self.say("round %d: acked=%d codes=%r", round_number + 1, ledger.acked, dict(ledger.codes))
            self.assertGreater(ledger.codes["503 log_full"], 0)
            self.assertGreater(ledger.acked, 1000)
            self.assertTrue(server.running())
            self.assertLessEqual(
                procs.disk_bytes(server.wal_dir), limit * 2, "the log takes far more than its limit"
            )
            with server.client() as client:
                self.assertEqual(client.get("/health").status, 200)
                self.assertEqual(client.get("/slo/status").status, 200)
            db.restart()
            procs.wait_until(
                lambda: self.full_answer(server) is None, 60, "ingest goes on once MySQL is back", pause=0.05
            )
            server.wait_drained()
            if round_number == 0:
                db.stop()
        oracle.judge(self, db, server, ledgers, own_prefixes=False)
        self.assertEqual(server.ready_status(), 200)
        self.check_stderr()

    @staticmethod
    def full_answer(server):
        with server.client() as client:
            answer = client.post("/events", {"type": "is-it-full"})
            return answer if answer.status == 503 and answer.json()["error"] == "log_full" else None

    def test_a_full_log_survives_kill_and_restart_and_still_drains(self):
        """With the default WAL_RETAIN_BYTES, which is larger than this log may ever be."""
        db = self.database()
        server = self.server(db, WAL_MAX_BYTES=16 << 20, DB_RETRY_BACKOFF_MAX_MS=500)
        db.stop()
        load = Load(
            self.dir,
            server.port,
            self.seed,
            plan=Plan(workers=1, connections=8, bulk_share=0.5, bulk_events=200, retry_share=0.05),
        )
        self.addCleanup(load.kill)
        procs.wait_until(lambda: self.full_answer(server), 60, "the log is full", pause=0.05)
        ledger = load.stop()
        server.kill()
        server.start(ready=False)
        procs.wait_until(lambda: self.full_answer(server), 20, "the log is still full")
        db.restart()
        procs.wait_until(lambda: self.full_answer(server) is None, 60, "it drains", pause=0.05)
        oracle.judge(self, db, server, [ledger], own_prefixes=False)
        self.check_stderr()


class Identity(runner.Drill):
    deadline_seconds = 120

    def send(self, server, prefix, count):
        with server.client() as client:
            for n in range(count):
                answer = client.post("/events", {"id": "%s%d" % (prefix, n), "type": "t"})
                self.assertEqual(answer.status, 202, answer)

    def rows(self, db):
        return db.query("SELECT HEX(node_id), seq, event_id FROM events WHERE tenant_id='default' ORDER BY 1, 2")

    def test_a_second_server_on_the_same_directory_is_refused_and_the_first_goes_on(self):
        db = self.database()
        first = self.server(db)
        second = self.server(db, start=False)
        second.launch()
        code = second.wait_exit(20)
        self.assertGreater(code, 0, second.tail())
        self.assertFalse(any(line.get("event") == "server.listening" for line in second.lines()))
        self.send(first, "x", 10)
        first.wait_drained()
        self.assertEqual(len(self.rows(db)), 10)
        # Also while the first is paused: its lock holds.
        first.pause()
        second.launch()
        self.assertGreater(second.wait_exit(20), 0)
        first.resume()
        self.send(first, "y", 10)
        first.wait_drained()
        self.assertEqual(len(self.rows(db)), 20)
        # And once it is gone, the directory is free at once.
        first.kill()
        second.start()
        self.send(second, "z", 1)
        second.wait_drained()
        self.assertEqual(len(self.rows(db)), 21)
        self.check_stderr()

    def test_a_log_restored_from_an_old_copy_is_refused_while_mysql_is_ahead(self):
        db = self.database()
        server = self.server(db)
        self.send(server, "old", 50)
        server.wait_drained()
        self.assertEqual(server.stop(), 0)
        procs.run(["cp", "-a", server.wal_dir, server.wal_dir + ".copy"])
        server.start()
        self.send(server, "new", 50)
        server.wait_drained()
        self.assertEqual(server.stop(), 0)
        before = self.rows(db)
        self.assertEqual(len(before), 100)
        os.rename(server.wal_dir, server.wal_dir + ".gone")
        os.rename(server.wal_dir + ".copy", server.wal_dir)
        server.launch()
        code = server.wait_exit(30)
        self.assertGreater(code, 0, server.tail())
        self.assertEqual(self.rows(db), before)
        self.check_stderr()

    def test_a_lost_log_directory_means_a_new_identity_and_no_number_is_reused(self):
        db = self.database()
        server = self.server(db)
        self.send(server, "first", 30)
        server.wait_drained()
        server.stop()
        os.rename(server.wal_dir, server.wal_dir + ".gone")
        server.start()
        self.send(server, "second", 30)
        server.wait_drained()
        rows = self.rows(db)
        self.assertEqual(len(rows), 60)
        self.assertEqual(len({row[0] for row in rows}), 2, "the new log took over the old one's identity")
        # An id the old log had is known to MySQL only; it is not counted a second time.
        self.send(server, "first", 30)
        server.wait_drained()
        self.assertEqual(len(self.rows(db)), 60)
        self.check_stderr()

    def test_a_paused_server_that_wakes_after_a_takeover_is_fenced(self):
        db = self.database()
        first = self.server(db, DB_RETRY_BACKOFF_MAX_MS=300)
        self.send(first, "a", 40)
        first.wait_drained()
        first.pause()
        copy = self.path("copy")
        procs.run(["cp", "-a", first.wal_dir, copy])
        second = self.server(db, WAL_DIR=copy, DB_RETRY_BACKOFF_MAX_MS=300)
        self.send(second, "b", 40)
        second.wait_drained()
        first.resume()
        try:
            self.send(first, "c", 40)
        except (ConnectionLost, OSError, AssertionError):
            pass  # it may notice before it answers
        code = first.wait_exit(30)
        self.assertGreater(code, 0, first.tail())
        names = [row[2] for row in self.rows(db)]
        self.assertEqual(sorted(names), sorted(["a%d" % n for n in range(40)] + ["b%d" % n for n in range(40)]))
        self.send(second, "d", 5)
        second.wait_drained()
        self.assertEqual(len(self.rows(db)), 85)
        self.check_stderr()


class Damage(runner.Drill):
    """Bit rot while stopped: a wrong record is never served, and numbers are named."""

    deadline_seconds = 180

    def test_flipped_bytes_in_the_data_file_are_detected_and_no_wrong_row_appears(self):
        db = self.database()
        server = self.server(db)
        db.stop()
        with server.client() as client:
            for n in range(300):
                event = {"id": "rot%d" % n, "type": "t", "payload": {"filler": "abcdefghij" * 20}}
                self.assertEqual(client.post("/events", event).status, 202)
        data = os.path.join(server.wal_dir, "data.mdb")

        def content():
            with open(data, "rb") as file:
                return file.read()

        procs.wait_until(lambda: b"rot299" in content(), 30, "what was staged is in the data file")
        server.kill()
        # In each copy of the block: pages that are free by now hold older ones, and nobody reads those.
        copies = [match.end() for match in re.finditer(rb"rot150.*?abcdefghij", content(), re.DOTALL)]
        self.assertGreater(len(copies), 0)
        with open(data, "r+b") as file:
            for at in copies:
                file.seek(at - 5)
                file.write(b"X")
        if " verify " in server.command("--help").stdout:
            done = server.command("verify")
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        server.launch()
        db.restart()
        time.sleep(3)
        with_damage = (
            db.number("SELECT COUNT(*) FROM events WHERE properties LIKE '%X%'") if db.has_table("events") else 0
        )
        self.assertEqual(with_damage, 0, "a damaged record became a row")
        if server.running():
            server.kill()
        else:
            self.assertGreater(server.process.returncode, 0, server.tail())
        self.check_stderr()

    def test_a_truncated_data_file_never_ends_in_a_signal(self):
        server = self.server(None)
        with server.client() as client:
            for n in range(50):
                client.post("/events", {"type": "t", "id": "cut%d" % n})
        server.kill()
        data = os.path.join(server.wal_dir, "data.mdb")
        size = os.path.getsize(data)
        for keep in (size // 2 // 4096 * 4096, 8192, 4096, 100, 0):
            os.truncate(data, keep)
            server.launch()
            time.sleep(1)
            if server.running():
                server.kill()
            else:
                self.assertGreaterEqual(
                    server.process.returncode, 0, "cut to %d bytes: died of a signal: %s" % (keep, server.tail())
                )
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
