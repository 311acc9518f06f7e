"""What events become, what a connection may do, metrics and settings, with and without a database.

The table of requests and answers is test_contract.py.
"""

import concurrent.futures
import hashlib
import json
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from http_client import ConnectionLost, request_bytes

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def rfc3339(second):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


class HttpCase(runner.Drill):
    """One server for all tests of a class; each test has a connection of its own."""

    deadline_seconds = 60
    with_db = False
    env = {}

    def setUp(self):
        super().setUp()
        cls = type(self)
        if not hasattr(cls, "_shared") or cls._shared[0] is not cls:
            home = runner.Drill("run")
            runner.Drill.setUp(home)
            db = home.database() if cls.with_db else None
            cls._shared = (cls, home, db, home.server(db, **cls.env))
        _, home, self.db, self.main = cls._shared
        self.servers = home.servers
        self.http = self.main.client()
        self.addCleanup(self.http.close)
        self.now = int(time.time())

    def tearDown(self):
        self.assertTrue(self.main.running(), "the server has ended: " + self.main.tail())
        self.check_stderr()

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "_shared") and cls._shared[0] is cls:
            cls._shared[1].doCleanups()

    def unique(self, prefix="e"):
        return "%s-%x" % (prefix, self.random.getrandbits(60))

    def refused(self, answer, status, code):
        """The answer is a whole problem document of STATUS and CODE."""
        self.assertEqual((answer.status, answer.header("content-type")), (status, "application/problem+json"), answer)
        body = answer.json()
        self.assertEqual(body.get("error"), code, body)
        for member in ("type", "title", "detail", "message", "request_id"):
            self.assertIsInstance(body.get(member), str, member)
        self.assertEqual(body.get("status"), status)
        self.assertEqual(answer.header("x-request-id"), body["request_id"])
        self.assertNotRegex(answer.text().lower(), r"mdb_|lmdb|mysql|/home/|\.c:\d")
        return body

    def accepted(self, answer, status, event_id=None):
        self.assertEqual(answer.status, status, answer)
        body = answer.json()
        self.assertIsInstance(body["seq"], int)
        self.assertGreater(body["seq"], 0)
        self.assertIs(body["duplicate"], status == 200, body)
        self.assertTrue(answer.header("x-request-id"))
        self.assertEqual(answer.header("content-type").split(";")[0], "application/json")
        if event_id is not None:
            self.assertEqual(body["event_id"], event_id)
        return body

    def row(self, event_id):
        """The row of an event once it is in MySQL."""
        self.main.wait_drained()
        rows = self.db.query(
            "SELECT event_name, IFNULL(service,'-'), IFNULL(status,'-'), IFNULL(latency_ms,'-'),"
            " IFNULL(is_good,'-'), IFNULL(channel,'-'), IFNULL(campaign_id,'-'), IFNULL(user_id,'-'),"
            " IFNULL(tags,'-'), IFNULL(properties,'-'), occurred_at, tenant_id, IFNULL(trace_id,'-')"
            " FROM events WHERE event_id = '%s'" % event_id
        )
        self.assertEqual(len(rows), 1, rows)
        names = "name service status latency good channel campaign user tags properties at tenant trace".split()
        return dict(zip(names, rows[0]))


