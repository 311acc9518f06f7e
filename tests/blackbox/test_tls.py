"""HTTPS on a real server and real sockets: handshakes good and bad, the same requests as on a plain
port, client certificates, reload, stop."""

import json
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import warnings

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from certificates import Certificates
from http_client import Client, ConnectionLost, request_bytes

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
SANITIZED = "san/" in os.environ.get("SLUICE_BIN", "")


class Wire:
    """A TLS client whose bytes pass through our hands: sealed by MemoryBIOs, sent in pieces."""

    def __init__(self, port, context, piece=1 << 20):
        self.socket = socket.create_connection(("127.0.0.1", port), 20 * procs.SLOWNESS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.piece = piece
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")

    def hello(self):
        """The client's first flight."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def flush(self):
        data = self.outgoing.read()
        for at in range(0, len(data), self.piece):
            self.socket.sendall(data[at : at + self.piece])

    def _until_done(self, step):
        while True:
            try:
                result = step()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(65536)
                if not data:
                    self.incoming.write_eof()
                self.incoming.write(data)

    def handshake(self):
        self._until_done(self.tls.do_handshake)

    def send(self, data):
        self.tls.write(data)
        self.flush()

    def read_all(self):
        """All plain bytes until the server says in TLS that it is the end."""
        found = b""
        while True:
            try:
                data = self._until_done(lambda: self.tls.read(65536))
            except ssl.SSLZeroReturnError:
                return found
            if not data:
                return found
            found += data

    def say_end(self):
        """close_notify, and nothing of the socket's."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def close(self):
        self.socket.close()


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class TlsCase(runner.Drill):
    deadline_seconds = 60

    def setUp(self):
        super().setUp()
        self.certs = Certificates(self.path("certs"))
        self.certs.authority()
        self.certs.signed("server")

    def secure(self, start=True, own=None, **env):
        """A server that speaks HTTPS; OWN: the certificate our client shows."""
        env.setdefault("TLS_CERT_FILE", self.certs.path("server.pem"))
        env.setdefault("TLS_KEY_FILE", self.certs.path("server.key"))
        server = self.server(start=False, **env)
        server.tls = self.certs.client(own=own)
        if start:
            server.start()
        return server

    def wire(self, server, **options):
        wire = Wire(server.port, options.pop("context", None) or server.tls, **options)
        self.addCleanup(wire.close)
        return wire

    def raw(self, server):
        sock = socket.create_connection(("127.0.0.1", server.port), 20 * procs.SLOWNESS)
        self.addCleanup(sock.close)
        return sock

    def errors(self, server, reason):
        return server.metrics()['sluice_tls_handshake_errors_total{reason="%s"}' % reason]

    def wait_errors(self, server, reason, count):
        procs.wait_until(
            lambda: self.errors(server, reason) >= count, 20 * procs.SLOWNESS, "%d times %s" % (count, reason)
        )
        self.assertEqual(self.errors(server, reason), count)

    def ends_in_silence(self, sock):
        """The server closes without a byte."""
        try:
            data = sock.recv(1000)
        except ConnectionResetError:
            data = b""
        self.assertEqual(data, b"")

    def finish(self, server):
        self.assertEqual(server.stop(), 0)
        self.check_stderr()


class Talking(TlsCase):
    def test_both_versions_and_a_kept_connection(self):
        server = self.secure()
        for number, version in enumerate(VERSIONS):
            context = self.certs.client(version=version)
            context.set_alpn_protocols(["h2", "http/1.1"])
            with Client(server.port, tls=context) as client:
                event = {"event_id": "v%d" % number, "service": "api", "status": 200, "latency_ms": 1}
                self.assertEqual(client.post("/ingest", event).status, 202)
                first = client.socket
                self.assertEqual(client.post("/ingest", event).status, 200)
                for _ in range(50):
                    self.assertEqual(client.get("/health").json(), {"status": "ok"})
                self.assertEqual(client.get("/nowhere").status, 404)
                self.assertIs(client.socket, first)
                name, protocol, bits = client.socket.cipher()
                self.assertRegex(name, "GCM|CHACHA20")
                self.assertEqual(client.socket.selected_alpn_protocol(), "http/1.1")
                self.assertIsNone(client.socket.compression())
        self.finish(server)

    def test_a_session_is_resumed(self):
        server = self.secure()
        before = server.metrics()['sluice_tls_handshakes_total{resumed="true"}']
        for version in VERSIONS:
            context = self.certs.client(version=version)
            session = None
            for again in (False, True):
                plain = socket.create_connection(("127.0.0.1", server.port), 20)
                with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
                    self.assertEqual(sock.session_reused, again)
                    sock.sendall(request_bytes("GET", "/health"))
                    self.assertIn(b"200 OK", sock.recv(65536))
                    session = sock.session
        self.assertEqual(server.metrics()['sluice_tls_handshakes_total{resumed="true"}'] - before, 2)
        self.finish(server)

    def test_pipelined_requests_are_answered_in_order(self):
        server = self.secure()
        with server.client() as client:
            count = 500
            client.send(
                b"".join(
                    request_bytes("GET", "/health", headers=[("X-Request-ID", "r%d" % i)]) for i in range(count)
                )
            )
            for i in range(count):
                answer = client.read()
                self.assertEqual((answer.status, answer.header("x-request-id")), (200, "r%d" % i))
        self.finish(server)

    def test_a_bulk_of_many_records(self):
        server = self.secure()
        lines = [
            json.dumps({"event_id": "e%d" % i, "type": "big", "payload": {"text": "x" * (i % 700)}})
            for i in range(9000)
        ]
        with server.client() as client:
            answer = client.post(
                "/events/bulk", "\n".join(lines).encode(), {"Content-Type": "application/x-ndjson"}
            )
            self.assertEqual(answer.status, 202, answer)
            self.assertEqual(answer.json()["event_ids"], ["e%d" % i for i in range(9000)])
        self.assertEqual(server.metric("sluice_events_acked_total"), 9000)
        self.finish(server)

    def test_a_byte_at_a_time(self):
        server = self.secure()
        for version in VERSIONS:
            wire = self.wire(server, context=self.certs.client(version=version), piece=1)
            wire.handshake()
            event = b'{"event_id":"slow-%d","type":"slow"}' % version
            wire.send(request_bytes("POST", "/events", event))
            wire.send(request_bytes("GET", "/health", headers=[("Connection", "close")]))
            answers = wire.read_all()
            self.assertTrue(answers.startswith(b"HTTP/1.1 202 "), answers)
            self.assertIn(b'{"status":"ok"}', answers)
        self.finish(server)

    def test_each_byte_of_a_request_in_a_record_of_its_own(self):
        server = self.secure()
        with server.client() as client:
            for byte in request_bytes("POST", "/events", b'{"type":"crumbs"}'):
                client.send(bytes([byte]))
            self.assertEqual(client.read().status, 202)
        self.finish(server)

    def test_a_client_that_does_not_read_gets_everything_later(self):
        server = self.secure()
        with server.client() as client:
            page = client.get("/openapi.json").body
        client = server.client()
        client.socket = socket.socket()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.connect(("127.0.0.1", server.port))
        client.socket.settimeout(30 * procs.SLOWNESS)
        client.socket = server.tls.wrap_socket(client.socket, server_hostname="localhost")
        count = 60
        client.send(request_bytes("GET", "/openapi.json") * count)
        # Most of it cannot be on its way: what waits is bounded, and others are served meanwhile.
        time.sleep(0.5)
        with server.client() as other:
            self.assertEqual(other.get("/health").status, 200)
        for _ in range(count):
            self.assertEqual(client.read().body, page)
        client.close()
        self.finish(server)

    def test_a_client_that_never_reads_is_closed(self):
        server = self.secure(HTTP_READ_TIMEOUT_MS=int(500 * procs.SLOWNESS))
        before = server.metric("sluice_http_timeouts_total")
        client = server.client()
        client.connect()
        client.socket.settimeout(0.5)
        try:
            for _ in range(200):
                client.send(request_bytes("GET", "/openapi.json") * 10)
        except (TimeoutError, OSError, ConnectionLost):
            pass
        procs.wait_until(
            lambda: server.metric("sluice_http_timeouts_total") > before, 30 * procs.SLOWNESS, "it is given up"
        )
        client.close()
        self.finish(server)

    def test_the_end_is_said_in_tls(self):
        """Without it a client cannot tell an answer's end from somebody who cut the line."""
        server = self.secure()
        plain = socket.create_connection(("127.0.0.1", server.port), 20)
        with server.tls.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as sock:
            sock.sendall(request_bytes("GET", "/health", headers=[("Connection", "close")]))
            data = b""
            while True:
                more = sock.recv(65536)  # would raise SSLEOFError
                if not more:
                    break
                data += more
        self.assertTrue(data.startswith(b"HTTP/1.1 200"), data)
        self.finish(server)

    def test_a_client_that_says_it_sends_no_more_still_gets_its_answers(self):
        server = self.secure()
        for cut in (False, True):
            wire = self.wire(server)
            wire.handshake()
            wire.tls.write(request_bytes("POST", "/events", b'{"type":"a"}') + request_bytes("GET", "/health"))
            if cut:
                wire.tls.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
            wire.say_end()
            answers = wire.read_all()
            self.assertEqual(answers.count(b"HTTP/1.1 "), 2, answers)
            self.assertIn(b"HTTP/1.1 202", answers)
        # The socket's end alone is as good: HTTP says itself where a message ends.
        wire = self.wire(server)
        wire.handshake()
        wire.send(request_bytes("GET", "/health"))
        wire.socket.shutdown(socket.SHUT_WR)
        self.assertIn(b'{"status":"ok"}', wire.read_all())
        self.finish(server)

    def test_a_request_that_does_not_end_is_answered_in_time(self):
        server = self.secure(HTTP_READ_TIMEOUT_MS=int(500 * procs.SLOWNESS))
        with server.client() as client:
            client.send(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
            self.assertEqual(client.read().status, 408)
        self.finish(server)

    def test_expect_continue(self):
        server = self.secure()
        with server.client() as client:
            body = b'{"type":"patient"}'
            head = request_bytes("POST", "/events", b"", [("Expect", "100-continue"), ("Content-Length", len(body))])
            client.send(head)
            self.assertTrue(client.socket.recv(100).startswith(b"HTTP/1.1 100 "))
            client.send(body)
            self.assertEqual(client.read().status, 202)
        self.finish(server)

    def test_one_connection_too_many_is_told_so(self):
        server = self.secure(MAX_CONNECTIONS=5)
        clients = []

        def full():
            """Connections that ended may still count for a moment."""
            client = server.client()
            answer = client.get("/health")
            if answer.status == 200:
                clients.append(client)
            return answer.status == 503 and answer

        answer = procs.wait_until(full, 20 * procs.SLOWNESS, "the limit is reached")
        self.assertEqual(answer.json()["error"], "backpressure")
        self.assertEqual(len(clients), 5)
        for client in clients:
            self.assertEqual(client.get("/health").status, 200)
            client.close()
        self.finish(server)

    def test_memory_of_idle_connections(self):
        if SANITIZED:
            self.skipTest("sanitizers have a memory of their own")
        server = self.secure()
        count = 400
        before = server.metric("process_resident_memory_bytes")
        clients = [server.client() for _ in range(count)]
        for client in clients:
            self.assertEqual(client.get("/health").status, 200)
        each = (server.metric("process_resident_memory_bytes") - before) / count
        self.say("%.1f KiB for a connection at rest", each / 1024)
        self.assertLess(each, 64 * 1024)
        for client in clients:
            client.close()
        self.finish(server)


class Handshakes(TlsCase):
    def refused(self, server, context):
        """No request gets through; with TLS 1.3 a client learns it only when it reads."""
        with self.assertRaises((OSError, ConnectionLost)) as caught:
            with Client(server.port, tls=context) as client:
                client.get("/health")
        return str(caught.exception)

    def test_old_versions_are_refused(self):
        server = self.secure()
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            self.assertIn("PROTOCOL_VERSION", self.refused(server, context).upper())
        self.wait_errors(server, "protocol", 2)
        self.finish(server)

    def test_a_client_that_does_not_trust_the_server_is_counted(self):
        server = self.secure()
        self.certs.authority("other")
        self.assertIn("CERTIFICATE_VERIFY_FAILED", self.refused(server, self.certs.client(ca="other")))
        self.wait_errors(server, "alert", 1)
        self.finish(server)

    def test_client_certificates(self):
        self.certs.signed("friend")
        self.certs.signed("late", days=-1)
        self.certs.authority("other")
        self.certs.signed("stranger", ca="other")
        server = self.secure(own="friend", TLS_CLIENT_CA_FILE=self.certs.path("ca.pem"))
        count = 0
        for version in VERSIONS:
            for own in (None, "stranger", "late"):
                said = self.refused(server, self.certs.client(own=own, version=version))
                self.assertRegex(said.lower(), "alert|handshake failure", (own, version))
                count += 1
            with Client(server.port, tls=self.certs.client(own="friend", version=version)) as client:
                self.assertEqual(client.post("/events", {"type": "mutual"}).status, 202)
        self.wait_errors(server, "client_certificate", count)
        self.assertEqual(self.errors(server, "protocol"), 0)
        # What clients do is counted, not logged.
        self.assertFalse([line for line in server.lines() if line.get("level") in ("warn", "error")
                          and line["event"] != "serve.no_database"])
        self.finish(server)

    def test_plain_http_is_told_what_is_wrong(self):
        server = self.secure()
        for number, request in enumerate((
            request_bytes("GET", "/health"),
            request_bytes("POST", "/events", b'{"type":"leaked"}'),
            b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
            b"G",
        )):
            with Client(server.port) as client:
                client.send(request)
                answer = client.read()
                self.assertEqual(answer.status, 400)
                self.assertEqual(answer.header("content-type"), "application/problem+json")
                self.assertIn("plain HTTP request was sent to HTTPS port", answer.json()["message"])
                self.assertEqual(answer.header("connection"), "close")
            self.wait_errors(server, "plain_http", number + 1)
        self.assertEqual(server.metric("sluice_events_acked_total"), 0)
        self.finish(server)

    def test_garbage(self):
        server = self.secure()
        hello = self.wire(server).hello()
        cases = [b"\x15\x03\x03\x00\x02\x01\x00", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x80\x2e\x01\x00\x02",
                 b"\x15\x03\x01\x00\x02\x02\x28", hello[:20] + b"\xff" * 200]
        for data in cases:
            sock = self.raw(server)
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1000):  # at most an alert
                    pass
            except (ConnectionResetError, BrokenPipeError, OSError):
                pass
        with server.client() as client:
            self.assertEqual(client.get("/health").status, 200)
        ended = sum(self.errors(server, reason) for reason in ("protocol", "closed", "alert"))
        self.assertEqual(ended, len(cases))
        self.finish(server)

    def test_a_slow_handshake_is_given_up(self):
        server = self.secure(HTTP_READ_TIMEOUT_MS=int(600 * procs.SLOWNESS), HTTP_IDLE_TIMEOUT_MS=60000)
        silent = self.raw(server)
        half = self.raw(server)
        half.sendall(self.wire(server).hello()[:60])
        waiting = self.wire(server)  # has its answer, says nothing to it
        waiting.socket.sendall(waiting.hello())
        dripping = self.raw(server)
        hello = self.wire(server).hello()
        try:
            for byte in hello:  # each byte in time, the whole not
                dripping.sendall(bytes([byte]))
                time.sleep(0.05)
            self.fail("a handshake of %d slow bytes was waited for" % len(hello))
        except OSError:
            pass
        self.ends_in_silence(silent)
        self.ends_in_silence(half)
        while waiting.socket.recv(65536):
            pass
        # These four, and the two whose first flight was only made, not sent.
        self.wait_errors(server, "timeout", 6)
        self.finish(server)

    def test_resets_in_mid_handshake(self):
        server = self.secure()
        for number in range(60):
            wire = Wire(server.port, server.tls)
            hello = wire.hello()
            wire.socket.sendall(hello[: self.random.choice((1, 40, len(hello)))])
            if number % 3 == 0:
                time.sleep(0.01)
            if number % 2:
                reset(wire.socket)
            else:
                wire.close()
        reset(self.raw(server))  # a probe of the port that says nothing is no error
        procs.wait_until(
            lambda: server.metric("sluice_http_connections") <= 1, 20 * procs.SLOWNESS, "none is left"
        )
        # A reset may be there before the byte that it follows was read.
        self.assertIn(self.errors(server, "closed"), range(1, 61))
        self.finish(server)

    def test_resets_with_requests_under_way(self):
        server = self.secure()
        for number in range(40):
            client = server.client()
            client.send(request_bytes("POST", "/events", b'{"type":"gone"}') * 20 + request_bytes("GET", "/metrics"))
            if number % 2:
                client.socket.recv(self.random.choice((1, 500)))
            reset(client.socket)
            client.socket = None
        with server.client() as client:
            self.assertEqual(client.get("/health").status, 200)
        self.finish(server)


class Reloading(TlsCase):
    def setUp(self):
        super().setUp()
        self.certs.signed("second")
        self.certs.signed("current")
        self.show("server")

    def show(self, cert, key=None):
        for source, target in ((cert + ".pem", "current.pem"), ((key or cert) + ".key", "current.key")):
            with open(self.certs.path(source), "rb") as file:
                data = file.read()
            with open(self.certs.path(target), "wb") as file:
                file.write(data)

    def reloadable(self, **env):
        return self.secure(
            TLS_CERT_FILE=self.certs.path("current.pem"), TLS_KEY_FILE=self.certs.path("current.key"), **env
        )

    def hangup(self, server, event):
        before = len(server.lines())
        server.process.send_signal(signal.SIGHUP)
        return procs.wait_until(
            lambda: [line for line in server.lines()[before:] if line.get("event") == event],
            20 * procs.SLOWNESS, event,
        )[0]

    def shown(self, server):
        """The common name of the certificate a new connection sees."""
        with server.client() as client:
            self.assertEqual(client.get("/health").status, 200)
            return dict(pair[0] for pair in client.socket.getpeercert()["subject"])["commonName"]

    def test_a_new_certificate_is_for_new_connections(self):
        server = self.reloadable()
        self.assertEqual(self.shown(server), "server")
        with server.client() as old:
            self.assertEqual(old.get("/health").status, 200)
            self.show("second")
            self.assertEqual(self.shown(server), "server")
            line = self.hangup(server, "serve.certificate_reloaded")
            self.assertIn("days_left", line)
            self.assertEqual(self.shown(server), "second")
            first = old.socket
            self.assertEqual(old.post("/events", {"type": "old"}).status, 202)
            self.assertIs(old.socket, first)
            self.assertEqual(dict(pair[0] for pair in first.getpeercert()["subject"])["commonName"], "server")
        self.finish(server)

    def test_broken_files_keep_what_was_there(self):
        server = self.reloadable()
        expiry = server.metric("sluice_tls_certificate_expiry_timestamp_seconds")
        self.assertGreater(expiry, time.time() + 28 * 86400)
        self.show("second", key="server")
        self.assertIn("TLS_KEY_FILE", self.hangup(server, "serve.certificate_kept")["cause"])
        with open(self.certs.path("current.pem"), "w") as file:
            file.write("-----BEGIN CERTIFICATE-----\nbroken\n")
        self.assertIn("TLS_CERT_FILE", self.hangup(server, "serve.certificate_kept")["cause"])
        os.unlink(self.certs.path("current.pem"))
        self.assertIn("TLS_CERT_FILE", self.hangup(server, "serve.certificate_kept")["cause"])
        self.assertEqual(self.shown(server), "server")
        self.assertEqual(server.metric("sluice_tls_certificate_expiry_timestamp_seconds"), expiry)
        kept = [line for line in server.lines() if line["event"] == "serve.certificate_kept"]
        self.assertEqual(len(kept), 3, "one line each")
        self.show("second")
        self.hangup(server, "serve.certificate_reloaded")
        self.assertEqual(self.shown(server), "second")
        self.finish(server)

    def test_a_withdrawn_authority_is_withdrawn_at_once(self):
        """Also for a client with a ticket of before."""
        self.certs.authority("trusted")
        self.certs.signed("friend", ca="trusted")
        self.certs.authority("other")
        self.certs.signed("newcomer", ca="other")
        server = self.reloadable(TLS_CLIENT_CA_FILE=self.certs.path("trusted.pem"), own="friend")
        for version in VERSIONS:
            context = self.certs.client(own="friend", version=version)
            with Client(server.port, tls=context) as client:
                self.assertEqual(client.get("/health").status, 200)
                session = client.socket.session
            plain = socket.create_connection(("127.0.0.1", server.port), 20)
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
                self.assertTrue(sock.session_reused)
        os.replace(self.certs.path("other.pem"), self.certs.path("trusted.pem"))
        self.hangup(server, "serve.certificate_reloaded")
        plain = socket.create_connection(("127.0.0.1", server.port), 20)
        with self.assertRaises(OSError):
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
                sock.sendall(request_bytes("GET", "/health"))
                if sock.recv(1000):
                    self.fail("a ticket outlived its authority")
                raise ConnectionResetError
        server.tls = self.certs.client(own="newcomer")
        self.assertEqual(self.shown(server), "server")
        self.finish(server)

    def test_reloads_among_handshakes(self):
        """On several loops at a time; each handshake meets a whole certificate, the old or the new."""
        server = self.reloadable(HTTP_THREADS=3)
        failures = []

        def connect_often():
            try:
                for _ in range(40):
                    with server.client() as client:
                        if client.get("/health").status != 200:
                            failures.append("an answer that is none")
            except Exception as error:
                failures.append(repr(error))

        clients = [threading.Thread(target=connect_often) for _ in range(4)]
        for client in clients:
            client.start()
        number = 0
        while any(client.is_alive() for client in clients):
            number += 1
            self.show("second" if number % 2 else "server")
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        self.assertEqual(failures, [])
        self.assertGreater(number, 1)
        self.finish(server)


class Stopping(TlsCase):
    def test_sigterm_with_connections_of_every_kind(self):
        server = self.secure(SHUTDOWN_TIMEOUT_MS=4000)
        idle = self.wire(server)
        idle.handshake()
        idle.send(request_bytes("GET", "/health"))
        late = self.wire(server)
        late.handshake()
        body = b'{"type":"late"}'
        late.send(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:5])
        shaking = self.wire(server)
        shaking.socket.sendall(shaking.hello())
        self.raw(server)
        time.sleep(0.1)
        server.terminate()
        time.sleep(0.1)
        late.send(body[5:])
        answer = late.read_all()
        self.assertRegex(answer, b"^HTTP/1.1 (202|503) ")
        self.assertIn(b'{"status":"ok"}', idle.read_all())  # and an end said in TLS
        self.assertEqual(server.wait_exit(15), 0)
        self.check_stderr()

    def test_what_was_acked_over_tls_is_there_after_a_kill(self):
        server = self.secure()
        acked = []
        with server.client() as client:
            for number in range(200):
                answer = client.post("/events", {"type": "kept", "id": "k%d" % number})
                self.assertEqual(answer.status, 202)
                acked.append("k%d" % number)
        server.kill()
        server.start()
        with server.client() as client:
            for event_id in acked:
                self.assertEqual(client.post("/events", {"type": "kept", "id": event_id}).status, 200)
        self.finish(server)


