"""Many connections that send events of all shapes and remember what was answered.

Worker processes run one selector loop each. An event's shape, id and content are a function of
(run, worker, number), so a retry repeats the same bytes and the oracle can tell what a row must
hold without having kept it. Per event the worker keeps a few flags; anything an honest server can
never answer (a second "new" for one id, a repeat of something never sent, another seq for the same
id) is noted at once.
"""

import collections
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import re
import selectors
import socket
import time

# What is known about one event. Several may hold.
ACKED = 1  # some attempt was answered 2xx
LOST = 2  # some attempt ended without an answer
REFUSED = 4  # some attempt was answered "surely not stored"
UNKNOWN = 8  # some attempt was answered 500 outcome_unknown

SERVICES = 7
STATUSES = (200, 200, 201, 404, 500, 200, 503, 200, 302, 200, 200)
NOT_STORED = (400, 401, 403, 404, 405, 408, 411, 413, 415, 422, 429, 431, 503)

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3})[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
_LENGTH = re.compile(rb"(?i)(?:^|\n)content-length: *(\d+)\r")
_CLOSE = re.compile(rb"(?i)(?:^|\n)connection: *close\r")


class Events:
    """The events of one worker: number -> shape, id, bytes and the row they must become."""

    def __init__(self, run, worker, base_second, shapes="TGACTGAC"):
        self.run = run
        self.worker = worker
        self.base = base_second
        self.shapes = shapes
        self.in_bulk = set()  # numbers first sent in a bulk: there A's id cannot be a header

    def shape(self, n):
        return self.shapes[(n * 7 + n // 11) % len(self.shapes)]

    def second(self, n):
        return self.base - (n * 13) % 3000

    def key(self, n):
        return "%s-%d-%d" % (self.run, self.worker, n)

    def event_id(self, n):
        if self.shape(n) == "C":
            text = "u-%s|%s|%d|%s|%s" % (
                self.key(n),
                "c%d" % (n % 5),
                self.second(n),
                "cmp%d" % (n % 3),
                ("web", "mobile")[n % 2],
            )
            return hashlib.sha256(text.encode()).hexdigest()
        return self.key(n)

    def service(self, n):
        return "svc-%d" % (n % SERVICES)

    def id_in_header(self, n):
        return self.shape(n) == "A" and n not in self.in_bulk

    def json(self, n):
        """The event's body, the same bytes at every sending."""
        shape = self.shape(n)
        if shape == "T":
            return '{"event_id":"%s","service":"%s","latency_ms":%d.5,"status":%d,"timestamp":"%s"}' % (
                self.key(n),
                self.service(n),
                n % 1000,
                STATUSES[n % len(STATUSES)],
                time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.second(n))),
            )
        if shape == "G":
            return '{"id":"%s","type":"g%d","timestamp":%d,"payload":{"n":%d}}' % (
                self.key(n),
                n % 5,
                self.second(n) * 1000,
                n,
            )
        if shape == "A":
            return '{%s"event_name":"a%d","timestamp":"%s","properties":{"n":%d}}' % (
                "" if self.id_in_header(n) else '"event_id":"%s",' % self.key(n),
                n % 5,
                time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.second(n))),
                n,
            )
        return (
            '{"event_name":"c%d","channel":"%s","user_id":"u-%s","timestamp":%d,'
            '"campaign_id":"cmp%d","tags":["x","y"],"metadata":{"n":%d}}'
        ) % (n % 5, ("web", "mobile")[n % 2], self.key(n), self.second(n), n % 3, n)

    def request(self, n):
        shape = self.shape(n)
        body = self.json(n)
        # The bodies are ASCII, so characters are bytes.
        return (
            "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
            % (
                "/ingest" if shape == "T" and n % 3 else "/events",
                "Idempotency-Key: %s\r\n" % self.key(n) if self.id_in_header(n) else "",
                len(body),
                body,
            )
        ).encode()

    def bulk_request(self, numbers):
        kind = numbers[0] % 3
        if kind == 0:
            body, content_type = "\n".join(self.json(n) for n in numbers) + "\n", "application/x-ndjson"
        elif kind == 1:
            body, content_type = "[%s]" % ",".join(self.json(n) for n in numbers), "application/json"
        else:
            body = '{"events":[%s]}' % ",".join(self.json(n) for n in numbers)
            content_type = "application/json"
        return (
            "POST /events/bulk HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (content_type, len(body), body)
        ).encode()

    def expected(self, n):
        """(event_name, service, status, latency_ms, channel, user_id, campaign_id, epoch second)."""
        shape = self.shape(n)
        if shape == "T":
            status = STATUSES[n % len(STATUSES)]
            return ("telemetry", self.service(n), str(status), n % 1000 + 0.5, "", "", "", self.second(n))
        if shape in "GA":
            return ("%s%d" % (shape.lower(), n % 5), "", "", None, "", "", "", self.second(n))
        return (
            "c%d" % (n % 5),
            "",
            "",
            None,
            ("web", "mobile")[n % 2],
            "u-" + self.key(n),
            "cmp%d" % (n % 3),
            self.second(n),
        )