class Shapes(HttpCase):
    """Single events of the four shapes, down to the row."""

    with_db = True

    def test_ingest_takes_telemetry(self):
        event_id = self.unique()
        event = {"event_id": event_id, "service": "api", "status": 503, "latency_ms": 12.25, "region": "eu"}
        body = self.accepted(self.http.post("/ingest", event), 202, event_id)
        self.assertEqual(body["status"], "queued")
        again = self.accepted(self.http.post("/ingest", event), 200, event_id)
        self.assertEqual(again["seq"], body["seq"])
        row = self.row(event_id)
        self.assertEqual((row["name"], row["service"], row["status"]), ("telemetry", "api", "503"))
        self.assertEqual((float(row["latency"]), row["good"], row["tenant"]), (12.25, "0", "default"))
        self.assertEqual(json.loads(row["properties"]), {"region": "eu"})

    def test_events_takes_telemetry_too(self):
        event_id = self.unique()
        answer = self.http.post("/events", {"id": event_id, "service": "api", "status": 200, "latency_ms": 0})
        self.assertEqual(self.accepted(answer, 202, event_id)["status"], "queued")
        self.assertEqual(self.row(event_id)["good"], "1")

    def test_generic_event_with_payload(self):
        event_id = self.unique()
        event = {"id": event_id, "type": "user.created", "payload": {"a": [1, {"b": None}]}, "timestamp": self.now}
        body = self.accepted(self.http.post("/events", event), 202, event_id)
        self.assertEqual((body["id"], body["status"]), (event_id, "accepted"))
        self.accepted(self.http.post("/events", event), 200, event_id)
        row = self.row(event_id)
        self.assertEqual(row["name"], "user.created")
        self.assertEqual(json.loads(row["properties"]), {"a": [1, {"b": None}]})

    def test_an_empty_object_is_an_event_of_type_event(self):
        body = self.accepted(self.http.post("/events", {}), 202)
        self.assertRegex(body["event_id"], r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        self.assertEqual(self.row(body["event_id"])["name"], "event")

    def test_product_event_with_idempotency_key(self):
        event_id = self.unique()
        event = {"event_name": "signup", "timestamp": rfc3339(self.now - 5), "properties": {"plan": "pro"}}
        body = self.accepted(self.http.post("/events", event, {"Idempotency-Key": event_id}), 201, event_id)
        self.assertEqual(body["status"], "accepted")
        for key in (event_id, '"%s"' % event_id):
            again = self.accepted(self.http.post("/events", event, {"Idempotency-Key": key}), 200, event_id)
            self.assertEqual(again["seq"], body["seq"])
        row = self.row(event_id)
        self.assertEqual((row["name"], json.loads(row["properties"])), ("signup", {"plan": "pro"}))

    def test_channel_event_gets_the_hash_of_its_content_as_id(self):
        user = self.unique("user")
        event = {
            "event_name": "view", "channel": "web", "user_id": user, "timestamp": self.now,
            "campaign_id": "c1", "tags": ["a", "b"], "metadata": {"n": 1},
        }
        want = hashlib.sha256(("%s|view|%d|c1|web" % (user, self.now)).encode()).hexdigest()
        body = self.accepted(self.http.post("/events", event), 202, want)
        self.assertEqual(body["status"], "accepted")
        self.accepted(self.http.post("/events", event), 200, want)
        del event["campaign_id"]
        without = hashlib.sha256(("%s|view|%d||web" % (user, self.now)).encode()).hexdigest()
        self.accepted(self.http.post("/events", event), 202, without)
        row = self.row(want)
        self.assertEqual((row["channel"], row["campaign"], row["user"]), ("web", "c1", user))
        self.assertEqual((json.loads(row["tags"]), json.loads(row["properties"])), (["a", "b"], {"n": 1}))

    def test_timestamps_in_all_forms_are_the_same_moment(self):
        want = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.now - 100))
        second = self.now - 100
        local = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second + 7200)) + "+02:00"
        for stamp in (second, second * 1000, rfc3339(second), local, rfc3339(second)[:-1] + ".250000Z"):
            with self.subTest(stamp=stamp):
                event_id = self.unique()
                self.accepted(self.http.post("/events", {"id": event_id, "type": "t", "timestamp": stamp}), 202)
                self.assertEqual(self.row(event_id)["at"][:19], want)
        # Microseconds are kept.
        event_id = self.unique()
        self.accepted(
            self.http.post("/events", {"id": event_id, "type": "t", "timestamp": rfc3339(second)[:-1] + ".123456Z"}), 202
        )
        self.assertEqual(self.row(event_id)["at"], want + ".123456")

    def test_numbers_and_text_in_properties_come_back_as_they_were(self):
        event_id = self.unique()
        raw = '{"big":9007199254740993,"text":"\\u0000\\ud83d\\ude00 \u00fc\u4e2d","small":1e-300,"e":1E+2}'
        body = '{"id":"%s","type":"t","payload":%s}' % (event_id, raw)
        self.accepted(self.http.post("/events", body, JSON), 202)
        self.assertEqual(json.loads(self.row(event_id)["properties"]), json.loads(raw))

    def test_traceparent_becomes_the_trace_id(self):
        event_id, trace = self.unique(), "4bf92f3577b34da6a3ce929d0e0e4736"
        self.accepted(
            self.http.post(
                "/events", {"id": event_id, "type": "t"}, {"traceparent": "00-%s-00f067aa0ba902b7-01" % trace}
            ),
            202,
        )
        self.assertEqual(self.row(event_id)["trace"].lower(), trace)

    def test_the_same_id_with_another_body(self):
        key, event_id = self.unique(), self.unique()
        when = rfc3339(self.now)
        self.accepted(
            self.http.post("/events", {"event_name": "a", "timestamp": when}, {"Idempotency-Key": key}), 201
        )
        answer = self.http.post("/events", {"event_name": "b", "timestamp": when}, {"Idempotency-Key": key})
        self.refused(answer, 422, "idempotency_mismatch")
        self.accepted(self.http.post("/events", {"id": event_id, "type": "a"}), 202)
        self.accepted(self.http.post("/events", {"id": event_id, "type": "b"}), 200)
        self.assertEqual(self.row(key)["name"], "a")
        self.assertEqual(self.row(event_id)["name"], "a")

    def test_ids_with_odd_characters_are_told_apart(self):
        """Case, accents and trailing blanks matter: MySQL's collation must not fold them."""
        base = self.unique("Id")
        ids = [base, base.upper(), base + "e", base + "\u00e9", base + " ", base + "\U0001f600", base + "'\\\"%_"]
        for event_id in ids:
            self.accepted(self.http.post("/events", {"id": event_id, "type": "t"}), 202, event_id)
        self.main.wait_drained()
        rows = self.db.query("SELECT event_id FROM events WHERE event_id LIKE '%s%%'" % base)
        upper = self.db.query("SELECT event_id FROM events WHERE event_id LIKE '%s%%'" % base.upper())
        self.assertEqual(len(rows) + len(upper), len(ids), (rows, upper))

    def test_many_clients_send_one_id_at_once_and_exactly_one_is_new(self):
        for _ in range(10):
            event_id = self.unique()

            def send(_):
                with self.main.client() as client:
                    return client.post("/events", {"id": event_id, "type": "t"})

            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                answers = list(pool.map(send, range(12)))
            self.assertEqual(sorted(answer.status for answer in answers), [200] * 11 + [202])
            self.assertEqual(len({answer.json()["seq"] for answer in answers}), 1)
            self.row(event_id)


