"""/metrics in both formats, judged by promtool and by a strict reader; the older names; request lines."""

import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import programs
import runner

OPENMETRICS = "application/openmetrics-text"
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("", "_sum", "_count"),
}
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*\})? (\S+)')
LEGACY = {
    "events_received_total", "events_published_total", "events_failed_total", "ingest_queue_size",
    "ingest_latency_ms_bucket", "ingest_latency_ms_sum", "ingest_latency_ms_count", "http_requests_total",
}  # fmt: skip
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def samples_of(text):
    """{name with labels: value} of an exposition."""
    values = {}
    for line in text.split("\n"):
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    return values


class Metrics(runner.Drill):
    def busy_server(self, **env):
        server = self.server(**env)
        with server.client() as client:
            for i in range(20):
                event = {"service": 'a "b" \\ c\n', "status": 200 if i % 5 else 503, "latency_ms": i * 3.5}
                client.post("/ingest", event, [("Idempotency-Key", "k%d" % (i // 2))])
            client.post("/events", b"{")
            client.get("/nowhere")
        return server

    def scrape(self, server, accept=None, path="/metrics"):
        with server.client() as client:
            return client.get(path, [("Accept", accept)] if accept else [])

    def test_promtool_has_nothing_to_say(self):
        promtool, why_not = programs.find("promtool", "prometheus")
        if promtool is None:
            self.skipTest(why_not)
        db = self.database()
        server = self.busy_server(DB_URL=db.url)
        server.wait_drained()
        text = self.scrape(server).body
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def test_the_format_is_the_one_asked_for(self):
        server = self.busy_server()
        classic = self.scrape(server)
        self.assertEqual(classic.header("content-type"), "text/plain; version=0.0.4; charset=utf-8")
        self.assertNotIn("# EOF", classic.text())
        modern = self.scrape(server, OPENMETRICS + ";version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
        self.assertEqual(modern.header("content-type"), OPENMETRICS + "; version=1.0.0; charset=utf-8")
        for answer in (classic, modern):
            self.assertEqual(answer.header("cache-control"), "no-store")
        older = self.scrape(server, "text/plain;q=0.9,%s;q=0.1" % OPENMETRICS)
        self.assertEqual(older.header("content-type"), classic.header("content-type"))
        also = self.scrape(server, OPENMETRICS, "/metrics/prometheus")
        self.assertEqual(also.header("content-type"), modern.header("content-type"))

    def test_openmetrics_is_read_by_its_own_rules(self):
        db = self.database()
        server = self.busy_server(DB_URL=db.url, METRICS_LEGACY_NAMES="true")
        server.wait_drained()
        text = self.scrape(server, OPENMETRICS).text()
        self.assertTrue(text.endswith("\n# EOF\n"))
        self.assertEqual(text.count("# EOF"), 1)
        families, family, kind, seen = {}, None, None, set()
        for line in text[: -len("# EOF\n")].split("\n")[:-1]:
            if line.startswith("# "):
                _, what, name, rest = line.split(" ", 3)
                if what == "HELP":
                    self.assertNotIn(name, families, "a family stands in two places")
                    families[name] = True
                    family, kind = name, None
                elif what == "TYPE":
                    kind = rest
                    self.assertIn(kind, SUFFIXES)
                    self.assertFalse(kind == "counter" and name.endswith("_total"), line)
                else:
                    self.assertEqual(what, "UNIT")
                    self.assertTrue(name.endswith("_" + rest), line)
                self.assertEqual(name, family)
                continue
            match = SAMPLE.fullmatch(line)
            self.assertIsNotNone(match, line)
            self.assertIn(match.group(1), [family + suffix for suffix in SUFFIXES[kind]], line)
            self.assertNotIn(line.rsplit(" ", 1)[0], seen, "a sample stands twice")
            seen.add(line.rsplit(" ", 1)[0])
            bound = re.search(r'[{,]le="([^"]*)"', match.group(2) or "")
            if bound:
                self.assertRegex(bound.group(1), r"^(\+Inf|[0-9]+\.[0-9]+|[0-9.]+e-[0-9]+)$")
            float(match.group(3))
        self.assertIn("sluice_events_acked", families)
        self.assertIn("process_cpu_seconds", families)

    def test_both_formats_have_the_same_samples(self):
        """When nothing happened between the two scrapes; what follows the requests may take some seconds."""
        server = self.busy_server()
        moving = re.compile(r"^process_|^sluice_http_|_seconds|^sluice_commit_queue|^sluice_slo_")
        both = []

        def same():
            both.clear()
            for accept in ("text/plain", OPENMETRICS):
                values = samples_of(re.sub(r'(le="\d+)\.0"', r'\1"', self.scrape(server, accept).text()))
                names = {name for name in values if "/metrics" not in name}
                both.append((names, {n: v for n, v in values.items() if not moving.search(n)}))
            return both[0] == both[1]

        try:
            procs.wait_until(same, 20 * procs.SLOWNESS, "two scrapes with nothing in between")
        except AssertionError:
            self.assertEqual(both[0], both[1])

    def test_the_older_names_are_there_only_when_asked_for(self):
        plain = samples_of(self.scrape(self.busy_server()).text())
        self.assertEqual({name.split("{")[0] for name in plain} & LEGACY, set())
        db = self.database()
        server = self.busy_server(DB_URL=db.url, WAL_DIR=self.path("wal2"), METRICS_LEGACY_NAMES="true")
        server.wait_drained()
        values = samples_of(self.scrape(server).text())
        self.assertEqual(LEGACY - {name.split("{")[0] for name in values}, set())
        self.assertEqual(values["events_received_total"], 21)
        self.assertEqual(values["events_received_total"], values["sluice_events_received_total"])
        self.assertEqual(values["events_published_total"], 10)
        self.assertEqual(values["events_failed_total"], 0)
        self.assertEqual(values["ingest_queue_size"], 0)
        self.assertEqual(values["ingest_latency_ms_count"], 21)
        bounds = re.findall(r'ingest_latency_ms_bucket\{le="(.*?)"\}', "\n".join(values))
        self.assertEqual(bounds, ["1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "+Inf"])
        self.assertEqual(values['http_requests_total{status="202"}'], 10)
        self.assertEqual(values['http_requests_total{status="400"}'], 1)
        self.assertEqual(values['http_requests_total{status="404"}'], 1)

    # ---- one line per request, at DEBUG only ----

    def request_lines(self, server):
        return [line for line in server.lines() if line.get("event") == "http.request"]

    def test_each_request_is_a_line_at_debug_and_none_at_info(self):
        server = self.server(LOG_LEVEL="DEBUG")
        with server.client() as client:
            client.post(
                "/ingest",
                {"service": "s", "status": 200, "latency_ms": 1},
                [("traceparent", "00-%s-00f067aa0ba902b7-01" % TRACE), ("X-Request-ID", "mine"), ("Idempotency-Key", "e-1")],
            )
            refused = client.post("/events", b"{")
            client.get("/nowhere?secret=1")
        stored, bad, missing = [l for l in self.request_lines(server) if l["route"] not in ("/ready", "/metrics")]
        self.assertEqual(
            {k: stored[k] for k in ("level", "method", "route", "status", "request_id", "trace_id", "event_id")},
            {"level": "debug", "method": "POST", "route": "/ingest", "status": 202, "request_id": "mine",
             "trace_id": TRACE, "event_id": "e-1"},
        )  # fmt: skip
        self.assertGreaterEqual(stored["duration_ms"], 0)
        self.assertLess(stored["duration_ms"], 60000)
        self.assertEqual((bad["status"], bad["event_id"], bad["trace_id"]), (400, "", ""))
        self.assertEqual(bad["request_id"], refused.header("x-request-id"))
        self.assertEqual((missing["route"], missing["status"]), ("none", 404))
        self.assertNotIn("secret", "".join(map(str, self.request_lines(server))))
        quiet = self.busy_server(WAL_DIR=self.path("wal2"))
        self.assertEqual(self.request_lines(quiet), [])


if __name__ == "__main__":
    runner.main()
