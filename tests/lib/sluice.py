"""The real server as a child process: started with given variables, waited for, killed, asked."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import time

import procs
from http_client import Client, ConnectionLost

_REPORT = re.compile(
    r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehaviorSanitizer|runtime error:"
    r"|\.[ch]:\d+: .*(assert|ASSERT)|[Aa]ssertion"
)


def lasting_port():
    """A free port that no outgoing connection can have while its server restarts: below those the kernel hands out."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first = int(file.read().split()[0])
    for _ in range(1000):
        port = random.SystemRandom().randrange(10000, max(first, 10100))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise AssertionError("no free port below %d" % first)


class Server:
    def __init__(self, env, prefix):
        self.env = {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(lasting_port()), "LOG_LEVEL": "INFO"}
        self.env.update({name: str(value) for name, value in env.items()})
        self.wal_dir = self.env["WAL_DIR"]
        self.prefix = prefix
        self.stdout_path = prefix + ".out"
        self.stderr_path = prefix + ".err"
        self.process = None
        self.tls = None  # an ssl.SSLContext: how to ask a server that speaks HTTPS
        self.port = int(self.env["HTTP_PORT"])

    @staticmethod
    def binary():
        return os.environ.get("SLUICE_BIN") or os.path.join(procs.ROOT, "build", "debug", "sluice")

    def _environment(self):
        env = {name: os.environ[name] for name in ("PATH", "TZ", "LD_PRELOAD") if name in os.environ}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                env[name] = os.environ[name]
        env.update(self.env)
        return env

    @classmethod
    def _command(cls):
        binary = cls.binary()
        # The thread sanitizer needs a fixed address layout on some kernels.
        return (["setarch", "-R", binary] if "/tsan/" in os.path.abspath(binary) else [binary])

    def launch(self, wrap=(), binary_args=("serve",)):
        """Starts the process without waiting. WRAP: a command that executes the rest in place."""
        self._stdout_from = os.path.getsize(self.stdout_path) if os.path.exists(self.stdout_path) else 0
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            self.process = procs.spawn(
                [*wrap, *self._command(), *binary_args],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=os.path.dirname(self.prefix),
            )

    def start(self, wrap=(), timeout=30, ready=True):
        """Starts and waits for the listener and, with READY, for /ready."""
        self.launch(wrap)
        self.wait_listening(timeout)
        if ready:
            self.wait_ready(timeout)

    def lines(self):
        """Log lines of the present start, parsed."""
        found = []
        with open(self.stdout_path, "rb") as file:
            file.seek(self._stdout_from)
            for line in file.read().split(b"\n")[:-1]:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    found.append({"event": "", "text": line.decode("utf-8", "replace")})
        return found

    def wait_listening(self, timeout=30):
        def listening():
            for line in self.lines():
                if line.get("event") == "server.listening":
                    return int(line["port"])
            if self.process.poll() is not None:
                raise AssertionError(
                    "the server ended with %s before it listened: %s"
                    % (self.process.returncode, self.tail())
                )
            return None

        self.port = procs.wait_until(listening, timeout * procs.SLOWNESS, "the server listens", pause=0.01)
        self.env["HTTP_PORT"] = str(self.port)  # the same port again after a restart

    def wait_ready(self, timeout=30):
        procs.wait_until(lambda: self.ready_status() == 200, timeout * procs.SLOWNESS, "/ready is 200")

    def ready_status(self):
        """Status of GET /ready, or None when nobody answers."""
        try:
            with self.client(timeout=5) as client:
                return client.get("/ready").status
        except (OSError, ConnectionLost):
            return None

    def client(self, timeout=20):
        return Client(self.port, timeout=timeout * procs.SLOWNESS, tls=self.tls)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9."""
        code = procs.end(self.process)
        return code

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait_exit(self, timeout=30):
        return self.process.wait(timeout * procs.SLOWNESS)

    def stop(self, timeout=30):
        """SIGTERM; returns the exit code."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.terminate()
        return self.wait_exit(timeout)

    def command(self, *args, timeout=120):
        """Runs a subcommand with this server's variables."""
        return procs.run(
            [*self._command(), *args], timeout=timeout * procs.SLOWNESS, check=False, env=self._environment()
        )

    def metrics(self):
        """Prometheus text as {name{labels}: value}."""
        with self.client() as client:
            answer = client.get("/metrics")
        if answer.status != 200:
            raise AssertionError("/metrics: %r" % answer)
        values = {}
        for line in answer.text().split("\n"):
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def metric(self, name):
        """Sum over all label sets of NAME; None when it does not exist."""
        values = [v for k, v in self.metrics().items() if k == name or k.startswith(name + "{")]
        return sum(values) if values else None

    def pending(self):
        return self.metric("sluice_wal_pending_events")

    def wait_drained(self, timeout=120):
        """Waits until everything acked is in the sink."""

        def drained():
            if not self.running():
                raise AssertionError("the server ended with %s while draining" % self.process.returncode)
            return self.pending() == 0

        procs.wait_until(drained, timeout * procs.SLOWNESS, "the log drains", pause=0.1)

    def sanitizer_report(self):
        try:
            with open(self.stderr_path, errors="replace") as file:
                text = file.read()
        except FileNotFoundError:
            return ""
        found = _REPORT.search(text)
        return text[max(0, found.start() - 500) : found.start() + 4000] if found else ""

    def tail(self, count=15):
        text = ""
        for path in (self.stdout_path, self.stderr_path):
            try:
                with open(path, errors="replace") as file:
                    text += "\n".join(file.read().split("\n")[-count - 1 :])
            except FileNotFoundError:
                pass
        return text[-6000:]

    def destroy(self):
        procs.end(self.process)
