"""kill -9 of the server at random moments under load, many rounds on one directory.

Sizes: KILL_ROUNDS (20) and KILL_EVENTS (200000): rounds go on until both are reached. KILL_SECONDS,
when given, makes it a long drill of that many seconds instead.
"""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner
from load import Load, Plan


class KillServer(runner.Drill):
    deadline_seconds = 600 + procs.int_env("KILL_SECONDS", 0) * 2

    def kill_rounds(self, db, server, load, rounds, events, seconds=0):
        """Kills and restarts; returns (kills, kills before the listener stood)."""
        began = time.monotonic()
        kills = early = 0
        while kills < rounds or load.sent() < events or time.monotonic() - began < seconds:
            server.launch()
            if self.random.random() < 0.15:
                # Into the start itself: opening, replay, taking the epoch.
                time.sleep(self.random.uniform(0.001, 0.08))
            else:
                server.wait_listening()
                time.sleep(self.random.uniform(0.005, 0.5))
            self.assertIsNone(
                server.process.poll(), "the server ended by itself: %s" % server.tail()
            )
            if not any(line.get("event") == "server.listening" for line in server.lines()):
                early += 1
            server.kill()
            kills += 1
        return kills, early

    def drill(self, rounds, events, seconds, plan, **env):
        db = self.database()
        server = self.server(db, HTTP_PORT=procs.free_port(), **env)
        load = Load(self.dir, server.port, self.seed, plan=plan)
        self.addCleanup(load.kill)
        # The load goes on, so the log need not ever be empty: rows arriving means the drain runs.
        procs.wait_until(
            lambda: server.metric("sluice_events_replicated_total"),
            120 * procs.SLOWNESS,
            "the first rows are in the database",
            pause=0.1,
        )
        server.kill()
        kills, early = self.kill_rounds(db, server, load, rounds, events, seconds)
        server.start()
        load.resume()
        time.sleep(0.3)
        ledger = load.stop()
        self.say("rounds=%d of them during the start=%d", kills, early)
        verdict = oracle.judge(self, db, server, [ledger])
        self.assertGreater(verdict.acked, 0)
        return verdict

    def test_every_acked_event_survives_kill_at_random_moments(self):
        verdict = self.drill(
            procs.int_env("KILL_ROUNDS", 20),
            procs.int_env("KILL_EVENTS", 200000),
            procs.int_env("KILL_SECONDS", 0),
            Plan(rate=20000),
        )
        self.assertGreater(verdict.acked, verdict.sent // 2)

    def test_kill_loses_nothing_while_batches_are_tiny_and_the_window_is_short(self):
        """Many small transactions, trimming all the time: the kill meets offset and trim more often."""
        self.drill(
            max(3, procs.int_env("KILL_ROUNDS", 20) // 2),
            procs.int_env("KILL_EVENTS", 200000) // 20,
            0,
            Plan(rate=1500, bulk_share=0.01, bulk_events=10),
            BATCH_MAX_EVENTS=50,
            BATCH_MAX_MS=5,
            WAL_PARTITIONS=3,
            WAL_RETAIN_BYTES=1 << 20,
        )

    def test_kill_at_the_nth_sync_loses_nothing(self):
        """strace kills the server inside its N-th fdatasync: before, between and after the two waits."""
        db = self.database()
        server = self.server(db, HTTP_PORT=procs.free_port())
        load = Load(self.dir, server.port, self.seed, plan=Plan(workers=1, rate=2000))
        self.addCleanup(load.kill)
        server.stop()
        trace = ("strace", "-D", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,pwrite64")
        probe = procs.run(["strace", "-o", "/dev/null", "true"], check=False)
        if probe.returncode != 0:
            self.skipTest("strace cannot trace here: " + probe.stderr.strip())
        rounds = max(4, procs.int_env("KILL_ROUNDS", 20) // 2)
        for at in range(1, rounds + 1):
            call = "pwrite64" if at % 2 else "fdatasync"
            number = self.random.choice((1, 2, 3, 5, 10, 30, 60))
            server.launch(wrap=(*trace, "-e", "inject=%s:signal=SIGKILL:when=%d" % (call, number)))
            server.wait_exit(60)
            self.assertEqual(server.process.returncode, -9, server.tail())
        server.start()
        time.sleep(0.3)
        ledger = load.stop()
        self.say("kills at a sync or meta write=%d", rounds)
        oracle.judge(self, db, server, [ledger])

    def test_a_repeat_across_a_kill_is_answered_as_a_repeat_with_the_same_seq(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            first = client.post("/events", {"id": "once", "type": "t"}).json()
        self.assertIs(first["duplicate"], False)
        for _ in range(3):
            server.kill()
            server.start()
            with server.client() as client:
                again = client.post("/events", {"id": "once", "type": "t"})
            self.assertEqual(again.status, 200)
            self.assertIs(again.json()["duplicate"], True)
            self.assertEqual(again.json()["seq"], first["seq"])
        server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM events WHERE event_id = 'once'"), 1)
        self.check_stderr()

    def tearDown(self):
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
