"""Pages of GET /events over many stripes of pending records, and on while MySQL takes them.

A row lock on the offsets keeps the drain waiting, while snapshots can be read. It is let go in the
middle of a walk: what the pages before and after give together is every event, once, in order.
"""

import os
import sys
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner

START = 1767225600  # 2026-01-01T00:00:00Z
EVENTS = 6000
LIMIT = 500


def page(client, **query):
    answer = client.get("/events?" + urllib.parse.urlencode(query))
    if answer.status != 200:
        raise AssertionError("%r was answered %r" % (query, answer))
    return answer.json()


class EventsPending(runner.Drill):
    def walk(self, client, at_page=None, act=None, **query):
        """Ids and times of all events of the question; ACT is called before page AT_PAGE."""
        seen, number = [], 0
        while True:
            if number == at_page:
                act()
            told = page(client, limit=LIMIT, **query)
            self.assertFalse(told["degraded"])
            seen += [(event["timestamp"], event["event_id"]) for event in told["events"]]
            if told["next_cursor"] is None:
                return seen
            query["cursor"] = told["next_cursor"]
            number += 1

    def test_pages_are_complete_and_without_repeats_while_the_drain_begins(self):
        db = self.database()
        server = self.server(db, DB_RETRY_BACKOFF_MAX_MS=200)
        with server.client() as client:
            self.assertEqual(client.post("/events", {"type": "first", "id": "first"}).status, 202)
            server.wait_drained()
            lock = db.session("BEGIN; SELECT COUNT(*) FROM replication_offsets FOR UPDATE")
            self.addCleanup(procs.end, lock)
            # In order, but for a few; some share a time.
            body = [
                {"event_name": "abc"[n % 3], "channel": "web", "user_id": "u%d" % (n // 40), "event_id": "e-%d" % n,
                 "timestamp": START + (n if n % 50 else EVENTS - n) // 2}
                for n in range(EVENTS)
            ]  # fmt: skip
            for at in range(0, EVENTS, 2000):
                self.assertEqual(client.post("/events/bulk?ids=0", body[at : at + 2000]).status, 202)
            span = {"from": START, "to": START + EVENTS}

            def check(wanted, at_page=None, act=None, **query):
                seen = self.walk(client, at_page, act, **query)
                self.assertEqual(sorted(i for _, i in seen), sorted(e["event_id"] for e in body if wanted(e)))
                times = [time for time, _ in seen]
                self.assertEqual(times, sorted(times, reverse=query["order"] == "desc"))

            for order in ("desc", "asc"):
                check(lambda e: True, order=order, **span)
                check(lambda e: e["event_name"] == "b", order=order, event_name="b", **span)
                check(lambda e: False, order=order, event_name="none", **span)
                check(lambda e: e["user_id"] == "u70", order=order, user_id="u70", **span)
                check(lambda e: 1000 <= e["timestamp"] - START <= 1099,
                      order=order, **{"from": START + 1000, "to": START + 1099})  # fmt: skip
            self.assertGreaterEqual(server.pending(), EVENTS)
            check(lambda e: True, 4, lock.kill, order="desc", **span)
            check(lambda e: True, order="asc", **span)
            server.wait_drained()
            check(lambda e: True, order="desc", **span)
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