class Bulk(HttpCase):
    with_db = True

    def setUp(self):
        super().setUp()
        if self.http.post("/events/bulk", "{}", NDJSON).status == 404:
            self.skipTest("this build has no bulk route")

    def lines(self, ids):
        return "\n".join('{"id":"%s","type":"b"}' % event_id for event_id in ids)

    def count(self, prefix):
        self.main.wait_drained()
        return self.db.number("SELECT COUNT(*) FROM events WHERE event_id LIKE '%s%%'" % prefix)

    def test_a_bulk_in_each_form(self):
        for form in ("ndjson", "array", "object", "csv"):
            with self.subTest(form=form):
                ids = [self.unique() for _ in range(5)]
                if form == "ndjson":
                    answer = self.http.post("/events/bulk", self.lines(ids), NDJSON)
                elif form == "csv":
                    text = "id,type\r\n" + "".join('%s,"a ""quoted"", name"\r\n' % event_id for event_id in ids)
                    answer = self.http.post("/events/bulk", text, {"Content-Type": "text/csv"})
                else:
                    events = [{"id": event_id, "type": "b"} for event_id in ids]
                    answer = self.http.post("/events/bulk", events if form == "array" else {"events": events})
                self.assertEqual(answer.status, 202, answer)
                body = answer.json()
                self.assertEqual(
                    (body["accepted"], body["rejected"], body["duplicates"], body["event_ids"], body["errors"]),
                    (5, 0, 0, ids, []),
                )
                for event_id in ids:
                    self.row(event_id)

    def test_shapes_may_mix_in_one_bulk(self):
        user, mark = self.unique("user"), self.unique("mix")
        events = [
            {"event_id": mark + "t", "service": "s", "status": 200, "latency_ms": 1},
            {"id": mark + "g", "type": "t", "payload": {}},
            {"event_id": mark + "a", "event_name": "n", "timestamp": rfc3339(self.now), "properties": {}},
            {"event_name": "v", "channel": "web", "user_id": user, "timestamp": self.now},
        ]
        body = self.http.post("/events/bulk", {"events": events}).json()
        want = hashlib.sha256(("%s|v|%d||web" % (user, self.now)).encode()).hexdigest()
        self.assertEqual(body["event_ids"], [mark + "t", mark + "g", mark + "a", want])
        self.assertEqual(self.count(mark), 3)

    def test_one_invalid_element_refuses_all(self):
        mark = self.unique("all")
        text = self.lines([mark + "1"]) + '\n{"event_name":5}\n' + self.lines([mark + "2"])
        answer = self.http.post("/events/bulk", text, NDJSON)
        self.assertEqual(answer.status, 400, answer)
        self.assertEqual(answer.json()["error"], "validation_error")
        self.assertEqual(self.count(mark), 0)

    def test_partial_mode_stores_the_valid_ones_and_lists_the_rest(self):
        mark = self.unique("part")
        text = self.lines([mark + "1"]) + '\n{"event_name":5}\n{not json\n' + self.lines([mark + "2"])
        answer = self.http.post("/events/bulk?mode=partial", text, NDJSON)
        self.assertEqual(answer.status, 202, answer)
        body = answer.json()
        self.assertEqual((body["accepted"], body["rejected"]), (2, 2))
        self.assertEqual([(e["index"], e["code"]) for e in body["errors"]], [(1, "validation_error"), (2, "invalid_json")])
        self.assertEqual(self.count(mark), 2)
        self.assertEqual(self.http.post("/events/bulk?mode=partial", '{"event_name":5}', NDJSON).status, 400)

    def test_repeats_within_and_across_bulks_are_counted_as_duplicates(self):
        ids = [self.unique("rep") for _ in range(4)]
        first = self.http.post("/events/bulk", self.lines(ids + ids[:2]), NDJSON)
        self.assertEqual(first.status, 202, first)
        self.assertEqual(first.json()["duplicates"], 2)
        second = self.http.post("/events/bulk", self.lines(ids), NDJSON).json()
        self.assertEqual(second["duplicates"], 4)
        for event_id in ids:
            self.row(event_id)

    def test_limits_of_a_bulk(self):
        many = "\n".join('{"type":"m"}' for _ in range(10001))
        answer = self.http.post("/events/bulk", many, NDJSON)
        self.assertIn(answer.status, (400, 413))
        most = "\n".join('{"type":"m"}' for _ in range(10000))
        answer = self.http.post("/events/bulk?ids=0", most, NDJSON)
        self.assertEqual((answer.status, answer.json()["accepted"]), (202, 10000))
        self.assertEqual(self.http.post("/events/bulk", "", NDJSON).status, 400)
        self.assertEqual(self.http.post("/events/bulk", [], JSON).status, 400)


