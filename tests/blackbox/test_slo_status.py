"""/slo/status counts every acked event at once and once, whatever moves underneath.

Writers keep two numbers per service: events sent and events acked. A reader takes acked, asks, takes
sent: acked_before_the_question <= total <= sent_before_the_answer must hold for every answer. Writers
with a service of their own also ask right after an ack, and then the total is known exactly.
Sizes: SLO_SECONDS (4) per phase.
"""

import json
import os
import random
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner
from http_client import Client, ConnectionLost

SECONDS = procs.int_env("SLO_SECONDS", 4)
SHARED = ("shared-0", "shared-1")


class Counts:
    def __init__(self):
        self.lock = threading.Lock()
        self.sent = {}
        self.acked = {}
        self.bad = {}
        self.answers = 0
        self.exact = 0
        self.findings = []

    def add(self, which, service, count):
        with self.lock:
            which[service] = which.get(service, 0) + count

    def find(self, text, *values):
        with self.lock:
            if len(self.findings) < 30:
                self.findings.append(text % values)


class Hammer:
    """Writers and readers on threads of their own until stop()."""

    def __init__(self, server, seed, writers=5, readers=3):
        self.server = server
        self.counts = Counts()
        self.going = True
        self.reading = True
        self.seed = seed
        with server.client() as client:
            self.bulk = client.post("/events/bulk", "[]").status != 404
        self.threads = [threading.Thread(target=self.write, args=(n,), daemon=True) for n in range(writers)]
        self.threads += [threading.Thread(target=self.read, args=(n,), daemon=True) for n in range(readers)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join(60)
            if thread.is_alive():
                raise AssertionError("a client hangs")

    def totals(self, client, service):
        answer = client.get("/slo/status?service=" + service)
        if answer.status != 200:
            self.counts.find("/slo/status: %r", answer)
            return None
        for item in answer.json()["services"]:
            if item["service"] == service:
                if item["good"] + item["bad"] != item["total"]:
                    self.counts.find("good + bad is not total: %r", item)
                return item["total"]
        return 0

    def write(self, number):
        try:
            self._write(number)
        except Exception as error:  # a dead thread must not look like success
            self.counts.find("writer %d: %r", number, error)

    def _write(self, number):
        counts, rng, own = self.counts, random.Random(self.seed + number), "own-%d" % number
        client = Client(self.server.port)
        serial, own_total = 0, 0
        old = []
        while self.going:
            service = own if rng.random() < 0.6 else rng.choice(SHARED)
            size = rng.randrange(2, 40) if self.bulk and rng.random() < 0.2 else 1
            ids = []
            for _ in range(size):
                serial += 1
                ids.append("%x-%d-%d" % (self.seed, number, serial))
            events = [
                {
                    "event_id": event_id,
                    "service": service,
                    "status": 500 if rng.random() < 0.1 else 200,
                    "latency_ms": rng.randrange(1000),
                }
                for event_id in ids
            ]
            counts.add(counts.sent, service, size)
            body = json.dumps(events[0] if size == 1 else events)
            answer = self.until_acked(client, "/ingest" if size == 1 else "/events/bulk", body)
            if answer is None:
                return
            counts.add(counts.acked, service, size)
            if service == own:
                own_total += size
                if rng.random() < 0.3:
                    self.check_exact(client, own, own_total)
            old.append(body if size == 1 else None)
            if rng.random() < 0.05 and old[-1] is not None:
                # A repeat of an acked event changes nothing.
                again = self.until_acked(client, "/ingest", rng.choice([b for b in old if b]))
                if again is not None and again.status != 200:
                    counts.find("a repeat was answered %r", again)

    def until_acked(self, client, target, body):
        """Sends until it is acked, across kills and restarts; None when the hammer stops meanwhile."""
        give_up = None
        while True:
            try:
                answer = client.post(target, body, {"Content-Type": "application/json"})
                if answer.status in (200, 201, 202):
                    return answer
                if answer.status != 503:
                    self.counts.find("an event was answered %r", answer)
                    return None
            except (ConnectionLost, OSError):
                client.close()
            if not self.going:
                # One more minute to learn the outcome, so that the totals can be compared exactly.
                give_up = give_up or time.monotonic() + 60
                if time.monotonic() > give_up:
                    self.counts.find("an event was never acked")
                    return None
            time.sleep(0.01)

    def check_exact(self, client, service, want):
        try:
            total = self.totals(client, service)
        except (ConnectionLost, OSError):
            client.close()
            return
        self.counts.exact += 1
        if total is not None and total != want:
            self.counts.find("right after the ack %s has %d events, %d were acked", service, total, want)

    def read(self, number):
        try:
            self._read(number)
        except Exception as error:
            self.counts.find("reader %d: %r", number, error)

    def _read(self, number):
        counts, rng = self.counts, random.Random(self.seed - number)
        client = Client(self.server.port)
        while self.going:
            service = rng.choice(SHARED) if rng.random() < 0.7 else "own-%d" % rng.randrange(5)
            with counts.lock:
                least = counts.acked.get(service, 0)
            try:
                total = self.totals(client, service)
            except (ConnectionLost, OSError):
                client.close()
                time.sleep(0.01)
                continue
            with counts.lock:
                most = counts.sent.get(service, 0)
            counts.answers += 1
            if total is not None and not least <= total <= most:
                counts.find("%s: acked %d <= total %d <= sent %d does not hold", service, least, total, most)


class SloStatus(runner.Drill):
    deadline_seconds = 180

    def begin(self, **env):
        db = self.database()
        env.setdefault("DB_RETRY_BACKOFF_MAX_MS", 200)
        env.setdefault("DB_TIMEOUT_MS", 1500)
        server = self.server(db, HTTP_PORT=procs.free_port(), BATCH_MAX_EVENTS=20, BATCH_MAX_MS=2, **env)
        hammer = Hammer(server, self.seed)
        return db, server, hammer

    def finish(self, db, server, hammer):
        hammer.stop()
        counts = hammer.counts
        self.say(
            "seed=%d sent=%d answers=%d exact=%d", self.seed, sum(counts.sent.values()), counts.answers, counts.exact
        )
        self.assertEqual(counts.findings, [])
        self.assertGreater(counts.answers, 50)
        self.assertGreater(counts.exact, 5)
        self.assertEqual(counts.sent, counts.acked)
        with server.client() as client:
            told = oracle.slo_totals(client.get("/slo/status"))
        told.pop("_sluice", None)
        self.assertEqual({name: total for name, (_, _, total) in told.items()}, counts.sent)
        server.wait_drained()
        self.assertEqual(oracle.slo_problems(db, server), [])
        self.assertEqual(oracle.verify_command(server), [])
        # And once more after a restart, from what is stored alone.
        server.stop()
        server.start()
        self.assertEqual(oracle.slo_problems(db, server), [])
        self.check_stderr()

    def test_while_batches_move_to_mysql(self):
        db, server, hammer = self.begin()
        time.sleep(SECONDS)
        self.finish(db, server, hammer)

    def test_while_mysql_stutters(self):
        db, server, hammer = self.begin()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            db.pause()
            time.sleep(self.random.uniform(0.02, 0.3))
            db.resume()
            time.sleep(self.random.uniform(0.02, 0.3))
        self.finish(db, server, hammer)

    def test_while_somebody_locks_the_tables(self):
        db, server, hammer = self.begin()
        procs.wait_until(lambda: db.has_table("events"), 20, "the schema")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            session = db.session("LOCK TABLES events WRITE")
            time.sleep(self.random.uniform(0.1, 0.8))
            procs.end(session)
            time.sleep(0.1)
        self.finish(db, server, hammer)

    def test_while_mysql_is_killed_and_comes_back(self):
        db, server, hammer = self.begin()
        for _ in range(max(2, SECONDS)):
            time.sleep(self.random.uniform(0.1, 0.6))
            db.kill()
            time.sleep(self.random.uniform(0.1, 0.6))
            db.restart()
        self.finish(db, server, hammer)

    def test_while_a_transaction_ends_in_an_unknown_outcome(self):
        """Frozen for longer than DB_TIMEOUT_MS: the server must find out what MySQL holds."""
        db, server, hammer = self.begin(DB_TIMEOUT_MS=1000)
        for _ in range(2):
            time.sleep(0.5)
            db.pause()
            time.sleep(2.5)
            db.resume()
        self.finish(db, server, hammer)

    def test_with_mysql_stopped_and_across_a_restart_without_it(self):
        db, server, hammer = self.begin()
        time.sleep(1)
        db.stop()
        time.sleep(1)
        for how in ("kill", "stop", "kill"):
            getattr(server, how)()
            server.start()
            time.sleep(0.7)
        with server.client() as client:
            body = client.get("/slo/status").json()
        self.assertIs(body["degraded"], True)
        self.assertGreater(body["pending_events"], 0)
        self.assertTrue(body["as_of"])
        db.restart()
        time.sleep(1)
        self.finish(db, server, hammer)

    def test_while_the_server_is_killed_again_and_again(self):
        db, server, hammer = self.begin()
        for _ in range(6):
            time.sleep(self.random.uniform(0.05, 0.8))
            server.kill()
            server.start()
        self.finish(db, server, hammer)

    def test_dead_letters_stay_in_the_figures(self):
        """What MySQL refuses was acked all the same (P4): it counts, before and after a restart."""
        db = self.database()
        server = self.server(db, DB_RETRY_BACKOFF_MAX_MS=200)
        with server.client() as client:
            for n in range(20):
                client.post("/ingest", {"service": "s", "status": 200, "latency_ms": 1})
            server.wait_drained()
            db.query("ALTER TABLE events ADD CONSTRAINT no_teapot CHECK (status <> 418)")
            for n in range(40):
                client.post("/ingest", {"service": "s", "status": 418 if n % 4 == 0 else 500, "latency_ms": 1})
            server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM dead_letters"), 10)
        self.assertEqual(oracle.slo_problems(db, server), [])
        self.assertEqual(oracle.verify_command(server), [])
        server.kill()
        server.start()
        self.assertEqual(oracle.slo_problems(db, server), [])
        self.check_stderr()

    def test_events_known_to_mysql_only_are_taken_out_again(self):
        """A new log has no memory of the ids; MySQL is the judge and the figures follow it."""
        db = self.database()
        server = self.server(db)
        events = [
            {"event_id": "k%d" % n, "service": "s", "status": 500 if n % 3 == 0 else 200, "latency_ms": n}
            for n in range(30)
        ]
        with server.client() as client:
            for event in events:
                self.assertEqual(client.post("/ingest", event).status, 202)
        server.wait_drained()
        server.stop()
        os.rename(server.wal_dir, server.wal_dir + ".gone")
        server.start()
        with server.client() as client:
            for event in events:
                client.post("/ingest", event)
            client.post("/ingest", {"event_id": "fresh", "service": "s", "status": 200, "latency_ms": 1})
        server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM events WHERE tenant_id = 'default'"), 31)
        rows = db.query("SELECT SUM(is_good), COUNT(*) FROM events WHERE service = 's'")[0]

        def agree():
            with server.client() as client:
                told = oracle.slo_totals(client.get("/slo/status")).get("s")
            return told == (int(rows[0]), int(rows[1]) - int(rows[0]), int(rows[1]))

        procs.wait_until(agree, 90, "both nodes' events are summed once")
        self.check_stderr()

    def test_the_figures_are_right(self):
        """One service counted by hand."""
        db = self.database()
        server = self.server(db, SLO_TARGET="0.9")
        with server.client() as client:
            for n in range(100):
                client.post("/ingest", {"service": "a", "status": 500 if n < 5 else 200, "latency_ms": n + 1})
            body = client.get("/slo/status").json()
            one = {item["service"]: item for item in body["services"]}["a"]
            self.assertEqual((one["good"], one["bad"], one["total"]), (95, 5, 100))
            self.assertAlmostEqual(one["availability"], 0.95)
            self.assertAlmostEqual(one["error_rate"], 0.05)
            for name, want in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
                self.assertLessEqual(abs(one["latency_ms"][name] - want) / want, 0.04, name)
            self.assertLessEqual(one["latency_ms"]["max_relative_error"], 0.0110)
            objective = [o for o in one["objectives"] if o["type"] == "availability"][0]
            self.assertAlmostEqual(objective["target"], 0.9)
            self.assertAlmostEqual(objective["attained"], 0.95)
            self.assertAlmostEqual(objective["error_budget_remaining"], 0.5)
            self.assertAlmostEqual(objective["burn_rate"]["1h"], 0.5)
            self.assertEqual(client.get("/slo/status?service=nobody").json()["services"], [])
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
