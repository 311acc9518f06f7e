"""Power loss at every write: what the server asks of its disk is recorded, and from the record legal
states are built (tests/lib/crash_states.py): any sectors of what was not synced, torn at 512 bytes.

Each state is opened with the real binary. Every event whose answer was sent before is there, under
its number, once; numbers have no gap. Sizes: BOUNDARY_STATES (60) looked at, every tenth served too;
BOUNDARY_STARTS (3) servers one after the other on such states.
"""

import json
import os
import shutil
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import crash_states
import procs
import runner
from http_client import ConnectionLost


class Producer(threading.Thread):
    """Sends events one after the other until told to stop; every so often a bulk too big to stage."""

    def __init__(self, server, name, bulks):
        super().__init__(daemon=True)
        self.server = server
        self.prefix = name
        self.bulks = bulks
        self.stopping = threading.Event()

    def run(self):
        number = 0
        try:
            with self.server.client() as client:
                while not self.stopping.is_set():
                    number += 1
                    key = "%s-%d" % (self.prefix, number)
                    if self.bulks and number % 80 == 0:
                        events = [
                            {"type": "bulk", "id": "%s-%d" % (key, i), "payload": {"text": "y" * 300}}
                            for i in range(250)
                        ]
                        client.post("/events/bulk", events)
                    else:
                        size = (10, 200, 3000)[number % 3]
                        client.post("/events", {"type": "one", "id": key, "payload": {"text": "x" * size}})
                    time.sleep(0.001)
        except (OSError, ConnectionLost):
            pass  # the server was killed


