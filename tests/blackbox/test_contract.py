"""The HTTP contract as a table: what is asked, what is answered.

A row is one request on a real socket and its answer: status, headers, members of the body. Rows of
one mode are asked in order of one server: OPEN has no keys, KEYED has two tenants, an admin and a
rate limit, FULL has a log without
room and an admin's key alone. What holds for all answers stands in no row but in
Contract.check(): X-Request-ID, whole problem documents, Retry-After, Allow, HEAD as GET, the
connection kept or ended, and the description in /openapi.json. What holds for all routes is asked of each
that the description names. At the end each status described for a route must have come from it.

A refused body is never stored: the events acked at the end are those of the rows.
"""

import gzip
import hashlib
import json
import os
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import runner
from http_client import ConnectionLost, chunked, request_bytes
from openapi import Document

OPEN = {"MAX_BODY_BYTES": 256 << 10, "MAX_BULK_EVENTS": 50, "HTTP_READ_TIMEOUT_MS": 3000}
KEYED = {
    "API_KEYS": "acme:acme-key,acme:acme-key-2,globex:globex-key,poor:poor-key", "ADMIN_KEY": "admin-key",
    "TENANT_RATE_LIMIT_RPS": "0.001", "TENANT_RATE_LIMIT_BURST": 40, "CORS_ALLOW_ORIGINS": "https://app.example",
}  # fmt: skip
FULL = {"WAL_MAX_BYTES": "1MiB", "READY_REQUIRES_DB": "true", "ADMIN_KEY": "admin-key"}

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
REQUEST_ID = re.compile(r"[0-9a-f]{24}")
ANY = re.compile(r".*", re.S)
NOW = int(time.time())
JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
GZIP = (("Content-Encoding", "gzip"),)
CODES = {
    400: ("validation_error", "invalid_json"), 401: ("unauthorized",), 403: ("forbidden",), 404: ("not_found",),
    405: ("method_not_allowed",), 408: ("request_timeout",), 409: ("conflict",), 411: ("body_too_large",),
    413: ("body_too_large",), 414: ("uri_too_long",), 415: ("unsupported_media_type",), 422: ("idempotency_mismatch",),
    429: ("rate_limited",), 431: ("headers_too_large",), 500: ("outcome_unknown",),
    503: ("backpressure", "log_full", "shutting_down", "log_failed", "database_unavailable"),
}  # fmt: skip
# Statuses that need a fault: crash/test_log_faults.py, blackbox/test_stop.py, unit/test_http_server.c.
WITH_FAULTS_ONLY = ("500", "503", "default")
# Routes that need rows of MySQL's have a file of their own.
WITH_MYSQL_ONLY = re.compile("/dead-letters.*")
# What a tenant's key may not do. The rest that needs a key is not for the admin's, but for READERS.
ADMINS = re.compile("(POST|PUT|DELETE) /slo/.*|[A-Z]+ /dead-letters.*")
READERS = re.compile("GET /slo/objectives.*")


def rfc3339(second, form="%Y-%m-%dT%H:%M:%SZ"):
    return time.strftime(form, time.gmtime(second))


class Earlier:
    """A member of the answer to an earlier row."""

    def __init__(self, name, member):
        self.name, self.member = name, member


class Row:
    """
    ASK: method and target. SEND: bytes as they are, a callable that gives what to send, anything
    else as JSON of Content-Type KIND. RAW: the whole request's bytes instead. BODY: the members
    expected, or a whole text or pattern. HEAD: headers expected, None for one that must not be there.
    """

    def __init__(self, name, ask, status, body=None, send=None, kind=JSON, headers=(), head=None, raw=None, ends=False):
        self.name, self.status, self.body, self.send, self.kind = name, status, body, send, kind
        self.method, self.target = ask.split(" ", 1)
        self.headers, self.head, self.raw, self.ends = list(headers), head or {}, raw, ends

    def bytes(self):
        if self.raw is not None:
            return self.raw
        send = self.send() if callable(self.send) else self.send
        headers = list(self.headers)
        if send is not None and self.kind:
            headers.append(("Content-Type", self.kind))
        if send is None:
            send = b""
        elif isinstance(send, str):
            send = send.encode()
        elif not isinstance(send, bytes):
            send = json.dumps(send).encode()
        return request_bytes(self.method, self.target, send, headers)


def no(sentence, code="validation_error"):
    """A refusal's body."""
    return {"error": code, "message": sentence}


def key(name, more=()):
    return [("X-API-Key", name), *more]


def idem(name):
    return [("Idempotency-Key", name)]


def raw(text, body=b""):
    return text.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


def c_id(user, name, timestamp, campaign, channel):
    """C's event id."""
    return hashlib.sha256(("%s|%s|%s|%s|%s" % (user, name, timestamp, campaign, channel)).encode()).hexdigest()


def bulk(accepted, rejected=0, duplicates=0, **more):
    return {
        "accepted": accepted, "rejected": rejected, "duplicates": duplicates, "duplicate": duplicates == accepted,
        "seq": int, "errors": [], **more,
    }  # fmt: skip


T = {"service": "billing-api", "latency_ms": 178, "status": 200}
A = {"event_name": "signup", "timestamp": "2025-12-31T10:00:00Z", "properties": {"plan": "pro"}}
C = {
    "event_name": "purchase", "channel": "web", "user_id": "user_123", "timestamp": 1723475612, "campaign_id": "cmp_987",
    "tags": ["electronics", "flash_sale"], "metadata": {"product_id": "prod-789", "price": 129.99},
}  # fmt: skip
C_ID = c_id("user_123", "purchase", 1723475612, "cmp_987", "web")
STORED_T = {"status": "queued", "event_id": UUID7, "duplicate": False, "seq": int}
STORED_G = {"status": "accepted", "id": UUID7, "event_id": UUID7, "duplicate": False, "seq": int}
STORED_A = {"status": "accepted", "event_id": UUID7, "duplicate": False, "seq": int}
SLO = {"service_name": "checkout", "slo_type": "availability", "slo_value": 0.99}
BOMB = gzip.compress(b" " * (16 << 20), 9)


def without(event, *names):
    return {name: value for name, value in event.items() if name not in names}


def refusals(shape, base, ask, *rows):
    """A row per (member, value or Ellipsis for none, sentence)."""
    for member, value, sentence in rows:
        event = without(base, member) if value is ... else {**base, member: value}
        yield Row("%s: %s is %.40r" % (shape, member, value), ask, 400, no(sentence), send=event)


RFC = "timestamp must be RFC3339"
ANY_TIME = "timestamp must be RFC3339 or an epoch number"
SECONDS = "timestamp must be an integer, in epoch seconds"
LATER = "timestamp cannot be in the future"
BYTES = " must be 1 to 255 bytes"
TWICE = "a header that may stand once was given more than once"

# ---- POST /ingest ----

INGEST = [
    Row("T: as documented", "POST /ingest", 202, STORED_T, send=T),
    Row("T: with an id", "POST /ingest", 202, {**STORED_T, "event_id": "t-1"}, send={**T, "event_id": "t-1"}),
    Row("T: repeat", "POST /ingest", 200, {"status": "queued", "event_id": "t-1", "duplicate": True,
        "seq": Earlier("T: with an id", "seq")},
        send={**T, "event_id": "t-1"}),
    Row("T: another body under an id of the body is a repeat", "POST /ingest", 200, {"duplicate": True},
        send={**T, "status": 500, "event_id": "t-1"}),
    Row("T: `id` is an id too", "POST /ingest", 202, {"event_id": "t-2"}, send={**T, "id": "t-2"}),
    Row("T: the header's id wins over both", "POST /ingest", 202, {"event_id": "t-3"},
        send={**T, "id": "t-1", "event_id": "t-2"}, headers=idem("t-3")),
    Row("T: repeat by header", "POST /ingest", 200, {"event_id": "t-3", "duplicate": True},
        send={**T, "id": "t-1", "event_id": "t-2"}, headers=idem('"t-3"')),
    Row("T: another body under the header's id", "POST /ingest", 422, no(ANY, "idempotency_mismatch"), send=T,
        headers=idem("t-3")),
    Row("T: least and largest", "POST /ingest", 202, STORED_T,
        send={"service": "x" * 255, "status": 599, "latency_ms": 1.7e308}),
    Row("T: -0 and 100", "POST /ingest", 202, STORED_T, send=b'{"service":"a","status":100,"latency_ms":-0}'),
    Row("T: 2^53 + 1", "POST /ingest", 202, STORED_T,
        send=b'{"service":"a","status":200,"latency_ms":9007199254740993}'),
    Row("T: null and 0 are no timestamps", "POST /ingest", 202, STORED_T,
        send={**T, "timestamp": None, "id": None, "event_id": ""}),
    Row("T: epoch seconds", "POST /ingest", 202, STORED_T, send={**T, "timestamp": NOW}),
    Row("T: epoch milliseconds", "POST /ingest", 202, STORED_T, send={**T, "timestamp": NOW * 1000}),
    Row("T: RFC 3339 with an offset", "POST /ingest", 202, STORED_T,
        send={**T, "timestamp": rfc3339(NOW, "%Y-%m-%dT%H:%M:%S.25-00:00")}),
    Row("T: a clock that is a little fast", "POST /ingest", 202, STORED_T,
        send=lambda: {**T, "timestamp": int(time.time() * 1000) + 900}),
    Row("T: no type is JSON", "POST /ingest", 202, STORED_T, send=T, kind=""),
    Row("T: gzip", "POST /ingest", 202, STORED_T, send=gzip.compress(json.dumps(T).encode()), headers=GZIP),
    *refusals("T", T, "POST /ingest",
        ("service", ..., "service required"), ("service", "", "service required"), ("service", None, "service required"),
        ("service", 5, "service must be a string"), ("service", "x" * 256, "service" + BYTES),
        ("service", "a\0", "service must not contain NUL"),
        ("status", ..., "status required"), ("status", 99, "status must be an integer from 100 to 599"),
        ("status", 600, "status must be an integer from 100 to 599"),
        ("status", "200", "status must be an integer from 100 to 599"),
        ("status", 200.5, "status must be an integer from 100 to 599"),
        ("latency_ms", ..., "latency_ms required"), ("latency_ms", None, "latency_ms required"),
        ("latency_ms", -0.001, "latency_ms must be a finite number of at least 0"),
        ("latency_ms", "1", "latency_ms must be a finite number of at least 0"),
        ("latency_ms", True, "latency_ms must be a finite number of at least 0"),
        ("timestamp", "yesterday", ANY_TIME), ("timestamp", True, ANY_TIME), ("timestamp", NOW + 3600, LATER),
        ("timestamp", 10**20, ANY_TIME),
        ("event_id", 5, "event_id must be a string"), ("event_id", "x" * 256, "event_id" + BYTES),
        ("type", 5, "type must be a string"),
    ),
    Row("T: 1e400", "POST /ingest", 400, no(ANY, "invalid_json"),
        send=b'{"service":"a","status":200,"latency_ms":1e400}'),
    Row("T: /ingest takes no other shape", "POST /ingest", 400, no("service required"), send=A),
    Row("a query means nothing", "POST /ingest?mode=partial&x=%zz", 202, STORED_T, send=T),
]

