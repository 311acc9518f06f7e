"""What the server answers is what /openapi.json says it answers.

For every route, good requests and bad ones of every kind: the status must be described for that
route by its number, the Content-Type must be among those of the status, the headers described must
be there, and a JSON body must fit its schema, with no member the schema does not know. Bodies are
also made up from the schemas, whole and broken: what fits /ingest's schema is stored, what does
not is refused.
"""

import json
import os
import re
import sys
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from http_client import request_bytes

METHODS = ("get", "put", "post", "delete", "patch")
MADE_UP = procs.int_env("OPENAPI_BODIES", 300)


# ---- a checker for the part of JSON Schema the description uses ----

KNOWN = {
    "$ref", "type", "enum", "const", "anyOf", "not", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minLength", "maxLength", "pattern", "format", "items", "minItems", "default", "properties", "required",
    "additionalProperties", "description", "examples",
}  # fmt: skip


def is_type(value, name):
    if name == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    kinds = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}
    return isinstance(value, kinds[name])


class Document:
    def __init__(self, text):
        self.root = json.loads(text)

    def follow(self, thing):
        while "$ref" in thing:
            found = self.root
            for part in thing["$ref"][2:].split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            thing = found
        return thing

    def operations(self):
        for path, item in self.root["paths"].items():
            for method in METHODS:
                if method in item:
                    yield method.upper(), path, item[method]

    def required_query(self, path):
        """What a GET must be asked with, from the examples."""
        parameters = map(self.follow, self.root["paths"][path]["get"].get("parameters", []))
        needed = [(p["name"], p["example"]) for p in parameters if p["in"] == "query" and p.get("required")]
        return "?" + urllib.parse.urlencode(needed) if needed else ""

    def faults(self, value, schema, at="body"):
        """What is wrong with VALUE, as a list of sentences."""
        if "$ref" in schema:
            return self.faults(value, self.follow(schema), at)
        unknown = set(schema) - KNOWN
        if unknown:
            raise AssertionError("the checker does not know %s" % sorted(unknown))
        found = []
        if "anyOf" in schema:
            tries = [self.faults(value, one, at) for one in schema["anyOf"]]
            if all(tries):
                found.append("%s fits none of anyOf: %s" % (at, tries))
        if "not" in schema and not self.faults(value, schema["not"], at):
            found.append("%s is what it must not be" % at)
        types = schema.get("type")
        types = [types] if isinstance(types, str) else types
        if types and not any(is_type(value, name) for name in types):
            return found + ["%s is %r, not %s" % (at, value, "/".join(types))]
        if "enum" in schema and value not in schema["enum"]:
            found.append("%s is %r, not one of %s" % (at, value, schema["enum"]))
        if "const" in schema and value != schema["const"]:
            found.append("%s is %r, not %r" % (at, value, schema["const"]))
        if is_type(value, "number"):
            bounds = (
                ("minimum", lambda a, b: a >= b), ("maximum", lambda a, b: a <= b),
                ("exclusiveMinimum", lambda a, b: a > b), ("exclusiveMaximum", lambda a, b: a < b),
            )  # fmt: skip
            found += ["%s breaks %s" % (at, k) for k, good in bounds if k in schema and not good(value, schema[k])]
        if isinstance(value, str):
            if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1 << 30):
                found.append("%s has the wrong length" % at)
            if "pattern" in schema and not re.search(schema["pattern"], value):
                found.append("%s is %r" % (at, value))
            if schema.get("format") == "date-time" and not re.fullmatch(
                r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value
            ):
                found.append("%s is not a time: %r" % (at, value))
        if isinstance(value, list) and "items" in schema:
            if len(value) < schema.get("minItems", 0):
                found.append("%s is too short" % at)
            for i, item in enumerate(value):
                found += self.faults(item, schema["items"], "%s[%d]" % (at, i))
        if isinstance(value, dict):
            found += self._member_faults(value, schema, at)
        return found

    def _member_faults(self, value, schema, at):
        known = schema.get("properties", {})
        found = ["%s lacks %s" % (at, name) for name in schema.get("required", []) if name not in value]
        for name, member in value.items():
            if name in known:
                found += self.faults(member, known[name], at + "." + name)
            elif known and schema.get("additionalProperties") is not True:
                found.append("%s has %s, which is not described" % (at, name))
        return found

    def answer_faults(self, method, path, answer):
        responses = self.root["paths"][path][method.lower()]["responses"]
        if str(answer.status) not in responses:
            return ["%d is not described" % answer.status]
        return self.response_faults(self.follow(responses[str(answer.status)]), answer)

    def response_faults(self, response, answer):
        found = []
        for name, header in response.get("headers", {}).items():
            given = answer.header(name)
            header = self.follow(header)
            schema = header["schema"]
            if given is None:
                found += ["no header " + name] if header.get("required") else []
            elif schema["type"] == "integer":
                found += self.faults(int(given), schema, name)
        kind = (answer.header("content-type") or "").split(";")[0].strip()
        if kind not in response.get("content", {}):
            return found + ["Content-Type %r is not described" % kind]
        schema = response["content"][kind].get("schema", {})
        value = answer.json() if kind.endswith("json") else answer.text()
        return found + self.faults(value, schema)


