"""inspect, cat and verify: beside a live server, on damaged files, and the audit against MySQL."""

import collections
import json
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from load import Load, Plan
from sluice import Server

PAGE = 4096
NODE = "UNHEX(REPLACE('%s', '-', ''))"


class Audit(runner.Drill):
    deadline_seconds = 120

    def look(self, server, *args, code=0):
        done = server.command(*args)
        self.assertEqual(
            done.returncode, code, "%r: %s%s" % (args, done.stdout[-2000:], done.stderr[-2000:])
        )
        self.assertNotRegex(done.stderr, "Sanitizer|runtime error|rc_assert")
        return done

    def inspect(self, server):
        return json.loads(self.look(server, "inspect", "--format=json").stdout)

    def events(self, server, *args):
        return [json.loads(line) for line in self.look(server, "cat", *args).stdout.splitlines()]

    def fill(self, server, count, size=40):
        """COUNT events; every third has the client's id, so a second fill repeats those."""
        with server.client() as client:
            for n in range(count):
                body = {"type": "filler", "payload": {"n": n, "text": "x" * size}}
                if n % 3 == 0:
                    body["id"] = "filler-%d" % n
                self.assertIn(client.post("/events", body).status, (200, 202))

    def data_file(self, server):
        return os.path.join(server.wal_dir, "data.mdb")