# ---- POST /events ----

EVENTS = [
    Row("T on /events", "POST /events", 202, {**STORED_T, "event_id": "t-4"}, send={**T, "id": "t-4"}),
    Row("T on /events: repeat", "POST /events", 200, {"status": "queued", "event_id": "t-4", "duplicate": True},
        send={**T, "id": "t-4"}),
    Row("T on /events: latency is required", "POST /events", 400, no("latency_ms required"),
        send=without(T, "latency_ms")),
    Row("T on /events: half of the pair", "POST /events", 400, no("status required"), send={"service": "a"}),

    Row("G: as documented", "POST /events", 202, {**STORED_G, "id": "g-1", "event_id": "g-1"},
        head={"x-request-id": "g-1"},
        send={"id": "g-1", "type": "user_signup", "timestamp": "2023-10-27T10:00:00Z", "payload": {"user": "alice"}}),
    Row("G: repeat", "POST /events", 200, {"id": "g-1", "event_id": "g-1", "status": "accepted", "duplicate": True,
        "seq": Earlier("G: as documented", "seq")},
        head={"x-request-id": "g-1"}, send={"id": "g-1", "type": "user_signup", "timestamp": "2023-10-27T10:00:00Z",
            "payload": {"user": "alice"}}),
    Row("G: a type alone", "POST /events", 202, STORED_G, send={"type": "test"}, head={"x-request-id": UUID7}),
    Row("G: nothing at all", "POST /events", 202, STORED_G, send={}),
    Row("G: unknown members and Go's zero time", "POST /events", 202, STORED_G,
        send={"TYPE": "a", "timestamp": "0001-01-01T00:00:00Z", "x": [1]}),
    Row("G: a client's request id stays", "POST /events", 202, STORED_G, send={}, headers=[("X-Request-ID", "mine")],
        head={"x-request-id": "mine"}),
    Row("G: an id that fits no header", "POST /events", 202, {"id": "\u00e9"}, send={"id": "\u00e9"},
        head={"x-request-id": REQUEST_ID}),
    Row("G: numbers of every size are kept", "POST /events", 202, STORED_G,
        send=b'{"payload":{"n":9007199254740993,"m":-0,"s":1e-400}}'),
    Row("G: names in many scripts", "POST /events", 202, STORED_G, send={"type": "\u4e2d" * 85}),
    *refusals("G", {"type": "t"}, "POST /events",
        ("type", 5, "type must be a string"), ("type", "\u00e9" * 128, "type" + BYTES), ("id", "x" * 256, "id" + BYTES),
        ("payload", [1], "payload must be an object"),
        ("payload", "text", "payload must be an object"), ("timestamp", "2023-10-27", ANY_TIME),
        ("timestamp", NOW * 1000 + 600000, LATER)),

    Row("A: as documented", "POST /events", 201, {**STORED_A, "event_id": "example1"}, send=A,
        headers=idem("example1")),
    Row("A: repeat", "POST /events", 200, {"event_id": "example1", "duplicate": True, "status": "accepted",
        "seq": Earlier("A: as documented", "seq")},
        send=A, headers=idem("example1")),
    Row("A: another body under the header's id", "POST /events", 422, no(ANY, "idempotency_mismatch"),
        send={**A, "properties": {}}, headers=idem("example1")),
    Row("A: an id in the body", "POST /events", 201, {"event_id": "a-1"}, send={**A, "event_id": "a-1"}),
    Row("A: and again", "POST /events", 200, {"event_id": "a-1", "duplicate": True}, send={**A, "event_id": "a-1"}),
    Row("A: an id of 255 bytes", "POST /events", 201, {"event_id": "\u00e9" * 127 + "x"},
        send={**A, "event_id": "\u00e9" * 127 + "x"}),
    Row("A: made up", "POST /events", 201, STORED_A, send=without(A, "properties")),
    Row("A: null properties", "POST /events", 201, STORED_A, send={**A, "properties": None}),
    Row("A: service without status is a property", "POST /events", 201, STORED_A, send={**A, "service": "s"}),
    Row("A: a leap second", "POST /events", 201, STORED_A, send={**A, "timestamp": "2016-12-31T23:59:60Z"}),
    Row("A: the same leap second in India", "POST /events", 201, STORED_A,
        send={**A, "timestamp": "2017-01-01T05:29:60.5+05:30"}),
    *refusals("A", A, "POST /events",
        ("event_name", "", "event_name required"), ("event_name", None, "event_name required"),
        ("event_name", 5, "event_name must be a string"),
        ("event_name", "x" * 256, "event_name" + BYTES),
        ("timestamp", ..., "timestamp required"), ("timestamp", None, "timestamp required"),
        ("timestamp", "", "timestamp required"), ("timestamp", NOW, RFC),
        ("timestamp", "2025-12-31T10:00:00", RFC), ("timestamp", "2025-12-31 10:00:00Z", RFC),
        ("timestamp", "2025-02-29T10:00:00Z", RFC),
        ("timestamp", "2025-13-01T00:00:00Z", RFC), ("timestamp", "2025-12-31T24:00:00Z", RFC),
        ("timestamp", "2016-12-31T23:58:60Z", RFC),
        ("timestamp", "2025-12-31T10:00:00.1234567890Z", RFC), ("timestamp", "2025-12-31T10:00:00+24:00", RFC),
        ("timestamp", rfc3339(NOW + 600), LATER),
        ("properties", [], "properties must be an object"), ("event_id", [], "event_id must be a string")),
    Row("A: name before timestamp, as A checks", "POST /events", 400, no("event_name required"),
        send={"event_name": "", "timestamp": ""}),
    Row("A wins over G when both names are there", "POST /events", 400, no("timestamp required"),
        send={"type": "t", "event_name": "a"}),

    Row("C: as documented", "POST /events", 202, {"event_id": C_ID, "status": "accepted", "duplicate": False,
        "seq": int}, send=C),
    Row("C: repeat, tags and metadata are no part of the id", "POST /events", 200,
        {"event_id": C_ID, "status": "accepted", "duplicate": True, "seq": Earlier("C: as documented", "seq")},
            send=without(C, "tags", "metadata")),
    Row("C: without a campaign", "POST /events", 202, {"event_id": c_id("user_123", "purchase", 1723475612, "", "web")},
        send=without(C, "campaign_id")),
    Row("C: an empty campaign is none", "POST /events", 200, {"event_id": c_id("user_123", "purchase", 1723475612, "",
        "web")}, send={**C, "campaign_id": ""}),
    Row("C: the hash is of what the escapes stand for", "POST /events", 202,
        {"event_id": c_id("\u00fc|1", "n\"", 1, "\U0001f600", "a\\b")},
        send={"user_id": "\u00fc|1", "event_name": 'n"', "timestamp": 1, "campaign_id": "\U0001f600",
            "channel": "a\\b"}),
    Row("C: before 1970", "POST /events", 202, {"event_id": c_id("u", "e", -5, "", "c")},
        send={"user_id": "u", "event_name": "e", "timestamp": -5, "channel": "c"}),
    Row("C: an id of its own wins over the hash", "POST /events", 202, {"event_id": "c-1"},
        send={**C, "event_id": "c-1"}),
    *refusals("C", C, "POST /events",
        ("event_name", ..., "event_name required"), ("channel", ..., "channel required"), ("channel", "", "channel required"),
        ("channel", 5, "channel must be a string"),
        ("user_id", ..., "user_id required"), ("user_id", 7, "user_id must be a string"),
        ("timestamp", ..., "timestamp required"), ("timestamp", 0, "timestamp required"),
        ("timestamp", 1.5, SECONDS), ("timestamp", "1723475612", SECONDS), ("timestamp", NOW + 600, LATER),
        ("timestamp", 1723475612000, LATER),
        ("timestamp", 10**20, SECONDS), ("tags", "x", "tags must be an array of strings"),
        ("tags", [1], "tags must be an array of strings"),
        ("metadata", [], "metadata must be an object"), ("campaign_id", 5, "campaign_id must be a string")),
    Row("C: 1e9 is no integer", "POST /events", 400, no(SECONDS),
        send=b'{"event_name":"a","channel":"c","user_id":"u","timestamp":1e9}'),
    Row("C: -0 is 0", "POST /events", 400, no("timestamp required"),
        send=b'{"event_name":"a","channel":"c","user_id":"u","timestamp":-0}'),
    Row("C: one of its members means C", "POST /events", 400, no("event_name required"), send={"channel": "web"}),
]

