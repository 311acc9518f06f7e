"""Tenants, keys and rate limits, on a real server: who sees what, SIGHUP, limits."""

import hashlib
import os
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner

KEYS = "acme:acme-key-1, acme:acme-key-2 ,globex:globex-key,"
ADMIN = "the-admin-key"
SECRETS = ("acme-key", "globex-key", ADMIN, "file-key", "late-key")


class AuthCase(runner.Drill):
    deadline_seconds = 60

    def keyed(self, db=None, **env):
        env.setdefault("API_KEYS", KEYS)
        env.setdefault("ADMIN_KEY", ADMIN)
        return self.server(db, **env)

    def send(self, server, key, event_id, service="api", path="/ingest", **more):
        event = {"event_id": event_id, "service": service, "status": 200, "latency_ms": 5, **more}
        with server.client() as client:
            return client.post(path, event, {"X-API-Key": key} if key else {})

    def status(self, server, key, query=""):
        with server.client() as client:
            return client.get("/slo/status" + query, {"X-API-Key": key} if key else {})

    def totals(self, server, key):
        """{service: events} as the key's tenant sees it."""
        answer = self.status(server, key)
        self.assertEqual(answer.status, 200, answer)
        return {row["service"]: row["total"] for row in answer.json()["services"]}

    def refused(self, answer, status, code):
        self.assertEqual((answer.status, answer.header("content-type")), (status, "application/problem+json"), answer)
        self.assertEqual(answer.json()["error"], code)

    def no_secret_in(self, text):
        for secret in SECRETS:
            self.assertNotIn(secret, text)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def hangup(self, server, event):
        """SIGHUP; returns the log line EVENT that follows it."""
        before = len(server.lines())
        server.process.send_signal(signal.SIGHUP)

        def told():
            return [line for line in server.lines()[before:] if line.get("event") == event]

        return procs.wait_until(told, 20 * procs.SLOWNESS, event)[0]

    def ends_with_2(self, **env):
        """The start is refused; returns what it said."""
        server = self.server(start=False, HTTP_PORT=0, **env)
        server.launch()
        self.assertEqual(server.wait_exit(), 2)
        said = server.tail()
        self.no_secret_in(said)
        self.assertFalse(os.path.exists(server.wal_dir), "the log was touched")
        return said