# ---- the YAML the server writes: block maps and lists, plain and double-quoted scalars ----


class Yaml:
    def __init__(self, text):
        self.lines = [((len(l) - len(l.lstrip(" "))), l.strip()) for l in text.split("\n") if l.strip()]
        self.at = 0

    def scalar(self, text):
        words = {"true": True, "false": False, "null": None, "[]": [], "{}": {}}
        if text in words:
            return words[text]
        if text[0] == '"' or re.fullmatch(r"-?[0-9.]+([eE][+-]?[0-9]+)?", text):
            return json.loads(text)
        return text

    def block(self, depth):
        is_list = self.lines[self.at][1].startswith("- ")
        found = [] if is_list else {}
        while self.at < len(self.lines) and self.lines[self.at][0] == depth:
            _, text = self.lines[self.at]
            if is_list:
                rest = text[2:]
                key = re.match(r'("(?:[^"\\]|\\.)*"|[^":]+):( |$)', rest)
                if key or rest.startswith("- "):
                    self.lines[self.at] = (depth + 2, rest)
                    found.append(self.block(depth + 2))
                else:
                    found.append(self.scalar(rest))
                    self.at += 1
                continue
            key = re.match(r'("(?:[^"\\]|\\.)*"|[^":]+):( |$)', text)
            name = self.scalar(key.group(1))
            rest = text[key.end():]
            self.at += 1
            found[name] = self.scalar(rest) if rest else self.block(self.lines[self.at][0])
        return found


# ---- requests ----

GOOD_EVENT = b'{"service":"s","status":200,"latency_ms":1}'
OBJECTIVE = b'{"service_name":"s","slo_type":"availability","slo_value":0.99}'


def target_of(path):
    """A target that can be asked for, of a path of the description."""
    return path.replace("{id}", "one") + {"/slo/gate": "?service=s", "/slo/windows": "?service=s"}.get(path, "")