IDS = [
    Row("an id with quotes in it", "POST /events", 202, {"id": 'k"1', "event_id": 'k"1'}, send={},
        headers=idem('"k\\"1"')),
    Row("the same id bare", "POST /events", 200, {"id": 'k"1'}, send={}, headers=idem('k"1')),
    Row("blanks inside", "POST /events", 202, {"id": "order 42"}, send={}, headers=idem('"order 42"')),
    Row("the same bare", "POST /events", 200, {"id": "order 42"}, send={}, headers=idem("  order 42 ")),
    Row("commas and semicolons", "POST /events", 202, {"id": "a,b;c=1"}, send={}, headers=idem("a,b;c=1")),
    Row("255 characters", "POST /events", 202, {"id": "k" * 255}, send={}, headers=idem("k" * 255)),
    Row("a blank header is none", "POST /events", 202, STORED_G, send={}, headers=idem("")),
    *[Row("no key: " + what, "POST /events", 400, no(sentence), send={}, headers=idem(value)) for what, value,
        sentence in (
        ("empty", '""', "Idempotency-Key must be 1 to 255 printable ASCII characters"),
        ("too long", "k" * 256, "Idempotency-Key must be 1 to 255 printable ASCII characters"),
        ("not ASCII", "\u00e9", "Idempotency-Key must be 1 to 255 printable ASCII characters"),
        ("half quoted", '"k', "Idempotency-Key has an opening quote but no closing one"),
        ("quotes inside", '"a"b"', "Idempotency-Key is not a valid quoted string"),
    )],
    Row("two keys", "POST /events", 400, no(TWICE), send={}, headers=idem("a") + idem("b"), ends=True),
]

BODIES = [
    *[Row("no JSON: %r" % body[:30], "POST /events", 400, no(re.compile("invalid JSON payload: .* at byte [0-9]+"),
        "invalid_json"), send=body) for body in (
        b"", b"{", b"nonsense", b'{"a":01}', b'{"a":1.}', b'{"a":NaN}', b'{"a":1,}', b"{} x", b"\xef\xbb\xbf{}",
            b'{"type":"\xff"}', b'{"type":"a\tb"}',
        b'{"type":"\\ud800"}', b'{"type":"a","type":"b"}', b'{"payload":' + b"[" * 99 + b"]" * 99 + b"}",
            b"{'type':'a'}", b'{"a":1e400}',
        b"[]", b"[{}]", b'"text"', b"5", b"null",
    )],
    *[Row("a type that is taken: " + kind, "POST /events", 202, STORED_G, send={}, kind=kind) for kind in (
        "application/json; charset=utf-8", "APPLICATION/JSON", "application/cloudevents+json")],
    *[Row("a type that is not: " + kind, "POST /events", 415, send={}, kind=kind) for kind in (
        "text/html", "application/xml", "application/x-ndjson", "text/csv", "multipart/form-data; boundary=x")],
    Row("a coding that is not", "POST /events", 415, send={}, headers=[("Content-Encoding", "br")],
        head={"accept-encoding": "gzip"}),
    Row("identity", "POST /events", 202, STORED_G, send={}, headers=[("Content-Encoding", "identity")]),
    Row("gzip that is none", "POST /events", 400, no("the body is not valid gzip"), send=b"{}", headers=GZIP),
    Row("gzip cut short", "POST /events", 400, no("the gzip body is cut short"), send=gzip.compress(b"{}")[:-9],
        headers=GZIP),
    Row("a bomb as an event", "POST /events", 413, send=BOMB, headers=GZIP, ends=True),
    Row("a bomb as a bulk", "POST /events/bulk", 413, send=BOMB, kind=NDJSON, headers=GZIP, ends=True),
    Row("the largest event", "POST /events", 202, STORED_G, send=b'{"payload":{"x":"%s"}}' % (b"x" * 60000)),
    Row("a larger one", "POST /events", 413, send=b" " * 65537, ends=True),
    Row("a length is needed", "POST /events", 411, raw=raw("POST /events HTTP/1.1\nHost: h")),
    Row("chunks", "POST /events", 202, STORED_G, raw=raw("POST /events HTTP/1.1\nHost: h\nTransfer-Encoding: chunked",
        chunked(b'{"type":"chunked"}', 3))),
    Row("chunks beyond the limit", "POST /events", 413, ends=True,
        raw=raw("POST /events HTTP/1.1\nHost: h\nTransfer-Encoding: chunked", b"10001\r\n")),
    Row("asked to go on before the body", "POST /events", 202, STORED_G,
        raw=raw("POST /events HTTP/1.1\nHost: h\nExpect: 100-continue\nContent-Length: 2", b"{}")),
    Row("refused before the body", "POST /events", 413, ends=True,
        raw=raw("POST /events HTTP/1.1\nHost: h\nExpect: 100-continue\nContent-Length: 999999")),
    Row("another expectation means nothing", "POST /events", 202, STORED_G, send={}, headers=[("Expect", "200-ok")]),
]

# ---- POST /events/bulk ----

TWO = '{"id":"%s1","type":"b"}\n{"id":"%s2","type":"b"}'
BAD = '{"type":"b"}\n{"event_name":5}\n{no json\n'
BAD_ERRORS = [{"index": 1, "code": "validation_error", "message": "event_name must be a string"},
              {"index": 2, "code": "invalid_json", "message": re.compile("invalid JSON payload: .*")}]
BULK = [
    Row("bulk: C's form and C's ids", "POST /events/bulk", 202,
        bulk(2, event_ids=[c_id("u1", "view", 1723475612, "", "app"), c_id("u2", "view", 1723475612, "", "app")]),
        send={"events": [{"event_name": "view", "channel": "app", "user_id": u, "timestamp": 1723475612}
            for u in ("u1", "u2")]}),
    Row("bulk: repeat", "POST /events/bulk", 202, bulk(2, duplicates=2),
        send={"events": [{"event_name": "view", "channel": "app", "user_id": u, "timestamp": 1723475612}
            for u in ("u1", "u2")]}),
    Row("bulk: an array", "POST /events/bulk", 202, bulk(2, event_ids=["x1", "x2"]), send=[{"id": "x1"}, {"id": "x2"}]),
    Row("bulk: lines", "POST /events/bulk", 202, bulk(2, event_ids=["l1", "l2"]), send=TWO % ("l", "l"), kind=NDJSON),
    Row("bulk: a table", "POST /events/bulk", 202, bulk(2, event_ids=["r1", "r2"]),
        send='id,type\r\nr1,"a ""b"", c"\r\nr2,d\r\n', kind=CSV),
    Row("bulk: gzip", "POST /events/bulk", 202, bulk(2, event_ids=["z1", "z2"]),
        send=gzip.compress((TWO % ("z", "z")).encode()), kind=NDJSON, headers=GZIP),
    Row("bulk: no type is JSON", "POST /events/bulk", 202, bulk(1), send=[{}], kind=""),
    Row("bulk: all shapes", "POST /events/bulk", 202, bulk(4,
        event_ids=["m1", "m2", "m3", c_id("mixed", "purchase", 1723475612, "cmp_987", "web")]),
        send=[{**T, "id": "m1"}, {"id": "m2"}, {**A, "event_id": "m3"}, {**C, "user_id": "mixed"}]),
    Row("bulk: repeats within", "POST /events/bulk", 202, bulk(3, duplicates=1, event_ids=["w1", "w2", "w1"]),
        send=[{"id": "w1"}, {"id": "w2"}, {"id": "w1"}]),
    Row("bulk: without the ids", "POST /events/bulk?ids=0", 202, bulk(1, event_ids=...), send=[{}]),
    Row("bulk: the header's key names nothing", "POST /events/bulk", 202, bulk(2, event_ids=[UUID7, UUID7]),
        send=[{}, {}], headers=idem("bulk-key")),
    Row("bulk: nor the second time", "POST /events/bulk", 202, bulk(2, event_ids=[UUID7, UUID7]), send=[{}, {}],
        headers=idem("bulk-key")),
    Row("bulk: as many as may be", "POST /events/bulk", 202, bulk(50), send=[{}] * 50),
    Row("bulk: one more", "POST /events/bulk", 413, send=[{}] * 51),
    Row("bulk: one bad element refuses all", "POST /events/bulk", 400,
        {**no("event 1: event_name must be a string"), "errors": BAD_ERRORS}, send=BAD, kind=NDJSON),
    Row("bulk: partial", "POST /events/bulk?mode=partial", 202, {**bulk(1, 2), "errors": BAD_ERRORS}, send=BAD,
        kind=NDJSON),
    Row("bulk: atomic by name", "POST /events/bulk?mode=atomic&ids=1", 202, bulk(1, event_ids=[UUID7]), send=[{}]),
    Row("bulk: partial without a good one", "POST /events/bulk?mode=partial", 400,
        no("event 0: event_name must be a string"), send=[{"event_name": 5}]),
    Row("bulk: an event too large", "POST /events/bulk?mode=partial", 202,
        {**bulk(1, 1), "errors": [{"index": 0, "code": "body_too_large", "message": ANY}]},
        send=[{"type": "t", "payload": {"x": "x" * 66000}}, {}]),
    *[Row("bulk: " + sentence, "POST /events/bulk" + query, 400, no(sentence), send=send, kind=kind) for query, send,
        kind, sentence in (
        ("", [], JSON, "a bulk must hold at least one event"),
        ("", {"events": []}, JSON, "a bulk must hold at least one event"),
        ("", "\n \n", NDJSON, "a bulk must hold at least one event"),
        ("", "id,type\n", CSV, "a bulk must hold at least one event"),
        ("", {}, JSON, "events required"), ("", {"type": "single"}, JSON, "events required"),
        ("", {"events": {}}, JSON, "events must be an array"),
        ("?mode=maybe", [{}], JSON, "mode must be atomic or partial"),
        ("?mode=", [{}], JSON, "mode must be atomic or partial"),
        ("?mode=partial&mode=atomic", [{}], JSON, "mode must be atomic or partial"),
        ("?ids=yes", [{}], JSON, "ids must be 0 or 1"),
    )],
    Row("bulk: no JSON", "POST /events/bulk?mode=partial", 400, no(ANY, "invalid_json"), send=b'[{},{"a":]'),
    Row("bulk: a type that is not taken", "POST /events/bulk", 415, send=b"{}", kind="image/png"),
    Row("bulk: too many bytes", "POST /events/bulk", 413, send=b" " * (257 << 10), ends=True),
]