class Keys(AuthCase):
    def test_a_key_is_needed_to_write_and_to_read(self):
        server = self.keyed()
        for key in (None, "", "wrong", "acme-key", "acme-key-1,acme-key-2", "acme:acme-key-1", "ACME-KEY-1"):
            for answer in (self.send(server, key, "a"), self.status(server, key)):
                self.refused(answer, 401, "unauthorized")
                self.assertTrue(answer.header("www-authenticate"))
        for answer in (self.send(server, ADMIN, "a"), self.status(server, ADMIN)):
            self.refused(answer, 403, "forbidden")
        self.assertEqual(self.send(server, "acme-key-1", "a").status, 202)
        self.assertEqual(self.send(server, " acme-key-2 ", "a").status, 200, "two keys, one tenant")
        self.assertEqual(self.send(server, "acme-key-1", "b", path="/events").status, 202)
        self.assertEqual(self.totals(server, "acme-key-2"), {"api": 2})
        metrics = server.metrics()
        self.assertEqual(metrics['sluice_events_rejected_total{reason="unauthorized"}'], 7)
        self.assertEqual(metrics['sluice_events_rejected_total{reason="forbidden"}'], 1)
        self.assertEqual(metrics["sluice_api_keys"], 3)
        self.assertEqual(metrics["sluice_api_key_tenants"], 2)
        self.assertEqual(server.stop(), 0)
        with open(server.stdout_path) as out, open(server.stderr_path) as err:
            self.no_secret_in(out.read() + err.read())
        self.check_stderr()

    def test_what_operators_need_is_open(self):
        server = self.keyed()
        with server.client() as client:
            for target in ("/health", "/livez", "/ready", "/readyz", "/metrics", "/metrics/prometheus", "/"):
                self.assertEqual(client.get(target).status, 200, target)
            page, script = client.get("/").text(), client.get("/dashboard.js").text()
        self.assertRegex(page, r'<input[^>]*type="password"')
        self.assertIn("X-API-Key", script)
        self.assertIn("sessionStorage", script)
        self.assertNotIn("localStorage", script)

    def test_tenants_do_not_meet_though_ids_and_services_are_the_same(self):
        db = self.database()
        server = self.keyed(db)
        keys = {"acme": "acme-key-1", "globex": "globex-key"}
        seqs = {}
        for number in range(20):
            for tenant, key in keys.items():
                answer = self.send(server, key, "event-%d" % number, owner=tenant)
                self.assertEqual(answer.status, 202, "no repeat of the other tenant's: %r" % answer)
                seqs[tenant, number] = answer.json()["seq"]
        self.assertEqual(len(set(seqs.values())), 40)
        for number in range(20):
            for tenant, key in keys.items():
                again = self.send(server, key, "event-%d" % number, owner=tenant)
                self.assertEqual((again.status, again.json()["seq"]), (200, seqs[tenant, number]))
        self.send(server, "globex-key", "secret-event", service="secret-project")
        self.assertEqual(self.totals(server, "acme-key-1"), {"api": 20})
        self.assertEqual(self.totals(server, "globex-key"), {"api": 20, "secret-project": 1})
        for query in ("?service=secret-project", "?service=secret-project&tenant=globex"):
            answer = self.status(server, "acme-key-1", query)
            rows = answer.json().get("services", []) if answer.status == 200 else []
            self.assertEqual([row for row in rows if row.get("total")], [], answer)
        server.wait_drained()
        rows = db.query(
            "SELECT tenant_id, event_id, JSON_VALUE(properties, '$.owner') FROM events WHERE service = 'api'"
        )
        self.assertEqual(len(rows), 40)
        self.assertTrue(all(tenant == owner for tenant, _, owner in rows), rows)
        slices = db.query("SELECT COUNT(DISTINCT tenant_id) FROM events")
        self.assertEqual(slices[0][0], "2")
        # The same after a restart, whatever it is read back from.
        server.kill()
        server.start()
        self.assertEqual(self.totals(server, "acme-key-1"), {"api": 20})
        self.assertEqual(self.totals(server, "globex-key"), {"api": 20, "secret-project": 1})
        self.assertEqual(self.send(server, "acme-key-2", "event-7", owner="acme").status, 200)
        self.check_stderr()

    def test_without_keys_there_is_one_tenant(self):
        server = self.server()
        self.assertEqual(self.send(server, None, "a").status, 202)
        self.assertEqual(self.send(server, "whatever", "a").status, 200)
        self.assertEqual(self.totals(server, None), {"api": 1})
        self.assertNotIn("sluice_api_keys", server.metrics())


