"""MySQL over TLS, against a real MariaDB: who is believed, who is not, and that ingest never waits."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from certificates import Certificates

REFUSED = 2026  # the client library's number for everything TLS
NOT_ENCRYPTED = 3159  # what require_secure_transport answers; older servers say 1045


class DatabaseTls(runner.Drill):
    deadline_seconds = 120

    def setUp(self):
        super().setUp()
        self.certs = Certificates(self.path("certs"))
        self.certs.authority()
        self.certs.authority("other")
        self.certs.signed("database")
        self.certs.signed("elsewhere", names="subjectAltName=DNS:db.example.com,IP:192.0.2.1")

    def secure_database(self, cert="database", *options):
        db = self.database(
            options=[
                "--ssl-cert=" + self.certs.path(cert + ".pem"),
                "--ssl-key=" + self.certs.path(cert + ".key"),
                "--ssl-ca=" + self.certs.path("ca.pem"),
                "--require-secure-transport=ON",
                *options,
            ]
        )
        db.query("CREATE USER 'far'@'%' IDENTIFIED BY 'pass' REQUIRE SSL; GRANT ALL ON *.* TO 'far'@'%'")
        return db

    def url(self, db, query):
        return "mysql://far:pass@127.0.0.1:%d/%s%s" % (db.port, db.name, query)

    def checked(self, db):
        return self.url(db, "?tls=required&ca=" + self.certs.path("ca.pem"))

    def ingest(self, server, count, prefix="e"):
        with server.client() as client:
            for number in range(count):
                event = {"event_id": "%s%d" % (prefix, number), "service": "api", "status": 200, "latency_ms": 1}
                self.assertEqual(client.post("/ingest", event).status, 202)

    def arrives(self, db, server, count):
        server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM events"), count)

    def encrypted_sessions(self, db):
        return int(db.query("SHOW GLOBAL STATUS LIKE 'Ssl_finished_accepts'")[0][1])

    def wait_told(self, server, numbers):
        """The server says why it cannot use the database."""
        line = procs.wait_until(
            lambda: [line for line in server.lines() if line.get("event") == "mysql.unavailable"],
            30 * procs.SLOWNESS, "the refusal is logged",
        )[0]
        self.assertIn(line["number"], numbers, line)
        return line

    def waits(self, db, server):
        """Nothing gets into the database and ingest does not mind."""
        self.ingest(server, 30)
        self.assertEqual(server.pending(), 30)
        self.assertEqual(server.ready_status(), 200)
        self.assertFalse(db.has_table("events"))

    def finish(self, server):
        self.assertEqual(server.stop(), 0)
        self.check_stderr()

    def test_rows_arrive_encrypted(self):
        """The account and the server both take nothing else; the server counts what it took."""
        db = self.secure_database()
        server = self.server(DB_URL=self.checked(db))
        self.assertFalse([line for line in server.lines() if line["event"] == "serve.database_not_verified"])
        self.ingest(server, 200)
        self.arrives(db, server, 200)
        self.assertGreater(self.encrypted_sessions(db), 0)
        checked = server.command("verify", "--mysql")
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        db.kill()  # and once more after it was away
        self.ingest(server, 50, prefix="later")
        db.restart()
        self.arrives(db, server, 250)
        self.finish(server)

    def test_a_wrong_authority_is_refused_until_the_file_is_right(self):
        db = self.secure_database()
        trusted = self.certs.path("trusted.pem")
        with open(self.certs.path("other.pem"), "rb") as source, open(trusted, "wb") as target:
            target.write(source.read())
        server = self.server(
            DB_URL=self.url(db, "?tls=required&ca=" + trusted), DB_RETRY_BACKOFF_MAX_MS=500
        )
        self.wait_told(server, [REFUSED])
        self.waits(db, server)
        os.replace(self.certs.path("ca.pem"), trusted)
        self.arrives(db, server, 30)
        self.finish(server)

    def test_a_server_of_another_name_is_refused(self):
        db = self.secure_database("elsewhere")
        server = self.server(DB_URL=self.checked(db))
        self.wait_told(server, [REFUSED])
        self.waits(db, server)
        self.finish(server)

    def test_without_an_authority_it_is_encrypted_and_says_that_it_is_not_checked(self):
        db = self.secure_database("elsewhere")
        server = self.server(DB_URL=self.url(db, "?tls=required"))
        told = [line for line in server.lines() if line["event"] == "serve.database_not_verified"]
        self.assertEqual([line["level"] for line in told], ["warn"])
        self.ingest(server, 100)
        self.arrives(db, server, 100)
        self.assertGreater(self.encrypted_sessions(db), 0)
        self.finish(server)

    def test_plain_text_waits_where_it_is_not_wanted(self):
        db = self.secure_database()
        server = self.server(DB_URL=self.url(db, ""), DB_RETRY_BACKOFF_MAX_MS=500)
        self.wait_told(server, [NOT_ENCRYPTED, 1045])
        self.waits(db, server)
        db.query("SET GLOBAL require_secure_transport = OFF; ALTER USER 'far'@'%' REQUIRE NONE")
        self.arrives(db, server, 30)
        self.finish(server)

    def test_a_server_without_tls_is_not_talked_to(self):
        db = self.database(options=["--skip-ssl"])
        db.query("CREATE USER 'far'@'%' IDENTIFIED BY 'pass'; GRANT ALL ON *.* TO 'far'@'%'")
        for query in ("?tls=required", "?tls=required&ca=" + self.certs.path("ca.pem")):
            server = self.server(DB_URL=self.url(db, query), WAL_DIR=self.path("wal%d" % len(self.servers)))
            self.wait_told(server, [REFUSED])
            self.waits(db, server)
            self.finish(server)

    def test_an_authority_that_is_not_there_ends_the_start(self):
        for query, says in (
            ("?tls=required&ca=/nonexistent", "DB_URL's ca names a file that cannot be read: /nonexistent"),
            ("?ca=/nonexistent", "DB_URL has ca=FILE without tls=required"),
        ):
            server = self.server(start=False, DB_URL="mysql://far:pass@127.0.0.1:1/x" + query)
            server.launch()
            self.assertEqual(server.wait_exit(), 2)
            self.assertIn(says, server.tail())
            self.assertNotIn("pass@", server.tail())
            checked = server.command("check-config")
            self.assertEqual((checked.returncode, checked.stderr.strip()), (2, "sluice: " + says + (
                " (No such file or directory)" if "names" in says else ", which would check nothing")))


if __name__ == "__main__":
    runner.main()