class Protocol(HttpCase):
    env = {"HTTP_READ_TIMEOUT_MS": int(1000 * procs.SLOWNESS)}

    def test_keep_alive_and_pipelining_answer_in_order(self):
        requests = b"".join(
            request_bytes("POST", "/events", b'{"id":"pipe%d-%d","type":"t"}' % (self.now, n), JSON.items())
            if n % 3
            else request_bytes("GET", "/health")
            for n in range(60)
        )
        self.http.send(requests)
        for n in range(60):
            answer = self.http.read()
            if n % 3:
                self.accepted(answer, 202, "pipe%d-%d" % (self.now, n))
            else:
                self.assertEqual(answer.json(), {"status": "ok"})

    def test_a_request_that_comes_byte_by_byte(self):
        for byte in request_bytes("POST", "/events", b'{"type":"slow"}', JSON.items()):
            self.http.send(bytes([byte]))
        self.accepted(self.http.read(), 202)

    def test_a_reset_in_mid_body_disturbs_nobody(self):
        for _ in range(20):
            client = self.main.client()
            client.send(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            client.close()
        self.accepted(self.http.post("/events", {}), 202)

    def test_noise_never_ends_the_server(self):
        for _ in range(100):
            client = self.main.client(timeout=5)
            try:
                client.send(self.random.randbytes(self.random.randrange(1, 400)) + b"\r\n\r\n")
                client.read()
            except (ConnectionLost, AssertionError, OSError, ValueError):
                pass
            client.close()
        self.accepted(self.http.post("/events", {}), 202)


class WithoutDatabase(HttpCase):
    """The log alone: everything is acked and kept."""

    def test_it_says_that_it_has_no_database(self):
        events = [line.get("event", "") + json.dumps(line) for line in self.main.lines()]
        self.assertTrue(any("database" in line or "sink" in line for line in events), events)

    def test_events_are_acked_and_pending(self):
        before = self.main.pending()
        for _ in range(10):
            self.accepted(self.http.post("/ingest", {"service": "nodb", "status": 200, "latency_ms": 1}), 202)
        self.assertEqual(self.main.pending(), before + 10)
        status = {s["service"]: s for s in self.http.get("/slo/status").json()["services"]}
        self.assertEqual(status["nodb"]["total"], 10)


class Metrics(HttpCase):
    with_db = True

    def test_the_prometheus_text_has_the_promised_names(self):
        self.accepted(self.http.post("/ingest", {"service": "m", "status": 200, "latency_ms": 1}), 202)
        self.main.wait_drained()
        answer = self.http.get("/metrics")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.header("content-type").startswith("text/plain"))
        text = answer.text()
        for name in (
            "sluice_events_received_total sluice_events_acked_total sluice_events_duplicate_total"
            " sluice_events_rejected_total sluice_events_replicated_total sluice_events_dead_lettered_total"
            " sluice_http_requests_total sluice_http_request_duration_seconds sluice_commit_queue_events"
            " sluice_wal_pending_events sluice_wal_bytes sluice_wal_bytes_limit sluice_wal_oldest_pending_seconds"
            " sluice_wal_commit_duration_seconds sluice_wal_group_events sluice_replicator_offset"
            " sluice_replicator_lag_events sluice_replicator_retries_total sluice_replicator_batch_duration_seconds"
            " sluice_counts_names sluice_counts_values sluice_counts_tail_events sluice_counts_tail_events_limit"
            " sluice_counts_history_bytes sluice_counts_history_bytes_limit sluice_counts_dropped_events_total"
            " sluice_counts_other_events_total"
            " sluice_audit_difference_events sluice_slo_availability_ratio sluice_slo_error_budget_remaining_ratio"
            " sluice_slo_burn_rate sluice_slo_objective_ratio sluice_build_info process_resident_memory_bytes"
        ).split():
            with self.subTest(name=name):
                self.assertRegex(text, r"(?m)^# HELP %s \S" % name)
                self.assertRegex(text, r"(?m)^# TYPE %s (counter|gauge|histogram|summary)$" % name)
        for line in text.strip().split("\n"):
            self.assertRegex(
                line, r"^(# (HELP|TYPE) .*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? (-?[0-9.eE+-]+|NaN|[+-]Inf))$"
            )
        self.assertEqual(self.http.get("/metrics/prometheus").status, 200)

    def test_counters_tell_what_happened(self):
        def read():
            names = ("received", "acked", "duplicate", "replicated")
            return [self.main.metric("sluice_events_%s_total" % name) for name in names] + [
                self.main.metric("sluice_events_rejected_total") or 0
            ]

        self.main.wait_drained()
        before = read()
        event_id = self.unique()
        for _ in range(3):
            self.http.post("/events", {"type": "t", "id": event_id})
        self.http.post("/events", {"type": 5})
        self.main.wait_drained()
        received, acked, duplicate, replicated, rejected = (b - a for a, b in zip(before, read()))
        self.assertEqual((duplicate, replicated, rejected), (2, 1, 1))
        self.assertIn(acked, (1, 3))
        self.assertGreaterEqual(received, 3)
        self.assertEqual(self.main.metric("sluice_audit_difference_events"), 0)

    def test_the_server_answers_the_ready_question_with_its_checks(self):
        body = self.http.get("/ready").json()
        self.assertEqual(body["status"], "ready")
        self.assertGreaterEqual(len(body["checks"]), 2, body)