class Start(AuthCase):
    def test_keys_that_are_none_stop_the_start_with_exit_2(self):
        for keys in ("acme-key-1", "acme:acme-key-1,globex-key", "acme:", ":acme-key-1", "a b:acme-key-1",
                     "_sluice:acme-key-1", "a:sha256:acme-key-1"):
            with self.subTest(keys=keys):
                self.assertIn('API_KEYS must be "tenant:key,tenant:key"', self.ends_with_2(API_KEYS=keys))
        self.assertIn("two tenants", self.ends_with_2(API_KEYS="a:acme-key-1,b:acme-key-1"))
        self.assertIn("ADMIN_KEY", self.ends_with_2(API_KEYS="a:acme-key-1", ADMIN_KEY="acme-key-1"))
        self.assertIn("no key", self.ends_with_2(API_KEYS=" , "))
        self.assertIn("cannot be read", self.ends_with_2(API_KEYS_FILE=self.path("missing")))
        self.assertIn("no key", self.ends_with_2(API_KEYS_FILE=self.write("empty", "# nobody\n")))
        said = self.ends_with_2(API_KEYS_FILE=self.write("broken", "a:file-key\nfile-key-2\n"))
        self.assertIn("line 2", said)

    def test_limits_that_are_none_stop_the_start_with_exit_2(self):
        for name, value in (("RATE_LIMIT_RPS", "-1"), ("RATE_LIMIT_RPS", "fast"), ("TENANT_RATE_LIMIT_RPS", "1e10"),
                            ("RATE_LIMIT_BURST", "1.5"), ("TENANT_RATE_LIMIT_BURST", "-3")):
            with self.subTest(name=name, value=value):
                self.assertIn(name, self.ends_with_2(**{name: value}))

    def test_check_config_checks_keys_and_shows_none(self):
        file = self.write("keys", "t:file-key\n")
        server = self.server(start=False, API_KEYS=KEYS, ADMIN_KEY=ADMIN, API_KEYS_FILE=file)
        done = server.command("check-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.no_secret_in(done.stdout + done.stderr)
        self.assertIn("API_KEYS=(set)\n", done.stdout)
        self.assertIn("ADMIN_KEY=(set)\n", done.stdout)
        self.assertIn("API_KEYS_FILE=%s\n" % file, done.stdout)
        self.write("keys", "file-key\n")
        done = server.command("check-config")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("API_KEYS_FILE", done.stderr)
        self.no_secret_in(done.stderr)


class Reload(AuthCase):
    def test_sighup_reads_the_file_again(self):
        digest = hashlib.sha256(b"file-key-2").hexdigest()
        file = self.write("keys", "# ours\nfilial:file-key-1, filial:sha256:%s # hashed\n" % digest)
        server = self.keyed(API_KEYS_FILE=file)
        for key in ("file-key-1", "file-key-2", "acme-key-1", "globex-key"):
            self.assertEqual(self.status(server, key).status, 200, key)
        self.assertEqual(self.status(server, digest).status, 401, "a digest is not a key")
        self.assertEqual(self.send(server, "file-key-1", "a").status, 202)

        self.write("keys", "filial:file-key-2\nlate:late-key\n")
        told = self.hangup(server, "serve.keys_reloaded")
        self.assertEqual((told["level"], told["keys"], told["tenants"]), ("info", 5, 4))
        self.refused(self.send(server, "file-key-1", "b"), 401, "unauthorized")
        self.assertEqual(self.totals(server, "file-key-2"), {"api": 1})
        self.assertEqual(self.totals(server, "late-key"), {})
        self.assertEqual(self.status(server, "acme-key-1").status, 200)

        # Broken, gone or empty: the keys stay, one error each.
        for text, why in (("late:late-key-2\nbroken\n", "line 2"), (None, "cannot be read")):
            if text is None:
                os.unlink(file)
            else:
                self.write("keys", text)
            told = self.hangup(server, "serve.keys_kept")
            self.assertEqual(told["level"], "error")
            self.assertIn(why, told["cause"])
            self.assertEqual(self.status(server, "late-key").status, 200)
            self.assertEqual(self.status(server, "late-key-2").status, 401)
        errors = [line for line in server.lines() if line.get("level") == "error"]
        self.assertEqual(len(errors), 2, errors)
        metrics = server.metrics()
        self.assertEqual(metrics['sluice_api_key_reloads_total{result="ok"}'], 1)
        self.assertEqual(metrics['sluice_api_key_reloads_total{result="failed"}'], 2)

        self.write("keys", "late:late-key-2\n")
        self.hangup(server, "serve.keys_reloaded")
        self.assertEqual(self.status(server, "late-key-2").status, 200)
        self.assertEqual(server.stop(), 0)
        with open(server.stdout_path) as out:
            self.no_secret_in(out.read())
        self.check_stderr()

    def test_a_reload_disturbs_no_request_and_refills_no_bucket(self):
        file = self.write("keys", "filial:file-key\n")
        server = self.server(API_KEYS_FILE=file, TENANT_RATE_LIMIT_RPS="0.001", TENANT_RATE_LIMIT_BURST=60)
        with server.client() as client:
            for number in range(60):
                if number % 6 == 0:
                    server.process.send_signal(signal.SIGHUP)
                event = {"event_id": "e%d" % number, "service": "s", "status": 200, "latency_ms": 1}
                answer = client.post("/ingest", event, {"X-API-Key": "file-key"})
                self.assertEqual(answer.status, 202, answer)
        self.hangup(server, "serve.keys_reloaded")
        self.refused(self.send(server, "file-key", "more"), 429, "rate_limited")
        self.check_stderr()

    def test_sighup_without_a_file_ends_nothing(self):
        for env in ({}, {"API_KEYS": KEYS}):
            server = self.server(WAL_DIR=self.path("wal%d" % len(self.servers)), **env)
            self.hangup(server, "serve.nothing_to_reload")
            self.assertEqual(self.send(server, "acme-key-1", "a").status, 202)
            self.assertEqual(server.stop(), 0)


class Limits(AuthCase):
    """Rates so small and bursts so large that the time a test takes decides nothing."""

    def fields(self, answer):
        """{name: {parameter: value}} of both fields together."""
        found = {}
        for header in ("ratelimit-policy", "ratelimit"):
            for item in (answer.header(header) or "").split(", "):
                match = re.fullmatch(r'"([a-z]+)"((?:;[a-z]+=\d+)+)', item)
                self.assertIsNotNone(match, "%s: %r" % (header, answer.headers))
                for pair in match.group(2)[1:].split(";"):
                    name, value = pair.split("=")
                    found.setdefault(match.group(1), {})[name] = int(value)
        return found

    def test_a_tenant_s_limit_is_its_own(self):
        server = self.keyed(TENANT_RATE_LIMIT_RPS="0.001", TENANT_RATE_LIMIT_BURST=5)
        for number in range(5):
            answer = self.send(server, "acme-key-%d" % (number % 2 + 1), "same")
            self.assertEqual(answer.status, 202 if number == 0 else 200, "a repeat costs as well")
            fields = self.fields(answer)["tenant"]
            self.assertEqual((fields["q"], fields["w"], fields["r"]), (5, 5000, 4 - number))
            self.assertTrue(1000 * number < fields["t"] <= 1000 * (number + 1), fields)
        for path in ("/ingest", "/events"):
            answer = self.send(server, "acme-key-1", "same", path=path)
            self.refused(answer, 429, "rate_limited")
            self.assertTrue(900 <= int(answer.header("retry-after")) <= 1000, answer.headers)
            self.assertEqual(self.fields(answer)["tenant"]["r"], 0)
        self.assertEqual(self.send(server, "globex-key", "same").status, 202)
        self.assertEqual(self.totals(server, "acme-key-1"), {"api": 1})
        self.assertEqual(server.metrics()['sluice_events_rejected_total{reason="rate_limited"}'], 2)

    def test_the_common_limit_is_for_all_together(self):
        server = self.keyed(
            RATE_LIMIT_RPS="0.002", RATE_LIMIT_BURST=4, TENANT_RATE_LIMIT_RPS="0.001", TENANT_RATE_LIMIT_BURST=3
        )
        self.assertEqual([self.send(server, "acme-key-1", "a%d" % n).status for n in range(4)], [202, 202, 202, 429])
        answer = self.send(server, "globex-key", "g1")
        self.assertEqual(answer.status, 202, "what the tenant's limit refused cost the common one nothing")
        self.assertEqual(self.fields(answer)["default"]["r"], 0)
        for _ in range(5):
            answer = self.send(server, "globex-key", "g2")
            self.refused(answer, 429, "rate_limited")
            self.assertTrue(400 <= int(answer.header("retry-after")) <= 500, answer.headers)
            self.assertEqual(self.fields(answer)["tenant"]["r"], 2, "nor the other way round")

    def test_limits_hold_across_connections_and_loops(self):
        server = self.server(HTTP_THREADS=4, RATE_LIMIT_RPS="0.001", RATE_LIMIT_BURST=50)
        statuses = [self.send(server, None, "e%d" % number).status for number in range(80)]
        self.assertEqual((statuses.count(202), statuses.count(429)), (50, 30))
        self.assertEqual(statuses[:50], [202] * 50)

    def test_without_limits_there_are_no_fields(self):
        answer = self.send(self.keyed(), "acme-key-1", "a")
        self.assertIsNone(answer.header("ratelimit"))
        self.assertIsNone(answer.header("ratelimit-policy"))

    def test_waiting_as_told_helps(self):
        server = self.server(RATE_LIMIT_RPS="0.5", RATE_LIMIT_BURST=1)

        def limited():
            answer = self.send(server, None, "e%d" % self.random.getrandbits(60))
            return answer if answer.status == 429 else None

        answer = procs.wait_until(limited, 20 * procs.SLOWNESS, "a refusal", pause=0)
        self.assertIn(answer.header("retry-after"), ("1", "2"))
        time.sleep(int(answer.header("retry-after")))
        self.assertEqual(self.send(server, None, "last").status, 202)


if __name__ == "__main__":
    runner.main()
