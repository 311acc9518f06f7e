"""SLO definitions on the real server and MariaDB: who may write them, what they count, what survives."""

import json
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner

ADMIN = (("X-API-Key", "admin-key"),)
ACME = (("X-API-Key", "acme-key"),)
BETA = (("X-API-Key", "beta-key"),)
KEYS = {"API_KEYS": "acme:acme-key,beta:beta-key", "ADMIN_KEY": "admin-key"}


def rfc3339(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Objectives(runner.Drill):
    def server(self, db=None, **env):
        """Ready with its database: definitions can be written from the first request on."""
        return super().server(db, **({"READY_REQUIRES_DB": "true"} if db else {}), **env)

    def definition(self, **changes):
        given = {"service_name": "checkout", "slo_type": "availability", "slo_value": 0.9, "window": "7d"}
        given.update(changes)
        return json.dumps({name: value for name, value in given.items() if value is not None})

    def send(self, client, service, statuses, ago_s=0, latencies=None, headers=()):
        """One event per status, AGO_S seconds in the past."""
        now = time.time()
        events = [
            {
                "service": service,
                "status": status,
                "latency_ms": latencies[i] if latencies else 10,
                "timestamp": rfc3339(now - ago_s),
            }
            for i, status in enumerate(statuses)
        ]
        answer = client.post("/events/bulk", json.dumps(events), headers)
        self.assertEqual(answer.status, 202, repr(answer))

    def objective(self, client, service, objective_id, headers=(), query=""):
        answer = client.get("/slo/status?service=%s%s" % (service, query), headers)
        self.assertEqual(answer.status, 200, repr(answer))
        for item in answer.json()["services"]:
            for objective in item["objectives"]:
                if objective["id"] == objective_id:
                    return objective
        return None

    def test_a_definition_is_made_read_changed_and_removed(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            made = client.post("/slo/objectives", self.definition(id="one"))
            self.assertEqual(made.status, 201, repr(made))
            self.assertEqual(made.header("location"), "/slo/objectives/one")
            self.assertEqual(made.json()["tenant"], "default")
            self.assertEqual(made.json()["good_status"], "lt500")
            self.assertEqual(made.json()["min_bad_events"], 5)
            self.assertEqual(client.get("/slo/objectives/one").json(), made.json())
            self.assertEqual(client.get("/slo/objectives").json()["objectives"], [made.json()])
            self.assertEqual(client.get("/slo/objectives?service=other").json()["objectives"], [])
            self.assertEqual(client.post("/slo/objectives", self.definition(id="one")).status, 409)
            changed = client.request("PUT", "/slo/objectives/one", self.definition(slo_value=0.5))
            self.assertEqual(changed.status, 200, repr(changed))
            self.assertEqual((changed.json()["version"], changed.json()["slo_value"]), (2, 0.5))
            # What was read can be sent back.
            again = client.request("PUT", "/slo/objectives/one", json.dumps(changed.json()))
            self.assertEqual((again.status, again.json()["version"]), (200, 3))
            # But not over what somebody else has changed since.
            late = client.request("PUT", "/slo/objectives/one", json.dumps(changed.json()))
            self.assertEqual((late.status, late.json()["error"]), (409, "conflict"))
            self.assertIn("version 3 is in force, not 2", late.json()["message"])
            unnamed = client.post("/slo/objectives", self.definition())
            self.assertEqual(unnamed.status, 201)
            self.assertEqual(client.request("DELETE", "/slo/objectives/one").status, 204)
            self.assertEqual(client.get("/slo/objectives/one").status, 404)
            self.assertEqual(client.request("DELETE", "/slo/objectives/one").status, 404)
        rows = db.query("SELECT slo_id, action, actor, JSON_VALUE(definition, '$.slo_value') FROM slo_audit ORDER BY id")
        self.assertEqual([(r[0], r[1], r[3]) for r in rows][:3], [("one", "create", "0.9"), ("one", "update", "0.5"), ("one", "update", "0.5")])
        self.assertEqual([r[1] for r in rows], ["create", "update", "update", "create", "delete"])
        self.assertTrue(all(r[2].startswith("anyone, request ") for r in rows))
        self.assertEqual(db.number("SELECT COUNT(*) FROM slo"), 1)
        logged = [line for line in server.lines() if line.get("event") == "objectives.changed"]
        self.assertEqual([line["change"] for line in logged], ["create", "update", "update", "create", "delete"])

    def test_what_makes_no_sense_is_refused_with_a_sentence(self):
        server = self.server()
        bad = [
            ({"slo_value": 0}, "slo_value"), ({"slo_value": 1}, "slo_value"), ({"slo_value": "0.9"}, "slo_value"),
            ({"slo_value": None}, "slo_value"), ({"service_name": ""}, "service_name"), ({"service_name": None}, "service_name"),
            ({"slo_type": "uptime"}, "slo_type"), ({"slo_type": "latency"}, "threshold_ms"),
            ({"threshold_ms": 5}, "threshold_ms"), ({"slo_type": "latency", "threshold_ms": 0}, "threshold_ms"),
            ({"slo_type": "latency", "threshold_ms": 1.0001}, "threshold_ms"),
            ({"window": "30m"}, "window"), ({"window": "91d"}, "window"), ({"window": "year"}, "window"),
            ({"window": None, "windows_days": 0}, "windows_days"), ({"time_zone": "UTC"}, "time_zone"),
            ({"window": "month", "time_zone": "Mars/Olympus"}, "time_zone"),
            ({"good_status": "2xx"}, "good_status"), ({"good_status": []}, "good_status"),
            ({"good_status": ["300-200"]}, "good_status"), ({"good_status": [[200, 299], [250, 260]]}, "good_status"),
            ({"good_status": "lt400", "slo_type": "latency", "threshold_ms": 1}, "good_status"),
            ({"min_bad_events": -1}, "min_bad_events"), ({"id": "has space"}, "id"), ({"id": "default-availability"}, "id"),
            ({"targets": 1}, "targets"), ({"service": "twice"}, "service"),
            ({"window": "7d", "windows_days": 30}, "windows_days"), ({"window": "36h", "windows_days": 1}, "windows_days"),
            ({"window": "month", "windows_days": 31}, "windows_days"), ({"status": "inactive"}, "status"), ({"status": 1}, "status"), ({"version": 0}, "version"), ({"version": "1"}, "version"),
        ]  # fmt: skip
        with server.client() as client:
            for changes, word in bad:
                answer = client.post("/slo/objectives", self.definition(**changes))
                self.assertEqual((answer.status, answer.json()["error"]), (400, "validation_error"), repr(changes))
                self.assertIn(word, answer.json()["message"], repr(changes))
            for n in range(8):
                self.assertEqual(client.post("/slo/objectives", self.definition(id="n%d" % n)).status, 201)
            ninth = client.post("/slo/objectives", self.definition(id="n8"))
            self.assertEqual(ninth.status, 400)
            self.assertIn("at most 8", ninth.json()["message"])
            self.assertEqual(len(client.get("/slo/objectives").json()["objectives"]), 8)
            mismatch = client.request("PUT", "/slo/objectives/n1", self.definition(id="n2"))
            self.assertEqual(mismatch.status, 400)

    def test_tenants_see_their_own_and_only_the_admin_writes(self):
        db = self.database()
        server = self.server(db, **KEYS)
        with server.client() as client:
            body = self.definition(id="one", tenant="acme")
            self.assertEqual(client.post("/slo/objectives", body).status, 401)
            self.assertEqual(client.post("/slo/objectives", body, ACME).status, 403)
            unnamed = client.post("/slo/objectives", self.definition(id="one"), ADMIN)
            self.assertEqual((unnamed.status, "tenant" in unnamed.json()["message"]), (400, True))
            made = client.post("/slo/objectives", body, ADMIN)
            self.assertEqual((made.status, made.json()["updated_by"][:7]), (201, "admin, "))
            self.assertEqual(client.get("/slo/objectives/one", ACME).status, 200)
            self.assertEqual(client.get("/slo/objectives/one", BETA).status, 404)
            self.assertEqual(client.get("/slo/objectives", BETA).json()["objectives"], [])
            self.assertEqual(client.get("/slo/objectives?tenant=acme", BETA).status, 403)
            self.assertEqual(len(client.get("/slo/objectives", ADMIN).json()["objectives"]), 1)
            self.assertEqual(len(client.get("/slo/objectives?tenant=beta", ADMIN).json()["objectives"]), 0)
            # An id is one definition of all tenants, and stays its tenant's.
            self.assertEqual(client.request("PUT", "/slo/objectives/one", self.definition(tenant="beta"), ADMIN).status, 409)
            self.assertEqual(client.request("PUT", "/slo/objectives/one", self.definition(), ADMIN).json()["tenant"], "acme")
            self.send(client, "checkout", [200, 500], headers=ACME)
            self.send(client, "checkout", [200], headers=BETA)
            self.assertEqual(self.objective(client, "checkout", "one", ACME)["bad"], 1)
            self.assertIsNone(self.objective(client, "checkout", "one", BETA))
            self.assertIsNotNone(self.objective(client, "checkout", "default-availability", BETA))
            self.assertEqual(self.objective(client, "checkout", "one", ADMIN, "&tenant=acme")["good"], 1)
            self.assertEqual(client.get("/slo/status", ADMIN).status, 403)
            self.assertEqual(client.get("/slo/status?tenant=acme", BETA).status, 403)
            self.assertEqual(client.request("DELETE", "/slo/objectives/one", "", ACME).status, 403)
            self.assertEqual(client.request("DELETE", "/slo/objectives/one?tenant=beta", "", ADMIN).status, 404)
            self.assertEqual(client.get("/slo/objectives/one", ACME).status, 200)
            self.assertEqual(client.request("DELETE", "/slo/objectives/one?tenant=acme", "", ADMIN).status, 204)

    def test_rules_apply_to_the_stored_history_at_once(self):
        server = self.server(self.database())
        with server.client() as client:
            self.send(client, "checkout", [200, 201, 301, 404, 404, 429, 500], ago_s=7200)
            for rule, good in (
                ("lt500", 6), ("lt400", 3), (["200-299"], 2), (["200-299", 404], 4), ([[200, 399], 429], 4), ("404", 2),
            ):  # fmt: skip
                answer = client.request("PUT", "/slo/objectives/rule", self.definition(good_status=rule))
                self.assertIn(answer.status, (200, 201), repr(answer))
                found = self.objective(client, "checkout", "rule")
                self.assertEqual((found["good"], found["bad"]), (good, 7 - good), repr(rule))
                self.assertEqual(found["violations"], 1 if (7 - good) > 0.7 else 0)
                self.assertAlmostEqual(found["error_budget_remaining"], 1 - (7 - good) / 7 / 0.1)
            short = client.request("PUT", "/slo/objectives/rule", self.definition(window="1h"))
            self.assertEqual(short.status, 200)
            found = self.objective(client, "checkout", "rule")
            self.assertEqual((found["good"], found["bad"], found["health"]), (0, 0, "no_data"))

    def test_a_new_threshold_says_what_it_could_not_compare(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            self.send(client, "checkout", [200] * 4, latencies=[100, 200, 300, 600])
            latency = {"slo_type": "latency", "slo_value": 0.5, "threshold_ms": 250}
            made = client.post("/slo/objectives", self.definition(id="fast", **latency))
            self.assertEqual(made.status, 201)
            self.assertIn("history_from", made.json())
            found = self.objective(client, "checkout", "fast")
            self.assertEqual((found["good"], found["bad"], found["uncounted"]), (0, 0, 4))
            self.assertIn("4 events", found["note"])
            self.send(client, "checkout", [200] * 3, latencies=[250, 250.001, 10])
            found = self.objective(client, "checkout", "fast")
            self.assertEqual((found["good"], found["bad"], found["uncounted"]), (2, 1, 4))
            # The default threshold was counted all the time.
            client.post("/slo/objectives", self.definition(id="slow", **{**latency, "threshold_ms": 500}))
            found = self.objective(client, "checkout", "slow")
            self.assertEqual((found["good"], found["bad"]), (6, 1))
            self.assertNotIn("note", found)
        server.wait_drained()
        # The log's history and the database's hold the same.
        server.kill()
        server.start()
        with server.client() as client:
            found = self.objective(client, "checkout", "fast")
            self.assertEqual((found["good"], found["bad"], found["uncounted"]), (2, 1, 4))

    def test_thresholds_that_change_under_traffic_and_kills_stay_exact(self):
        db = self.database()
        server = self.server(db)
        counts = {}
        serial = 0

        def burst(client, thresholds):
            nonlocal serial
            for _ in range(20):
                latency = self.random.choice([5, 50, 150, 250, 350, 450, 550])
                serial += 1
                event = {"event_id": "e%d" % serial, "service": "s", "status": 200, "latency_ms": latency}
                self.assertEqual(client.post("/ingest", json.dumps(event)).status, 202)
                for name, threshold in thresholds.items():
                    good, bad = counts.get(name, (0, 0))
                    counts[name] = (good + (latency <= threshold), bad + (latency > threshold))

        thresholds = {}
        for round_number in range(6):
            # A restart compares what is pending with the thresholds of then, also what came before a
            # definition: so nothing older than the definition may be pending at the kill.
            server.wait_drained()
            with server.client() as client:
                name = "t%d" % round_number
                thresholds[name] = self.random.choice([40, 140, 240, 340, 440]) + round_number
                body = self.definition(service_name="s", slo_type="latency", threshold_ms=thresholds[name])
                self.assertEqual(client.request("PUT", "/slo/objectives/" + name, body).status, 201)
                burst(client, thresholds)
                if round_number == 3:
                    gone = thresholds.pop("t0")
                    self.assertEqual(client.request("DELETE", "/slo/objectives/t0").status, 204)
                    self.assertGreater(gone, 0)
                burst(client, thresholds)
                for each in thresholds:
                    found = self.objective(client, "s", each)
                    self.assertEqual((found["good"], found["bad"]), counts[each], each)
            if round_number % 2:
                if self.random.random() < 0.5:
                    server.wait_drained()
                server.kill()
                server.start()
        server.wait_drained()
        with server.client() as client:
            for each in thresholds:
                found = self.objective(client, "s", each)
                self.assertEqual((found["good"], found["bad"]), counts[each], each)

    def test_without_the_database_definitions_stay_and_writes_are_refused(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            self.assertEqual(client.post("/slo/objectives", self.definition(id="one")).status, 201)
            self.send(client, "checkout", [200, 200, 500])
            server.wait_drained()
            db.kill()
            procs.wait_until(lambda: client.get("/slo/status").json()["degraded"], 60 * procs.SLOWNESS, "degraded")
            for method, target in (("POST", "/slo/objectives"), ("PUT", "/slo/objectives/one"), ("DELETE", "/slo/objectives/one")):
                answer = client.request(method, target, self.definition(slo_value=0.2) if method != "DELETE" else "")
                self.assertEqual((answer.status, answer.json()["error"]), (503, "database_unavailable"), method)
                self.assertIsNotNone(answer.header("retry-after"))
            self.assertEqual(client.get("/slo/objectives/one").json()["slo_value"], 0.9)
            self.assertEqual(self.objective(client, "checkout", "one")["bad"], 1)
        server.kill()
        server.start(ready=False)
        with server.client() as client:
            self.assertEqual(client.get("/slo/objectives/one").json()["slo_value"], 0.9)
            self.assertEqual(self.objective(client, "checkout", "one")["bad"], 1)
            procs.wait_until(lambda: client.get("/slo/objectives").json()["degraded"], 30 * procs.SLOWNESS, "marked degraded")
            db.start()
            procs.wait_until(
                lambda: client.request("PUT", "/slo/objectives/one", self.definition(slo_value=0.2)).status == 200,
                60 * procs.SLOWNESS, "writes are taken again", pause=0.2,
            )  # fmt: skip
        self.assertEqual(db.query("SELECT slo_value, version FROM slo"), [["0.2", "2"]])

    def test_other_nodes_and_rows_made_by_hand_are_picked_up(self):
        db = self.database()
        first, second = self.server(db), self.server(db, WAL_DIR=self.path("wal2"))
        with first.client() as one, second.client() as two:
            self.assertEqual(one.post("/slo/objectives", self.definition(id="shared")).status, 201)

            def seen(objective_id, value):
                answer = two.get("/slo/objectives/" + objective_id)
                return answer.status == 200 and answer.json()["slo_value"] == value

            procs.wait_until(lambda: seen("shared", 0.9), 30 * procs.SLOWNESS, "the other node's definition")
            # A change through either node starts from the other's.
            self.assertEqual(two.request("PUT", "/slo/objectives/shared", self.definition(slo_value=0.8)).json()["version"], 2)
            self.assertEqual(one.request("PUT", "/slo/objectives/shared", self.definition(slo_value=0.7)).json()["version"], 3)
            # By hand: a row, one that makes no sense, too many of one service, another window. None holds up the others.
            rows = [("by-hand", "checkout", 0.75), ("nonsense", "checkout", 7), ("after", "other", 0.65)]
            rows += [("many-%d" % n, "many", 0.9) for n in range(9)]
            db.query(
                "START TRANSACTION; UPDATE slo SET windows_days=14 WHERE id='shared';"
                "INSERT INTO slo (id,tenant_id,service_name,slo_type,slo_value,windows_days,created_at,updated_at) VALUES "
                + ",".join("('%s','default','%s','availability',%s,30,UTC_TIMESTAMP(6),UTC_TIMESTAMP(6))" % row for row in rows)
                + "; COMMIT"
            )
            procs.wait_until(lambda: seen("by-hand", 0.75), 30 * procs.SLOWNESS, "a row made by hand")
            self.assertEqual(two.get("/slo/objectives/nonsense").status, 404)
            self.assertTrue(seen("shared", 0.7))
            self.assertEqual(two.get("/slo/objectives/shared").json()["window"], "14d")
            self.assertTrue(seen("after", 0.65))
            many = two.get("/slo/objectives?service=many").json()
            self.assertEqual((len(many["objectives"]), many["degraded"]), (8, False))

    def test_without_a_database_the_file_is_the_record(self):
        server = self.server()
        with server.client() as client:
            self.assertEqual(client.post("/slo/objectives", self.definition(id="one", window="month")).status, 201)
        server.kill()
        server.start()
        with server.client() as client:
            found = client.get("/slo/objectives/one").json()
            self.assertEqual((found["window"], found["time_zone"]), ("month", "UTC"))
            self.send(client, "checkout", [200])
            start = self.objective(client, "checkout", "one")["window_start"]
            self.assertEqual(start, time.strftime("%Y-%m-01T00:00:00Z", time.gmtime()))

    def test_the_gate_freezes_for_a_spent_budget_and_for_one_large_incident(self):
        server = self.server(self.database())
        with server.client() as client:

            def gate(service):
                answer = client.get("/slo/gate?service=" + service)
                return answer.status, answer.json()

            self.assertEqual(gate("checkout")[0], 404)
            self.assertEqual(client.post("/slo/objectives", self.definition(id="one", min_bad_events=10)).status, 201)
            status, found = gate("checkout")
            self.assertEqual((status, found["decision"], found["health"]), (200, "go", "no_data"))
            self.send(client, "checkout", [200] * 980 + [500] * 9, ago_s=3600)
            status, found = gate("checkout")
            self.assertEqual((status, found["decision"], found["objectives"][0]["reasons"]), (200, "go", []))
            # Many small ones are no incident: each is below a fifth, together above.
            for hours in range(2, 5):
                self.send(client, "checkout", [500] * 10, ago_s=3600 * hours)
            self.assertEqual(gate("checkout")[0], 200)
            # One of 30 in some 1100 is more than a fifth of the 110 allowed.
            for minute in range(3):
                self.send(client, "checkout", [500] * 10, ago_s=7 * 3600 + 60 * minute)
            status, found = gate("checkout")
            self.assertEqual((status, found["decision"]), (409, "freeze"))
            self.assertEqual(found["objectives"][0]["reasons"], ["incident"])
            self.assertEqual(found["objectives"][0]["worst_incident"]["bad"], 30)
            self.assertAlmostEqual(found["objectives"][0]["worst_incident"]["budget_share"], 30 / (0.1 * 1049))
            self.assertIn("one incident", found["reason"])
            self.send(client, "checkout", [500] * 100)
            status, found = gate("checkout")
            self.assertEqual((status, found["objectives"][0]["reasons"][0]), (409, "budget_spent"))
            self.assertIn("is spent", found["reason"])


if __name__ == "__main__":
    runner.main()
