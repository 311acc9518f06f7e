"""What a power loss could have left of a directory, from the record of all writes and syncs to it.

The record comes from record_writes.c. The rules are those a disk with a volatile cache keeps: what
was written before a sync that has returned is there; of what was written later each sector of 512
bytes is there or not, for itself, in any order; a file that has grown may have its old length; a
new file may be missing until its directory was synced, and one that was renamed have its old name.
"""

import os
import re
import struct

SECTOR = 512
HEAD = struct.Struct("<BBHIQ")
SKIPPED = ("lock.mdb", "sluice.lock")  # hold nothing that outlives a process

_SINGLE = re.compile(rb'"event_id":"([^"]+)","status":"[a-z]+","duplicate":\w+,"seq":(\d+)')
_BULK = re.compile(rb'"event_ids":\[([^\]]*)\]')


class Note:
    def __init__(self, kind, file, offset, data):
        self.kind = kind
        self.file = file
        self.offset = offset
        self.data = data


def read_notes(path):
    """The record's notes in order, and the files' names by number. A half-written last one is dropped."""
    with open(path, "rb") as file:
        raw = file.read()
    notes, names = [], {}
    at = 0
    while at + HEAD.size <= len(raw):
        kind, number, _, length, offset = HEAD.unpack_from(raw, at)
        data = raw[at + HEAD.size : at + HEAD.size + length]
        at += HEAD.size + length
        if at > len(raw):
            break
        if kind == ord("O"):
            names[number] = data.decode()
        notes.append(Note(chr(kind), number, offset, data))
    return notes, names


def acks_in(sent):
    """What an answer promises: (event id, its seq or None) of each event it says is durable."""
    if not sent.startswith((b"HTTP/1.1 202", b"HTTP/1.1 200")):
        return []
    found = [(key.decode(), int(seq)) for key, seq in _SINGLE.findall(sent)]
    for ids in _BULK.findall(sent):
        found += [(key.decode(), None) for key in re.findall(rb'"([^"]*)"', ids)]
    return found


class _File:
    def __init__(self, content=None):
        self.there = content is not None  # its entry in the directory is durable
        self.former = None  # the name it had before, while it may still have it ...
        self.replaced = None  # ... and the file whose name it took
        self.synced = bytearray(content or b"")
        self.pending = []  # (offset, bytes) or (length, None) in order


class Disk:
    """The directory while the record is played. BASE: what durably was in it at the beginning."""

    def __init__(self, names, base=None, ignore_syncs=False):
        self.names = names
        self.ignore_syncs = ignore_syncs
        self.files = {name: _File(content) for name, content in (base or {}).items()}

    def play(self, note):
        name = self.names.get(note.file)
        if note.kind == "A" or name in SKIPPED:
            return
        if name == ".":
            if note.kind == "S":
                for file in self.files.values():
                    file.there = True
                    file.former = file.replaced = None
            return
        if note.kind == "R":
            self._rename(name, note.data.decode())
            return
        file = self.files.setdefault(name, _File())
        if note.kind in "WD":
            file.pending.append((note.offset, note.data))
        elif note.kind == "T":
            file.pending.append((note.offset, None))
        elif note.kind in "SE" and not self.ignore_syncs:
            self._settle(file, note.kind)

    def _rename(self, name, to):
        file = self.files.pop(name)
        file.former = name if file.there else None
        file.replaced = self.files.get(to)
        file.there = False
        self.files[to] = file

    @staticmethod
    def _settle(file, kind):
        """A sync settles all; the end of a durable write that one alone, which is the last."""
        settled = file.pending if kind == "S" else file.pending[-1:]
        file.pending = [] if kind == "S" else file.pending[:-1]
        for offset, data in settled:
            _write(file.synced, offset, data)

    def pending_sectors(self):
        return sum(
            (len(data) + SECTOR - 1) // SECTOR
            for file in self.files.values()
            for _, data in file.pending
            if data is not None
        )

    def crash(self, random):
        """One legal state, as {name: bytes}, and what was chosen in words."""
        way = random.choice(("nothing", "all", "sectors", "few", "most", "writes", "cut"))
        state = {}
        for name, file in self.files.items():
            if not file.there and random.random() < 0.5:
                if file.replaced is not None:
                    state[name] = bytes(self._survivor(file.replaced, way, random))
                name = file.former
            if name is not None:
                state[name] = bytes(self._survivor(file, way, random))
        return state, way

    @staticmethod
    def _survivor(file, way, random):
        content = bytearray(file.synced)
        share = {"nothing": 0.0, "all": 1.0, "sectors": 0.5, "few": 0.1, "most": 0.9}.get(way)
        last = random.randrange(len(file.pending)) if file.pending else 0
        for number, (offset, data) in enumerate(file.pending):
            if data is None:
                if random.random() < 0.5:
                    _write(content, offset, None)
                continue
            if way == "writes":
                if random.random() < 0.5:
                    _write(content, offset, data)
                continue
            if way == "cut":  # in order, the last one torn in the middle
                if number < last:
                    _write(content, offset, data)
                elif number == last:
                    _write(content, offset, data[: random.randrange(len(data) // SECTOR + 1) * SECTOR])
                continue
            at = 0
            while at < len(data):
                # To the next boundary of the disk's sectors, not of the write's own.
                end = min(len(data), at + SECTOR - (offset + at) % SECTOR)
                if random.random() < share:
                    _write(content, offset + at, data[at:end])
                at = end
        if len(content) > len(file.synced) and random.random() < 0.25:
            del content[len(file.synced) :]
        return content


def _write(content, offset, data):
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if not data:
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def write_state(state, directory):
    os.makedirs(directory)
    for name, content in state.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)
