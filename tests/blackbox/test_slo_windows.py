"""GET /slo/windows and table slo_windows; and the server as its own tenant, _sluice.

The rows follow the events, late ones too, whichever node writes them and however often the process
or the database goes away. The server's own requests are counted without becoming events.
"""

import json
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner


def rfc3339(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Windows(runner.Drill):
    def server(self, db=None, **env):
        return super().server(db, **({"READY_REQUIRES_DB": "true"} if db else {}), **env)

    def send(self, server, service, statuses, at, latency_ms=10):
        with server.client() as client:
            events = [{"service": service, "status": s, "latency_ms": latency_ms, "timestamp": rfc3339(at)} for s in statuses]
            answer = client.post("/events/bulk", json.dumps(events))
            self.assertEqual(answer.status, 202, repr(answer))

    def windows(self, server, service, first, last, headers=()):
        """The answer, and its rows by their start."""
        with server.client() as client:
            answer = client.get("/slo/windows?service=%s&from=%s&to=%s" % (service, rfc3339(first), rfc3339(last)), headers)
        self.assertEqual(answer.status, 200, repr(answer))
        found = answer.json()
        self.assertEqual(len(found["windows"]), (last - first) // 60)
        return found, {row["window_start"]: row for row in found["windows"]}

    def restart(self, server):
        """The first tick of a process takes up whatever is left."""
        server.wait_drained()
        server.kill()
        server.start()

    def wait_row(self, db, service, minute, good, bad):
        text = "SELECT good_count, bad_count FROM slo_windows WHERE tenant_id = 'default' AND service = '%s' AND window_start = '%s'"
        text %= (service, time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(minute)))
        procs.wait_until(lambda: db.query(text) == [[str(good), str(bad)]], 90 * procs.SLOWNESS, "the row says %d/%d" % (good, bad), pause=0.2)

    def test_rows_follow_events_late_ones_restarts_and_an_absent_database(self):
        db = self.database()
        server = self.server(db)
        minute = int(time.time()) // 60 * 60 - 7200
        self.send(server, "checkout", [200] * 999 + [500], minute + 5, latency_ms=100)
        self.send(server, "checkout", [200] * 9 + [500], minute + 65)
        self.restart(server)
        self.wait_row(db, "checkout", minute, 999, 1)
        found, rows = self.windows(server, "checkout", minute - 60, minute + 180)
        self.assertEqual((found["source"], found["degraded"], found["good"], found["bad"]), ("database", False, 1008, 2))
        first, second = rows[rfc3339(minute)], rows[rfc3339(minute + 60)]
        # 999 of 1000 meets 0.999, and 9 of 10 does not.
        self.assertEqual((first["availability"], first["violated"]), (0.999, False))
        self.assertEqual((second["availability"], second["violated"], found["violations"]), (0.9, True, 1))
        self.assertLessEqual(abs(first["latency_ms"]["p99"] - 100), 1.09)
        silent = rows[rfc3339(minute - 60)]
        self.assertEqual((silent["good"], silent["availability"], silent["latency_ms"]["p50"], silent["violated"]), (0, None, None, False))
        # A late event makes its minute a violation after the fact.
        self.send(server, "checkout", [500], minute + 59)
        self.restart(server)
        self.wait_row(db, "checkout", minute, 999, 2)
        self.assertTrue(self.windows(server, "checkout", minute, minute + 60)[1][rfc3339(minute)]["violated"])
        # Without the database the same comes from memory, with what the table does not have yet.
        db.kill()
        self.send(server, "checkout", [500], minute + 59)
        with server.client() as client:
            procs.wait_until(lambda: client.get("/slo/status").json()["degraded"], 60 * procs.SLOWNESS, "degraded")
        found, rows = self.windows(server, "checkout", minute, minute + 120)
        self.assertEqual((found["source"], found["degraded"]), ("memory", True))
        self.assertEqual((rows[rfc3339(minute)]["bad"], rows[rfc3339(minute + 60)]["bad"]), (3, 1))
        db.start()
        self.restart(server)
        self.wait_row(db, "checkout", minute, 999, 3)
        # Whatever was done twice changed nothing.
        self.assertEqual(db.number("SELECT SUM(good_count + bad_count) FROM slo_windows WHERE service = 'checkout'"), 1012)
        self.assertEqual(db.number("SELECT COUNT(*) FROM events"), 1012)

    def test_two_nodes_write_one_sum_and_silence_has_rows(self):
        db = self.database()
        first, second = self.server(db), self.server(db, WAL_DIR=self.path("wal2"))
        minute = int(time.time()) // 60 * 60 - 600
        for count in (3, 5):
            self.send(first, "shared", [200] * count, minute + 1)
            self.send(second, "shared", [500] * count, minute + 2)
        self.restart(first)
        self.restart(second)
        self.wait_row(db, "shared", minute, 8, 8)
        # The service has said nothing since; the minute that ends next has a row all the same.
        text = "SELECT COUNT(*) FROM slo_windows WHERE service = 'shared' AND good_count + bad_count = 0 AND availability IS NULL"
        procs.wait_until(lambda: db.number(text) > 0, 90 * procs.SLOWNESS, "a row of silence", pause=0.5)

    def own(self, client, headers=(), query="&tenant=_sluice"):
        answer = client.get("/slo/status?service=sluice" + query, headers)
        self.assertEqual(answer.status, 200, repr(answer))
        return answer.json()["services"]

    def test_the_server_is_its_own_first_tenant(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            for n in range(20):
                self.assertEqual(client.post("/ingest", json.dumps({"service": "s", "status": 200, "latency_ms": n})).status, 202)
            for _ in range(5):
                self.assertEqual(client.post("/ingest", "{}").status, 400)
            procs.wait_until(lambda: [s["total"] for s in self.own(client)] == [25], 30 * procs.SLOWNESS, "its requests are measured")
            # Looking does not change what is looked at, and nothing of it is an event.
            for _ in range(30):
                self.own(client)
                client.get("/health")
            self.assertEqual(client.get("/slo/status").json()["services"][0]["service"], "s")
            time.sleep(6)
            found = self.own(client)[0]
            self.assertEqual((found["good"], found["bad"], found["objectives"][0]["id"]), (25, 0, "default-availability"))
            self.assertEqual(client.get("/slo/gate?service=sluice&tenant=_sluice").status, 200)
            self.assertEqual(client.get("/slo/windows?service=sluice&tenant=_sluice").json()["source"], "memory")
        server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM events"), 20)
        self.assertEqual(db.number("SELECT COUNT(*) FROM slo_slices WHERE tenant_id = '_sluice'"), 0)
        self.assertEqual(server.stop(), 0)
        rows = db.query("SELECT method, status_code, SUM(requests) FROM api_requests WHERE endpoint = '/ingest' GROUP BY method, status_code ORDER BY status_code")
        self.assertEqual(rows, [["POST", "202", "20"], ["POST", "400", "5"]])
        self.assertGreaterEqual(db.number("SELECT SUM(requests) FROM api_requests WHERE endpoint = '/slo/status'"), 30)
        self.assertEqual(db.number("SELECT COUNT(*) FROM api_requests WHERE latency_ms_max > latency_ms_sum"), 0)
        # A start has its figures back.
        server.start()
        with server.client() as client:
            procs.wait_until(lambda: [s["total"] for s in self.own(client)] == [25], 30 * procs.SLOWNESS, "its history is back")
            self.assertEqual(client.post("/ingest", "{}").status, 400)
            procs.wait_until(lambda: [s["total"] for s in self.own(client)] == [26], 30 * procs.SLOWNESS, "and goes on")

    def test_with_keys_only_the_admin_reads_of_the_server_itself(self):
        server = self.server(API_KEYS="acme:acme-key", ADMIN_KEY="admin-key")
        with server.client() as client:
            self.assertEqual(client.get("/slo/status?tenant=_sluice", [("X-API-Key", "acme-key")]).status, 403)
            self.assertEqual(client.get("/slo/windows?service=sluice&tenant=_sluice", [("X-API-Key", "acme-key")]).status, 403)
            self.assertEqual(client.get("/slo/status?tenant=_sluice").status, 401)
            self.assertEqual(client.post("/events", "{}", [("X-API-Key", "acme-key")]).status, 202)
            procs.wait_until(
                lambda: [s["total"] for s in self.own(client, [("X-API-Key", "admin-key")])] >= [1], 30 * procs.SLOWNESS, "the admin sees it"
            )
            body = json.dumps({"tenant": "_sluice", "service_name": "sluice", "slo_type": "latency", "slo_value": 0.9, "threshold_ms": 50})
            self.assertEqual(client.post("/slo/objectives", body, [("X-API-Key", "admin-key")]).status, 201)


if __name__ == "__main__":
    runner.main()