class Looking(Audit):
    def test_inspect_tells_what_was_sent(self):
        server = self.server(WAL_PARTITIONS=3)
        empty = self.inspect(server)
        self.assertEqual((empty["oldest_seq"], empty["last_seq"], empty["records"]), (0, 0, 0))
        self.assertIsNone(empty["oldest_created_at"])
        self.assertEqual(empty["starts"], 1)
        self.fill(server, 30)
        for live in (True, False):
            size = os.path.getsize(self.data_file(server))
            found = self.inspect(server)
            # What is staged enters the file whenever it likes, and the file never shrinks.
            self.assertLessEqual(size, found["file_bytes"])
            self.assertLessEqual(found["file_bytes"], os.path.getsize(self.data_file(server)))
            self.assertEqual((found["oldest_seq"], found["last_seq"], found["records"]), (1, 30, 30))
            self.assertEqual(found["pending_events"], 30)
            self.assertEqual([p["pending_events"] for p in found["partitions"]], [30, 0, 0])
            self.assertEqual(found["ids"], 10)
            self.assertEqual((found["epoch"], found["starts"], found["format_version"]), (1, 1, 2))
            self.assertGreaterEqual(found["oldest_age_seconds"], 0)
            self.assertRegex(found["node_id"], "^[0-9a-f-]{36}$")
            text = self.look(server, "inspect").stdout
            self.assertIn(found["node_id"], text)
            self.assertRegex(text, r"(?m)^last seq +30$")
            if live:
                server.stop()
        server.start()
        self.assertEqual((self.inspect(server)["epoch"], self.inspect(server)["starts"]), (2, 2))

    def test_what_is_staged_is_seen_after_a_kill(self):
        """An acked event is in the stage before the log's own file has it."""
        server = self.server(WAL_PARTITIONS=2)
        staged = 0
        for round_number in range(1, 4):
            self.fill(server, 7)
            server.kill()
            found = self.inspect(server)
            staged += found["staged"]
            sent = self.events(server)
            # 3 of 7 have ids of the client's, repeats from the second round on.
            self.assertEqual(len(sent), 7 + (round_number - 1) * 4)
            self.assertEqual((found["last_seq"], found["records"]), (len(sent), len(sent)))
            self.assertEqual((found["pending_events"], found["ids"]), (len(sent), 3))
            self.look(server, "verify")
            server.start()
        self.assertGreater(staged, 0)

    def test_a_damaged_stage_is_said_and_not_started_with(self):
        server = self.server()
        with server.client() as client:
            for number in range(4):
                self.assertEqual(client.post("/events", {"type": "t", "id": "s%d" % number}).status, 202)
        server.kill()
        if self.inspect(server)["staged"] < 4:
            self.skipTest("the machine was too slow: the log has taken the events in already")
        with open(os.path.join(server.wal_dir, "stage.bin"), "r+b") as file:
            file.seek(4096 + 60)
            byte = file.read(1)
            file.seek(4096 + 60)
            file.write(bytes([byte[0] ^ 1]))
        done = self.look(server, "verify", code=1)
        self.assertRegex(done.stdout + done.stderr, r"\b2\b.*stage")
        self.assertEqual([e["event_id"] for e in self.events(server, "--to=1")], ["s0"])
        server.launch()
        self.assertEqual(server.wait_exit(20), 1)
        self.assertIn("wal.stage_damaged", server.tail())

    def test_what_cat_prints_is_the_event_and_can_be_sent_again(self):
        first = self.server()
        shapes = [
            ("/ingest", {"service": 'a "b"', "status": 503, "latency_ms": 0.1, "more": [1, {"x": None}]}),
            ("/ingest", {"service": "s", "status": 200, "latency_ms": 1e-9, "event_id": "t-1"}),
            (
                "/events",
                {
                    "event_name": "signup",
                    "timestamp": "2024-05-06T07:08:09.123456Z",
                    "event_id": "a-1",
                    "properties": {"plan": "pro", "n": 12345678901234567890, "é": "☃"},
                },
            ),
            (
                "/events",
                {
                    "event_name": "click",
                    "channel": "web",
                    "user_id": "u1",
                    "timestamp": 1700000000,
                    "campaign_id": "c",
                    "tags": ["x", "y"],
                    "metadata": {"a": 1},
                },
            ),
            ("/events", {"type": "deploy", "id": "g-1", "payload": {"deep": {"er": [True]}}}),
        ]
        with first.client() as client:
            for target, body in shapes:
                self.assertIn(client.post(target, body).status, (201, 202))
            spread = '{"type":"spread","id":"g-2","payload":{\r\n "a" :\n1,"b":"\\n"\n}}'
            headers = [("Content-Type", "application/json")]
            self.assertEqual(client.post("/events", spread, headers).status, 202)
        lines = self.look(first, "cat").stdout.splitlines()
        self.assertEqual(len(lines), len(shapes) + 1, "one event is one line")
        events = [json.loads(line) for line in lines]
        self.assertEqual([event["seq"] for event in events], [1, 2, 3, 4, 5, 6])
        for event in events:
            self.assertEqual(event["tenant"], "default")
            self.assertRegex(event["created_at"], r"^\d{4}-\d\d-\d\dT[0-9:.]+Z$")
        self.assertEqual(events[0]["service"], 'a "b"')
        self.assertEqual((events[0]["status"], events[0]["latency_ms"]), (503, 0.1))
        self.assertEqual(events[0]["properties"], {"more": [1, {"x": None}]})
        self.assertEqual(events[1]["latency_ms"], 1e-9)
        self.assertEqual(events[2]["timestamp"], "2024-05-06T07:08:09.123456Z")
        self.assertIn('"n": 12345678901234567890'.replace(" ", ""), lines[2].replace(" ", ""))
        self.assertEqual(events[2]["properties"]["é"], "☃")
        self.assertEqual((events[3]["channel"], events[3]["timestamp"]), ("web", 1700000000))
        self.assertEqual((events[3]["tags"], events[3]["campaign_id"]), (["x", "y"], "c"))
        self.assertEqual(events[5]["properties"], {"a": 1, "b": "\n"})

        second = self.server(WAL_DIR=self.path("wal2"))
        with second.client() as client:
            headers = [("Content-Type", "application/json")]
            for line in lines:
                self.assertIn(client.post("/events", line, headers).status, (201, 202), line)
        names = ("event_id", "event_name", "timestamp", "service", "status", "latency_ms")
        names += ("channel", "user_id", "campaign_id", "tags")
        for old, new in zip(events, self.events(second)):
            self.assertEqual([old.get(name) for name in names], [new.get(name) for name in names])
            kept = new["properties"]
            self.assertEqual({name: kept.get(name) for name in old.get("properties", {})},
                             old.get("properties", {}))
        with first.client() as client:
            answer = client.post("/events", lines[2], [("Content-Type", "application/json")])
            self.assertEqual((answer.status, answer.json()["duplicate"]), (200, True))

    def test_cat_prints_the_range_asked_for(self):
        server = self.server()
        self.fill(server, 50)
        for args, wanted in (
            (("--from", "10", "--to=12"), [10, 11, 12]),
            (("--from=49",), [49, 50]),
            (("--to", "2"), [1, 2]),
            (("--from=50", "--to=99"), [50]),
            (("--from=51",), []),
        ):
            self.assertEqual([event["seq"] for event in self.events(server, *args)], wanted, args)

    def test_wrong_usage_is_exit_2_and_names_the_flag(self):
        server = self.server(start=False)
        for args, text in (
            (("cat", "--from", "0"), "--from"),
            (("cat", "--from", "1x"), "--from"),
            (("cat", "--from=-1"), "--from"),
            (("cat", "--from=18446744073709551616"), "--from"),
            (("cat", "--to"), "--to needs a value"),
            (("cat", "--from=5", "--to=4"), "--from must not be after --to"),
            (("cat", "--mysql"), "--mysql"),
            (("inspect", "--format=xml"), "--format"),
            (("inspect", "now"), "now"),
            (("verify", "--mysql=yes"), "--mysql takes no value"),
            (("verify", "--mysql"), "DB_URL"),
            (("verify", "--bogus"), "--bogus"),
            (("verify", "--wal-max-bytes=x"), "WAL_MAX_BYTES"),
        ):
            done = self.look(server, *args, code=2)
            self.assertIn(text, done.stderr)
            self.assertEqual(done.stdout, "")

    def test_help_of_each_tells_of_its_own_flags(self):
        server = self.server(start=False)
        for name, flag in (("inspect", "--format="), ("cat", "--from=SEQ"), ("verify", "--mysql")):
            text = self.look(server, name, "--help").stdout
            self.assertIn("usage: sluice " + name, text)
            self.assertIn(flag, text)
            self.assertIn("WAL_DIR", text)
            self.assertNotIn("HTTP_THREADS", text)
            self.assertIn(" %s " % name, self.look(server, "--help").stdout)
        self.assertIn("DB_URL", self.look(server, "verify", "--help").stdout)
        self.assertNotIn("WAL_DIR", self.look(server, "version", "--help").stdout)

    def test_a_directory_without_a_log_is_said_and_stays_as_it_was(self):
        server = self.server(start=False)
        for name in ("inspect", "cat", "verify"):
            self.assertIn("No such file", self.look(server, name, code=2).stderr)
            self.assertFalse(os.path.exists(server.wal_dir))
        os.mkdir(server.wal_dir)
        for name in ("inspect", "cat", "verify"):
            self.assertIn("there is no log in", self.look(server, name, code=2).stderr)
            self.assertEqual(os.listdir(server.wal_dir), [])
        os.rmdir(server.wal_dir)
        with open(server.wal_dir, "w"):
            pass
        self.assertIn("not a directory", self.look(server, "inspect", code=2).stderr)

    def test_nothing_is_created_or_changed(self):
        server = self.server()
        self.fill(server, 20)
        server.stop()
        os.remove(os.path.join(server.wal_dir, "lock.mdb"))
        os.remove(os.path.join(server.wal_dir, "sluice.lock"))
        with open(self.data_file(server), "rb") as file:
            before = file.read()
        for name in ("inspect", "cat", "verify"):
            self.look(server, name)
        self.assertEqual(sorted(os.listdir(server.wal_dir)), ["data.mdb", "stage.bin"])
        with open(self.data_file(server), "rb") as file:
            self.assertEqual(file.read(), before)
        server.start()
        self.assertEqual(self.inspect(server)["records"], 20)

    def test_without_permission_it_says_so(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to become somebody else")
        server = self.server()
        self.fill(server, 3)
        binary = self.path("sluice")
        shutil.copy(Server.binary(), binary)
        os.chmod(binary, 0o755)

        def as_nobody(name):
            return procs.run(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary, name],
                check=False,
                env=server._environment(),
            )

        if as_nobody("version").returncode != 0:
            self.skipTest("cannot run the program as somebody else")
        done = as_nobody("inspect")
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("Permission denied", done.stderr)
        os.chmod(server.wal_dir, 0o755)
        done = as_nobody("cat")
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("cannot be read", done.stderr)
        os.chmod(self.data_file(server), 0o644)
        done = as_nobody("cat")
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("use the server's user", done.stderr)

    def test_an_output_that_is_full_is_an_error(self):
        server = self.server()
        self.fill(server, 5)
        for name in ("inspect", "cat", "verify"):
            with open("/dev/full", "w") as full:
                done = subprocess.run(
                    [*server._command(), name],
                    env=server._environment(),
                    stdout=full,
                    stderr=subprocess.PIPE,
                    timeout=60,
                )
            self.assertEqual(done.returncode, 1, name)
            self.assertIn(b"cannot be written", done.stderr)


