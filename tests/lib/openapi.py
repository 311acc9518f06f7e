"""What /openapi.json says, and a checker for the part of JSON Schema it uses."""

import json
import re
import urllib.parse

METHODS = ("get", "put", "post", "delete", "patch")
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

    def targets(self, path):
        """A target that can be asked for, with what its GET must be asked with."""
        return path.replace("{id}", "one") + (self.required_query(path) if "get" in self.root["paths"][path] else "")

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
        if "content" not in response:
            return found + ["has a body"] * (answer.body != b"" or answer.header("content-type") is not None)
        kind = (answer.header("content-type") or "").split(";")[0].strip()
        if kind not in response["content"]:
            return found + ["Content-Type %r is not described" % kind]
        schema = response["content"][kind].get("schema", {})
        value = answer.json() if kind.endswith("json") else answer.text()
        return found + self.faults(value, schema)