class Attempt:
    __slots__ = ("numbers", "bulk")

    def __init__(self, numbers, bulk):
        self.numbers = numbers
        self.bulk = bulk


class Connection:
    __slots__ = ("socket", "connected", "out", "data", "flying", "registered", "depth")

    def __init__(self, depth):
        self.socket = None
        self.connected = False
        self.out = b""
        self.data = b""
        self.flying = collections.deque()
        self.registered = 0
        self.depth = depth  # requests in flight: above 1 it pipelines


class Plan:
    """What a load is made of; all workers share it."""

    def __init__(self, **values):
        self.workers = 2
        self.connections = 16  # per worker
        self.depths = (1, 1, 1, 4)  # pipelining, by connection
        self.shapes = "TGACTGAC"
        self.bulk_share = 0.05  # of requests
        self.bulk_events = 60
        self.retry_share = 0.6  # un-acked events that are sent again
        self.resend_share = 0.02  # acked events that are sent again
        self.twin_share = 0.01  # events sent twice at the same time on two connections
        self.events_max = 0  # per worker; 0: until told to stop
        self.rate = 0  # events per second per worker; 0: as fast as it goes
        for name, value in values.items():
            if not hasattr(self, name):
                raise TypeError(name)
            setattr(self, name, value)


class Worker:
    def __init__(self, plan, run, worker, base_second, seed, port, shared, path):
        self.plan = plan
        self.events = Events(run, worker, base_second, plan.shapes)
        self.random = random.Random(seed * 1000 + worker)
        self.port = port
        self.shared = shared
        self.path = path
        self.index = worker
        self.next = 0
        self.flags = bytearray()
        self.possible = []  # attempts that may have stored the event
        self.seq = {}
        self.news = bytearray()  # 1 once an attempt was answered as new
        self.again = collections.deque()  # numbers to send once more
        self.recent = []  # acked numbers to choose repeats from
        self.oddities = []
        self.statuses = collections.Counter()
        self.codes = collections.Counter()
        self.repeats = 0
        self.attempts = 0
        self.began = time.monotonic()

    # ---- choosing what to send ----

    def fresh(self):
        n = self.next
        self.next += 1
        self.flags.append(0)
        self.news.append(0)
        self.possible.append(0)
        return n

    def fresh_in_bulk(self):
        n = self.fresh()
        self.events.in_bulk.add(n)
        return n

    def may_start(self):
        plan = self.plan
        if plan.events_max and self.next >= plan.events_max:
            return bool(self.again)
        if plan.rate and self.next > plan.rate * (time.monotonic() - self.began):
            return False
        return True

    def choose(self):
        """The next attempt and its bytes."""
        plan, roll = self.plan, self.random.random()
        if self.again and (roll < 0.5 or (plan.events_max and self.next >= plan.events_max)):
            n = self.again.popleft()
            if roll < plan.bulk_share and len(self.again) > 5:
                numbers = list(dict.fromkeys([n] + [self.again.popleft() for _ in range(5)]))
                single = [m for m in numbers if self.events.id_in_header(m)]
                self.again.extend(single)
                numbers = [m for m in numbers if m not in single] or [self.fresh_in_bulk()]
                return Attempt(numbers, True), self.events.bulk_request(numbers)
            return Attempt((n,), False), self.events.request(n)
        if roll < plan.bulk_share:
            numbers = [self.fresh_in_bulk() for _ in range(self.random.randrange(2, plan.bulk_events * 2))]
            return Attempt(numbers, True), self.events.bulk_request(numbers)
        if self.recent and roll > 1 - plan.resend_share:
            n = self.random.choice(self.recent)
            return Attempt((n,), False), self.events.request(n)
        n = self.fresh()
        if roll > 1 - plan.resend_share - plan.twin_share:
            self.again.appendleft(n)
        return Attempt((n,), False), self.events.request(n)

    # ---- answers ----

    def odd(self, text, *values):
        if len(self.oddities) < 50:
            self.oddities.append(text % values)

    def lost(self, attempt):
        for n in attempt.numbers:
            self.flags[n] |= LOST
            if self.random.random() < self.plan.retry_share:
                self.again.append(n)

    def answered(self, attempt, status, body):
        self.statuses[status] += 1
        if 200 <= status < 300:
            self.accepted(attempt, status, body)
            return
        if attempt.bulk and status == 404:
            # This build has no bulk route: send them one by one.
            self.plan.bulk_share = 0
            for n in attempt.numbers:
                self.possible[n] -= 1
                self.flags[n] |= REFUSED
            self.again.extend(attempt.numbers)
            return
        code = ""
        try:
            code = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            self.odd("status %d without a problem body: %r", status, bytes(body[:200]))
        self.codes["%d %s" % (status, code)] += 1
        if status in NOT_STORED:
            flag = REFUSED
            if status not in (429, 503):
                self.odd("%d for a valid request: %r", status, bytes(body[:300]))
        else:
            flag = UNKNOWN
            if status != 500 or code != "outcome_unknown":
                self.odd("unexpected %d %s", status, code)
        for n in attempt.numbers:
            self.flags[n] |= flag
            if flag == REFUSED:
                self.possible[n] -= 1
            if self.random.random() < self.plan.retry_share:
                self.again.append(n)

    def accepted(self, attempt, status, body):
        try:
            answer = json.loads(body)
        except ValueError:
            self.odd("%d with a body that is not JSON: %r", status, bytes(body[:200]))
            answer = {}
        self.shared[self.index * 2 + 1] += len(attempt.numbers)
        if attempt.bulk:
            self.accepted_bulk(attempt, answer)
        else:
            self.accepted_single(attempt.numbers[0], status, answer)
        for n in attempt.numbers:
            self.flags[n] |= ACKED
        if len(self.recent) < 5000:
            self.recent.append(attempt.numbers[0])
        else:
            self.recent[self.random.randrange(5000)] = attempt.numbers[0]

    def accepted_single(self, n, status, answer):
        events = self.events
        if answer.get("event_id") != events.event_id(n):
            self.odd("event %s was answered with the id %r", events.event_id(n), answer.get("event_id"))
        seq, duplicate = answer.get("seq"), answer.get("duplicate")
        if not isinstance(seq, int) or seq < 1:
            self.odd("an ack without a seq: %r", answer)
        elif self.seq.setdefault(n, seq) != seq:
            self.odd("event %s had seq %d and now %d", events.event_id(n), self.seq[n], seq)
        if duplicate is False:
            if self.news[n]:
                self.odd("event %s was answered as new twice", events.event_id(n))
            self.news[n] = 1
            if status != (201 if events.shape(n) == "A" else 202):
                self.odd("a new event of shape %s was answered %d", events.shape(n), status)
        elif duplicate is True:
            self.repeats += 1
            if status != 200:
                self.odd("a repeat was answered %d", status)
            if self.possible[n] < 2:
                self.odd("event %s was answered as a repeat at its first sending", events.event_id(n))
        else:
            self.odd("an ack without \"duplicate\": %r", answer)

    def accepted_bulk(self, attempt, answer):
        ids = answer.get("event_ids")
        if ids is not None and ids != [self.events.event_id(n) for n in attempt.numbers]:
            self.odd("a bulk was answered with other ids than it had: %r", ids[:3])
        duplicates = answer.get("duplicates", 0)
        self.repeats += duplicates
        most = sum(1 for n in attempt.numbers if self.possible[n] > 1)
        if duplicates > most:
            self.odd("a bulk reports %d repeats, at most %d can be", duplicates, most)
        if answer.get("rejected"):
            self.odd("a bulk of valid events has rejected ones: %r", answer.get("errors"))

    # ---- sockets ----

    def open(self, connection):
        connection.out = connection.data = b""
        connection.registered = 0
        connection.socket = socket.socket()
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.connect_ex(("127.0.0.1", self.port))
        connection.connected = False
        self.watch(connection)

    def close(self, connection):
        if connection.socket is not None:
            if connection.registered:
                self.selector.unregister(connection.socket)
                connection.registered = 0
            connection.socket.close()
            connection.socket = None
        while connection.flying:
            self.lost(connection.flying.popleft())

    def watch(self, connection):
        want = selectors.EVENT_READ
        if connection.out or not connection.connected:
            want |= selectors.EVENT_WRITE
        if connection.registered == 0:
            self.selector.register(connection.socket, want, connection)
        elif connection.registered != want:
            self.selector.modify(connection.socket, want, connection)
        connection.registered = want

    def fill(self, connection):
        """Puts new requests on the connection as long as its depth allows."""
        parts = []
        while len(connection.flying) < connection.depth and not self.draining and self.may_start():
            attempt, data = self.choose()
            connection.flying.append(attempt)
            for n in attempt.numbers:
                self.possible[n] += 1
            self.attempts += len(attempt.numbers)
            self.shared[self.index * 2] = self.next
            parts.append(data)
        if parts:
            connection.out += b"".join(parts)

    def flush(self, connection):
        if connection.out:
            try:
                sent = connection.socket.send(connection.out)
                connection.out = connection.out[sent:]
            except BlockingIOError:
                pass
            except OSError:
                return False
        return True

    def receive(self, connection):
        """False when the connection has ended."""
        try:
            data = connection.socket.recv(262144)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        connection.data += data
        while True:
            head = _HEAD.match(connection.data)
            if head is None:
                return True
            length = _LENGTH.search(head.group(2))
            if length is None:
                self.odd("an answer without Content-Length: %r", bytes(head.group(0)[:300]))
                return False
            end = head.end() + int(length.group(1))
            if len(connection.data) < end:
                return True
            body = connection.data[head.end() : end]
            connection.data = connection.data[end:]
            if not connection.flying:
                self.odd("an answer nobody asked for: %r", bytes(head.group(0)[:100]))
                return False
            self.answered(connection.flying.popleft(), int(head.group(1)), body)
            if _CLOSE.search(head.group(2)):
                return False

    def run(self):
        self.selector = selectors.DefaultSelector()
        self.draining = False
        plan = self.plan
        connections = [Connection(plan.depths[i % len(plan.depths)]) for i in range(plan.connections)]
        control = len(self.shared) - 1
        grace_until = 0.0
        retry_at = 0.0
        while True:
            now = time.monotonic()
            if not self.draining and (
                self.shared[control] == 2
                or (plan.events_max and self.next >= plan.events_max and not self.again)
            ):
                self.draining = True
                grace_until = now + 20
            paused = self.shared[control] == 1
            if now >= retry_at and not self.draining and not paused:
                retry_at = now + 0.004
                for connection in connections:
                    if connection.socket is None:
                        self.open(connection)
                    elif connection.connected and not connection.flying:
                        self.fill(connection)
                        self.watch(connection)
            for key, mask in self.selector.select(0.01):
                connection = key.data
                alive = True
                if not connection.connected:
                    # Nothing is put on a connection before it stands: what was never sent is not lost.
                    alive = not connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    connection.connected = alive
                elif mask & selectors.EVENT_READ:
                    alive = self.receive(connection)
                if alive and not paused:
                    self.fill(connection)
                if alive:
                    alive = self.flush(connection)
                if alive:
                    self.watch(connection)
                else:
                    self.close(connection)
            if self.draining:
                if not any(connection.flying for connection in connections) or now > grace_until:
                    break
        for connection in connections:
            self.close(connection)
        with open(self.path, "wb") as file:
            pickle.dump(
                {
                    "worker": self.index,
                    "count": self.next,
                    "flags": bytes(self.flags),
                    "seq": self.seq,
                    "oddities": self.oddities,
                    "statuses": dict(self.statuses),
                    "codes": dict(self.codes),
                    "attempts": self.attempts,
                    "repeats": self.repeats,
                },
                file,
            )


