"""`sluice import`: files of events into a real server, exactly once, whatever is killed meanwhile.

Sizes: IMPORT_EVENTS (50000) per file and IMPORT_KILLS (12) of the import, and half as many of the server.
"""

import csv
import fcntl
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from certificates import Certificates

EVENTS = procs.int_env("IMPORT_EVENTS", 50000)
KILLS = procs.int_env("IMPORT_KILLS", 12)


class Import(runner.Drill):
    deadline_seconds = 600

    def tearDown(self):
        self.check_stderr()

    # ---- files ----

    def ndjson(self, name, count, own_ids=False):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            for i in range(count):
                event = {"service": "s%d" % (i % 3), "status": 200, "latency_ms": i % 100, "n": i}
                if own_ids:
                    event["event_id"] = "own-%d" % i
                file.write(json.dumps(event) + "\n")
        return path

    def csv(self, name, count):
        path = self.path(name)
        with open(path, "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)  # CRLF, quotes where needed
            rows.writerow(["event_name", "timestamp", "n", "note"])
            for i in range(count):
                rows.writerow(["page,view", "2024-01-01T00:00:00Z", i, 'two\nlines, "%d"' % i])
        return path

    # ---- the command ----

    def command(self, server, *args):
        environment = server._environment()
        return dict(
            args=[*server._command(), "import", *args], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run_import(self, server, *args, code=0, text=None):
        done = subprocess.run(**self.command(server, *args), input=text, timeout=300 * procs.SLOWNESS)
        err = done.stderr.decode("utf-8", "replace")
        self.assertEqual(done.returncode, code, err)
        return done.stdout.decode(), err

    def counts(self, out):
        return tuple(int(part.split("=")[1]) for part in out.split())

    def start_import(self, server, *args):
        command = self.command(server, *args)
        command.update(stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        child = procs.spawn(command.pop("args"), **command)
        self.addCleanup(procs.end, child)
        return child

    # ---- what came of it ----

    def check_rows(self, db, server, count, where="1 = 1"):
        """Each of the members n from 0 to COUNT - 1 is in exactly one row."""
        server.wait_drained()
        rows = db.query("SELECT JSON_VALUE(properties, '$.n') FROM events WHERE " + where)
        numbers = sorted(int(row[0]) for row in rows)
        self.assertEqual(len(numbers), count)
        self.assertEqual(numbers, list(range(count)))
        self.assertEqual(db.number("SELECT COUNT(*) FROM dead_letters"), 0)

    def test_ndjson_and_csv_become_one_row_per_element(self):
        db = self.database()
        server = self.server(db)
        out, _ = self.run_import(server, self.ndjson("a.ndjson", EVENTS))
        self.assertEqual(self.counts(out), (EVENTS, 0, 0))
        out, _ = self.run_import(server, self.csv("b.csv", EVENTS))
        self.assertEqual(self.counts(out), (EVENTS, 0, 0))
        self.check_rows(db, server, EVENTS, "service IS NOT NULL")
        self.check_rows(db, server, EVENTS, "event_name = 'page,view'")
        note = db.query("SELECT JSON_VALUE(properties, '$.note') = 'two\\nlines, \"7\"' FROM events"
                        " WHERE JSON_VALUE(properties, '$.n') = 7 AND event_name = 'page,view'")
        self.assertEqual(note, [["1"]])

    def kill_import(self, server, path, *args):
        """Kills the import again and again at random moments, then lets it finish."""
        kills = 0
        again = ()
        while kills < KILLS:
            child = self.start_import(server, path, "--batch=500", *again, *args)
            time.sleep(self.random.uniform(0.0, 0.12) * procs.SLOWNESS)
            if child.poll() is None:
                kills += 1
            again = () if procs.end(child) != 0 else ("--restart",)  # done already: once more
        out, err = self.run_import(server, path, "--batch=700", *args)
        self.say("kills of the import=%d: %s", kills, out.strip())
        return out, err

    def test_killed_import_goes_on_and_doubles_nothing(self):
        db = self.database()
        server = self.server(db)
        out, err = self.kill_import(server, self.ndjson("a.ndjson", EVENTS))
        self.assertEqual(self.counts(out)[0], EVENTS)
        self.assertEqual(self.counts(out)[2], 0)
        self.check_rows(db, server, EVENTS)

    def test_killed_import_of_csv_goes_on_behind_rows_that_span_lines(self):
        db = self.database()
        server = self.server(db)
        out, _ = self.kill_import(server, self.csv("a.csv", EVENTS))
        self.assertEqual(self.counts(out)[0], EVENTS)
        self.check_rows(db, server, EVENTS)

    def test_server_killed_meanwhile_loses_and_doubles_nothing(self):
        db = self.database()
        server = self.server(db, HTTP_PORT=procs.free_port())
        path = self.ndjson("a.ndjson", EVENTS)
        child = self.start_import(server, path, "--batch=200")
        for _ in range(max(2, KILLS // 2)):
            time.sleep(self.random.uniform(0.02, 0.2))
            server.kill()
            if child.poll() is not None:
                self.assertEqual(child.returncode, 0)
                child = self.start_import(server, path, "--batch=200", "--restart")
            server.start()
        self.assertEqual(child.wait(300 * procs.SLOWNESS), 0)
        self.check_rows(db, server, EVENTS)

    def test_answer_that_is_lost_makes_a_repeat_that_is_recognised(self):
        """A proxy forwards each first bulk and swallows its answer."""
        server = self.server()
        lost = []

        class Swallow(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with server.client() as client:
                    kind = ("Content-Type", self.headers["Content-Type"])
                    answer = client.request("POST", self.path, body, [kind])
                if body not in lost:
                    lost.append(body)
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_):
                pass

        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Swallow)
        self.addCleanup(proxy.server_close)
        self.addCleanup(proxy.shutdown)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        out, err = self.run_import(server, self.ndjson("a.ndjson", 300), "--batch=100",
                                   "--url=http://127.0.0.1:%d/" % proxy.server_port)
        self.assertEqual(len(lost), 3)
        self.assertEqual(self.counts(out), (300, 300, 0))
        self.assertIn("waiting", err)
        self.assertEqual(server.metric("sluice_events_acked_total"), 300)

    # ---- files as they come ----

    def test_elements_keep_their_ids_and_line_ends_do_not_matter(self):
        db = self.database()
        server = self.server(db)
        path = self.path("odd.ndjson")
        with open(path, "wb") as file:
            file.write(b'\xef\xbb\xbf{"type":"t","n":0}\r\n\r\n{"event_id":null,"type":"t","n":1}\r\n')
            file.write(b'{"event_id":"mine","type":"t","n":2}\n{"event_id":"", "type":"t","n":3}\n')
            file.write(b'{"id":"also mine","type":"t","n":4}\n{}\n{"type":"t","n":5}')
        out, _ = self.run_import(server, path, "--name=odd")
        self.assertEqual(self.counts(out), (7, 0, 0))
        server.wait_drained()
        ids = db.query("SELECT event_id FROM events ORDER BY seq")
        self.assertEqual([row[0] for row in ids],
                         ["odd-1", "odd-3", "mine", "odd-5", "also mine", "odd-7", "odd-8"])
        self.check_rows(db, server, 6, "JSON_VALUE(properties, '$.n') IS NOT NULL")

    def test_same_file_again_is_recognised_and_another_one_is_not(self):
        server = self.server()
        first = self.ndjson("a.ndjson", 100)
        self.run_import(server, first)
        out, err = self.run_import(server, first)
        self.assertIn("imported before", err)
        self.assertEqual(self.counts(out), (100, 0, 0))
        out, _ = self.run_import(server, first, "--restart")
        self.assertEqual(self.counts(out), (100, 100, 0))
        copy = self.ndjson("copy.ndjson", 100)
        out, _ = self.run_import(server, copy)
        self.assertEqual(self.counts(out), (100, 100, 0))
        longer = self.ndjson("longer.ndjson", 101)
        out, _ = self.run_import(server, longer)
        self.assertEqual(self.counts(out), (101, 0, 0))

    def test_changed_file_is_not_taken_for_the_one_that_was_begun(self):
        server = self.server(start=False, HTTP_PORT=procs.free_port())
        path = self.ndjson("a.ndjson", 100)
        server.start()
        self.run_import(server, path)
        with open(path, "r+b") as file:
            file.write(b'{"service":"x')
        out, err = self.run_import(server, path, code=1)
        self.assertEqual(out, "")
        self.assertIn("has changed", err)
        self.assertEqual(server.metric("sluice_events_acked_total"), 100)
        _, err = self.run_import(server, path, "--restart", "--name=other")
        self.assertEqual(server.metric("sluice_events_acked_total"), 200)
        _, err = self.run_import(server, path, code=1)
        self.assertIn("--name", err)
        _, err = self.run_import(server, path, "--name=other", "--url=http://127.0.0.1:1", code=1)
        self.assertIn("--url", err)

    def test_stdin_is_read_to_its_end(self):
        server = self.server()
        text = b"".join(b'{"type":"t","n":%d}\n' % i for i in range(20000))
        out, _ = self.run_import(server, "-", text=text)
        self.assertEqual(self.counts(out), (20000, 0, 0))
        out, _ = self.run_import(server, "-", "--format=csv", text=b"type,n\r\nt,1\r\nt,2")
        self.assertEqual(self.counts(out), (2, 0, 0))
        out, _ = self.run_import(server, "-", text=b"")
        self.assertEqual(self.counts(out), (0, 0, 0))
        self.assertEqual(server.metric("sluice_events_acked_total"), 20002)

    # ---- refusals ----

    def bad_file(self):
        path = self.path("bad.ndjson")
        with open(path, "wb") as file:
            file.write(b'{"type":"t","n":0}\n{"service":"s","status":9,"latency_ms":1}\nno json \x01\n')
            file.write(b'{"type":"' + b"x" * 70000 + b'"}\n{"type":"t","n":1}\n')
            # Only the server's clock can tell.
            file.write(b'{"event_name":"e","timestamp":"2999-01-01T00:00:00Z"}\n{"type":"t","n":2}\n')
        return path

    def test_refused_elements_are_told_by_line_and_kept(self):
        server = self.server()
        rejects = self.path("rejects")
        out, err = self.run_import(server, self.bad_file(), "--rejects", rejects, code=1)
        self.assertEqual(self.counts(out), (3, 0, 4))
        with open(rejects, encoding="utf-8") as file:
            found = {line["line"]: line for line in map(json.loads, file)}
        self.assertEqual(sorted(found), [2, 3, 4, 6])
        self.assertEqual([found[n]["code"] for n in (2, 3, 4, 6)],
                         ["validation_error", "invalid_json", "body_too_large", "validation_error"])
        self.assertEqual(found[2]["text"], '{"service":"s","status":9,"latency_ms":1}')
        self.assertEqual(found[3]["text"], "no json \x01")
        self.assertNotIn("text", found[4])
        self.assertIn("2999", found[6]["text"])
        for line in (2, 3, 4, 6):
            self.assertIn("line %d:" % line, err)
        out, _ = self.run_import(server, self.path("bad.ndjson"), code=1)  # done, and still not all good
        self.assertEqual(self.counts(out), (3, 0, 4))

    def test_atomic_sends_nothing_of_a_file_with_one_bad_element(self):
        server = self.server()
        path = self.ndjson("a.ndjson", 12000)
        with open(path, "ab") as file:
            file.write(b"[]\n")
        out, err = self.run_import(server, path, "--mode=atomic", code=1)
        self.assertEqual(self.counts(out), (0, 0, 1))
        self.assertIn("line 12001:", err)
        self.assertEqual(server.metric("sluice_events_received_total"), 0)
        out, _ = self.run_import(server, self.ndjson("a.ndjson", 12000), "--mode=atomic")
        self.assertEqual(self.counts(out), (12000, 0, 0))

    def test_rejects_of_a_killed_run_are_not_written_twice(self):
        server = self.server()
        path, rejects = self.path("a.ndjson"), self.path("rejects")
        with open(path, "w", encoding="utf-8") as file:
            for i in range(EVENTS):
                file.write('{"type":%s}\n' % ('"t"' if i % 10 else "7"))
        for _ in range(KILLS):
            child = self.start_import(server, path, "--batch=500", "--rejects=" + rejects)
            time.sleep(self.random.uniform(0.0, 0.1) * procs.SLOWNESS)
            procs.end(child)
        out, _ = self.run_import(server, path, "--rejects=" + rejects, code=1)
        self.assertEqual(self.counts(out)[0], EVENTS - EVENTS // 10)
        with open(rejects, encoding="utf-8") as file:
            lines = [json.loads(line)["line"] for line in file]
        self.assertEqual(lines, list(range(1, EVENTS + 1, 10)))

    def test_csv_that_breaks_off_stores_what_stands_before(self):
        server = self.server()
        path = self.path("broken.csv")
        with open(path, "w", encoding="utf-8") as file:
            file.write('type,n\nt,1\nt,2\nt,"3\nt,4\n')
        out, err = self.run_import(server, path, code=1)
        self.assertEqual(self.counts(out), (2, 0, 0))
        self.assertIn("quoted cell is not closed", err)

    # ---- servers that say no ----

    def test_key_is_needed_and_a_wrong_one_ends_it(self):
        server = self.server(API_KEYS="acme:right,globex:other")
        path = self.ndjson("a.ndjson", 10)
        _, err = self.run_import(server, path, code=1)
        self.assertIn("401", err)
        _, err = self.run_import(server, path, "--api-key=wrong", code=1)
        self.assertIn("401 unauthorized", err)
        self.assertNotIn("wrong", err)
        out, _ = self.run_import(server, path, "--api-key", "right")
        self.assertEqual(self.counts(out), (10, 0, 0))
        server.env["SLUICE_API_KEY"] = "other"
        out, _ = self.run_import(server, path, "--restart")
        self.assertEqual(self.counts(out), (10, 0, 0))

    def test_only_key_of_the_settings_is_used(self):
        server = self.server(API_KEYS="acme:right")
        out, _ = self.run_import(server, self.ndjson("a.ndjson", 10))
        self.assertEqual(self.counts(out), (10, 0, 0))

    def test_https_and_whom_to_trust(self):
        certs = Certificates(self.path("certs"))
        certs.authority()
        certs.authority("other")
        certs.signed("server")
        server = self.server(
            start=False, TLS_CERT_FILE=certs.path("server.pem"), TLS_KEY_FILE=certs.path("server.key")
        )
        server.tls = certs.client()
        server.start()
        path = self.ndjson("a.ndjson", 10)
        url = "--url=https://127.0.0.1:%d" % server.port
        _, err = self.run_import(server, path, url, code=1)
        self.assertIn("certificate", err)
        _, err = self.run_import(server, path, url, "--cacert=" + certs.path("other.pem"), code=1)
        self.assertIn("certificate", err)
        self.assertEqual(server.metric("sluice_events_received_total"), 0)
        out, _ = self.run_import(server, path, url, "--cacert=" + certs.path("ca.pem"))
        self.assertEqual(self.counts(out), (10, 0, 0))

    def test_terminal_gets_a_bar_that_moves_and_goes(self):
        server = self.server()
        screen, terminal = os.openpty()
        self.addCleanup(os.close, screen)
        command = self.command(server, self.ndjson("a.ndjson", EVENTS), "--batch=100")
        command.update(stderr=terminal)
        child = procs.spawn(command.pop("args"), **command)
        self.addCleanup(procs.end, child)
        os.close(terminal)
        shown = b""
        while True:
            try:
                piece = os.read(screen, 65536)
            except OSError:  # the last one who held the terminal has ended
                break
            if not piece:
                break
            shown += piece
        self.assertEqual(child.wait(60 * procs.SLOWNESS), 0)
        bars = re.findall(rb"\[(#*)(\.*)\] ([0-9.]+) % ([0-9]+) events", shown)
        for full, empty, share, _ in bars:
            self.assertEqual(len(full) + len(empty), 24)
            self.assertAlmostEqual(len(full) + 0.5, 24 * float(share) / 100, delta=0.52)  # printed to 0.1 %
        self.assertEqual([float(bar[2]) for bar in bars], sorted(float(bar[2]) for bar in bars))
        self.assertIn(b"\r\x1b[K", shown)
        self.assertNotIn(b"[#", shown.rsplit(b"\r\x1b[K", 1)[1])

    def test_full_log_is_waited_for(self):
        db = self.database()
        db.pause()
        self.addCleanup(db.resume)
        server = self.server(db, start=False, WAL_MAX_BYTES=1 << 20, WAL_RETAIN_BYTES=0)
        server.start()
        count = 20000  # more than the log holds
        child = self.start_import(server, self.ndjson("a.ndjson", count), "--batch=1000")
        procs.wait_until(lambda: server.metric('sluice_events_rejected_total{reason="log_full"}'),
                         120 * procs.SLOWNESS, "the log is full")
        self.assertIsNone(child.poll())
        db.resume()
        self.assertEqual(child.wait(300 * procs.SLOWNESS), 0)
        self.check_rows(db, server, count)

    def test_rate_limit_is_kept_to(self):
        server = self.server(RATE_LIMIT_RPS=2000, RATE_LIMIT_BURST=600)
        out, _ = self.run_import(server, self.ndjson("a.ndjson", 3000), "--batch=1000")
        self.assertEqual(self.counts(out), (3000, 0, 0))

    def test_smaller_limits_of_the_server_split_the_bulks(self):
        server = self.server(MAX_BULK_EVENTS=64, MAX_EVENT_BYTES=1024, MAX_BODY_BYTES=4096)
        path = self.ndjson("a.ndjson", 1000)
        with open(path, "ab") as file:
            file.write(b'{"type":"%s"}\n' % (b"x" * 5000))
        for name in ("MAX_BULK_EVENTS", "MAX_EVENT_BYTES", "MAX_BODY_BYTES"):
            del server.env[name]
        out, err = self.run_import(server, path, code=1)
        self.assertEqual(self.counts(out), (1000, 0, 1))
        self.assertIn("line 1001:", err)

    def test_server_that_is_away_is_waited_for_as_long_as_asked(self):
        server = self.server(start=False, HTTP_PORT=procs.free_port())
        path = self.ndjson("a.ndjson", 10)
        _, err = self.run_import(server, path, "--timeout=1", code=1)
        self.assertIn("waiting for http://127.0.0.1", err)
        self.assertIn("given up", err)
        child = self.start_import(server, path)
        server.start()
        self.assertEqual(child.wait(60 * procs.SLOWNESS), 0)
        self.assertEqual(server.metric("sluice_events_acked_total"), 10)

    def test_two_imports_of_one_file_do_not_run_at_once(self):
        server = self.server()
        path = self.ndjson("a.ndjson", 10)
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # as the other import would
            _, err = self.run_import(server, path, code=1)
        self.assertIn("another process", err)
        self.run_import(server, path)

    def test_bad_arguments_are_usage_errors(self):
        server = self.server(start=False, HTTP_PORT=1)
        path = self.ndjson("a.ndjson", 1)
        for args in ((), ("x.txt",), (path, path), (path, "--mode=x"), (path, "--batch=0"), (path, "--url=ftp://x"),
                     (path, "--format=xml"), (path, "--name="), (path, "--nonsense=1"), ("-", "--mode=atomic"),
                     (path, "--timeout=soon")):
            with self.subTest(args=args):
                out, err = self.run_import(server, *args, code=2)
                self.assertEqual(out, "")
                self.assertTrue(err.startswith("sluice import: "), err)
        self.run_import(server, self.path("none.csv"), code=1)
        done = server.command("import", "--help")
        self.assertEqual(done.returncode, 0)
        for word in ("FILE", "--rejects=PATH", "--api-key=KEY", "HTTP_PORT"):
            self.assertIn(word, done.stdout)


if __name__ == "__main__":
    runner.main()