class Damage(Audit):
    """Flips bytes in a copy of a log and looks at it."""

    def filled(self, count=400):
        """A stopped server's log and its file's bytes."""
        server = self.server()
        self.fill(server, count)
        server.stop()
        with open(self.data_file(server), "rb") as file:
            return server, bytearray(file.read())

    def write(self, server, data):
        with open(self.data_file(server), "wb") as file:
            file.write(data)

    def spot(self, data, text):
        """Where TEXT lies in the newest copy of its page: LMDB leaves old ones behind."""
        found = [match.start() for match in re.finditer(re.escape(text), bytes(data))]
        self.assertTrue(found)
        return found

    def test_a_flipped_bit_in_a_body_is_named_and_the_rest_is_given(self):
        server, data = self.filled()
        for at in self.spot(data, b'"n":123,'):
            data[at + 4] ^= 1
        self.write(server, data)
        done = self.look(server, "verify", code=1)
        self.assertEqual(re.findall(r"FOUND (.*)", done.stdout), ["seq 124: its checksum does not match"])
        self.assertIn("1 found", done.stdout)
        self.assertIn("399 good", done.stdout)
        done = self.look(server, "cat", code=1)
        seqs = [json.loads(line)["seq"] for line in done.stdout.splitlines()]
        self.assertEqual(seqs, [seq for seq in range(1, 401) if seq != 124])
        self.assertIn("seq 124: its checksum", done.stderr)
        self.look(server, "cat", "--from=125")
        self.look(server, "inspect")

    def test_a_damaged_head_names_the_records_it_hides(self):
        server, data = self.filled()
        body = self.spot(data, b'"n":200,')
        wanted = (201).to_bytes(8, "little")
        for at in body:  # the head's seq lies before the body
            head = bytes(data).rfind(wanted, 0, at)
            self.assertLess(at - head, 400)
            data[head] ^= 0x80
        self.write(server, data)
        done = self.look(server, "verify", code=1)
        found = re.findall(r"FOUND (.*)", done.stdout)
        self.assertEqual(len(found), 1, found)
        self.assertRegex(found[0], "^seq 201: ")
        done = self.look(server, "cat", code=1)
        self.assertNotIn(201, [json.loads(line)["seq"] for line in done.stdout.splitlines()])

    def test_damaged_first_pages_are_said(self):
        server, good = self.filled(10)
        for at, count in ((0, 2 * PAGE), (16, 4)):
            data = bytearray(good)
            data[at : at + count] = bytes(count)
            self.write(server, data)
            for name in ("inspect", "cat", "verify"):
                self.assertRegex(self.look(server, name, code=1).stderr, "cannot be opened|damaged")
        self.write(server, b"")
        for name in ("inspect", "cat", "verify"):
            self.assertIn("is empty", self.look(server, name, code=1).stderr)

    def test_a_file_cut_off_is_said_and_no_command_crashes(self):
        server, good = self.filled()
        for part in (2, 3, 5, 10, len(good) // PAGE // 2, len(good) // PAGE - 4):
            self.write(server, good[: part * PAGE])
            done = self.look(server, "verify", code=1)
            self.assertTrue("FOUND" in done.stdout or "damaged" in done.stderr or done.stderr, done)
            for name in ("inspect", "cat"):
                self.assertIn(server.command(name).returncode, (0, 1, 2))

    def test_garbage_in_any_page_never_crashes_a_command_or_gives_a_wrong_record(self):
        server, good = self.filled(300)
        right = {}
        self.write(server, good)
        for event in self.events(server):
            right[event["seq"]] = event
        caught = 0
        pages = len(good) // PAGE
        for page in range(2, pages):
            data = bytearray(good)
            for _ in range(8):
                data[page * PAGE + self.random.randrange(PAGE)] ^= self.random.randrange(1, 256)
            self.write(server, data)
            verified = server.command("verify")
            self.assertIn(verified.returncode, (0, 1, 2), verified)
            self.assertNotRegex(verified.stderr, "Sanitizer|runtime error")
            caught += verified.returncode != 0
            done = server.command("cat")
            self.assertIn(done.returncode, (0, 1, 2), done)
            lines = done.stdout.split("\n")
            for line in lines[:-1]:
                event = json.loads(line)
                self.assertEqual(event, right[event["seq"]], "page %d" % page)
            if verified.returncode == 0:
                # Then the page was an old one, and cat is whole.
                self.assertEqual(len(lines) - 1, 300, "page %d: verify missed it" % page)
            if page >= 60:
                break
        self.say("damage found in %d of the pages", caught)
        self.assertGreater(caught, 5)

    def test_a_newer_format_is_refused_in_a_sentence(self):
        server, data = self.filled(5)
        state = self.state_record(data)
        for at, size in state:
            body = bytearray(data[at + 4 : at + size])
            body[0:4] = (3).to_bytes(4, "little")
            data[at : at + 4] = crc32c(body).to_bytes(4, "little")
            data[at + 4 : at + size] = body
        self.write(server, data)
        for name in ("inspect", "cat", "verify"):
            self.assertIn("newer version", self.look(server, name, code=1).stderr)

    def test_a_damaged_state_record_is_said(self):
        server, data = self.filled(5)
        for at, _ in self.state_record(data):
            data[at + 30] ^= 4
        self.write(server, data)
        for name in ("inspect", "cat", "verify"):
            self.assertIn("state record is damaged", self.look(server, name, code=1).stderr)

    def state_record(self, data, partitions=2):
        """Places of all copies of the state: it follows its key."""
        size = 48 + 8 * partitions
        found = [at + 5 for at in self.spot(data, b"state")]
        found = [at + (at & 1) for at in found]
        found = [
            (place, size)
            for at in found
            for place in (at - 1, at)
            if crc32c(data[place + 4 : place + size]).to_bytes(4, "little") == data[place : place + 4]
        ]
        self.assertTrue(found)
        return found


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


class Conservation(Audit):
    deadline_seconds = 240

    def verify(self, server, code=0):
        return self.look(server, "verify", "--mysql", code=code).stdout

    def account(self, text):
        """Sums over the partitions."""
        sums = collections.Counter()
        for line in re.findall(r"(?m)^partition .*$", text):
            numbers = re.search(
                r"accepted (\d+) = (\d+) rows \+ (\d+) dead letters \+ (\d+) repeats \+ (\d+) pending", line
            )
            names = ("accepted", "rows", "dead", "repeats", "pending")
            sums.update(dict(zip(names, map(int, numbers.groups()))))
        self.assertTrue(sums, text)
        return sums

    def test_a_live_server_under_load_always_adds_up(self):
        db = self.database()
        server = self.server(db, WAL_RETAIN_BYTES=0, BATCH_MAX_EVENTS=500, WAL_PARTITIONS=3)
        load = Load(
            self.dir,
            server.port,
            self.seed,
            plan=Plan(workers=1, connections=16, rate=6000, bulk_share=0.5, bulk_events=100),
        )
        self.addCleanup(load.kill)
        procs.wait_until(lambda: load.acked() > 500, 30, "the load runs")
        seen = []
        for number in range(30):
            if number == 10:
                db.pause()
            elif number == 14:
                db.resume()
            if 10 <= number < 14:
                text = self.look(server, "verify").stdout  # MySQL cannot be asked now
                self.assertIn("all good", text)
                self.look(server, "cat")
                continue
            text = self.verify(server)
            self.assertIn("difference  0", text)
            seen.append(self.account(text))
        self.assertTrue(all(a["accepted"] <= b["accepted"] for a, b in zip(seen, seen[1:])), seen)
        self.assertGreater(seen[-1]["accepted"], seen[0]["accepted"])
        load.stop()
        server.wait_drained()
        account = self.account(self.verify(server))
        self.assertEqual(account["pending"], 0)
        self.assertEqual(account["accepted"], self.inspect(server)["last_seq"])
        self.assertEqual(account["rows"], db.number("SELECT COUNT(*) FROM events"))
        self.say("trimmed up to %d of %d", self.inspect(server)["oldest_seq"], account["accepted"])
        server.stop()
        self.assertEqual(self.account(self.verify(server))["accepted"], account["accepted"])
        self.check_stderr()

    def test_pending_is_counted_while_the_database_is_away(self):
        db = self.database()
        server = self.server(db)
        self.fill(server, 20)
        server.wait_drained()
        server.kill()
        lonely = self.server(start=False, WAL_DIR=server.wal_dir)
        lonely.start()
        self.fill(lonely, 50)  # of these, 7 are repeats of the ids above
        lonely.stop()
        account = self.account(self.verify(server))
        self.assertEqual((account["accepted"], account["rows"], account["pending"]), (63, 20, 43))

    def drained(self, count=3000):
        db = self.database()
        server = self.server(db)
        load = Load(self.dir, server.port, self.seed, plan=Plan(workers=1, connections=8, events_max=count))
        load.join()
        server.wait_drained()
        server.stop()
        self.assertIn("difference  0", self.verify(server))
        return db, server

    def test_a_deleted_row_is_found_and_named(self):
        db, server = self.drained()
        db.query("DELETE FROM events WHERE seq IN (17, 1500, 1501)")
        text = self.verify(server, code=1)
        self.assertRegex(text, r"FOUND partition 0 has \d+ rows in events, its offset says \d+")
        self.assertIn("seq 17 to 17 has neither row nor dead letter", text)
        self.assertIn("seq 1500 to 1501 has neither row nor dead letter", text)
        self.assertRegex(text, "\n2 found")

    def test_an_invented_row_is_found(self):
        db, server = self.drained(200)
        db.query(
            "INSERT INTO events (node_id, seq, tenant_id, event_id, event_name, occurred_at, created_at)"
            " SELECT node_id, 999999, 't', 'i', 'n', NOW(), NOW() FROM events LIMIT 1"
        )
        text = self.verify(server, code=1)
        self.assertIn("FOUND seq 999999: MySQL has a row or dead letter beyond the offset", text)

    def test_rows_of_other_nodes_are_not_counted(self):
        db, server = self.drained(200)
        db.query(
            "INSERT INTO events (node_id, seq, tenant_id, event_id, event_name, occurred_at, created_at)"
            " VALUES (REPEAT('x', 16), 5, 't', 'i', 'n', NOW(), NOW())"
        )
        self.assertIn("difference  0", self.verify(server))

    def test_an_offset_moved_by_hand_is_found(self):
        db, server = self.drained(200)
        db.query("UPDATE replication_offsets SET last_seq = last_seq + 3 WHERE partition_id = 0")
        text = self.verify(server, code=1)
        self.assertRegex(text, "FOUND partition 0 differs by 3")
        self.assertRegex(text, r"FOUND seq \d+: MySQL is ahead of the log")

    def test_an_older_copy_of_the_log_is_recognised(self):
        db = self.database()
        server = self.server(db)
        self.fill(server, 10)
        server.wait_drained()
        server.stop()
        shutil.copytree(server.wal_dir, self.path("old"))
        server.start()
        self.fill(server, 40)
        server.wait_drained()
        server.stop()
        old = self.server(db, start=False, WAL_DIR=self.path("old"))
        text = self.verify(old, code=1)
        self.assertIn("it is an older copy", text)
        self.assertIn("MySQL is ahead of the log", text)

    def test_a_database_that_went_back_counts_as_pending_while_the_log_holds_it(self):
        db, server = self.drained(500)
        db.query("DELETE FROM events")
        db.query("DELETE FROM dead_letters")
        db.query("UPDATE replication_offsets SET last_seq = 0, stored = 0, dead = 0, duplicates = 0")
        text = self.verify(server)
        account = self.account(text)
        self.assertEqual(account["accepted"], account["pending"])
        self.assertIn("went back in time", text)

    def test_a_damaged_pending_record_is_a_difference(self):
        db = self.database()
        db.stop()
        server = self.server(db)
        self.fill(server, 50)
        server.stop()
        db.restart()
        with open(self.data_file(server), "rb") as file:
            data = bytearray(file.read())
        for match in list(re.finditer(rb'"n":20,', bytes(data))):
            data[match.start() + 4] ^= 1
        with open(self.data_file(server), "wb") as file:
            file.write(data)
        # The schema is not there yet: the server never met its database.
        self.assertIn("cannot be read", self.look(server, "verify", "--mysql", code=1).stderr)
        other = self.server(db, WAL_DIR=self.path("other"))
        other.wait_drained()
        other.stop()
        procs.wait_until(lambda: db.has_table("replication_offsets"), 10, "the schema is there")
        text = self.verify(server, code=1)
        self.assertIn("FOUND seq 21: its checksum does not match", text)
        self.assertIn("difference  1", text)

    def test_a_database_that_cannot_be_reached_is_said_and_none_is_created(self):
        db = self.database()
        server = self.server(db)
        self.fill(server, 3)
        server.stop()
        before = db.query("SHOW DATABASES")
        server.env["DB_URL"] = db.url.replace("/sluice?", "/nowhere?")
        done = self.look(server, "verify", "--mysql", code=1)
        self.assertIn("the database cannot be read", done.stderr)
        self.assertEqual(db.query("SHOW DATABASES"), before)
        db.stop()
        done = self.look(server, "verify", "--mysql", code=1)
        self.assertIn("not finished", done.stdout)


if __name__ == "__main__":
    runner.main()
