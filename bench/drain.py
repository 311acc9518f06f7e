"""
drain.py SLUICE DIR EVENTS ROUNDS: a log full of events, drained into MariaDB by the real server, beside LOAD DATA written
by hand: the same rows into the same table, in transactions of as many rows, on as many connections. And what a start
with all of them pending takes: until the first ack, and in memory while it drains.

Both sides have the same private MariaDB, as durable as its defaults are; the table is empty and its pages are in memory
before each. A line of key=value pairs per measurement.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARIADB = os.path.join(ROOT, "infra", "scripts", "mariadb.sh")
BULK = 5000
PARTITIONS = 2  # WAL_PARTITIONS' default
ROWS = 2000  # BATCH_MAX_EVENTS' default
NAMES = ("purchase", "page_view", "signup", "refund")
CHANNELS = ("web", "ios", "android", "email")


def rfc3339(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def event(number, at):
    """One of the four shapes, each a quarter, with an id of its own."""
    if number % 4 == 0:
        return {"event_id": "t-%d" % number, "service": "service-%02d" % (number % 50), "status": 503 if number % 97 == 0 else 200,
                "latency_ms": (number * 7919 % 100000) / 100, "timestamp": at}
    if number % 4 == 1:
        return {"id": "g-%d" % number, "type": "patient.moved", "payload": {"ward": number % 40, "bed": "b-%d" % (number % 9)}}
    if number % 4 == 2:
        return {"event_id": "a-%d" % number, "event_name": NAMES[number // 4 % 4], "timestamp": rfc3339(at), "properties": {"price": number % 1000}}
    return {"event_name": NAMES[number // 4 % 4], "channel": CHANNELS[number // 16 % 4], "user_id": "user-%d" % number,
            "campaign_id": "c-%d" % (number % 20), "timestamp": at, "tags": ["a", "b"], "metadata": {"n": number}}


class Server:
    def __init__(self, program, directory, **settings):
        self.log = open(os.path.join(directory, "log"), "wb")
        self.began = time.monotonic()
        self.port = None
        environment = {"PATH": os.environ["PATH"], "HTTP_HOST": "127.0.0.1", "HTTP_PORT": "0", "LOG_FORMAT": "json",
                       "WAL_DIR": os.path.join(directory, "wal"), "WAL_MAX_BYTES": str(64 << 30), **settings}
        self.child = subprocess.Popen([program, "serve"], env=environment, stdout=self.log, stderr=subprocess.STDOUT)

    def wait_port(self):
        while self.port is None:
            if self.child.poll() is not None:
                raise SystemExit("drain.py: the server ended; see " + self.log.name)
            with open(self.log.name, "rb") as lines:
                for line in lines:
                    if b'"http.listening"' in line and line.endswith(b"\n"):
                        self.port = json.loads(line)["port"]
            time.sleep(0.002)
        self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def post(self, path, body, kind="application/json"):
        self.http.request("POST", path, body, {"Content-Type": kind})
        answer = self.http.getresponse()
        self.said = answer.read().decode(errors="replace")
        return answer.status

    def pending(self):
        self.http.request("GET", "/metrics/prometheus")
        for line in self.http.getresponse().read().decode().splitlines():
            if line.startswith("sluice_wal_pending_events "):
                return int(float(line.split()[1]))
        raise SystemExit("drain.py: the server does not say how much is pending")

    def memory(self):
        """(anonymous, of files) bytes resident: LMDB's pages count as a file's, and the kernel takes those back."""
        with open("/proc/%d/status" % self.child.pid, encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        return [int(fields[name].split()[0]) << 10 for name in ("RssAnon", "RssFile")]

    def end(self, how):
        self.child.send_signal(how)
        self.child.wait(60)
        self.log.close()


class Database:
    def __init__(self, directory):
        self.directory = directory
        self.run([MARIADB, "start", directory, "--", "--innodb-buffer-pool-size=1G", "--max-statement-time=0"])

    @staticmethod
    def run(command, **options):
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout

    def url(self):
        return self.run([MARIADB, "url", self.directory]).strip()

    def client(self):
        return ["mariadb", "--no-defaults", "--socket=" + os.path.join(self.directory, "s"), "-uroot", "--batch",
                "--skip-column-names", "--local-infile=1", "--default-character-set=utf8mb4"]

    def sql(self, text):
        return self.run(self.client(), input=text)

    def stop(self):
        self.run([MARIADB, "stop", self.directory])


def fill(program, directory, events):
    """A log of the EVENTS events of half an hour, of which a database has seen none."""
    server = Server(program, directory)
    server.wait_port()
    begin = int(time.time()) - 1800
    for first in range(0, events, BULK):
        lines = (json.dumps(event(n, begin + n * 1800 // events)) for n in range(first, min(first + BULK, events)))
        status = server.post("/events/bulk?ids=0", "\n".join(lines).encode(), "application/x-ndjson")
        if status != 202:
            raise SystemExit("drain.py: a bulk was answered %d: %s" % (status, server.said))
    server.end(signal.SIGKILL)


def drain(program, directory, url, events):
    """Starts on the log and drains it. Prints the start and the drain; returns events per second."""
    server = Server(program, directory, DB_URL=url)
    server.wait_port()
    while server.post("/ingest", json.dumps({"service": "first", "status": 200, "latency_ms": 1}).encode()) != 202:
        time.sleep(0.01)
    ack_ms = (time.monotonic() - server.began) * 1000
    anonymous = of_files = 0
    begin = None
    while True:
        now, left = time.monotonic(), server.pending()
        memory = server.memory()
        anonymous, of_files = max(anonymous, memory[0]), max(of_files, memory[1])
        if begin is None and left <= events - PARTITIONS * ROWS:
            begin = (now, left)
        if left == 0:
            break
        time.sleep(0.1)
    rate = begin[1] / (now - begin[0])
    server.end(signal.SIGTERM)
    print("drain work=start pending=%d first_ack_ms=%.0f anon_mib=%.0f file_mib=%.0f" % (events, ack_ms, anonymous / 2**20, of_files / 2**20))
    print("drain work=drain server=sluice events=%d events_s=%.0f" % (begin[1], rate), flush=True)


def export(database, directory, events):
    """The drained rows as LOAD DATA wants them, a file per transaction; returns the files of each partition's connection."""
    os.mkdir(directory, 0o1777)
    os.chmod(directory, 0o1777)  # for a database that runs as another user
    found = [[] for _ in range(PARTITIONS)]
    node = database.sql("SELECT HEX(node_id) FROM sluice.events LIMIT 1").strip()  # seq is the second part of a key
    statements = []
    for number, first in enumerate(range(0, events, ROWS)):
        path = os.path.join(directory, "%d.tsv" % number)
        found[number % PARTITIONS].append(path)
        statements.append(
            "SELECT * FROM sluice.events WHERE node_id = 0x%s AND seq > %d AND seq <= %d INTO OUTFILE '%s' CHARACTER SET binary;"
            % (node, first, first + ROWS, path)
        )
    database.sql("\n".join(statements))
    return found


