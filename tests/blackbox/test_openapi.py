"""What /openapi.json says by itself: its examples fit their schemas and are what the server takes.

That each answer is as described, and each described status comes, is asked in test_contract.py. Here
bodies are the examples, and made up from the schemas, whole and broken: what fits /ingest's schema
is stored, what does not is refused.
"""

import json
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from openapi import Document

MADE_UP = procs.int_env("OPENAPI_BODIES", 300)


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


class OpenApi(runner.Drill):
    def document(self, server):
        with server.client() as client:
            return Document(client.get("/openapi.json").text())

    def expect(self, document, method, path, answer, status=None):
        faults = document.answer_faults(method, path, answer)
        self.assertEqual(faults, [], "%s %s: %r" % (method, path, answer))
        if status is not None:
            self.assertEqual(answer.status, status, "%s %s: %r" % (method, path, answer))

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
                        fresh = client.request(method, document.targets(path), text, headers)
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
