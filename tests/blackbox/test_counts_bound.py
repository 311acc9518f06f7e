"""What counts say when they have not all there is, and what a read says that cannot be answered.

The history of counts gets far less room than it needs; MySQL keeps readers waiting behind a lock.
"""

import os
import sys
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner

START = 1767225600  # 2026-01-01T00:00:00Z
HOURS = 200
PER_HOUR = 30


def counts(client, **params):
    query = {"event_name": "buy", "from": START, "to": START + HOURS * 3600 - 1, **params}
    return client.get("/v1/counts?" + urllib.parse.urlencode(query))


class CountsBound(runner.Drill):
    def test_an_answer_says_from_when_on_it_is_complete(self):
        server = self.server(COUNTS_MAX_BYTES="64KiB")
        times = [START + hour * 3600 + n * 100 for hour in range(HOURS) for n in range(PER_HOUR)]
        with server.client() as client:
            answer = counts(client).json()
            self.assertEqual((answer["degraded"], "complete_from" in answer), (False, False))
            body = [
                {"event_name": "buy", "channel": "web", "user_id": "u%d" % at, "timestamp": at} for at in times
            ]
            self.assertEqual(client.post("/events/bulk?ids=0", body).status, 202)

            def complete():
                """The whole and what it says to be complete, from one state of the history."""
                whole = counts(client).json()
                if not whole["degraded"]:
                    self.assertEqual(whole["count"], len(times))
                    self.assertNotIn("complete_from", whole)
                    return None
                rest = counts(client, to="2026-03-01T00:00:00Z", **{"from": whole["complete_from"]}).json()
                return None if rest["degraded"] else (whole, rest)

            whole, rest = procs.wait_until(complete, 60, "the oldest hours are gone")
            begin = client.get("/metrics").text()
            self.assertNotIn("complete_from", rest)
            self.assertEqual(whole["count"], rest["count"])
            self.assertEqual(whole["unique_count"], rest["unique_count"])
            self.assertLess(whole["count"], len(times))
            hour = counts(client, group_by="hour").json()
            self.assertTrue(hour["degraded"])
            self.assertEqual(hour["complete_from"][14:], "00:00Z")
            first = hour["groups"][0]["group_value"].replace(" ", "T") + "Z" if hour["groups"] else None
            self.assertIn(first, (hour["complete_from"], None))
            for group in hour["groups"]:
                self.assertEqual(group["total_count"], PER_HOUR)
            names = client.get("/events/names").json()
            self.assertTrue(names["degraded"])
            self.assertIn("complete_from", names)
            table = counts(client, group_by="hour", format="csv")
            self.assertEqual(table.header("sluice-degraded"), "true")
            told = counts(client, format="csv", to="2026-03-01T00:00:00Z", **{"from": "2026-02-01T00:00:00Z"})
            self.assertIsNone(told.header("sluice-degraded"))
            self.assertIn("sluice_counts_history_bytes_limit 65536\n", begin)
            self.assertGreater(server.metric("sluice_counts_history_begin_timestamp_seconds"), START)
        server.stop()
        server.start()
        with server.client() as client:
            self.assertTrue(counts(client).json()["degraded"])
        self.check_stderr()

    def test_a_read_that_cannot_be_answered_says_so_and_not_that_nothing_was_stored(self):
        db = self.database()
        server = self.server(db, DB_TIMEOUT_MS=1000)
        with server.client() as client:
            self.assertEqual(client.post("/events", {"type": "t", "id": "one"}).status, 202)
            server.wait_drained()
            self.addCleanup(procs.end, db.session("LOCK TABLES events WRITE"))
            for target in ("/events", "/v1/counts?event_name=t&from=1&to=2&group_by=user_id"):
                answer = client.get(target)
                self.assertEqual(answer.status, 503, answer)
                self.assertEqual(answer.header("content-type"), "application/problem+json")
                self.assertIsNotNone(answer.header("retry-after"))
                body = answer.json()
                self.assertEqual(body["error"], "backpressure")
                # MySQL gives up waiting for the lock, or the statement's time is up: whichever is first.
                self.assertRegex(body["detail"], "took too long|ask again|cannot be read now")
                self.assertNotIn("stored", body["detail"])
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