class WriteBoundaries(runner.Drill):
    deadline_seconds = 600

    def setUp(self):
        super().setUp()
        self.recorder = self.path("record_writes.so")
        source = os.path.join(procs.ROOT, "tests", "lib", "record_writes.c")
        if shutil.which("cc") is None:
            self.skipTest("no compiler here")
        procs.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", self.recorder, source, "-ldl"])
        self.states = 0
        self.staged_states = 0

    def record(self, name, base, seconds, db=None, **env):
        """A server on BASE under load; kill -9. Returns the notes and the files' names."""
        wal, record = self.path(name, "wal"), self.path(name, "record")
        crash_states.write_state(base, wal)
        server = self.server(
            db, start=False, WAL_DIR=wal, LD_PRELOAD=self.recorder, RECORD_DIR=wal, RECORD_FILE=record, **env
        )
        server.start()
        producers = [Producer(server, "%s-%d" % (name, i), bulks=i == 0) for i in range(6)]
        for producer in producers:
            producer.start()
        time.sleep(seconds)
        server.kill()
        for producer in producers:
            producer.stopping.set()
            producer.join()
        return crash_states.read_notes(record)

    def moments(self, notes, count):
        """COUNT places in the record, in order; a third of them in the start, which has few."""
        places = [i for i, note in enumerate(notes) if note.kind in "WDES"]
        early = self.random.choices(places[:30], k=count // 3)
        return sorted(early + self.random.choices(places, k=count - len(early)))

    def events(self, server):
        """What the log holds, as {seq: id}; checks that no number is missing."""
        done = server.command("cat")
        self.assertEqual(done.returncode, 0, done.stdout[-1000:] + done.stderr[-1000:])
        found = {}
        for line in done.stdout.splitlines():
            event = json.loads(line)
            self.assertNotIn(event["seq"], found)
            found[event["seq"]] = event["event_id"]
        if found:
            self.assertEqual(sorted(found), list(range(min(found), max(found) + 1)))
        self.assertEqual(len(set(found.values())), len(found), "an event is there twice")
        return found

    def lost(self, found, acked, trimmed):
        """Acknowledged events that FOUND does not have; those before its beginning go to TRIMMED."""
        by_id = {key: seq for seq, key in found.items()}
        oldest = min(found) if found else 0
        missing = []
        for key, seq in acked.items():
            if key in by_id and (seq is None or by_id[key] == seq):
                continue
            if trimmed is not None and key not in by_id and oldest > 1 and (seq is None or seq < oldest):
                trimmed.add(key)
            else:
                missing.append((key, seq, by_id.get(key)))
        return missing

    def look(self, state, acked, what, trimmed=None, serve=False):
        wal = self.path("state")
        shutil.rmtree(wal, True)
        crash_states.write_state(state, wal)
        server = self.server(None, start=False, WAL_DIR=wal)
        staged = 0
        if acked:  # before the first start has ended there may be nothing to look at
            verify = server.command("verify")
            self.assertEqual(verify.returncode, 0, "%s: %s%s" % (what, verify.stdout, verify.stderr))
            missing = self.lost(self.events(server), acked, trimmed)
            self.assertEqual(missing, [], "%s: acknowledged and lost" % what)
            staged = json.loads(server.command("inspect", "--format=json").stdout)["staged"]
        if serve:
            self.serve(server, acked, what, trimmed)
        self.servers.remove(server)
        self.states += 1
        self.staged_states += staged > 0
        return staged

    def serve(self, server, acked, what, trimmed):
        """A start on the state takes all of it, knows the ids again, and goes on counting where it ended."""
        before = self.events(server) if acked else {}
        server.start()
        with server.client() as client:
            known = [(key, seq) for seq, key in before.items() if key in acked]
            for key, seq in self.random.sample(known, min(5, len(known))):
                answer = client.post("/events", {"type": "again", "id": key})
                self.assertIn(answer.status, (200, 409), what)
                if answer.status == 200:
                    self.assertEqual(answer.json()["seq"], seq, what)
            answer = client.post("/events", {"type": "after", "id": "after the loss"})
            self.assertEqual(answer.status, 202, what)
            if before:
                self.assertEqual(answer.json()["seq"], max(before) + 1, what)
        if self.random.random() < 0.5:
            server.kill()
        else:
            server.stop()
        self.assertEqual(server.command("verify").returncode, 0, what)
        after = self.events(server)
        self.assertEqual(after[max(after)], "after the loss", what)
        missing = self.lost(after, {**acked, **{key: seq for seq, key in before.items()}}, trimmed)
        self.assertEqual(missing, [], "%s: lost by the start" % what)
        server.destroy()

    def walk(self, name, notes, names, base, acked, count, trimmed=None):
        """Looks at COUNT states of one record. ACKED grows by what was answered on the way. Returns a
        late state whose stage holds something, and what had been acknowledged by then."""
        disk = crash_states.Disk(names, base)
        kept = None
        place = 0
        for number, moment in enumerate(self.moments(notes, count)):
            for note in notes[place : moment + 1]:
                disk.play(note)
                if note.kind == "A":
                    acked.update(crash_states.acks_in(note.data))
            place = moment + 1
            state, way = disk.crash(self.random)
            what = "%s, after note %d of %d (%s), %s of what was in flight" % (
                name, moment, len(notes), notes[moment].kind, way,
            )
            staged = self.look(state, acked, what, trimmed, serve=number % 10 == 0)
            if kept is None or (staged > 0 and number > count // 2):
                kept = (state, dict(acked))
        return kept

    def test_every_acked_event_is_in_every_state_a_power_loss_can_leave(self):
        """Also of servers that start on such a state: what they write again meanwhile may be torn, too."""
        starts = procs.int_env("BOUNDARY_STARTS", 3)
        count = procs.int_env("BOUNDARY_STATES", 60) // (starts + 1)
        state, acked = {}, {}
        staged = []
        for number in range(starts):
            name = "start%d" % number
            notes, names = self.record(name, state, 1)
            staged += [
                line["staged"] for line in self.servers[-1].lines() if line.get("event") == "wal.opened"
            ]
            state, acked = self.walk(name, notes, names, state, acked, count)
        self.say("%d states, %d of them with staged events; the starts found %s staged",
                 self.states, self.staged_states, staged)
        self.assertGreater(self.staged_states, 0)
        self.check_stderr()

    def test_the_first_start_may_end_anywhere(self):
        """Nothing is acknowledged yet, but the next start must not need anybody's help."""
        notes, names = self.record("first", {}, 0)
        count = procs.int_env("BOUNDARY_STATES", 60) // 3
        # The log's own file is made by the first dozen of notes.
        places = [i for i, note in enumerate(notes) if note.kind in "OWDESTR"][:60]
        moments = sorted(self.random.choices(places[:20], k=count // 2) + self.random.choices(places, k=count // 2))
        disk = crash_states.Disk(names)
        place = 0
        for moment in moments:
            for note in notes[place : moment + 1]:
                disk.play(note)
            place = moment + 1
            state, way = disk.crash(self.random)
            self.look(state, {}, "after note %d (%s), %s of what was in flight" % (moment, notes[moment].kind, way), serve=True)
        self.check_stderr()

    def test_nor_is_one_lost_while_mysql_takes_them_and_the_log_is_trimmed(self):
        db = self.database()
        count = procs.int_env("BOUNDARY_STATES", 60) // 4
        trimmed = set()
        notes, names = self.record(
            "mysql", {}, 2, db, WAL_RETAIN_BYTES="256KiB", WAL_MAX_BYTES="64MiB", BATCH_MAX_MS="5"
        )
        self.walk("mysql", notes, names, {}, {}, count, trimmed)
        stored = {row[0] for row in db.query("SELECT event_id FROM events")}
        self.assertEqual(trimmed - stored, set(), "trimmed, and MySQL does not have it")
        self.say("%d states, %d events trimmed", self.states, len(trimmed))
        self.check_stderr()

    def test_without_the_syncs_events_would_be_lost(self):
        """The drill itself: were the syncs of the same record worth nothing, it would show."""
        notes, names = self.record("probe", {}, 1)
        disk = crash_states.Disk(names, ignore_syncs=True)
        acked = {}
        for note in notes:
            disk.play(note)
            if note.kind == "A":
                acked.update(crash_states.acks_in(note.data))
        self.assertGreater(len(acked), 50)
        with self.assertRaises(AssertionError):
            for _ in range(20):
                self.look(disk.crash(self.random)[0], acked, "no syncs")


if __name__ == "__main__":
    runner.main()