# ---- counts and events ----

COUNT = {"as_of": str, "pending": int, "degraded": False}
DAY = "event_name=purchase&from=1723475612&to=1723562012"
SUPPORTED = " (supported: channel, hour, day, minute, week, month, user_id, campaign_id)"


def counts(name, query, status, body):
    """The same at both addresses."""
    for path in ("/metrics", "/v1/counts"):
        yield Row("%s at %s" % (name, path), "GET %s?%s" % (path, query), status, body)


READS = [
    *counts("A: as documented", "event_name=signup&from=2025-12-31T00:00:00Z&to=2026-01-01T00:00:00Z", 200,
        {**COUNT, "event_name": "signup", "count": 7, "total_count": 7, "unique_count": 0,
            "from": "2025-12-31T00:00:00Z", "to": "2026-01-01T00:00:00Z",
         "bounds": "[from,to)", "group_by": ..., "groups": ...}),
    *counts("A: to is not in it", "event_name=signup&from=2025-12-31T09:00:00Z&to=2025-12-31T10:00:00Z", 200,
        {"count": 0}),
    *counts("A: from is", "event_name=signup&from=2025-12-31T10:00:00Z&to=2025-12-31T10:00:01Z", 200, {"count": 7}),
    *counts("an offset whose + is a blank",
        "event_name=signup&from=2025-12-31T11:00:00+01:00&to=2025-12-31T11:00:01%2b01:00", 200,
        {"count": 7, "from": "2025-12-31T11:00:00+01:00"}),
    *counts("C: as documented", DAY + "&group_by=channel", 200,
        {**COUNT, "event_name": "purchase", "from": 1723475612, "to": 1723562012, "bounds": "[from,to]", "count": 4,
            "total_count": 4, "unique_count": 2,
         "group_by": "channel", "group_count": 1, "groups": [{"group_value": "web", "total_count": 4,
             "unique_count": 2}]}),
    *counts("C: both ends are in it", "event_name=purchase&from=1723475612&to=1723475612", 200, {"count": 4}),
    *counts("C: hours", DAY + "&group_by=hour", 200, {"groups": [{"group_value": "2024-08-12 15:00:00",
        "total_count": 4, "unique_count": 2}]}),
    *counts("C: days", DAY + "&group_by=day", 200, {"groups": [{"group_value": "2024-08-12", "total_count": 4,
        "unique_count": 2}]}),
    *counts("other groups", DAY + "&group_by=user_id&limit=1", 200,
        {"group_count": 2, "groups": [{"group_value": "user_123", "total_count": 3, "unique_count": 1}]}),
    *counts("campaigns", DAY + "&group_by=campaign_id", 200, {"groups": [{"group_value": "cmp_987", "total_count": 3,
        "unique_count": 2}, {"group_value": None, "total_count": 1, "unique_count": 1}]}),
    *counts("weeks begin on Mondays", DAY + "&group_by=week&tz=Europe/Berlin", 200,
        {"tz": "Europe/Berlin", "groups": [{"group_value": "2024-08-12", "total_count": 4}]}),
    *counts("months", DAY + "&group_by=month", 200, {"groups": [{"group_value": "2024-08", "total_count": 4}]}),
    *counts("minutes", DAY + "&group_by=minute", 200, {"groups": [{"group_value": "2024-08-12 15:13:00",
        "total_count": 4}]}),
    *counts("a filter", DAY + "&filter%5Bcampaign_id%5D=cmp_987", 200, {"count": 3}),
    *counts("empty buckets", "event_name=none&from=1723475612&to=1723479212&group_by=hour&fill=zero", 200,
        {"groups": [{"group_value": "2024-08-12 15:00:00", "total_count": 0},
        {"group_value": "2024-08-12 16:00:00", "total_count": 0}]}),
    *counts("a table", DAY + "&format=csv", 200,
        "event_name,from,to,total_count,unique_count\r\npurchase,1723475612,1723562012,4,2\r\n"),
    *counts("empty parameters are none", DAY + "&tz=&limit=&order=&group_by=&fill=&format=", 200,
        {"count": 4, "groups": ...}),
    *counts("90 days of hours", "event_name=a&from=0&to=7776000&group_by=hour", 200, {"groups": []}),
    *counts("90 days of hours, one of them of 25",
        "event_name=a&from=2026-08-01T00:00:00%2b02:00&to=2026-10-30T00:00:00%2b01:00&group_by=hour&tz=Europe/Berlin",
        200, {"groups": []}),
    *counts("unknown parameters mean nothing", DAY + "&page=2", 200, {"count": 4}),
    *[row for query, sentence in (
        ("event_name", "event_name, from, to are required"), ("from=1", "event_name, from, to are required"),
        ("to=1", "event_name, from, to are required"),
        ("group_by=hour", "event_name, from, to are required"), ("ev%65nt_name=a", "event_name, from, to are required"),
        ("event_name=a&from=1", "event_name, from, to are required"),
        ("event_name=&from=1&to=2", "event_name, from, to are required"),
        ("event_name=a&from=1&to=", "event_name, from, to are required"),
        ("event_name=a&from=x&to=2026-01-01T00:00:00Z", "from must be RFC3339"),
        ("event_name=a&from=1.5&to=2", "from must be RFC3339"),
        ("event_name=a&from=2026-01-01T00:00:00&to=2", "from must be RFC3339"),
        ("event_name=a&from=1000000000000&to=2", "from must be epoch seconds within the years 0001 to 9999"),
        ("event_name=a&from=2026-01-01T00:00:00Z&to=x", "to must be RFC3339"),
        ("event_name=a&from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from must be < to"),
        ("event_name=a&from=2&to=1", "from timestamp must be less than or equal to to timestamp"),
        ("event_name=a&from=1&to=2026-01-01T00:00:00Z", "from and to must both be RFC3339 or both be epoch seconds"),
        ("event_name=a&from=1&to=2&group_by=year", "invalid group_by value: year" + SUPPORTED),
        ("event_name=a&from=0&to=7862400&group_by=hour",
            "time range too large for hourly grouping (max 90 days, got 91 days)"),
        ("event_name=a&from=0&to=604801&group_by=minute",
            "time range too large for minute grouping (max 7 days, got 8 days)"),
        ("event_name=a&from=0&to=432000000&group_by=day",
            "time range too large for daily grouping (max 3660 days, got 5000 days)"),
        ("event_name=a&from=1&to=2&tz=Mars", "unknown time zone: Mars (tz takes an IANA name such as Europe/Berlin)"),
        ("event_name=a&from=1&to=2&tz=../zoneinfo/UTC",
            "unknown time zone: ../zoneinfo/UTC (tz takes an IANA name such as Europe/Berlin)"),
        *[("event_name=a&from=1&to=2&limit=" + limit, "limit must be a whole number from 1 to 20000")
            for limit in ("0", "20001", "1e3", "-1")],
        ("event_name=a&from=1&to=2&order=up", "order must be asc or desc"),
        ("event_name=a&from=1&to=2&fill=one", "fill must be none or zero"),
        ("event_name=a&from=1&to=2&fill=zero", "fill=zero needs a group_by of minute, hour, day, week or month"),
        ("event_name=a&from=1&to=2&format=xml", "format must be json or csv"),
        ("event_name=" + "x" * 256 + "&from=1&to=2", "event_name must be 1 to 255 bytes"),
        ("event_name=a&from=1&to=2&filter[channel]=", "filter[channel] must be 1 to 255 bytes"),
        ("event_name=a&from=1&to=2&filter[color]=x",
            "filters are filter[channel], filter[campaign_id] and filter[user_id]"),
        ("event_name=%ff&from=1&to=2", "event_name is not valid UTF-8"),
        ("event_name=a&from=1&to=2&to=3", "each parameter may be given once"),
        ("event_name=a&from=1&to=2&x=%zz", "the query is not valid percent-encoded text"),
    ) for row in counts("counts: " + query, query, 400, no(sentence))],
    Row("/v1/counts alone", "GET /v1/counts", 400, no("event_name, from, to are required")),
    Row("names", "GET /events/names", 200, {**COUNT, "names": list}),
    Row("events", "GET /events?event_name=purchase&user_id=mixed", 200, {**COUNT, "next_cursor": None, "events": [{
        "event_id": c_id("mixed", "purchase", 1723475612, "cmp_987", "web"), "event_name": "purchase", "channel": "web",
            "campaign_id": "cmp_987", "user_id": "mixed",
        "tags": C["tags"], "properties": C["metadata"], "timestamp": "2024-08-12T15:13:32Z", "service": None}]}),
    Row("events: a page", "GET /events?l%69mit=2&order=asc", 200, {"events": list, "next_cursor": str}),
    Row("events: newest of a range", "GET /events?from=1723475612&to=1723475612&channel=app&limit=1", 200,
        {"events": [{"user_id": "u2"}]}),
    *[Row("events: " + query, "GET /events?" + query, 400, no(sentence)) for query, sentence in (
        *[("limit=" + limit, "limit must be a whole number from 1 to 1000")
            for limit in ("0", "1001", "-1", "ten", "1.5", "9" * 20, "1%20")],
        ("order=up", "order must be asc or desc"), ("from=x", "from must be RFC3339"),
        ("to=2026-13-01T00:00:00Z", "to must be RFC3339"),
        ("from=99999999999999", "from must be epoch seconds within the years 0001 to 9999"),
        ("from=5&to=4", "from timestamp must be less than or equal to to timestamp"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", "from must be < to"),
        ("from=2026-01-02T00:00:00Z&to=5", "from and to must both be RFC3339 or both be epoch seconds"),
        ("limit=1&limit=2", "limit is not a valid query value"),
        ("channel=a%00b", "channel is not a valid query value"), ("user_id=%ff", "user_id is not valid UTF-8"),
        ("user_id=%zz", "user_id is not a valid query value"),
        ("service=" + "x" * 256, "service must be at most 255 bytes"),
        ("cursor=x", "cursor is not one this server gave out"),
    )],
]

# ---- SLOs ----

TIMES = "from and to must be RFC 3339 times or numbers since 1970"
SLOS = [
    Row("slo: status", "GET /slo/status", 200, {"as_of": str, "degraded": False, "pending_events": int, "health": str,
        "services": list}),
    Row("slo: status of one", "GET /slo/status?service=billing-api", 200, {"services": [{
        "service": "billing-api", "health": "healthy", "good": 14, "bad": 0, "total": 14, "availability": 1,
            "error_rate": 0,
        "latency_ms": {"max_relative_error": 0.0109}, "objectives": [{"type": "availability", "target": 0.999,
            "window": "30d"}, {"type": "latency"}]}]}),
    Row("slo: status of nobody", "GET /slo/status?service=nobody", 200, {"health": "no_data", "services": []}),
    Row("slo: an empty service is none", "GET /slo/status?service=", 200, {"services": list}),
    Row("slo: alerts", "GET /slo/alerts", 200, {"firing": int, "alerts": list}),
    Row("slo: gate", "GET /slo/gate?service=billing-api", 200, {"decision": "go", "service": "billing-api"}),
    Row("slo: gate of nobody", "GET /slo/gate?service=nobody", 404,
        no("no event of that service has come, and it has no objectives", "not_found")),
    Row("slo: failures", "POST /events/bulk?ids=0", 202, bulk(6),
        send=[{**T, "service": "failing", "status": 500}] * 6),
    Row("slo: gate that is shut", "GET /slo/gate?service=failing", 409,
        {"decision": "freeze", "service": "failing", "reason": re.compile("Freeze: .*")}),
    Row("slo: an alert that fires", "GET /slo/alerts?service=failing&state=firing&severity=page", 200,
        {"firing": 1, "alerts": [{"service": "failing"}]}),
    Row("dead letters without a database", "GET /dead-letters", 200, {"dead_letters": [], "next_cursor": None}),
    *(Row("dead letters: bad " + name, "GET /dead-letters?%s=%s" % (name, value), 400, no(re.compile(name + " .*")))
        for name, value in (("limit", "0"), ("limit", "1001"), ("cursor", "-1"), ("state", "lost"), ("order", "up"),
                            ("error_code", "x"), ("tenant", "%zz"), ("tenant", "a&tenant=b"))),
    *(Row("dead letters: no %s to %s" % (name, verb), ask % name, 404, no("there is no such dead letter", "not_found"))
        for name in ("7", "none", "99999999999999999999")
        for verb, ask in (("replay", "POST /dead-letters/%s/replay"), ("discard", "DELETE /dead-letters/%s"))),
    Row("slo: windows", "GET /slo/windows?service=billing-api", 200,
        {"service": "billing-api", "source": "memory", "windows": list}),
    Row("slo: windows of a range",
        "GET /slo/windows?service=billing-api&from=2026-01-01T01:00:00+01:00&to=2026-01-01T00:02:00Z", 200,
        {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:02:00Z", "good": 0, "bad": 0, "violations": 0,
            "windows": [
            {"window_start": "2026-01-01T00:00:00Z", "window_end": "2026-01-01T00:01:00Z", "good": 0, "bad": 0,
                "availability": None, "violated": False},
            {"window_start": "2026-01-01T00:01:00Z"}]}),
    *[Row("slo: %s %r" % (path, query), "GET /slo/%s?%s" % (path, query), 400, no(sentence)) for path, query,
        sentence in (
        *[(path, query, "service is not a valid query value")
            for path in ("status", "alerts", "gate", "windows", "objectives")
          for query in ("service=%ff", "service=%zz", "service=a&service=b", "service=" + "x" * 256)],
        *[(path, "service=a&tenant=" + value, "tenant is not a valid query value")
            for path in ("status", "alerts", "gate", "windows", "objectives")
          for value in ("", "%ff", "%zz")],
        ("gate", "", "service is required"), ("windows", "service=", "service is required"),
        ("alerts", "state=burning", "state must be ok, pending-no-data, firing or resolved"),
        ("alerts", "severity=high", "severity must be page or ticket"),
        ("windows", "service=a&from=yesterday", TIMES), ("windows", "service=a&from=5&to=4", "from must be < to"),
        ("windows", "service=a&from=2026-01-01T00:00:00Z", "from and to may be at most 7 days apart"),
    )],
    Row("slo: made", "POST /slo/objectives", 201, {"id": UUID7, "tenant": "default", **SLO, "version": 1}, send=SLO,
        head={"location": re.compile("/slo/objectives/.*")}),
    Row("slo: made with an id", "POST /slo/objectives", 201, {"id": "one"}, send={**SLO, "id": "one"},
        head={"location": "/slo/objectives/one"}),
    Row("slo: taken", "POST /slo/objectives", 409, no("the id one is taken", "conflict"), send={**SLO, "id": "one"}),
    Row("slo: replaced", "PUT /slo/objectives/one", 200, {"id": "one", "slo_value": 0.9, "version": 2},
        send={**SLO, "slo_value": 0.9}),
    Row("slo: made where it will be", "PUT /slo/objectives/two", 201, {"id": "two"}, send=SLO,
        head={"location": "/slo/objectives/two"}),
    Row("slo: another tenant's", "PUT /slo/objectives/two", 409, no("the id two is taken", "conflict"),
        send={**SLO, "tenant": "other"}),
    Row("slo: one", "GET /slo/objectives/one", 200, {"id": "one", "slo_value": 0.9}),
    Row("slo: all", "GET /slo/objectives?service=checkout", 200, {"degraded": False, "objectives": [{"id": ANY}] * 3}),
    Row("slo: of nobody", "GET /slo/objectives?tenant=nobody", 200, {"objectives": []}),
    Row("slo: removed", "DELETE /slo/objectives/two", 204, ""),
    *[Row("slo: there is none, " + method, method + " /slo/objectives/two", 404,
        no("there is no such objective", "not_found")) for method in ("GET", "DELETE")],
    Row("slo: an id that is none", "PUT /slo/objectives/a%20b", 400,
        no(re.compile("the path's id must be 1 to 63 of .*")), send=SLO),
    Row("slo: another id in the body", "PUT /slo/objectives/one", 400,
        no("id must be that of the path, or be left out"), send={**SLO, "id": "two"}),
    *[Row("slo: %s, no JSON" % method, "%s /slo/objectives%s" % (method, rest), 400, no(ANY, "invalid_json"), send=b"{")
        for method, rest in (("POST", ""), ("PUT", "/one"))],
    *[Row("slo: %s, too large" % method, "%s /slo/objectives%s" % (method, rest), 413, send=b" " * 17000) for method,
        rest in (("POST", ""), ("PUT", "/one"))],
    Row("slo: no objective", "POST /slo/objectives", 400, no(ANY), send={}),
    Row("slo: gzip", "PUT /slo/objectives/one", 200, {"version": 3}, send=gzip.compress(json.dumps(SLO).encode()),
        headers=GZIP),
]

# ---- the rest ----

TEXT_PAGE = {"content-type": "text/plain; version=0.0.4; charset=utf-8", "cache-control": "no-store"}
PAGES = [
    *[Row(path, "GET " + path, 200, {"status": "ok"}, head={"content-type": JSON}) for path in ("/health", "/livez")],
    *[Row(path + " as text", "GET " + path, 200, "OK\n", headers=[("Accept", "text/plain")],
        head={"content-type": "text/plain; charset=utf-8"}) for path in ("/health", "/livez")],
    *[Row(path, "GET " + path, 200, {"status": "ready", "checks": {"log": "ok", "database": "none"}})
        for path in ("/ready", "/readyz")],
    *[Row(path + " as Prometheus' text", "GET " + path, 200, re.compile(r".*\nsluice_events_acked_total \d+\n.*", re.S),
        head=TEXT_PAGE)
      for path in ("/metrics", "/metrics?page=1", "/metrics/prometheus", "/metrics/prometheus?event_name=a")],
    *[Row(path + " as OpenMetrics", "GET " + path, 200, re.compile(".*\n# EOF\n", re.S),
        headers=[("Accept", "application/openmetrics-text; version=1.0.0")],
          head={"content-type": "application/openmetrics-text; version=1.0.0; charset=utf-8"})
              for path in ("/metrics", "/metrics/prometheus")],
    *[Row(path, "GET " + path, 200, {"openapi": "3.1.0"}, head={"content-type": JSON})
        for path in ("/openapi.json", "/docs/doc.json")],
    Row("/openapi.yaml", "GET /openapi.yaml", 200, re.compile(".*openapi: .*", re.S),
        head={"content-type": "application/yaml"}),
    *[Row(path, "GET " + path, 200, re.compile("<!doctype html>.*", re.S),
        head={"content-type": "text/html; charset=utf-8", "content-security-policy": ANY})
      for path in ("/", "/docs", "/docs/index.html")],
    *[Row(path, "GET " + path, 200, ANY) for path in ("/dashboard.css", "/dashboard.js", "/docs.css", "/docs.js")],
    *[Row("no such path: " + path, "GET " + path, 404) for path in ("/nothing", "/health/", "//health", "/HEALTH",
        "/%68ealth", "/slo/objectives/", "/slo/objectives/a/b", "/events/bulk/x")],
    Row("no such path to write to", "POST /nothing", 404, send={}),
    Row("no such path with options", "OPTIONS /nothing", 404),
    Row("options of all", "OPTIONS *", 204, "", head={"allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}),
    Row("no page of another origin is told anything", "GET /health", 200, headers=[("Origin", "https://app.example")],
        head={"vary": None, "access-control-allow-origin": None}),
    Row("a body of a GET is read and ignored", "GET /health", 200, {"status": "ok"}, send=b"x" * 1000),
    Row("but not a large one", "GET /health", 413, send=b"x" * 70000, ends=True),
]

HIDDEN = request_bytes("POST", "/events", b'{"id":"hidden"}')

PROTOCOL = [
    Row("a request id", "GET /health", 200, headers=[("X-Request-ID", "a-1")], head={"x-request-id": "a-1"}),
    Row("of 64 characters", "GET /health", 200, headers=[("X-Request-ID", "a" * 64)], head={"x-request-id": "a" * 64}),
    Row("the first of two", "GET /health", 200, headers=[("X-Request-ID", "a"), ("x-request-id", "b")],
        head={"x-request-id": "a"}),
    *[Row("one that is none: %r" % text[:5], "GET /health", 200, headers=[("X-Request-ID", text)],
        head={"x-request-id": REQUEST_ID}) for text in ("a" * 65, "a b", "\u00e9", "")],
    Row("the absolute form", "GET /health", 200, {"status": "ok"},
        raw=raw("GET http://other:80/health?x HTTP/1.1\nHost: h")),
    Row("the absolute form of the root", "GET /", 200, raw=raw("GET http://other HTTP/1.1\nHost: h")),
    Row("headers in any case", "GET /health", 200, "OK\n",
        raw=raw("GET /health HTTP/1.1\nhOST: h\nACCEPT: text/plain")),
    Row("an upgrade is not taken up", "GET /health", 200,
        raw=raw("GET /health HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: h2c")),
    Row("HTTP/1.0", "GET /health", 200, raw=raw("GET /health HTTP/1.0"), head={"connection": "close"}, ends=True),
    Row("HTTP/1.0 that stays", "GET /health", 200, raw=raw("GET /health HTTP/1.0\nConnection: keep-alive"),
        head={"connection": "keep-alive"}),
    Row("a client that goes", "GET /health", 200, headers=[("Connection", "close")], ends=True),
    Row("a method nobody has", "TRACE /health", 405, head={"allow": "GET, HEAD, OPTIONS"}),
    *[Row("malformed: " + what, "GET /health", 400, no("the request is not valid HTTP/1.1"), raw=raw(text), ends=True)
        for what, text in (
        ("no host", "GET /health HTTP/1.1"),
        ("no version", "GET /health"),
        ("version 2", "GET /health HTTP/2.0\nHost: h"), ("a method in small letters", "get /health HTTP/1.1\nHost: h"),
        ("a method that is none", "FOO /health HTTP/1.1\nHost: h"),
        ("a byte beyond ASCII in the target", "GET /h\u00e9alth HTTP/1.1\nHost: h"),
        ("a folded header", "GET /health HTTP/1.1\nHost: h\nX-A: b\n c"),
        ("a blank before the colon", "GET /health HTTP/1.1\nHost : h"),
        ("a bare CR", "GET /health HTTP/1.1\nHost: h\nX-A: b\rc"), ("NUL", "GET /health HTTP/1.1\nHost: h\nX-A: \0"),
    )],
    Row("two hosts", "GET /health", 400, no(TWICE), raw=raw("GET /health HTTP/1.1\nHost: a\nHost: b"), ends=True),
    Row("a request id is kept where the parser refuses", "GET /health", 400,
        raw=raw("GET /health HTTP/1.1\nHost: h\nX-Request-ID: a-2\nbad header"), head={"x-request-id": "a-2"},
        ends=True),
    *[Row("framing: " + what, "POST /events", status, raw=raw("POST /events HTTP/1.1\nHost: h\n" + text, body + HIDDEN),
        ends=True) for what, text, body, status in (
        ("two lengths", "Content-Length: 2\nContent-Length: 3", b"{}", 400),
        ("a length and chunks", "Content-Length: 2\nTransfer-Encoding: chunked", b"0\r\n\r\n", 400),
        ("a negative length", "Content-Length: -1", b"", 400),
        ("a length beyond 2^64", "Content-Length: 18446744073709551618", b"", 400),
        ("chunked is not last", "Transfer-Encoding: chunked, gzip", b"0\r\n\r\n", 400),
        ("a bad chunk", "Transfer-Encoding: chunked", b"xyz\r\n", 400),
        ("a chunk without CRLF", "Transfer-Encoding: chunked", b"2\r\n{}0\r\n\r\n", 400),
        ("two types", "Content-Type: a/b\nContent-Type: a/c\nContent-Length: 2", b"{}", 400),
    )],
    Row("what stood behind was not carried out", "POST /events", 202, {"id": "hidden"}, send={"id": "hidden"}),
    Row("101 headers", "GET /health", 431, headers=[("X-%d" % n, "") for n in range(101)], ends=True),
]

OPEN_ROWS = INGEST + EVENTS + IDS + BODIES + BULK + READS + SLOS + PAGES + PROTOCOL

# ---- with keys ----

CORS = {"access-control-allow-origin": "https://app.example", "vary": "Origin", "access-control-expose-headers": ANY}
ACME, GLOBEX, ADMIN = key("acme-key"), key("globex-key"), key("admin-key")
NOT_YOURS = "this API key may not see that tenant"
NO_TENANT = "the admin key stands for no tenant; name one with ?tenant="
FAILED = {"service": "shared", "status": 500, "latency_ms": 5, "timestamp": NOW - 120}
SHARED = {"event_name": "shared", "channel": "shared", "user_id": "shared", "timestamp": 1723475612}


def tenants(name, ask, acme, globex, **more):
    """Both tenants ask the same."""
    yield Row(name + ": acme", ask, acme[0], acme[1], headers=ACME, **more)
    yield Row(name + ": globex", ask, globex[0], globex[1], headers=GLOBEX, **more)


SPAN = "event_name=shared&from=1723475612&to=1723475612"
KEYED_ROWS = [
    # Keys.
    Row("a key", "POST /ingest", 202, STORED_T, send=T, headers=ACME,
        head={"ratelimit": '"tenant";r=39;t=1000', "ratelimit-policy": '"tenant";q=40;w=40000'}),
    Row("the tenant's other key, in another case of the header", "POST /events", 202, STORED_G, send={},
        headers=[("x-api-KEY", " acme-key-2\t")]),
    *[Row("no key: %r" % (headers,), "POST /events", 401, no("a valid API key is required", "unauthorized"), send={},
        headers=headers, head={"www-authenticate": ANY}) for headers in (
        (), key(""), key("no"), key("ACME-KEY"), key("acme:acme-key"), key("acme-key,globex-key"),
            [("Authorization", "Bearer acme-key")])],
    Row("two keys", "GET /events", 400, no(TWICE), headers=ACME + GLOBEX, ends=True),
    Row("the size goes before the key", "POST /events", 413,
        raw=raw("POST /events HTTP/1.1\nHost: h\nContent-Length: 9999999"), ends=True),
    Row("the key goes before the type", "POST /events", 401, send=b"{", kind="text/html"),
    Row("the key goes before the body", "POST /events", 401, send=b"{"),
    Row("the key goes before the counts' parameters", "GET /metrics?group_by=hour", 401),
    Row("counts at /metrics: the admin has none", "GET /metrics?group_by=hour", 403, headers=ADMIN),
    # Whose.
    *tenants("the same id", "POST /events", (201, {"event_id": "same", "duplicate": False}),
        (201, {"event_id": "same", "duplicate": False}), send={**A, "event_id": "same"}),
    *tenants("the same id again", "POST /events", (200, {"seq": Earlier("the same id: acme", "seq")}),
        (200, {"seq": Earlier("the same id: globex", "seq")}), send={**A, "event_id": "same"}),
    *tenants("the same content", "POST /events", (202, {"duplicate": False}), (202, {"duplicate": False}), send=SHARED),
    Row("globex: more of it", "POST /events/bulk", 202, bulk(2), headers=GLOBEX,
        send=[{**SHARED, "user_id": "globex-u"}, {**SHARED, "campaign_id": "globex-c", "metadata": {"globex": 1}}]),
    Row("acme: a service that fails", "POST /events/bulk?ids=0", 202, bulk(6), headers=ACME, send=[FAILED] * 6),
    Row("globex: the service of that name does not", "POST /events/bulk?ids=0", 202, bulk(3), headers=GLOBEX,
        send=[{**FAILED, "status": 200}] * 3),
    Row("globex: a service of its own", "POST /ingest", 202, STORED_T, headers=GLOBEX,
        send={**T, "service": "globex-api"}),
    *tenants("counts", "GET /v1/counts?" + SPAN, (200, {"count": 1, "unique_count": 1}),
        (200, {"count": 3, "unique_count": 2})),
    *tenants("counts at /metrics", "GET /metrics?%s&group_by=campaign_id" % SPAN,
        (200, {"groups": [{"group_value": None, "total_count": 1}]}), (200, {"count": 3, "group_count": 2})),
    *tenants("counts by user", "GET /v1/counts?%s&group_by=user_id" % SPAN,
        (200, {"groups": [{"group_value": "shared", "total_count": 1}]}), (200, {"count": 3, "group_count": 2})),
    *tenants("names", "GET /events/names", (200, {"names": [{"event_name": n}
        for n in ("event", "shared", "signup", "telemetry")]}),
             (200, {"names": [{"event_name": n} for n in ("shared", "signup", "telemetry")]})),
    *tenants("events", "GET /events?event_name=shared", (200, {"events": [{"user_id": "shared"}]}),
        (200, {"events": [{}, {}, {}]})),
    *tenants("status", "GET /slo/status?service=shared", (200, {"services": [{"good": 0, "bad": 6}]}),
        (200, {"services": [{"good": 3, "bad": 0}]})),
    *tenants("services", "GET /slo/status", (200, {"services": [{"service": "shared"}, {"service": "billing-api"}]}),
        (200, {"services": list})),
    *tenants("alerts", "GET /slo/alerts?state=firing", (200, {"firing": int, "alerts": list}),
        (200, {"firing": 0, "alerts": []})),
    *tenants("gate", "GET /slo/gate?service=shared", (409, {"decision": "freeze"}), (200, {"decision": "go"})),
    *tenants("gate of the other's", "GET /slo/gate?service=globex-api", (404, None), (200, {"decision": "go"})),
    *tenants("windows", "GET /slo/windows?service=shared", (200, {"good": 0, "bad": 6}), (200, {"good": 3, "bad": 0})),
    # The admin, and what tenants may not.
    Row("admin: made for a tenant", "PUT /slo/objectives/globex-slo", 201, {"tenant": "globex"}, headers=ADMIN,
        send={**SLO, "tenant": "globex"}),
    Row("admin: whose must be said", "POST /slo/objectives", 400,
        no("tenant is required: the admin key stands for no tenant"), headers=ADMIN, send=SLO),
    Row("admin: it is another tenant's", "PUT /slo/objectives/globex-slo", 409, headers=ADMIN,
        send={**SLO, "tenant": "acme"}),
    *tenants("objectives", "GET /slo/objectives", (200, {"objectives": []}),
        (200, {"objectives": [{"id": "globex-slo"}]})),
    *tenants("objective", "GET /slo/objectives/globex-slo", (404, None), (200, {"id": "globex-slo"})),
    Row("admin: sees all", "GET /slo/objectives", 200, {"objectives": [{"id": "globex-slo"}]}, headers=ADMIN),
    Row("admin: or one tenant's", "GET /slo/objectives?tenant=acme", 200, {"objectives": []}, headers=ADMIN),
    *[Row("admin: %s of a tenant" % path, "GET /slo/%s?service=shared&tenant=globex" % path, 200, headers=ADMIN)
        for path in ("status", "alerts", "gate", "windows")],
    *[Row("admin: %s of none" % path, "GET /slo/%s?service=shared" % path, 403, no(NO_TENANT, "forbidden"),
        headers=ADMIN) for path in ("status", "alerts", "gate", "windows")],
    *[Row("%s of another tenant" % path, "GET /slo/%s?service=shared&tenant=globex" % path, 403,
        no(NOT_YOURS, "forbidden"), headers=ACME)
      for path in ("status", "alerts", "gate", "windows", "objectives", "objectives/globex-slo")],
    Row("its own by name", "GET /slo/status?service=shared&tenant=acme", 200, {"services": [{"bad": 6}]}, headers=ACME),
    Row("admin: removed", "DELETE /slo/objectives/globex-slo", 204, "", headers=ADMIN),
    # Pages of other origins.
    Row("cors: before the request", "OPTIONS /events", 204, "",
        headers=[("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")],
        head={**CORS, "access-control-allow-methods": "GET, HEAD, POST, OPTIONS",
            "access-control-allow-headers": re.compile(".*x-api-key.*", re.I)}),
    Row("cors: a refusal can be read", "GET /events", 401, headers=[("Origin", "https://app.example")], head=CORS),
    Row("cors: not by others", "GET /events", 401, headers=[("Origin", "https://evil.example")],
        head={"access-control-allow-origin": None, "vary": "Origin"}),
    # Rates: what is invalid costs as well.
    Row("rate: more than the bucket holds", "POST /events/bulk", 413, headers=key("poor-key"), send=[{}] * 41),
    Row("rate: all of it", "POST /events/bulk", 400, headers=key("poor-key"), send=[{"type": 5}] * 40,
        head={"ratelimit": re.compile('"tenant";r=0;t=.*')}),
    *[Row("rate: none left for " + path, "POST " + path, 429,
        no("more events than the rate limit allows", "rate_limited"), headers=key("poor-key"), send=send,
          head={"retry-after": re.compile("[1-9][0-9]*"), "ratelimit": re.compile('"tenant";r=0;.*'),
              "ratelimit-policy": '"tenant";q=40;w=40000'})
      for path, send in (("/ingest", T), ("/events", {}), ("/events/bulk", [{}]))],
    Row("rate: it goes before the JSON", "POST /events", 429, headers=key("poor-key"), send=b"{"),
    Row("rate: reading is free", "GET /events/names", 200, {"names": []}, headers=key("poor-key")),
    Row("rate: other tenants have their own", "POST /events", 202, STORED_G, headers=GLOBEX, send={}),
]

# ---- without room ----

NO_ROOM = no("the log has reached its byte limit; nothing was stored", "log_full")
FULL_ROWS = [
    *[Row("full: " + path, "POST " + path, 503, NO_ROOM, send=send, head={"retry-after": "5"}) for path,
        send in (("/ingest", T), ("/events", {}), ("/events/bulk", [{}]))],
    *[Row("full: " + path, "GET " + path, 503, {"status": "not_ready", "checks": {"log": "full", "database": "none"},
        "reasons": ["log_full", "database_down"]},
          head={"retry-after": "2", "content-type": JSON}) for path in ("/ready", "/readyz")],
    Row("full: alive", "GET /health", 200, {"status": "ok"}),
    Row("full: an event that is none is told so", "POST /events", 400, send={"type": 5}),
    # An admin's key without others: only what is the admin's needs it.
    Row("admin alone: definitions need the key", "POST /slo/objectives", 401, send=SLO),
    Row("admin alone: with it", "POST /slo/objectives", 201, {"tenant": "default"}, send=SLO, headers=key("admin-key")),
    Row("admin alone: reading needs none", "GET /slo/objectives", 200, {"objectives": [{"tenant": "default"}]}),
    Row("admin alone: but of other tenants", "GET /slo/objectives?tenant=other", 403,
        no("this API key may not see that tenant", "forbidden")),
    Row("admin alone: so it does", "GET /slo/objectives?tenant=other", 200, {"objectives": []},
        headers=key("admin-key")),
]


class Contract(runner.Drill):
    def start(self, **env):
        """The server of one mode."""
        self.contract = self.server(start=False, **env)
        self.contract.start(ready="READY_REQUIRES_DB" not in env)
        self.client = self.contract.client()
        self.addCleanup(self.client.close)
        self.document = Document(self.client.get("/openapi.json").text())
        self.answers = {}
        self.seen = set()  # (method, path, status) that came

    def path_of(self, target):
        """The path of the description that TARGET is of, None when there is none."""
        path = target.split("?")[0]
        for known in self.document.root["paths"]:
            if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(known)), path):
                return known
        return None

    def matches(self, want, got, at):
        if isinstance(want, Earlier):
            want = self.answers[want.name][want.member]
        if isinstance(want, re.Pattern):
            self.assertIsInstance(got, str, at)
            self.assertIsNotNone(want.fullmatch(got), "%s is %r" % (at, got))
        elif isinstance(want, type):
            self.assertIs(type(got), want, "%s is %r" % (at, got))
        elif isinstance(want, dict):
            self.assertIsInstance(got, dict, at)
            for name, member in want.items():
                if member is ...:
                    self.assertNotIn(name, got, at)
                else:
                    self.assertIn(name, got, at)
                    self.matches(member, got[name], at + "." + name)
        elif isinstance(want, list):
            self.assertIsInstance(got, list, at)
            self.assertEqual(len(got), len(want), "%s is %r" % (at, got))
            for n, (w, g) in enumerate(zip(want, got)):
                self.matches(w, g, "%s[%d]" % (at, n))
        else:
            self.assertEqual((type(got) is bool, got), (type(want) is bool, want), at)

    def check_described(self, row, answer):
        path = self.path_of(row.target)
        methods = self.document.root["paths"].get(path, {})
        if row.method.lower() in methods:
            self.assertEqual(self.document.answer_faults(row.method, path, answer), [], answer)
            self.seen.add((row.method, path, str(answer.status)))
        elif answer.status >= 400:
            problem = self.document.root["components"]["responses"]["Problem"]
            self.assertEqual(self.document.response_faults(problem, answer), [], answer)

    def check_problem(self, answer):
        problem = answer.json()
        self.assertEqual(answer.header("content-type"), "application/problem+json")
        self.assertEqual((problem["status"], problem["request_id"]), (answer.status, answer.header("x-request-id")))
        self.assertIn(problem["error"], CODES[answer.status])
        self.assertEqual((problem["type"], problem["detail"]),
        ("urn:sluice:problem:" + problem["error"], problem["message"]))
        self.assertTrue(problem["title"] and problem["message"])
        self.assertNotRegex(answer.text().lower(), r"mdb_|lmdb|mysql|/home/|/tmp/|\.c:\d")
        if answer.status == 401:
            self.assertTrue(answer.header("www-authenticate"))
        if answer.status == 405:
            self.assertTrue(answer.header("allow"))

    def check(self, row, answer):
        """What holds for every answer."""
        self.assertTrue(answer.header("x-request-id"), answer.headers)
        self.assertTrue(answer.header("date"))
        self.assertEqual(answer.header("x-content-type-options"), "nosniff")
        if answer.status in (429, 503):
            self.assertGreater(int(answer.header("retry-after")), 0)
        if answer.status >= 400 and not (answer.header("content-type") == JSON and answer.status in (409, 503)):
            self.check_problem(answer)
        for name, want in row.head.items():
            self.matches(want, answer.header(name), name)
        if row.body is not None:
            is_text = isinstance(row.body, (str, re.Pattern))
            self.matches(row.body, answer.text() if is_text else answer.json(), "body")
        self.check_described(row, answer)
        if ("X-API-Key", "acme-key") in row.headers:
            self.assertNotIn("globex", answer.text().replace(json.dumps(row.target), ""), "it is the other tenant's")

    def ask(self, row):
        with self.subTest(row=row.name):
            connection = self.client.socket
            try:
                self.client.send(row.bytes())
                answer = self.client.read(head=row.method == "HEAD")
            except ConnectionLost:
                self.client.close()
                raise
            self.assertEqual(answer.status, row.status, answer)
            self.check(row, answer)
            if row.status < 400 and (answer.header("content-type") or "") == JSON:
                self.answers[row.name] = answer.json()
            self.assertEqual(answer.header("connection") == "close", row.ends, answer)
            if row.ends:
                self.client.close()
            elif connection is not None:
                self.assertIs(self.client.socket, connection)
            if row.method == "GET" and row.raw is None:
                self.ask_head(row, answer)

    def ask_head(self, row, answer):
        head = self.client.request("HEAD", row.target, row.send or b"", row.headers)
        self.assertEqual((head.status, head.body), (answer.status, b""))
        for name in ("content-type", "cache-control", "retry-after", "www-authenticate", "vary", "connection"):
            self.assertEqual(head.header(name), answer.header(name), name)
        self.assertGreater(int(head.header("content-length")), 0)
        if row.ends:
            self.client.close()

    # ---- what each route does ----

    def each_route(self):
        for method, path, operation in self.document.operations():
            yield method, path, self.document.targets(path), operation

    def ask_methods(self):
        """405 and its Allow, OPTIONS."""
        for path, item in self.document.root["paths"].items():
            target = self.document.targets(path)
            known = {method.upper() for method in item if method.upper() in ("GET", "POST", "PUT", "DELETE")}
            allowed = known | {"OPTIONS"} | ({"HEAD"} if "GET" in known else set())
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                if method in allowed and method != "OPTIONS":
                    continue
                with self.subTest(path=path, method=method):
                    answer = self.client.request(method, target)
                    self.assertEqual(answer.status, 204 if method == "OPTIONS" else 405)
                    self.assertEqual(set(answer.header("allow").split(", ")), allowed)
                    self.assertTrue(answer.header("x-request-id"))
                    if method not in ("HEAD", "OPTIONS"):
                        self.check_problem(answer)
                        for one in known:
                            self.assertEqual(self.document.answer_faults(one, path, answer), [])
                            self.seen.add((one, path, "405"))

    def ask_framing(self):
        """What the parser refuses, it refuses everywhere, and ends the connection."""
        for method, path, target, operation in self.each_route():
            body = b"{}" if "requestBody" in operation else b""
            line = "%s %s HTTP/1.1\nHost: h" % (method, target)
            for what, data, status, ends in (
                ("folded", raw(line + "\n folded: x", body), 400, True),
                ("a long header", request_bytes(method, target, body, [("X-Long", "x" * 40000)]), 431, True),
                ("a long target", request_bytes(method, target + ("&" if "?" in target else "?") + "x" * 9000, body),
                    414, True),
                ("a long body", raw(line + "\nContent-Length: 99999999"), 413, True),
                ("no length", raw(line), 411, False),
                ("a type", request_bytes(method, target, body, [("Content-Type", "image/png")]), 415, False),
            ):  # fmt: skip
                if body or status not in (411, 415):
                    self.ask(Row("%s %s: %s" % (method, path, what), "%s %s" % (method, target), status, raw=data,
                        ends=ends))

    def ask_keys(self):
        """401 and 403 wherever a key is needed, neither anywhere else."""
        for method, path, target, operation in self.each_route():
            send = b"{}" if "requestBody" in operation else None
            ask = "%s %s" % (method, target)
            if "security" not in operation:
                self.ask(Row(ask + " needs no key", ask, 200))
                continue
            self.ask(Row(ask + " without a key", ask, 401, send=send))
            self.ask(Row(ask + " with a wrong key", ask, 401, send=send, headers=key("no")))
            if ADMINS.fullmatch("%s %s" % (method, path)):
                self.ask(Row(ask + " with a tenant's key", ask, 403, send=send, headers=ACME))
            elif not READERS.fullmatch("%s %s" % (method, path)):
                self.ask(Row(ask + " with the admin's key", ask, 403, send=send, headers=ADMIN))

    def hold(self):
        """A request per route that is not sent to its end."""
        for method, path, target, _ in self.each_route():
            client = self.contract.client()
            self.addCleanup(client.close)
            client.send(raw("%s %s HTTP/1.1\nHost: h\nContent-Length: 5" % (method, target), b"{"))
            yield Row("%s %s: cut short" % (method, path), "%s %s" % (method, target), 408), client

    # ---- the modes ----

    def test_without_keys(self):
        self.start(**OPEN)
        held = list(self.hold())
        self.ask_methods()
        self.ask_framing()
        for row in OPEN_ROWS:
            self.ask(row)
        for row, client in held:
            with self.subTest(row=row.name):
                answer = client.read()
                self.assertEqual(answer.status, row.status, answer)
                self.check(row, answer)
                self.assertTrue(client.closed_by_peer())
        self.check_count(OPEN_ROWS)
        self.check_whole(without=("401", "403", "429"))

    def test_with_keys(self):
        self.start(**KEYED)
        self.ask_keys()
        for row in KEYED_ROWS:
            self.ask(row)
        self.check_count(KEYED_ROWS)
        self.check_whole(only=("401", "403", "429"))

    def test_without_room(self):
        self.start(**FULL)
        for size in (50000, 5000, 500, 10):
            event = {"payload": {"x": "x" * size}}
            while self.client.post("/events", event).status == 202:
                pass
        for row in FULL_ROWS:
            self.ask(row)
        self.check_stderr()

    def check_count(self, rows):
        """Nothing but what the rows say was stored."""
        acked = 0
        for row in rows:
            told = self.answers.get(row.name, {})
            if row.method == "POST" and "duplicate" in told:
                acked += told.get("accepted", 1) - told.get("duplicates", told["duplicate"])
        self.assertEqual(self.contract.metric("sluice_events_acked_total"), acked)
        self.check_stderr()

    def check_whole(self, only=None, without=()):
        """Every status described has come."""
        missing = []
        for method, path, operation in self.document.operations():
            for status in operation["responses"] if not WITH_MYSQL_ONLY.fullmatch(path) else ():
                wanted = status in only if only else status not in without + WITH_FAULTS_ONLY
                if wanted and (method, path, status) not in self.seen:
                    missing.append("%s %s %s" % (method, path, status))
        self.assertEqual(missing, [])


if __name__ == "__main__":
    runner.main()