# Method, target, path of the description, bytes, status. The last part of a target may be a query.
BAD = [
    ("POST", "/ingest", b"{", (), 400, "invalid_json"),
    ("POST", "/ingest", b"[]", (), 400, "invalid_json"),
    ("POST", "/ingest", b"", (), 400, "invalid_json"),
    ("POST", "/ingest", b"{}", (), 400, "validation_error"),
    ("POST", "/ingest", b'{"service":"s","status":99,"latency_ms":1}', (), 400, "validation_error"),
    ("POST", "/ingest", GOOD_EVENT, (("Idempotency-Key", '"open'),), 400, "validation_error"),
    ("POST", "/ingest", GOOD_EVENT, (("Content-Type", "text/plain"),), 415, "unsupported_media_type"),
    ("POST", "/ingest", b"x" * 70000, (), 413, "body_too_large"),
    ("POST", "/events", b"nope", (), 400, "invalid_json"),
    ("POST", "/events", b'{"event_name":"a"}', (), 400, "validation_error"),
    ("POST", "/events", b'{"channel":"web","timestamp":0}', (), 400, "validation_error"),
    ("POST", "/events", b'{"type":"a","timestamp":"2999-01-01T00:00:00Z"}', (), 400, "validation_error"),
    ("POST", "/events", b"{}", (("Content-Type", "application/xml"),), 415, "unsupported_media_type"),
    ("POST", "/events", b"x" * 70000, (), 413, "body_too_large"),
    ("POST", "/ingest", GOOD_EVENT, (("Content-Encoding", "br"),), 415, "unsupported_media_type"),
    ("POST", "/events/bulk", b"[1", (), 400, "invalid_json"),
    ("POST", "/events/bulk", b"[]", (), 400, "validation_error"),
    ("POST", "/events/bulk", b'[{"service":"s"}, 7]', (), 400, "validation_error"),
    ("POST", "/events/bulk?mode=maybe", b"[{}]", (), 400, "validation_error"),
    ("POST", "/events/bulk?mode=partial", b'[{"service":"s"}]', (), 400, "validation_error"),
    ("POST", "/events/bulk?mode=partial&ids=0", b'[{"service":"s"}, {}]', (), 202, None),
    ("POST", "/events/bulk", b"{}", (("Content-Type", "image/png"),), 415, "unsupported_media_type"),
    ("GET", "/slo/status?service=%zz", b"", (), 400, "validation_error"),
    ("GET", "/slo/alerts?service=%zz", b"", (), 400, "validation_error"),
    ("GET", "/slo/alerts?state=burning", b"", (), 400, "validation_error"),
    ("GET", "/slo/alerts?severity=high", b"", (), 400, "validation_error"),
    ("GET", "/slo/status?tenant=%zz", b"", (), 400, "validation_error"),
    ("GET", "/slo/gate", b"", (), 400, "validation_error"),
    ("GET", "/slo/windows", b"", (), 400, "validation_error"),
    ("GET", "/slo/windows?service=s&from=yesterday", b"", (), 400, "validation_error"),
    ("GET", "/slo/windows?service=s&from=2026-01-01T00:00:00Z", b"", (), 400, "validation_error"),
    ("GET", "/slo/windows?service=s&from=5&to=4", b"", (), 400, "validation_error"),
    ("GET", "/slo/gate?service=nobody", b"", (), 404, "not_found"),
    ("POST", "/slo/objectives", b"{", (), 400, "invalid_json"),
    ("POST", "/slo/objectives", b"{}", (), 400, "validation_error"),
    ("POST", "/slo/objectives", b"{}", (("Content-Type", "text/csv"),), 415, "unsupported_media_type"),
    ("POST", "/slo/objectives", b" " * 17000, (), 413, "body_too_large"),
    ("POST", "/slo/objectives", OBJECTIVE[:-1] + b',"id":"taken"}', (), 201, None),
    ("POST", "/slo/objectives", OBJECTIVE[:-1] + b',"id":"taken"}', (), 409, "conflict"),
    ("GET", "/v1/counts", b"", (), 400, "validation_error"),
    ("GET", "/metrics?group_by=hour", b"", (), 400, "validation_error"),
    ("GET", "/events?limit=0", b"", (), 400, "validation_error"),
    ("GET", "/events?cursor=none", b"", (), 400, "validation_error"),
    ("GET", "/dead-letters?limit=0", b"", (), 400, "validation_error"),
    ("GET", "/dead-letters?cursor=-1", b"", (), 400, "validation_error"),
    ("GET", "/dead-letters?state=lost", b"", (), 400, "validation_error"),
    ("GET", "/dead-letters?order=up", b"", (), 400, "validation_error"),
    ("GET", "/dead-letters?error_code=x", b"", (), 400, "validation_error"),
    ("GET", "/dead-letters?tenant=%zz", b"", (), 400, "validation_error"),
]