class Database(runner.Drill):
    """How the server takes a database that is not there yet, and rules about being ready."""

    def test_a_database_that_comes_later(self):
        db = self.database()
        db.stop()
        server = self.server(db, DB_RETRY_BACKOFF_MAX_MS=300)
        with server.client() as client:
            self.assertEqual(client.post("/events", {"type": "t", "id": "early"}).status, 202)
            self.assertEqual(client.get("/ready").status, 200)
        db.restart()
        server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM events WHERE event_id = 'early'"), 1)
        self.check_stderr()

    def test_ready_can_require_the_database(self):
        db = self.database()
        server = self.server(db, READY_REQUIRES_DB="true", DB_RETRY_BACKOFF_MAX_MS=300, DB_TIMEOUT_MS=1000)
        self.assertEqual(server.ready_status(), 200)
        db.stop()
        with server.client() as client:
            for _ in range(3):
                client.post("/events", {"type": "t"})
        procs.wait_until(lambda: server.ready_status() == 503, 15, "/ready is 503 without MySQL")
        with server.client() as client:
            self.assertEqual(client.get("/ready").json()["status"], "not_ready")
            self.assertEqual(client.post("/events", {"type": "t"}).status, 202)
        db.restart()
        server.wait_ready(30)
        self.check_stderr()

    def test_values_that_do_not_parse_stop_the_start_with_exit_2(self):
        for name, value in (
            ("HTTP_PORT", "70000"), ("HTTP_PORT", "abc"), ("WAL_MAX_BYTES", "-1"), ("BATCH_MAX_EVENTS", "0"),
            ("LOG_LEVEL", "LOUD"), ("DB_URL", "postgres://x"), ("READY_REQUIRES_DB", "perhaps"), ("SLO_TARGET", "1.5"),
        ):
            with self.subTest(name=name, value=value):
                server = self.server(None, start=False, **{name: value} if name != "HTTP_PORT" else {})
                server.env[name] = value
                server.launch()
                self.assertEqual(server.wait_exit(15), 2)
                with open(server.stderr_path) as err, open(server.stdout_path) as out:
                    self.assertIn(name, err.read() + out.read())

    def test_a_port_in_use_ends_the_start(self):
        first = self.server(None)
        second = self.server(None, start=False, WAL_DIR=self.path("wal2"), HTTP_PORT=first.port)
        second.launch()
        self.assertGreater(second.wait_exit(15), 0)
        self.assertEqual(first.ready_status(), 200)

    def test_what_mysql_refuses_becomes_a_dead_letter(self):
        """FAULTS row 20: a poison row among good ones."""
        db = self.database()
        server = self.server(db, DB_RETRY_BACKOFF_MAX_MS=300)
        with server.client() as client:
            client.post("/events", {"type": "warm"})
            server.wait_drained()
            db.query("ALTER TABLE events ADD CONSTRAINT no_poison CHECK (event_name <> 'poison')")
            for n in range(50):
                event = {"id": "p%d" % n, "type": "poison" if n % 10 == 3 else "fine"}
                self.assertEqual(client.post("/events", event).status, 202)
        server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM events WHERE event_id LIKE 'p%'"), 45)
        dead = db.query("SELECT event_id, reason FROM dead_letters ORDER BY seq")
        self.assertEqual([row[0] for row in dead], ["p%d" % n for n in range(50) if n % 10 == 3])
        self.assertTrue(all("no_poison" in row[1] for row in dead), dead)
        self.assertEqual(server.metric("sluice_events_dead_lettered_total"), 5)
        self.check_stderr()


