"""GET /events gives every acked event at once and once, page by page, whatever moves underneath.

Pagers walk through everything again and again while writers ingest, batches move to MySQL and the log
is trimmed behind them: what was acked before a walk began is in it exactly once, whatever else is.
Sizes: EVENTS_SECONDS (4) per phase.
"""

import json
import os
import random
import sys
import threading
import time
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from http_client import Client

SECONDS = procs.int_env("EVENTS_SECONDS", 4)
MEMBERS = {
    "event_id", "event_name", "service", "status", "latency_ms", "channel", "campaign_id", "user_id", "tags",
    "properties", "trace_id", "timestamp", "created_at", "node_id", "seq",
}  # fmt: skip


def target(**query):
    return "/events?" + urllib.parse.urlencode(query)


def ask(client, headers=None, **query):
    answer = client.get(target(**query), headers or {})
    if answer.status != 200:
        raise AssertionError("%r was answered %r" % (query, answer))
    return answer.json()


def walk(client, headers=None, **query):
    """All events of a question, page by page; and whether any page was degraded."""
    events, degraded = [], False
    while True:
        page = ask(client, headers, **query)
        events += page["events"]
        degraded = degraded or page["degraded"]
        if page["next_cursor"] is None:
            return events, degraded
        if not page["events"]:
            raise AssertionError("an empty page goes on")
        query["cursor"] = page["next_cursor"]


def order_of(event):
    return event["timestamp"], event["node_id"], event["seq"]


class Hammer:
    """Writers and pagers on threads of their own until stop()."""

    def __init__(self, server, seed, names=3):
        self.server, self.seed, self.names = server, seed, names
        self.lock = threading.Lock()
        self.acked = set()
        self.findings = []
        self.walks = 0
        self.whole = 0  # walks without a degraded page
        self.going = True
        jobs = [(self.write, n) for n in range(2)] + [(self.page, n) for n in range(3)]
        self.threads = [threading.Thread(target=self.run, args=job, daemon=True) for job in jobs]
        for thread in self.threads:
            thread.start()

    def run(self, job, number):
        try:
            with self.server.client() as client:
                job(client, random.Random(self.seed * 10 + number), number)
        except Exception as error:  # a dead thread must not look like success
            self.find("%s: %r" % (job.__name__, error))

    def find(self, text):
        with self.lock:
            self.findings.append(text)

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join(90)
            if thread.is_alive():
                raise AssertionError("a client hangs")

    def write(self, client, rng, number):
        serial = 0
        while self.going:
            if len(self.acked) > 1000 * (self.walks + 2) or len(self.acked) > 20000:
                time.sleep(0.01)  # walks become longer and longer
                continue
            ids = []
            for _ in range(rng.randrange(1, 60)):
                serial += 1
                ids.append("%d-%d-%d" % (self.seed, number, serial))
            events = [
                {
                    "event_name": "name-%d" % rng.randrange(self.names),
                    # Few different times: ties are decided by node and number.
                    "timestamp": "2026-01-02T03:%02d:00Z" % rng.randrange(60),
                    "event_id": event_id,
                }
                for event_id in ids
            ]
            answer = client.post("/events/bulk", json.dumps(events), {"Content-Type": "application/json"})
            if answer.status != 202:
                self.find("a bulk was answered %r" % answer)
                return
            with self.lock:
                self.acked.update(ids)

    def page(self, client, rng, number):
        while self.going:
            query = {"order": rng.choice(["asc", "desc"]), "limit": rng.choice([150, 400, 1000])}
            if rng.random() < 0.4:
                query["event_name"] = "name-%d" % rng.randrange(self.names)
            with self.lock:
                known = set(self.acked)
            events, degraded = walk(client, **query)
            ids = [event["event_id"] for event in events]
            if len(ids) != len(set(ids)):
                self.find("%r gave %d events twice" % (query, len(ids) - len(set(ids))))
            places = [order_of(event) for event in events]
            if places != sorted(places, reverse=query["order"] == "desc"):
                self.find("%r is not in order" % query)
            if "event_name" not in query and not degraded and not known <= set(ids):
                self.find("%r lacks %d of %d events" % (query, len(known - set(ids)), len(known)))
            with self.lock:
                self.walks += 1
                self.whole += 0 if degraded else 1