def _work(*args):
    Worker(*args).run()


class Load:
    """A running load. sent() and acked() are live; stop() ends it and gives the Ledger."""

    def __init__(self, directory, port, seed, run="r", plan=None):
        self.plan = plan or Plan()
        self.run = "%s%x" % (run, seed & 0xFFFFF)
        self.base = int(time.time()) - 60
        context = multiprocessing.get_context("fork")
        self.shared = context.RawArray("q", self.plan.workers * 2 + 1)
        self.paths = [
            os.path.join(directory, "load-%s-%d" % (self.run, i)) for i in range(self.plan.workers)
        ]
        self.processes = [
            context.Process(
                target=_work,
                args=(self.plan, self.run, i, self.base, seed, port, self.shared, self.paths[i]),
                daemon=True,
            )
            for i in range(self.plan.workers)
        ]
        for process in self.processes:
            process.start()

    def sent(self):
        return sum(self.shared[0:-1:2])

    def acked(self):
        """Answers 2xx so far, counted in events (a repeat counts again)."""
        return sum(self.shared[1:-1:2])

    def pause(self):
        self.shared[len(self.shared) - 1] = 1

    def resume(self):
        self.shared[len(self.shared) - 1] = 0

    def stop(self, timeout=60):
        """Lets what is in flight finish and collects the ledger."""
        self.shared[len(self.shared) - 1] = 2
        return self.join(timeout)

    def join(self, timeout=120):
        give_up = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0.1, give_up - time.monotonic()))
            if process.exitcode != 0:
                self.kill()
                raise AssertionError("a load worker ended with %r" % process.exitcode)
        parts = []
        for path in self.paths:
            with open(path, "rb") as file:
                parts.append(pickle.load(file))
        return Ledger(self, parts)

    def kill(self):
        for process in self.processes:
            if process.is_alive():
                process.kill()


class Ledger:
    """What was sent and what was answered, over all workers of one load."""

    def __init__(self, load, parts):
        self.parts = parts
        self.events = [Events(load.run, part["worker"], load.base, load.plan.shapes) for part in parts]
        self.oddities = [text for part in parts for text in part["oddities"]]
        self.statuses = sum((collections.Counter(part["statuses"]) for part in parts), collections.Counter())
        self.codes = sum((collections.Counter(part["codes"]) for part in parts), collections.Counter())
        self.count = sum(part["count"] for part in parts)
        self.attempts = sum(part["attempts"] for part in parts)
        self.repeats = sum(part["repeats"] for part in parts)
        self.acked = sum(sum(1 for flag in part["flags"] if flag & ACKED) for part in parts)

    def each(self):
        """(event id, flags, expected row, seq or None) of every event that was sent."""
        for part, events in zip(self.parts, self.events):
            flags, seqs = part["flags"], part["seq"]
            for n in range(part["count"]):
                yield events.event_id(n), flags[n], events.expected(n), seqs.get(n)
