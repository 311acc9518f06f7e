"""A repeat of (tenant, event id) is stored once, whoever has to notice: the log's window or MySQL.

What one server without restarts answers (precedence of ids, quoted headers, repeats in bulks, one id
on many connections, 422) is in test_http.py; here the id has left the window, or the server.
"""

import concurrent.futures
import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner

NDJSON = {"Content-Type": "application/x-ndjson"}


class Idempotency(runner.Drill):
    def tearDown(self):
        self.check_stderr()

    def telemetry(self, event_id=None, status=200):
        event = {"service": "s", "status": status, "latency_ms": 5}
        if event_id is not None:
            event["event_id"] = event_id
        return event

    def lines(self, events):
        return "".join(json.dumps(event) + "\n" for event in events)

    def total(self, server):
        with server.client() as client:
            return oracle.slo_totals(client.get("/slo/status")).get("s", (0, 0, 0))[2]

    def check_counts(self, db, server, want):
        """Rows, figures now, figures after a restart, and the audit agree on WANT events."""
        server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM events"), want)
        self.assertEqual(db.number("SELECT COUNT(DISTINCT tenant_id, event_id) FROM events"), want)
        procs.wait_until(lambda: self.total(server) == want, 30 * procs.SLOWNESS,
                         "the figures leave the repeats out")
        self.assertEqual(db.number("SELECT SUM(total) FROM slo_slices"), want)
        audit = server.command("verify", "--mysql")
        self.assertEqual(audit.returncode, 0, audit.stdout + audit.stderr)
        server.stop()
        server.start()
        self.assertEqual(self.total(server), want)

    def test_beyond_the_window_mysql_stores_once_and_the_figures_stay_right(self):
        db = self.database()
        server = self.server(db, IDEMPOTENCY_WINDOW=10)
        ids = ["id-%d" % i for i in range(300)]
        with server.client() as client:
            for _ in range(3):
                answer = client.post("/events/bulk", self.lines(map(self.telemetry, ids)), NDJSON)
                self.assertEqual(answer.status, 202)
                self.assertEqual(answer.json()["duplicates"], 0)  # the window cannot know
                server.wait_drained()
            last = client.post("/ingest", self.telemetry(ids[-1]))
            first = client.post("/ingest", self.telemetry(ids[0]))
        self.assertEqual((last.status, first.status), (200, 202))
        self.check_counts(db, server, len(ids))

    def test_repeats_that_wait_in_the_log_together_become_one_row(self):
        """Both are beyond the window and neither is a row yet when the other comes."""
        db = self.database()
        server = self.server(db, IDEMPOTENCY_WINDOW=5)
        db.pause()
        self.addCleanup(db.resume)
        ids = ["id-%d" % i for i in range(3000)]  # over the partitions' stripes of 1024
        with server.client() as client:
            for _ in range(2):
                client.post("/events/bulk", self.lines(map(self.telemetry, ids)), NDJSON)
        db.resume()
        self.check_counts(db, server, len(ids))

    def test_bulks_with_one_id_at_once_store_it_once(self):
        db = self.database()
        server = self.server(db)

        def send(number):
            shared = ["shared-%d" % (i % 50) for i in range(200)]
            with server.client() as client:
                answer = client.post("/events/bulk", self.lines(map(self.telemetry, shared)), NDJSON)
                single = client.post("/events", self.telemetry("single"), {"Idempotency-Key": '"quoted"'})
            return answer.json(), single.status

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(8)))
        new = sum(bulk["accepted"] - bulk["duplicates"] for bulk, _ in answers)
        self.assertEqual(new, 50)
        self.assertEqual(sorted(status for _, status in answers), [200] * 7 + [202])
        self.check_counts(db, server, 51)

    def test_every_kind_of_id_is_known_after_stop_and_kill(self):
        server = self.server()
        when = "2024-05-05T05:05:05Z"
        channel = {"event_name": "view", "channel": "web", "user_id": "u", "timestamp": 1700000000}
        requests = [
            ("/events", {"event_name": "a", "timestamp": when}, {"Idempotency-Key": "bare"}),
            ("/events", {"event_name": "a", "timestamp": when}, {"Idempotency-Key": '"quoted"'}),
            ("/ingest", self.telemetry("by event_id"), {}),
            ("/events", {"type": "t", "id": "by id"}, {}),
            ("/events", channel, {}),
        ]
        with server.client() as client:
            first = [client.post(*request).json() for request in requests]
        self.assertEqual([body["duplicate"] for body in first], [False] * len(requests))
        for end in (server.stop, server.kill):
            end()
            server.start()
            with server.client() as client:
                again = [client.post(*request) for request in requests]
                self.assertEqual([answer.status for answer in again], [200] * len(requests))
                self.assertEqual([answer.json()["seq"] for answer in again], [body["seq"] for body in first])
                # A body that differs is an error under the header alone, also across restarts.
                other = {"event_name": "b", "timestamp": when}
                self.assertEqual(client.post("/events", other, {"Idempotency-Key": '"bare"'}).status, 422)
                self.assertEqual(client.post("/ingest", self.telemetry("by event_id", 500)).status, 200)

    def test_id_the_server_made_is_stored_once_when_it_is_sent_back(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            made = [client.post("/ingest", self.telemetry()).json()["event_id"] for _ in range(20)]
            bulk = client.post("/events/bulk", self.lines(self.telemetry() for _ in range(2000)), NDJSON)
            made += bulk.json()["event_ids"]
            self.assertEqual(len(set(made)), 2020)
            client.post("/events/bulk", self.lines(map(self.telemetry, made[:500])), NDJSON)
            server.wait_drained()
            client.post("/events/bulk", self.lines(map(self.telemetry, made)), NDJSON)
            client.post("/ingest", self.telemetry(), {"Idempotency-Key": made[0]})
        self.check_counts(db, server, len(made))
        # Another log with the same database knows them as well.
        other = self.server(db, WAL_DIR=self.path("other"))
        with other.client() as client:
            client.post("/events/bulk", self.lines(map(self.telemetry, made)), NDJSON)
        other.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM events"), len(made))

    def test_id_the_server_made_for_one_tenant_is_free_for_another(self):
        db = self.database()
        server = self.server(db, API_KEYS="a:key-a,b:key-b")
        with server.client() as client:
            made = client.post("/ingest", self.telemetry(), {"X-API-Key": "key-a"}).json()["event_id"]
            client.post("/ingest", self.telemetry(made), {"X-API-Key": "key-b"})
            client.post("/ingest", self.telemetry(made), {"X-API-Key": "key-a"})
        server.wait_drained()
        self.assertEqual(db.query("SELECT tenant_id FROM events ORDER BY seq"), [["a"], ["b"]])


if __name__ == "__main__":
    runner.main()
