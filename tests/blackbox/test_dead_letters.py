"""What MySQL refused: seen, replayed exactly once, discarded; over HTTP and by the command."""

import itertools
import json
import os
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner
from http_client import ConnectionLost
from proxy import Proxy

RANGE = "from=2020-01-01T00:00:00Z&to=2030-01-01T00:00:00Z"
DRIVER_WORDS = ("MariaDB", "MySQL", "socket", "SELECT", "root")


class DeadLetterCase(runner.Drill):
    """One MariaDB for all tests of a class; each has a database of its own in it."""

    deadline_seconds = 90

    def database(self):
        cls = type(self)
        if not hasattr(cls, "_shared") or cls._shared[0] is not cls:
            home = runner.Drill("run")
            runner.Drill.setUp(home)
            cls._shared = (cls, home, runner.Drill.database(home), itertools.count())
        _, _, db, number = cls._shared
        db.name = "letters%d" % next(number)
        db.query("CREATE DATABASE %s CHARACTER SET utf8mb4" % db.name, database="")
        return db

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "_shared") and cls._shared[0] is cls:
            cls._shared[1].doCleanups()

    def refuse(self, db, condition="event_name <> 'poison'"):
        db.query("ALTER TABLE events ADD CONSTRAINT no_poison CHECK (%s)" % condition)

    def take(self, db):
        db.query("ALTER TABLE events DROP CONSTRAINT no_poison")

    def poisoned(self, count, db=None, headers=(), **env):
        """A server, and COUNT events that MySQL took and COUNT it refused, ids p0 and so on."""
        db = db or self.database()
        server = self.server(db, DB_RETRY_BACKOFF_MAX_MS=200, **env)
        with server.client() as client:
            client.post("/events", {"type": "warm"}, headers)
        server.wait_drained()
        self.refuse(db)
        with server.client() as client:
            for n in range(2 * count):
                event = {"event_id": "p%d" % (n // 2), "event_name": "poison"}
                if n % 2 == 0:
                    event = {"event_id": "f%d" % (n // 2), "event_name": "fine"}
                if n % 4 < 2:
                    event.update(service="shop", status=500 if n % 8 == 1 else 200, latency_ms=n, properties={"n": n})
                else:
                    event.update(channel="web", user_id="u%d" % (n % 3), timestamp=1790000000 + n)
                self.assertEqual(client.post("/events", event, headers).status, 202)
        server.wait_drained()
        self.assertEqual(db.number("SELECT COUNT(*) FROM dead_letters"), count)
        return db, server

    def letters(self, server, query="", headers=()):
        with server.client() as client:
            answer = client.get("/dead-letters" + query, headers)
        self.assertEqual(answer.status, 200, answer)
        return answer.json()["dead_letters"]

    def replay(self, server, number, headers=()):
        with server.client() as client:
            return client.request("POST", "/dead-letters/%s/replay" % number, b"", headers)

    def discard(self, server, number, headers=()):
        with server.client() as client:
            return client.request("DELETE", "/dead-letters/%s" % number, b"", headers)

    def refused(self, answer, status, code):
        self.assertEqual((answer.status, answer.json()["error"]), (status, code), answer)
        for word in DRIVER_WORDS:
            self.assertNotIn(word, answer.text())

    def figures(self, server):
        """Everything that counts the events: totals, users, groups, SLOs."""
        found = []
        with server.client() as client:
            for query in ("", "&group_by=user_id", "&group_by=channel", "&user_id=u0"):
                answer = client.get("/v1/counts?event_name=poison&%s%s" % (RANGE, query))
                self.assertEqual(answer.status, 200, answer)
                body = answer.json()
                found.append((body["total_count"], body["unique_count"], body.get("groups")))
            answer = client.get("/slo/status?service=shop")
            self.assertEqual(answer.status, 200, answer)
            found.append(oracle.slo_totals(answer))
            found.append({n["event_name"]: n["total_count"] for n in client.get("/events/names").json()["names"]}["poison"])
        return found

    def conserved(self, db, server):
        self.assertEqual(oracle.audit_problems(db), [])
        self.assertEqual(oracle.slo_problems(db, server), [])
        self.assertEqual(oracle.verify_command(server), [])
        self.assertEqual(server.metric("sluice_audit_difference_events"), 0)


class DeadLetters(DeadLetterCase):
    def test_listed_replayed_and_discarded_without_moving_a_figure(self):
        db, server = self.poisoned(6)
        before = self.figures(server)
        self.assertEqual(before[0][0], 6)  # acked, so counted (P4)
        self.assertEqual(before[4], {"shop": (4, 2, 6)})
        self.conserved(db, server)

        newest = self.letters(server)
        self.assertEqual([l["event_id"] for l in newest], ["p5", "p4", "p3", "p2", "p1", "p0"])
        oldest = newest[-1]
        self.assertEqual((oldest["state"], oldest["tenant_id"], oldest["event_name"]), ("pending", "default", "poison"))
        self.assertEqual((oldest["error_code"], oldest["replayed_at"], oldest["discarded_at"]), (4025, None, None))
        self.assertIn("no_poison", oldest["reason"])
        self.assertEqual(oldest["payload"]["properties"], {"n": 1})
        walked, cursor = [], ""
        while cursor is not None:
            with server.client() as client:
                page = client.get("/dead-letters?limit=4&order=asc&cursor=" + cursor).json()
            walked += page["dead_letters"]
            cursor = page["next_cursor"]
        self.assertEqual([l["id"] for l in walked], sorted(l["id"] for l in newest))
        self.assertEqual(walked, newest[::-1])
        self.assertEqual(len(self.letters(server, "?tenant=default&event_name=poison&error_code=4025&reason=no_poison")), 6)
        self.assertEqual(self.letters(server, "?tenant=other"), [])
        procs.wait_until(lambda: server.metric("sluice_dead_letters_pending") == 6, 60, "the letters are counted")

        self.take(db)
        ids = {l["event_id"]: l["id"] for l in newest}
        answer = self.replay(server, ids["p0"])
        self.assertEqual((answer.status, answer.json()), (200, {"id": ids["p0"], "state": "replayed", "duplicate": False}))
        self.refused(self.replay(server, ids["p0"]), 409, "conflict")
        self.refused(self.discard(server, ids["p0"]), 409, "conflict")
        self.assertEqual(self.discard(server, ids["p1"]).status, 204)
        self.refused(self.replay(server, ids["p1"]), 409, "conflict")
        self.refused(self.replay(server, 10**12), 404, "not_found")
        self.refused(self.discard(server, "-1"), 404, "not_found")
        self.assertEqual([l["event_id"] for l in self.letters(server, "?state=replayed")], ["p0"])
        self.assertEqual([l["event_id"] for l in self.letters(server, "?state=discarded")], ["p1"])
        self.assertEqual(len(self.letters(server)), 4)
        self.assertEqual(len(self.letters(server, "?state=all")), 6)
        row = db.query("SELECT HEX(node_id), seq, service, status, properties FROM events WHERE event_id = 'p0'")
        self.assertEqual(row, [[oldest["node_id"].replace("-", "").upper(), str(oldest["seq"]), "shop", "500", '{"n":1}']])
        with server.client() as client:
            shown = client.get("/events?event_name=poison").json()["events"]
        self.assertEqual([e["event_id"] for e in shown], ["p0"])
        self.assertEqual(self.figures(server), before)
        self.conserved(db, server)

        server.kill()
        server.start()
        self.assertEqual(self.figures(server), before)
        with server.client() as client:
            again = client.post("/ingest", {"event_id": "p1", "service": "shop", "status": 200, "latency_ms": 1})
        self.assertTrue(again.json()["duplicate"], again)
        server.wait_drained()
        self.assertEqual(self.figures(server), before)
        self.conserved(db, server)
        self.check_stderr()

    def test_what_is_still_refused_says_why_and_stays(self):
        db, server = self.poisoned(1)
        db.query("ALTER TABLE events ADD CONSTRAINT fussier CHECK (event_name <> 'poison')")
        self.take(db)
        (letter,) = self.letters(server)
        answer = self.replay(server, letter["id"])
        self.assertEqual((answer.status, answer.json()["error"], answer.json()["error_code"]), (422, "event_refused", 4025))
        self.assertIn("fussier", answer.json()["reason"])
        self.assertNotIn("fussier", answer.json()["detail"])
        (now,) = self.letters(server)
        self.assertEqual(now, {**letter, "reason": answer.json()["reason"]})
        self.conserved(db, server)
        db.query("ALTER TABLE events DROP CONSTRAINT fussier")
        self.assertEqual(self.replay(server, letter["id"]).status, 200)
        self.conserved(db, server)

        # Without the database nothing is changed, and nobody is told why in the driver's words.
        db.stop()
        for answer in (self.replay(server, letter["id"]), self.discard(server, 1)):
            self.refused(answer, 503, "database_unavailable")
            self.assertIsNotNone(answer.header("retry-after"))
        with server.client() as client:
            answer = client.get("/dead-letters")
            self.refused(answer, 503, "database_unavailable")
            self.assertIsNotNone(answer.header("retry-after"))
            self.assertEqual(client.post("/events", {"type": "warm"}).status, 202)
        db.restart()
        procs.wait_until(lambda: self.replay(server, letter["id"]).status == 409, 60, "the database is back")
        self.check_stderr()

    def test_an_id_that_is_a_row_by_now_is_a_repeat(self):
        db, server = self.poisoned(1)
        self.take(db)
        other = self.server(db, WAL_DIR=self.path("other"))  # its log has never seen the id
        with other.client() as client:
            client.post("/ingest", {"event_id": "p0", "event_name": "poison", "service": "shop", "status": 500, "latency_ms": 1})
        other.wait_drained()
        other.stop()
        (letter,) = self.letters(server)
        answer = self.replay(server, letter["id"])
        self.assertEqual((answer.status, answer.json()["duplicate"]), (200, True), answer)
        self.assertEqual(db.number("SELECT COUNT(*) FROM events WHERE event_id = 'p0'"), 1)
        (letter,) = self.letters(server, "?state=replayed")
        self.assertTrue(letter["duplicate"])
        self.assertEqual(oracle.verify_command(server), [])
        self.check_stderr()

    def test_the_admin_alone_may_look_and_change(self):
        admin = {"X-API-Key": "boss"}
        acme = {"X-API-Key": "acme-key"}
        db, server = self.poisoned(2, headers=acme, API_KEYS="acme:acme-key,globex:globex-key", ADMIN_KEY="boss")
        with server.client() as client:
            client.post("/events", {"type": "poison", "id": "g"}, {"X-API-Key": "globex-key"})
        server.wait_drained()
        self.assertEqual(sorted(l["tenant_id"] for l in self.letters(server, "", admin)), ["acme", "acme", "globex"])
        (letter,) = self.letters(server, "?tenant=globex", admin)
        self.assertEqual(letter["event_id"], "g")
        for method, target in (
            ("GET", "/dead-letters"),
            ("GET", "/dead-letters?tenant=acme"),
            ("POST", "/dead-letters/%d/replay" % letter["id"]),
            ("DELETE", "/dead-letters/%d" % letter["id"]),
        ):
            with server.client() as client:
                self.refused(client.request(method, target), 401, "unauthorized")
                self.refused(client.request(method, target, b"", {"X-API-Key": "no"}), 401, "unauthorized")
                for key in ("acme-key", "globex-key"):
                    self.refused(client.request(method, target, b"", {"X-API-Key": key}), 403, "forbidden")
        self.assertEqual(len(self.letters(server, "?state=pending", admin)), 3)
        self.assertEqual(self.discard(server, letter["id"], admin).status, 204)
        self.assertEqual(self.letters(server, "?tenant=globex", admin), [])
        server.stop()
        alone = self.server(db, ADMIN_KEY="boss")
        with alone.client() as client:
            self.refused(client.get("/dead-letters"), 401, "unauthorized")
        self.assertEqual(len(self.letters(alone, "", admin)), 2)
        self.check_stderr()

    def test_killed_in_the_middle_and_asked_again_and_again_at_once(self):
        """A replay that is held up between its row and COMMIT, in a server that is killed there."""
        db, server = self.poisoned(3)
        self.take(db)
        first, second, third = (l["id"] for l in self.letters(server, "?order=asc"))
        gate = db.session("SELECT GET_LOCK('gate', 0);")
        db.query(
            "CREATE TRIGGER held AFTER INSERT ON events FOR EACH ROW"
            " SET @gate = GET_LOCK('gate', 60) + RELEASE_LOCK('gate')"
        )
        waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User lock'"
        client = server.client()
        client.connect()
        client.send(b"POST /dead-letters/%d/replay HTTP/1.1\r\nHost: h\r\n\r\n" % first)
        procs.wait_until(lambda: db.number(waiting) == 1, 60, "the replay has written its row")
        server.kill()
        with self.assertRaises((ConnectionLost, OSError)):
            client.read()
        client.close()
        gate.stdin.close()  # MySQL finds out that nobody is there, and rolls back
        gate.wait(30)
        server.start()
        procs.wait_until(lambda: self.replay(server, first).status in (200, 409), 60, "the replay is repeated")
        self.assertEqual(db.number("SELECT COUNT(*) FROM events WHERE event_id = 'p0'"), 1)
        self.conserved(db, server)
        db.query("DROP TRIGGER held")

        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(self.replay(server, second).status)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        commands = [server.command("dead-letters", "replay", str(second)) for _ in range(2)]
        for thread in threads:
            thread.join()
        won = answers.count(200) + sum(done.returncode == 0 for done in commands)
        self.assertEqual((won, set(answers) - {200}), (1, {409} if 200 in answers else {409}), answers)
        self.assertEqual(db.number("SELECT COUNT(*) FROM events WHERE event_id = 'p1'"), 1)
        self.assertEqual([l["id"] for l in self.letters(server)], [third])
        self.conserved(db, server)
        self.check_stderr()

    # ---- the command ----

    def run_it(self, server, *args, code=0):
        done = server.command("dead-letters", *args)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def test_list_show_replay_and_discard_beside_a_live_server(self):
        db, server = self.poisoned(5)
        text = self.run_it(server, "list").stdout.splitlines()
        self.assertEqual(len(text), 5)
        self.assertIn("no_poison", text[0])
        letters = [json.loads(line) for line in self.run_it(server, "list", "--format=ndjson").stdout.splitlines()]
        self.assertEqual(letters, self.letters(server))
        self.assertEqual(len(self.run_it(server, "list", "--limit", "2").stdout.splitlines()), 2)
        self.assertEqual(self.run_it(server, "list", "--tenant=other").stdout, "")
        self.assertEqual(len(self.run_it(server, "list", "--reason=no_poison", "--error-code=4025").stdout.splitlines()), 5)
        ids = [str(l["id"]) for l in letters][::-1]
        shown = self.run_it(server, "show", ids[0], ids[1]).stdout
        self.assertIn("event_id    p0", shown)
        self.assertIn('"properties":{"n":1}', shown)
        self.assertIn("there is no letter 999", self.run_it(server, "show", "999", code=1).stderr)

        done = self.run_it(server, "replay", "--all", code=1)
        self.assertIn("%s still refused: 4025 " % ids[0], done.stdout)
        self.assertIn("0 replayed, 0 of them repeats; 5 not", done.stdout)
        self.take(db)
        self.assertEqual(self.run_it(server, "replay", ids[0], ids[1]).stdout, "%s replayed\n%s replayed\n" % (ids[0], ids[1]))
        self.assertEqual(self.run_it(server, "discard", ids[2]).stdout, "%s discarded\n" % ids[2])
        done = self.run_it(server, "replay", ids[0], "999", ids[2], code=1)
        self.assertEqual(done.stdout.count("was replayed or discarded before"), 2)
        self.assertIn("999 there is no such letter", done.stdout)
        before = self.figures(server)
        self.assertEqual(self.run_it(server, "replay", "--all", "--tenant=other").stdout.splitlines(), ["0 replayed, 0 of them repeats; 0 not"])
        done = self.run_it(server, "replay", "--all", "--tenant=default", "--format=ndjson")
        self.assertEqual(
            [json.loads(line) for line in done.stdout.splitlines()],
            [{"id": int(n), "done": True, "duplicate": False, "result": "replayed"} for n in ids[3:]],
        )
        self.assertEqual(len(self.run_it(server, "list", "--state=replayed").stdout.splitlines()), 4)
        self.assertEqual(len(self.run_it(server, "list", "--state=all").stdout.splitlines()), 5)
        self.assertEqual(self.figures(server), before)
        self.conserved(db, server)
        self.assertIn("4 of the dead letters have become rows since", server.command("verify", "--mysql").stdout.replace("\n", " "))
        db.query("DELETE FROM events WHERE event_id = 'p0'")
        done = server.command("verify", "--mysql")
        self.assertEqual(done.returncode, 1)
        self.assertIn("has neither row nor dead letter", done.stdout)
        self.check_stderr()

    def test_what_is_wrong_with_the_arguments_is_said(self):
        server = self.server(start=False, DB_URL="mysql://root@/none?socket=/nonexistent/socket")
        for args, text in (
            ((), "list, show, replay or discard"),
            (("look",), "list, show, replay or discard"),
            (("show",), "which letters?"),
            (("replay",), "--all"),
            (("replay", "7", "--all"), "either ids or --all"),
            (("replay", "x"), "'x' is no letter's id"),
            (("replay", "0"), "'0' is no letter's id"),
            (("discard", "--all"), "--all belongs to replay"),
            (("list", "7"), "list takes no ids"),
            (("show", "7", "--tenant=a"), "--tenant does not go with show"),
            (("replay", "--all", "--state=all"), "--state does not go with replay"),
            (("list", "--state=lost"), "--state must be"),
            (("list", "--limit=0"), "--limit must be"),
            (("list", "--error-code=x"), "--error-code must be"),
            (("list", "--format=xml"), "--format must be"),
            (("list", "--bogus=1"), "--bogus"),
            (("list", "--db-port=x"), "DB_PORT"),
        ):
            done = self.run_it(server, *args, code=2)
            self.assertIn(text, done.stderr)
            self.assertEqual(done.stdout, "")
        self.assertIn("the database cannot be read", self.run_it(server, "list", code=1).stderr)
        self.assertIn("nothing was changed", self.run_it(server, "replay", "7", code=1).stdout)
        text = self.run_it(server, "--help").stdout
        self.assertIn("usage: sluice dead-letters list|show|replay|discard [ID ...] [FLAG ...]", text)
        self.assertIn("--tenant=NAME", text)
        self.assertIn("DB_URL", text)
        self.assertNotIn("HTTP_THREADS", text)
        alone = self.server(start=False)
        self.assertIn("set DB_URL", self.run_it(alone, "list", code=2).stderr)

    def test_a_lost_answer_to_commit_is_settled(self):
        """The command alone goes through the relay, so each COMMIT there is a replay's."""
        db, server = self.poisoned(3)
        self.take(db)
        fates = []
        proxy = Proxy(db.port, lambda: fates.pop(0) if fates else "pass")
        self.addCleanup(proxy.close)
        first, second, third = (str(l["id"]) for l in self.letters(server, "?order=asc"))
        through = "--db-url=mysql://root@127.0.0.1:%d/%s" % (proxy.port, db.name)
        fates[:] = ["no_answer"]
        self.assertEqual(self.run_it(server, "replay", first, through).stdout, first + " replayed\n")
        fates[:] = ["no_request", "no_request"]
        self.assertEqual(self.run_it(server, "replay", second, through).stdout, second + " replayed\n")

        def end():
            proxy.refusing = True
            return "no_answer"

        proxy.decide = end
        done = self.run_it(server, "replay", third, first, through, code=1)
        self.assertEqual(done.stdout, third + " the answer was lost: changed or not; asking again is safe\n")
        proxy.decide = lambda: "pass"
        proxy.allow()
        self.assertEqual(self.run_it(server, "replay", third, through, code=1).stdout, third + " was replayed or discarded before\n")
        self.assertEqual(proxy.counts["no_answer"], 2)
        self.assertEqual(db.number("SELECT COUNT(*) FROM events WHERE event_name = 'poison'"), 3)
        self.conserved(db, server)
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
