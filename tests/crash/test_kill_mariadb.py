"""MySQL killed, frozen, stopped, restarted and put back in time while the load goes on.

Ingest must go on acking all the while. Sizes: DB_ROUNDS (8).
"""

import os
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner
from http_client import Client
from load import Load, Plan

ROUNDS = procs.int_env("DB_ROUNDS", 8)


class Pinger:
    """Sends one event after the other on one connection; notes the longest wait and any refusal."""

    def __init__(self, port):
        self.port = port
        self.worst = 0.0
        self.count = 0
        self.bad = []
        self.going = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with Client(self.port) as client:
            while self.going:
                began = time.monotonic()
                try:
                    answer = client.post("/events", {"type": "ping"})
                    if answer.status != 202:
                        self.bad.append(answer)
                except Exception as error:  # any failure to answer is a finding
                    self.bad.append(error)
                    time.sleep(0.1)
                self.worst = max(self.worst, time.monotonic() - began)
                self.count += 1
                time.sleep(0.005)

    def stop(self):
        self.going = False
        self.thread.join(30)


class KillMariaDB(runner.Drill):
    deadline_seconds = 300

    def begin(self, rate=6000, **env):
        env.setdefault("DB_RETRY_BACKOFF_MAX_MS", 500)
        env.setdefault("DB_TIMEOUT_MS", 2000)
        db = self.database()
        server = self.server(db, BATCH_MAX_EVENTS=500, BATCH_MAX_MS=5, **env)
        load = Load(self.dir, server.port, self.seed, plan=Plan(rate=rate // 2, connections=8))
        self.addCleanup(load.kill)
        pinger = Pinger(server.port)
        procs.wait_until(lambda: load.acked() > 500, 30, "the load runs")
        return db, server, load, pinger

    def finish(self, db, server, load, pinger):
        pinger.stop()
        ledger = load.stop()
        self.say("pings=%d longest=%.0f ms", pinger.count, pinger.worst * 1000)
        self.assertEqual(pinger.bad, [], "ingest was refused or broken while MySQL was away")
        self.assertGreater(pinger.count, 0)
        self.assertEqual(
            dict(ledger.codes), {}, "events were refused while only MySQL was disturbed"
        )
        verdict = oracle.judge(self, db, server, [ledger], own_prefixes=False)
        self.assertEqual(verdict.acked, verdict.sent)
        self.check_stderr()

    def assert_acks_go_on(self, load, seconds=1.0):
        before = load.acked()
        procs.wait_until(lambda: load.acked() > before + 100, 10, "acks go on without MySQL")
        time.sleep(seconds)

    def test_mysql_killed_in_mid_batch_again_and_again(self):
        db, server, load, pinger = self.begin()
        for _ in range(ROUNDS):
            time.sleep(self.random.uniform(0.01, 0.6))
            db.kill()
            self.assert_acks_go_on(load, self.random.uniform(0, 0.3))
            db.restart()
        self.finish(db, server, load, pinger)

    def test_mysql_frozen_and_thawed(self):
        """Shorter and longer than DB_TIMEOUT_MS, so some transactions end in an unknown outcome."""
        db, server, load, pinger = self.begin(DB_TIMEOUT_MS=1000)
        for round_number in range(max(3, ROUNDS // 2)):
            time.sleep(self.random.uniform(0.05, 0.4))
            db.pause()
            try:
                self.assert_acks_go_on(load, 0.1 if round_number % 2 else 2.0)
            finally:
                db.resume()
        self.finish(db, server, load, pinger)

    def test_mysql_stopped_for_some_seconds(self):
        db, server, load, pinger = self.begin()
        for _ in range(2):
            db.stop()
            self.assert_acks_go_on(load, 3.0)
            with server.client() as client:
                self.assertEqual(client.get("/ready").status, 200)
            self.assertGreater(server.pending(), 0)
            db.restart()
            time.sleep(0.5)
        self.finish(db, server, load, pinger)

    def test_server_and_mysql_killed_together(self):
        db = self.database()
        server = self.server(
            db, HTTP_PORT=procs.free_port(), BATCH_MAX_EVENTS=200, BATCH_MAX_MS=5, DB_RETRY_BACKOFF_MAX_MS=300
        )
        load = Load(self.dir, server.port, self.seed, plan=Plan(rate=3000, connections=8))
        self.addCleanup(load.kill)
        for round_number in range(ROUNDS):
            time.sleep(self.random.uniform(0.05, 0.6))
            first, second = (db.kill, server.kill) if round_number % 2 else (server.kill, db.kill)
            first()
            second()
            if round_number % 3 == 0:
                db.launch()
                server.start()
                db.wait_up()
            else:
                server.start()
                time.sleep(self.random.uniform(0, 0.3))
                db.restart()
        ledger = load.stop()
        oracle.judge(self, db, server, [ledger])
        self.check_stderr()

    def test_a_row_lock_held_by_somebody_else_delays_but_loses_nothing(self):
        db, server, load, pinger = self.begin()
        for _ in range(2):
            time.sleep(0.3)
            session = db.session("LOCK TABLES events WRITE")
            self.assert_acks_go_on(load, 1.5)
            procs.end(session)
        session = db.session("BEGIN; SELECT * FROM replication_offsets FOR UPDATE")
        self.assert_acks_go_on(load, 1.0)
        procs.end(session)
        self.finish(db, server, load, pinger)

    def test_killed_connections_are_replaced(self):
        db, server, load, pinger = self.begin()
        for _ in range(ROUNDS * 3):
            time.sleep(self.random.uniform(0.01, 0.1))
            for (number,) in db.query(
                "SELECT id FROM information_schema.processlist WHERE db = '%s' AND id <> CONNECTION_ID()"
                % db.name
            ):
                try:
                    db.query("KILL %s" % number)
                except RuntimeError:
                    pass  # it ended by itself
        self.finish(db, server, load, pinger)

    def test_mysql_put_back_to_an_older_copy_gets_the_missing_events_again(self):
        """FAULTS row 18: what the retained window still holds is replayed, once."""
        db = self.database()
        server = self.server(db, DB_RETRY_BACKOFF_MAX_MS=300)
        plan = dict(workers=1, connections=4, bulk_share=0.02, rate=3000)
        first = Load(self.dir, server.port, self.seed, run="a", plan=Plan(events_max=2000, **plan)).join()
        server.wait_drained()
        db.stop()
        db.copy_data(db.data + ".old")
        db.restart()
        second = Load(self.dir, server.port, self.seed, run="b", plan=Plan(events_max=2000, **plan)).join()
        server.wait_drained()
        db.stop()
        os.rename(db.data, db.data + ".gone")
        os.rename(db.data + ".old", db.data)
        db.restart()
        third = Load(self.dir, server.port, self.seed, run="c", plan=Plan(events_max=500, **plan)).join()
        sent = first.count + second.count + third.count
        procs.wait_until(
            lambda: db.number("SELECT COUNT(*) FROM events WHERE tenant_id = 'default'") >= sent,
            60,
            "the older copy is filled up again",
            pause=0.2,
        )
        oracle.judge(self, db, server, [first, second, third])
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