class Limits(runner.Drill):
    def test_connections_beyond_the_limit_are_refused_and_room_comes_back(self):
        server = self.server(None, MAX_CONNECTIONS=20)
        clients = [server.client(timeout=3) for _ in range(40)]
        good = 0
        for client in clients:
            try:
                good += client.get("/health").status == 200
            except (ConnectionLost, OSError):
                pass
        self.assertLessEqual(good, 20)
        self.assertGreaterEqual(good, 15)
        for client in clients:
            client.close()
        procs.wait_until(lambda: server.ready_status() == 200, 15, "room for a new connection")
        self.check_stderr()

    def test_idle_connections_are_closed(self):
        server = self.server(None, HTTP_IDLE_TIMEOUT_MS=500)
        client = server.client()
        self.assertEqual(client.get("/health").status, 200)
        self.assertTrue(client.closed_by_peer(15))
        self.check_stderr()

    def test_too_few_descriptors_do_not_end_the_server(self):
        server = self.server(None, start=False)
        server.start(wrap=("prlimit", "--nofile=40"))
        clients = [server.client(timeout=2) for _ in range(60)]
        for client in clients:
            try:
                client.connect()
            except OSError:
                pass
        time.sleep(0.3)
        for client in clients:
            client.close()
        procs.wait_until(lambda: server.ready_status() == 200, 15, "the server answers again")
        with server.client() as client:
            self.assertEqual(client.post("/events", {}).status, 202)
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
