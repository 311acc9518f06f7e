"""Pages of other origins: preflight requests and what answers say to them (CORS_ALLOW_ORIGINS)."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import runner

APP = "https://app.example"
EVIL = "https://evil.example"
EVENT = b'{"service":"s","status":200,"latency_ms":1}'


def cors_headers(answer):
    return {name: value for name, value in answer.headers if name.startswith("access-control-")}


class Cors(runner.Drill):
    def preflight(self, client, path, origin, method="POST"):
        headers = [
            ("Origin", origin), ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", "content-type, idempotency-key"),
        ]  # fmt: skip
        return client.request("OPTIONS", path, headers=headers)

    def test_by_default_no_page_is_told_anything(self):
        with self.server().client() as client:
            for answer in (
                self.preflight(client, "/events", APP),
                client.post("/ingest", EVENT, [("Origin", APP)]),
                client.get("/slo/status", [("Origin", APP)]),
            ):
                self.assertEqual(cors_headers(answer), {})
                self.assertIsNone(answer.header("vary"))

    def test_a_preflight_names_the_methods_of_the_path_and_the_headers_that_count(self):
        with self.server(CORS_ALLOW_ORIGINS="http://localhost:3000, " + APP).client() as client:
            answer = self.preflight(client, "/events", APP)
            self.assertEqual(answer.status, 204)
            self.assertEqual(answer.header("access-control-allow-origin"), APP)
            self.assertEqual(answer.header("access-control-allow-methods"), "GET, HEAD, POST, OPTIONS")
            self.assertEqual(answer.header("allow"), "GET, HEAD, POST, OPTIONS")
            allowed = {name.strip().lower() for name in answer.header("access-control-allow-headers").split(",")}
            self.assertLessEqual({"content-type", "idempotency-key", "x-request-id", "traceparent"}, allowed)
            self.assertEqual(answer.header("access-control-max-age"), "600")
            self.assertEqual(answer.header("vary"), "Origin")
            status = self.preflight(client, "/slo/status", APP, "GET")
            self.assertEqual(status.header("access-control-allow-methods"), "GET, HEAD, OPTIONS")
            plain = client.request("OPTIONS", "/events", headers=[("Origin", APP)])
            self.assertIsNone(plain.header("access-control-allow-methods"), "not a preflight")
            other = self.preflight(client, "/events", EVIL)
            self.assertEqual((other.status, cors_headers(other)), (204, {}))
            self.assertEqual(other.header("vary"), "Origin")
            self.assertEqual(self.preflight(client, "/nowhere", APP).status, 404)

    def test_every_answer_is_readable_by_the_pages_allowed_and_by_no_other(self):
        with self.server(CORS_ALLOW_ORIGINS=APP).client() as client:
            for method, path, body in (
                ("POST", "/ingest", EVENT), ("POST", "/ingest", b"{"), ("GET", "/slo/status", b""),
                ("GET", "/nowhere", b""), ("DELETE", "/events", b""),
            ):  # fmt: skip
                mine = client.request(method, path, body, [("Origin", APP)])
                self.assertEqual(mine.header("access-control-allow-origin"), APP)
                exposed = {name.strip() for name in mine.header("access-control-expose-headers").split(",")}
                self.assertLessEqual({"X-Request-ID", "Retry-After", "Allow"}, exposed)
                self.assertIsNone(mine.header("access-control-allow-credentials"))
                for headers in ([("Origin", EVIL)], [("Origin", APP), ("Origin", EVIL)], [("Origin", "null")], []):
                    other = client.request(method, path, body, headers)
                    self.assertEqual(cors_headers(other), {}, headers)
                    self.assertEqual(other.header("vary"), "Origin")

    def test_a_star_allows_every_page(self):
        with self.server(CORS_ALLOW_ORIGINS="*").client() as client:
            answer = client.post("/ingest", EVENT, [("Origin", EVIL)])
            self.assertEqual(answer.header("access-control-allow-origin"), "*")
            self.assertIsNone(answer.header("vary"))
            answer = self.preflight(client, "/ingest", EVIL)
            self.assertEqual(answer.header("access-control-allow-methods"), "POST, OPTIONS")

    def test_a_list_that_is_none_stops_the_start(self):
        server = self.server(start=False, CORS_ALLOW_ORIGINS="https://app.example/path")
        server.launch()
        self.assertEqual(server.wait_exit(), 2)
        with open(server.stderr_path) as file:
            self.assertIn("CORS_ALLOW_ORIGINS", file.read())


if __name__ == "__main__":
    runner.main()
