"""A blocking HTTP/1.1 client on a bare socket: it sends exactly the bytes it is told to.

Answers are read strictly: a status line, headers, and a body by Content-Length, by chunks or until
the end of the connection.
"""

import json
import socket
import time


class ConnectionLost(Exception):
    """The peer closed or reset before a whole answer had come."""


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # list of (lower-case name, value)
        self.body = body

    def header(self, name):
        values = [value for key, value in self.headers if key == name.lower()]
        return values[0] if values else None

    def json(self):
        return json.loads(self.body.decode("utf-8"))

    def text(self):
        return self.body.decode("utf-8")

    def __repr__(self):
        return "<%d %r>" % (self.status, self.body[:300])


def request_bytes(method, target, body=b"", headers=(), host="localhost"):
    """One request with Content-Length when it has a body or its method wants one."""
    lines = ["%s %s HTTP/1.1" % (method, target), "Host: " + host]
    names = {name.lower() for name, _ in headers}
    if (body or method in ("POST", "PUT")) and not names & {"content-length", "transfer-encoding"}:
        lines.append("Content-Length: %d" % len(body))
    lines += ["%s: %s" % pair for pair in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + body


def chunked(body, size=7):
    """BODY as chunks of SIZE bytes."""
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class Client:
    """One connection, opened at the first use and again after it was lost. TLS: an ssl.SSLContext."""

    def __init__(self, port, host="127.0.0.1", timeout=20, tls=None):
        self.address = (host, port)
        self.timeout = timeout
        self.tls = tls
        self.socket = None
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def connect(self):
        self.close()
        self.socket = socket.create_connection(self.address, self.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is not None:
            self.socket = self.tls.wrap_socket(self.socket, server_hostname=self.address[0])
        self.buffer = b""

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def send(self, data):
        if self.socket is None:
            self.connect()
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ConnectionLost("while sending") from error

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError as error:
            raise ConnectionLost("reset") from error
        if not data:
            raise ConnectionLost("closed after %r" % self.buffer[-200:])
        self.buffer += data

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def _exactly(self, count):
        while len(self.buffer) < count:
            self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read(self, head=False):
        """The next answer. HEAD: it answers a HEAD request, so no body follows."""
        while True:
            status_line = self._line()
            if not status_line.startswith(b"HTTP/1.1 ") and not status_line.startswith(b"HTTP/1.0 "):
                raise AssertionError("not a status line: %r" % status_line)
            status = int(status_line[9:12])
            headers = []
            while True:
                line = self._line()
                if not line:
                    break
                name, value = line.split(b":", 1)
                headers.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
            if status != 100:
                break
        answer = Answer(status, headers, b"")
        if head or status in (204, 304):
            return answer
        if (answer.header("transfer-encoding") or "").lower() == "chunked":
            parts = []
            while True:
                size = int(self._line().split(b";")[0], 16)
                if size == 0:
                    break
                parts.append(self._exactly(size))
                if self._exactly(2) != b"\r\n":
                    raise AssertionError("a chunk does not end in CRLF")
            while self._line():
                pass
            answer.body = b"".join(parts)
        elif answer.header("content-length") is not None:
            answer.body = self._exactly(int(answer.header("content-length")))
        else:
            try:
                while True:
                    self._more()
            except ConnectionLost:
                answer.body, self.buffer = self.buffer, b""
        if (answer.header("connection") or "").lower() == "close":
            self.close()
        return answer

    def closed_by_peer(self, timeout=10):
        """True when the peer ends the connection within TIMEOUT without sending anything more."""
        if self.socket is None:
            return True
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up:
            self.socket.settimeout(max(0.01, give_up - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                return True
            except (TimeoutError, socket.timeout):
                return False
            if not data:
                return True
            raise AssertionError("unexpected bytes: %r" % data[:200])
        return False

    def request(self, method, target, body=b"", headers=()):
        """One request and its answer. str is UTF-8; anything else but bytes goes as JSON."""
        headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body, separators=(",", ":"))
            if not any(name.lower() == "content-type" for name, _ in headers):
                headers.append(("Content-Type", "application/json"))
        if isinstance(body, str):
            body = body.encode("utf-8")
        self.send(request_bytes(method, target, body, headers))
        return self.read(head=method == "HEAD")

    def get(self, target, headers=()):
        return self.request("GET", target, headers=headers)

    def post(self, target, body, headers=()):
        return self.request("POST", target, body, headers)