class OpenApi(runner.Drill):
    def document(self, server):
        with server.client() as client:
            return Document(client.get("/openapi.json").text())

    def expect(self, document, method, path, answer, status=None, code=None):
        faults = document.answer_faults(method, path, answer)
        self.assertEqual(faults, [], "%s %s: %r" % (method, path, answer))
        if status is not None:
            self.assertEqual(answer.status, status, "%s %s: %r" % (method, path, answer))
        if code is not None:
            self.assertEqual(answer.json()["error"], code)

    def test_the_three_addresses_give_the_same_description_and_yaml_says_the_same(self):
        server = self.server()
        with server.client() as client:
            answer = client.get("/openapi.json")
            self.assertEqual(answer.header("content-type"), "application/json")
            self.assertEqual(client.get("/docs/doc.json").body, answer.body)
            yaml = client.get("/openapi.yaml")
        self.assertEqual(yaml.header("content-type"), "application/yaml")
        root = answer.json()
        self.assertEqual(Yaml(yaml.text()).block(0), root)
        self.assertEqual(root["openapi"], "3.1.0")
        ids = [operation["operationId"] for _, _, operation in Document(answer.text()).operations()]
        self.assertEqual(len(ids), len(set(ids)))

    def test_every_example_fits_its_schema(self):
        document = self.document(self.server())
        seen = 0

        def look(thing):
            nonlocal seen
            if isinstance(thing, list):
                for item in thing:
                    look(item)
            if not isinstance(thing, dict):
                return
            if isinstance(thing.get("schema"), dict):
                examples = [document.follow(e)["value"] for e in thing.get("examples", {}).values()]
                if "example" in thing:
                    examples.append(thing["example"])
                for example in examples:
                    self.assertEqual(document.faults(example, thing["schema"]), [], repr(example))
                    seen += 1
            for value in thing.values():
                look(value)

        look(document.root)
        self.assertGreater(seen, 40)

    def test_every_get_answers_as_described(self):
        server = self.server()
        document = self.document(server)
        gets = [path for method, path, _ in document.operations() if method == "GET"]
        with server.client() as client:
            client.post("/ingest", GOOD_EVENT)
            self.expect(document, "PUT", "/slo/objectives/{id}", client.request("PUT", "/slo/objectives/one", OBJECTIVE), 201)
            for path in gets:
                target = target_of(path)
                target += "" if "?" in target else document.required_query(path)
                answer = client.get(target, headers=[("X-Request-ID", "mine-1")])
                self.expect(document, "GET", path, answer, 200)
                self.assertEqual(answer.header("x-request-id"), "mine-1")
                head = client.request("HEAD", target)
                self.assertEqual((head.status, head.body), (200, b""))
                self.assertEqual(head.header("content-type"), answer.header("content-type"))
            self.expect(document, "GET", "/health", client.get("/health", [("Accept", "text/plain")]), 200)
            om = client.get("/metrics", [("Accept", "application/openmetrics-text")])
            self.expect(document, "GET", "/metrics", om, 200)
            one = client.get("/slo/status?service=s")
            self.expect(document, "GET", "/slo/status", one, 200)
            self.assertEqual([s["service"] for s in one.json()["services"]], ["s"])
            for _ in range(6):
                client.post("/ingest", {"service": "burning", "status": 500, "latency_ms": 1})
            firing = client.get("/slo/alerts?state=firing")
            self.expect(document, "GET", "/slo/alerts", firing, 200)
            self.assertGreater(firing.json()["firing"], 0)
            self.expect(document, "GET", "/slo/status", client.get("/slo/status?service=burning"), 200)
            none = client.get("/slo/status?service=unknown")
            self.expect(document, "GET", "/slo/status", none, 200)

    def test_every_example_of_a_body_is_stored_and_answered_as_described(self):
        server = self.server()
        document = self.document(server)
        count = 0
        with server.client() as client:
            for method, path, operation in document.operations():
                body = document.follow(operation.get("requestBody", {}))
                for kind, content in body.get("content", {}).items():
                    for name, example in content.get("examples", {"example": {"value": content.get("example")}}).items():
                        value = document.follow(example)["value"]
                        text = value if isinstance(value, str) else json.dumps(value)
                        headers = [("Content-Type", kind), ("Idempotency-Key", "%s-%s" % (path, name))]
                        fresh = client.request(method, target_of(path), text, headers)
                        self.expect(document, method, path, fresh)
                        if "/slo/" in path:  # a definition is no event: it has no repeats
                            self.assertIn(fresh.status, (200, 201), "%s %s: %r" % (path, name, fresh))
                            continue
                        self.assertIn(fresh.status, (201, 202), "%s %s: %r" % (path, name, fresh))
                        again = client.request(method, path, text, headers)
                        if path.endswith("/bulk"):  # there the key says nothing
                            self.expect(document, method, path, again, 202)
                        else:
                            self.expect(document, method, path, again, 200)
                            self.assertTrue(again.json()["duplicate"])
                        count += 1
        self.assertGreaterEqual(count, 5)

    def test_every_refusal_is_as_described(self):
        server = self.server()
        document = self.document(server)
        paths = {path: [m for m, p, _ in document.operations() if p == path] for path in document.root["paths"]}
        with server.client() as client:
            for method, target, body, headers, status, code in BAD:
                answer = client.request(method, target, body, headers)
                self.expect(document, method, target.split("?")[0], answer, status, code)
            for method, body in (("GET", b""), ("DELETE", b"")):
                answer = client.request(method, "/slo/objectives/nobodys", body)
                self.expect(document, method, "/slo/objectives/{id}", answer, 404, "not_found")
            for number in ("7", "none", "99999999999999999999"):
                answer = client.request("DELETE", "/dead-letters/" + number)
                self.expect(document, "DELETE", "/dead-letters/{id}", answer, 404, "not_found")
                answer = client.request("POST", "/dead-letters/%s/replay" % number)
                self.expect(document, "POST", "/dead-letters/{id}/replay", answer, 404, "not_found")
            for path, methods in paths.items():
                for wrong in ("DELETE", "PUT", "GET", "POST"):
                    if wrong not in methods:
                        answer = client.request(wrong, target_of(path))
                        self.expect(document, methods[0], path, answer, 405, "method_not_allowed")
                        allowed = {m.strip() for m in answer.header("allow").split(",")}
                        extra = {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
                        self.assertEqual(allowed, set(methods) | extra)
            for method, path, _ in document.operations():
                self.refuse_framing(client, document, method, path)
            self.expect(document, "POST", "/events", client.post("/events", b'{"type":"a"}', [("Idempotency-Key", "k")]), 202)
            other = client.post("/events", b'{"type":"b"}', [("Idempotency-Key", "k")])
            self.expect(document, "POST", "/events", other, 422, "idempotency_mismatch")
            missing = client.get("/nowhere")
            self.assertEqual((missing.status, missing.json()["error"]), (404, "not_found"))
            self.assertEqual(document.response_faults(document.root["components"]["responses"]["Problem"], missing), [])

    def refuse_framing(self, client, document, method, path):
        """What the parser refuses, it refuses on every route."""
        body = b"{}" if method in ("POST", "PUT") else b""
        target = target_of(path)
        line = "%s %s HTTP/1.1\r\nHost: h\r\n" % (method, target)
        cases = [
            (line.encode() + b" folded: x\r\n\r\n", 400),
            (request_bytes(method, target, body, [("X-Long", "x" * 40000)]), 431),
            (request_bytes(method, target.split("?")[0] + "?q=" + "x" * 9000, body), 414),
            ((line + "Content-Length: 99999999\r\n\r\n").encode(), 413),
        ]
        if "requestBody" in document.root["paths"][path][method.lower()]:
            cases.append(((line + "\r\n").encode(), 411))
        for data, status in cases:
            client.connect()
            client.send(data)
            self.expect(document, method, path, client.read(), status)
        client.close()

    def test_a_request_that_does_not_arrive_is_answered_as_described(self):
        server = self.server(HTTP_READ_TIMEOUT_MS=500)
        document = self.document(server)
        for method, path in (("POST", "/ingest"), ("GET", "/health")):
            with server.client() as client:
                client.send(("%s %s HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n" % (method, path)).encode())
                self.expect(document, method, path, client.read(), 408, "request_timeout")

    def test_keys_and_rates_are_refused_as_described(self):
        server = self.server(API_KEYS="acme:acme-key", ADMIN_KEY="admin-key", RATE_LIMIT_RPS=1, RATE_LIMIT_BURST=1)
        document = self.document(server)
        keyed = [(m, p) for m, p, operation in document.operations() if "security" in operation]
        self.assertIn(("POST", "/events"), keyed)
        with server.client() as client:
            for method, path in keyed:
                body = b"{}" if method in ("POST", "PUT") else b""
                admins = (method != "GET" and path.startswith("/slo/")) or path.startswith("/dead-letters")
                readers = method == "GET" and path.startswith("/slo/objectives")
                forbidden = "acme-key" if admins else "admin-key"
                cases = [((), 401), ((("X-API-Key", "no"),), 401)]
                cases += [] if readers else [((("X-API-Key", forbidden),), 403)]
                for headers, status in cases:
                    self.expect(document, method, path, client.request(method, target_of(path), body, headers), status)
            for method, path, operation in document.operations():
                if "security" not in operation:
                    self.assertEqual(client.request(method, path).status, 200)
            answers = [client.post("/events", b"{}", [("X-API-Key", "acme-key")]) for _ in range(20)]
            for answer in answers:
                self.expect(document, "POST", "/events", answer)
                self.assertIsNotNone(answer.header("ratelimit"))
                self.assertIsNotNone(answer.header("ratelimit-policy"))
            self.assertEqual({answer.status for answer in answers}, {202, 429})

    def test_a_full_log_and_what_ready_says_of_it_are_as_described(self):
        server = self.server(WAL_MAX_BYTES="1MiB")
        document = self.document(server)
        with server.client() as client:
            for size in (50000, 5000, 500, 10):
                body = json.dumps({"type": "big", "payload": {"x": "x" * size}})
                answer = client.post("/events", body)
                while answer.status == 202:
                    answer = client.post("/events", body)
                self.expect(document, "POST", "/events", answer)
            self.expect(document, "POST", "/events", answer, 503, "log_full")
            ready = client.get("/ready")
            self.expect(document, "GET", "/ready", ready, 503)
            self.assertEqual(ready.json()["reasons"], ["log_full"])
            self.expect(document, "GET", "/readyz", client.get("/readyz"), 503)

    # ---- made-up bodies ----

    def make_up(self, document, schema, depth=0):
        if schema.get("$ref", "").endswith("/Timestamp"):
            return self.random.choice(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123+02:00", 1767323045, 1767323045678, None])
        schema = document.follow(schema)
        types = schema.get("type", "object")
        kind = self.random.choice(types if isinstance(types, list) else [types])
        if kind == "object":
            known = schema.get("properties", {})
            chosen = [n for n in known if n in schema.get("required", []) or self.random.random() < 0.5]
            self.random.shuffle(chosen)
            made = {n: self.make_up(document, known[n], depth + 1) for n in chosen}
            if schema.get("additionalProperties") is True and self.random.random() < 0.5:
                made["extra%d" % self.random.randrange(9)] = self.random.choice([1, "ü", None, [1, {}], {"a": True}])
            return made
        if kind == "array":
            return [self.make_up(document, schema["items"], depth + 1) for _ in range(self.random.randrange(3))]
        if kind == "string":
            if schema.get("format") == "date-time":
                return "2026-01-02T03:04:05Z"
            return "".join(self.random.choices('abc "\\/é\n', k=self.random.choice([1, 1, 3, 60])))
        if kind == "integer":
            return self.random.randint(schema.get("minimum", 1), schema.get("maximum", 1767323045))
        if kind == "number":
            return self.random.choice([0, 0.5, 12, 1e6, 3.25e-3])
        return {"null": None, "boolean": True}[kind]

    def break_one(self, body):
        """BODY with one member taken away or put wrong."""
        name = self.random.choice(list(body))
        wrong = ["", None, -1, 0.5, 600, 99, True, [], {}, "x" * 256, "text", [1]]
        if self.random.random() < 0.25:
            return {k: v for k, v in body.items() if k != name}
        return {**body, name: self.random.choice(wrong)}

    def test_made_up_bodies_are_stored_or_refused_as_their_schema_says(self):
        server = self.server()
        document = self.document(server)
        schemas = document.root["components"]["schemas"]
        self.say("seed %d", self.seed)
        stored = refused = 0
        with server.client() as client:
            for i in range(MADE_UP):
                name = self.random.choice(["TelemetryEvent", "ProductEvent", "ChannelEvent", "GenericEvent"])
                body = self.make_up(document, schemas[name])
                body.pop("event_id", None), body.pop("id", None)  # ids would make repeats
                path = "/ingest" if name == "TelemetryEvent" and self.random.random() < 0.7 else "/events"
                broken = bool(body) and self.random.random() < 0.5
                if broken:
                    body = self.break_one(body)
                answer = client.post(path, json.dumps(body))
                faults = document.answer_faults("POST", path, answer)
                self.assertEqual(faults, [], "%s %s: %r" % (path, body, answer))
                good = answer.status in (200, 201, 202)
                if not broken:
                    self.assertTrue(good, "%s %s: %r" % (path, body, answer))
                elif path == "/ingest" and not isinstance(body.get("timestamp"), (str, int, float)):
                    faults = document.faults(body, schemas["TelemetryEvent"])
                    faults = [f for f in faults if not (f.startswith("body.type ") and body.get("event_name"))]
                    self.assertEqual(good, not faults, "%s: %r: %s" % (body, answer, faults))
                stored += good
                refused += not good
        self.say("%d stored, %d refused", stored, refused)
        self.assertGreater(stored, MADE_UP // 4)
        self.assertGreater(refused, MADE_UP // 20)

    def test_the_page_asks_nobody_else_and_runs_nothing_inline(self):
        server = self.server()
        with server.client() as client:
            page = client.get("/docs")
            self.assertEqual(client.get("/docs/index.html").body, page.body)
            texts = [page.text()] + [client.get(path).text() for path in ("/docs.css", "/docs.js")]
        policy = page.header("content-security-policy")
        self.assertIn("script-src 'self'", policy)
        self.assertNotIn("unsafe", policy)
        for text in texts:
            self.assertIsNone(re.search(r"(https?:)?//[a-z]", re.sub(r"// .*", "", text)))
            self.assertNotIn("innerHTML", text)
        self.assertIsNone(re.search(r"<script(?! src=)|<style|style=| on[a-z]+=", page.text()))


if __name__ == "__main__":
    runner.main()