class EventsCase(runner.Drill):
    deadline_seconds = 180

    def send(self, client, count, name="n", first=0, headers=None):
        events = [
            {"event_name": name, "event_id": "%s-%d" % (name, n), "timestamp": 1767323045 + n, "channel": "web",
             "user_id": "u-%d" % (n % 7)}
            for n in range(first, first + count)
        ]  # fmt: skip
        answer = client.post(
            "/events/bulk", json.dumps(events), {"Content-Type": "application/json", **(headers or {})}
        )
        self.assertEqual(answer.status, 202, answer)

    def refused(self, client, query, sentence):
        answer = client.get("/events?" + query)
        self.assertEqual((answer.status, answer.header("content-type")), (400, "application/problem+json"), query)
        self.assertEqual(answer.json()["error"], "validation_error")
        self.assertIn(sentence, answer.json()["message"])

    def check_whole(self, server):
        """Two events with every member between them, as they were sent."""
        properties = '{"b":1.50, "a":[1,2],"big":12345678901234567890}'
        purchase = (
            '{"event_name":"purchase","event_id":"e-1","channel":"web","campaign_id":"spring","user_id":"\u00fc-1",'
            '"tags":["x","y"],"timestamp":1767323045,"metadata":%s}' % properties
        )
        telemetry = {"service": "shop", "status": 503, "latency_ms": 12.25, "event_id": "e-2",
                     "timestamp": "2026-01-02T04:04:05.25+01:00"}  # fmt: skip
        trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        with server.client() as client:
            sent = [client.post("/events", purchase), client.post("/ingest", telemetry, trace)]
            answer = client.get("/events")
        self.assertEqual([a.status // 100 for a in sent], [2, 2])
        self.assertIn(properties, answer.text())
        events = answer.json()["events"]
        self.assertEqual([event.pop("seq") for event in events], [a.json()["seq"] for a in reversed(sent)])
        for event in events:
            for member in ("created_at", "node_id"):
                self.assertTrue(event.pop(member))
        events[1].pop("properties")
        none = {"service": None, "status": None, "latency_ms": None, "channel": None, "campaign_id": None,
                "user_id": None, "tags": None, "trace_id": None}  # fmt: skip
        self.assertEqual(
            events,
            [
                {**none, "event_id": "e-2", "event_name": "telemetry", "service": "shop", "status": 503,
                 "latency_ms": 12.25, "trace_id": "0af7651916cd43dd8448eb211c80319c", "properties": None,
                 "timestamp": "2026-01-02T03:04:05.250Z"},
                {**none, "event_id": "e-1", "event_name": "purchase", "channel": "web", "campaign_id": "spring",
                 "user_id": "\u00fc-1", "tags": ["x", "y"], "timestamp": "2026-01-02T03:04:05Z"},
            ],
        )  # fmt: skip
        return answer.json()

    def test_an_event_is_the_same_in_the_log_and_in_mysql(self):
        db = self.database()
        server = self.server(db)
        before = self.check_whole(server)
        server.wait_drained()
        after = self.check_whole(server)
        self.assertEqual(before["events"], after["events"])
        self.assertEqual((after["pending"], after["degraded"], after["next_cursor"]), (0, False, None))
        with server.client() as client:
            client.post("/events", '{"type":"bare"}')
            bare = ask(client, event_name="bare")["events"][0]
        self.assertEqual({m for m in MEMBERS if bare[m] is None}, MEMBERS - {
            "event_id", "event_name", "timestamp", "created_at", "node_id", "seq"})  # fmt: skip
        self.check_stderr()

    def test_an_acked_event_is_there_at_once(self):
        db = self.database()
        server = self.server(db, BATCH_MAX_MS=1)
        with server.client() as client:
            for n in range(400):
                event = {"event_name": "own", "event_id": "r-%d" % n, "timestamp": "2026-01-02T03:04:05Z"}
                self.assertEqual(client.post("/events", event).status, 201)
                page = ask(client, event_name="own", limit=3)
                self.assertEqual([e["event_id"] for e in page["events"]], ["r-%d" % m for m in range(n, max(n - 3, -1), -1)])
                self.assertFalse(page["degraded"])
        self.check_stderr()

    def test_filters_bounds_and_order(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            for place in ("log", "MySQL"):
                if place == "log":
                    self.send(client, 100)
                    client.post("/events", {"event_name": "n ", "event_id": "space", "timestamp": "2026-01-01T00:00:00Z"})
                    client.post("/ingest", {"service": "api", "status": 500, "latency_ms": 1, "event_id": "t"})
                else:
                    server.wait_drained()

                def ids(**query):
                    return [event["event_id"] for event in walk(client, **query)[0]]

                newest = ["n-%d" % n for n in range(99, -1, -1)]
                self.assertEqual(ids(event_name="n", limit=7), newest, place)
                self.assertEqual(ids(event_name="n", order="asc", limit=13), newest[::-1])
                self.assertEqual(ids(event_name="n "), ["space"])
                self.assertEqual(sorted(ids(limit=10)), sorted(newest + ["space", "t"]))
                self.assertEqual(ids(service="api"), ["t"])
                self.assertEqual(ids(service="api", user_id="u-1"), [])
                self.assertEqual(ids(user_id="u-3", limit=2), [i for i in newest if int(i[2:]) % 7 == 3])
                self.assertEqual(len(ids(channel="web")), 100)
                self.assertEqual(ids(channel="web", **{"from": 1767323045 + 10, "to": 1767323045 + 12}),
                                 ["n-12", "n-11", "n-10"])  # fmt: skip
                self.assertEqual(ids(event_name="n", **{"from": "2026-01-02T03:04:06Z", "to": "2026-01-02T03:04:08Z"}),
                                 ["n-2", "n-1"])  # fmt: skip
                self.assertEqual(ids(event_name="n", to=1767323045), ["n-0"])
                self.assertEqual(ids(event_name="n", **{"from": "2026-01-02T03:05:43+00:00"}), ["n-99", "n-98"])
                self.assertEqual(len(ask(client)["events"]), 100)
                self.assertEqual(ids(event_name="nobody"), [])
        self.check_stderr()

    def test_more_names_than_are_asked_one_by_one(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            events = [
                {"event_name": "n%d" % n, "event_id": "m%d" % n, "timestamp": 1767323045 - n, "user_id": "u", "channel": "c"}
                for n in range(300)
            ]
            answer = client.post("/events/bulk", json.dumps(events), {"Content-Type": "application/json"})
            self.assertEqual(answer.status, 202, answer)
            for _ in range(2):
                found = [event["event_id"] for event in walk(client, limit=40)[0]]
                self.assertEqual(found, ["m%d" % n for n in range(300)])
                server.wait_drained()
        self.check_stderr()

    def test_long_events_make_short_pages(self):
        db = self.database()
        server = self.server(db, MAX_EVENT_BYTES=262144)
        with server.client() as client:
            for n in range(40):
                event = {"event_name": "long", "event_id": "l-%d" % n, "timestamp": "2026-01-02T03:04:05Z",
                         "properties": {"text": "x" * 200000}}  # fmt: skip
                self.assertEqual(client.post("/events", event).status, 201)
            for _ in range(2):
                page = ask(client, limit=1000)
                self.assertLess(len(page["events"]), 25)
                self.assertIsNotNone(page["next_cursor"])
                found = [event["event_id"] for event in walk(client, limit=1000)[0]]
                self.assertEqual(found, ["l-%d" % n for n in range(39, -1, -1)])
                server.wait_drained()
        self.check_stderr()

    def hammer(self, db, server, seed, trouble=None):
        hammer = Hammer(server, seed)
        procs.wait_until(lambda: hammer.walks > 3 or hammer.findings, 60, "walks are made", pause=0.02)
        for _ in range(SECONDS):
            if trouble is not None:
                trouble()
            walks, acked = hammer.walks + 3, min(len(hammer.acked) + 3000, 18000)
            procs.wait_until(
                lambda: (hammer.walks > walks and len(hammer.acked) > acked) or hammer.findings,
                90 * procs.SLOWNESS, "events are written and walks are made", pause=0.02,
            )  # fmt: skip
        hammer.stop()
        self.assertEqual(hammer.findings, [])
        self.assertGreater(hammer.whole, 0)
        server.wait_drained()
        with server.client() as client:
            events, degraded = walk(client, limit=1000)
        self.assertEqual(sorted(event["event_id"] for event in events), sorted(hammer.acked))
        self.assertFalse(degraded)
        self.say("%d events, %d walks, %d without a degraded page", len(hammer.acked), hammer.walks, hammer.whole)
        self.check_stderr()

    def test_paging_while_writing_draining_and_trimming(self):
        db = self.database()
        server = self.server(db, BATCH_MAX_MS=5, BATCH_MAX_EVENTS=100, WAL_RETAIN_BYTES=0, WAL_PARTITIONS=3)
        self.hammer(db, server, 1)

    def test_paging_while_connections_are_killed(self):
        db = self.database()
        server = self.server(db, BATCH_MAX_MS=5, BATCH_MAX_EVENTS=100, DB_RETRY_BACKOFF_MAX_MS=100)

        def kill_sessions():
            for row in db.query("SELECT id FROM information_schema.processlist WHERE db = 'sluice'"
                                " AND id <> CONNECTION_ID()"):  # fmt: skip
                try:
                    db.query("KILL %s" % row[0])
                except RuntimeError:
                    pass  # it ended by itself

        self.hammer(db, server, 2, kill_sessions)

    def test_mysql_stopped_and_a_restart_without_it(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            self.send(client, 50, "old")
            server.wait_drained()
            db.stop()
            self.send(client, 50, "new")
            for _ in range(2):
                events, degraded = walk(client, limit=30)
                self.assertTrue(degraded)
                self.assertEqual(len({event["event_id"] for event in events}), 100)  # retained, and pending
                self.assertEqual(len(events), 100)
                self.assertEqual(ask(client)["pending"], 50)
                server.stop()
                server.start()
                client.close()
            db.restart()
            server.wait_drained()
            procs.wait_until(lambda: not ask(client)["degraded"], 30, "the database is read again")
            events, degraded = walk(client, limit=30)
            self.assertEqual((len(events), degraded), (100, False))
        self.check_stderr()

    def test_what_the_log_has_dropped_is_missing_while_mysql_is_away(self):
        db = self.database()
        server = self.server(db, WAL_RETAIN_BYTES=0, WAL_MAX_BYTES=8 << 20)
        with server.client() as client:
            n = 0
            while server.metric("sluice_wal_bytes") is not None and n < 40:
                self.send(client, 1000, "old", n * 1000)
                n += 1
            server.wait_drained()
            self.send(client, 10, "new")
            whole, degraded = walk(client, limit=1000, event_name="new")
            self.assertEqual((len(whole), degraded), (10, False))
            whole, degraded = walk(client, limit=1000)
            self.assertEqual((len(whole), degraded), (n * 1000 + 10, False))
            db.stop()
            self.send(client, 10, "newer")
            events, degraded = walk(client, limit=1000, event_name="newer")
            self.assertEqual((len(events), degraded), (10, True))
        self.check_stderr()

    def test_without_a_database_the_log_is_all_there_is(self):
        server = self.server()
        with server.client() as client:
            self.send(client, 500)
            events, degraded = walk(client, limit=77)
            self.assertEqual((len(events), degraded), (500, False))
        self.check_stderr()

    def test_events_of_another_node_are_the_tenants_too(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            self.send(client, 60, "first")
        server.wait_drained()
        server.stop()
        os.rename(server.wal_dir, server.wal_dir + ".gone")
        server.start()
        with server.client() as client:
            self.send(client, 60, "second")
            for order in ("asc", "desc"):
                events, degraded = walk(client, limit=7, order=order)
                self.assertEqual(len({event["event_id"] for event in events}), 120)
                self.assertEqual(len(events), 120)
                self.assertEqual(len({event["node_id"] for event in events}), 2)
                places = [order_of(event) for event in events]
                self.assertEqual(places, sorted(places, reverse=order == "desc"))
        self.check_stderr()

    def test_a_tenant_sees_its_own_events_only(self):
        db = self.database()
        server = self.server(db, API_KEYS="acme:acme-key,globex:globex-key")
        acme, globex = {"X-API-Key": "acme-key"}, {"X-API-Key": "globex-key"}
        with server.client() as client:
            self.send(client, 20, "a", headers=acme)
            self.send(client, 30, "g", headers=globex)
            for _ in range(2):
                self.assertEqual({e["event_name"] for e in walk(client, acme, limit=7)[0]}, {"a"})
                self.assertEqual(len(walk(client, globex, limit=7)[0]), 30)
                self.assertEqual(ask(client, acme, event_name="g")["events"], [])
                cursor = ask(client, acme, limit=7)["next_cursor"]
                stolen = client.get(target(limit=7, cursor=cursor), globex)
                self.assertEqual(stolen.status, 400, stolen)
                server.wait_drained()
            self.assertEqual(client.get("/events").status, 401)
            self.assertEqual(client.get("/events", {"X-API-Key": "wrong"}).status, 401)
        self.check_stderr()

    def test_a_cursor_belongs_to_its_question(self):
        server = self.server()
        with server.client() as client:
            self.send(client, 20)
            cursor = ask(client, limit=5)["next_cursor"]
            for wrong in ("x", cursor[:-1], cursor + "0", cursor[:-1] + "z", cursor[:20] + ("1" if cursor[20] == "0" else "0") + cursor[21:], cursor.upper() + ""):
                if wrong != cursor:
                    self.refused(client, "limit=5&cursor=" + wrong, "cursor is not one this server gave out")
            for change in ("order=asc", "event_name=n", "user_id=u-1", "from=5", "to=1767323045"):
                self.refused(client, change + "&cursor=" + cursor, "cursor belongs to another question")
            self.assertEqual(len(ask(client, limit=15, cursor=cursor)["events"]), 15)
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