class Settings(TlsCase):
    def refused(self, **env):
        server = self.server(start=False, HTTP_PORT=0, **env)
        server.launch()
        self.assertEqual(server.wait_exit(), 2)
        self.assertFalse(os.path.exists(server.wal_dir), "the log was touched")
        checked = server.command("check-config")
        self.assertEqual(checked.returncode, 2)
        said = server.tail()
        self.assertIn(checked.stderr.strip(), said)
        self.check_stderr()
        return said

    def test_what_does_not_do_ends_the_start(self):
        self.certs.signed("other")
        cert, key = self.certs.path("server.pem"), self.certs.path("server.key")
        for env, name in (
            ({"TLS_CERT_FILE": cert}, "TLS_CERT_FILE needs TLS_KEY_FILE"),
            ({"TLS_KEY_FILE": key}, "TLS_KEY_FILE needs TLS_CERT_FILE"),
            ({"TLS_CLIENT_CA_FILE": cert}, "TLS_CLIENT_CA_FILE needs"),
            ({"TLS_CERT_FILE": "/nonexistent", "TLS_KEY_FILE": key}, "TLS_CERT_FILE names"),
            ({"TLS_CERT_FILE": key, "TLS_KEY_FILE": key}, "TLS_CERT_FILE holds"),
            ({"TLS_CERT_FILE": cert, "TLS_KEY_FILE": "/nonexistent"}, "TLS_KEY_FILE names"),
            ({"TLS_CERT_FILE": cert, "TLS_KEY_FILE": cert}, "TLS_KEY_FILE holds"),
            ({"TLS_CERT_FILE": cert, "TLS_KEY_FILE": self.certs.path("other.key")}, "TLS_KEY_FILE is not the key"),
            ({"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key, "TLS_CLIENT_CA_FILE": "/nonexistent"},
             "TLS_CLIENT_CA_FILE names"),
            ({"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key, "TLS_CLIENT_CA_FILE": key}, "TLS_CLIENT_CA_FILE holds"),
        ):
            with self.subTest(name):
                said = self.refused(**env)
                self.assertIn("sluice: " + name, said)
                self.assertNotIn("PRIVATE", said)

    def test_a_chain_and_its_key_may_be_in_one_file(self):
        """The client knows the root alone: what lies between must come from the server."""
        self.certs.signed("between", names="basicConstraints=critical,CA:TRUE")
        self.certs.signed("leaf", ca="between")
        one = self.certs.path("one.pem")
        with open(one, "w") as target:
            for name in ("leaf.pem", "between.pem", "leaf.key"):
                with open(self.certs.path(name)) as source:
                    target.write(source.read())
        server = self.secure(TLS_CERT_FILE=one, TLS_KEY_FILE=one)
        with server.client() as client:
            self.assertEqual(client.get("/health").status, 200)
        self.finish(server)

    def test_check_config_takes_good_files(self):
        server = self.secure(start=False, TLS_CLIENT_CA_FILE=self.certs.path("ca.pem"))
        done = server.command("check-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("TLS_CERT_FILE=" + self.certs.path("server.pem"), done.stdout)
        self.assertNotIn("PRIVATE", done.stdout)

    def test_an_expired_certificate_serves_and_is_told_of(self):
        self.certs.signed("server", days=-1)
        server = self.secure(start=False)
        server.tls.check_hostname = False
        server.tls.verify_mode = ssl.CERT_NONE
        server.start()
        self.assertTrue([line for line in server.lines() if line["event"] == "serve.certificate_expired"])
        self.assertLess(server.metric("sluice_tls_certificate_expiry_timestamp_seconds"), time.time())
        self.finish(server)

    def test_a_plain_server_has_no_figures_of_tls(self):
        server = self.server()
        self.assertFalse([name for name in server.metrics() if name.startswith("sluice_tls")])
        sock = self.raw(server)
        sock.sendall(Wire(server.port, self.certs.client()).hello())
        self.assertIn(b"400", sock.recv(65536))  # a TLS hello on a plain port is no HTTP
        self.finish(server)


if __name__ == "__main__":
    runner.main()