def load(database, files):
    """The peer. Into a new table like the server's own, so with the same keys."""
    database.sql("DROP DATABASE IF EXISTS peer; CREATE DATABASE peer; CREATE TABLE peer.events LIKE sluice.events;")
    children = []
    began = time.monotonic()
    for paths in files:
        child = subprocess.Popen(database.client(), stdin=subprocess.PIPE, text=True)
        children.append(child)
        for path in paths:
            child.stdin.write("START TRANSACTION; LOAD DATA LOCAL INFILE '%s' INTO TABLE peer.events CHARACTER SET binary; COMMIT;\n" % path)
        child.stdin.close()
    if any(child.wait() != 0 for child in children):
        raise SystemExit("drain.py: LOAD DATA failed")
    seconds = time.monotonic() - began
    rows = int(database.sql("SELECT COUNT(*) FROM peer.events"))
    print("drain work=drain server=load-data events=%d events_s=%.0f" % (rows, rows / seconds), flush=True)


def main():
    program, directory = sys.argv[1], os.path.abspath(sys.argv[2])
    events, rounds = int(sys.argv[3]), int(sys.argv[4])
    full = os.path.join(directory, "full")
    os.mkdir(full)
    fill(program, full, events)
    database = Database(os.path.join(directory, "mariadb"))
    files = None
    try:
        for _ in range(rounds):
            copy = os.path.join(directory, "log")
            shutil.copytree(full, copy)
            os.sync()
            database.sql("DROP DATABASE IF EXISTS sluice;")
            drain(program, copy, database.url(), events)
            shutil.rmtree(copy)
            files = files or export(database, os.path.join(directory, "rows"), events)
            load(database, files)
    finally:
        database.stop()


if __name__ == "__main__":
    main()
