"""Compares what clients were told with what the database holds, id by id.

Rules: an acked event is in events or dead_letters exactly once; any other at most once; one that was
only ever refused is not there at all; a row holds what was sent; sequence numbers have no gap; the
SLO figures equal the rows and the dead letters. A letter that was replayed is a row, or a repeat of one.
"""

import collections

from load import ACKED, LOST, UNKNOWN

_ROWS = (
    "SELECT HEX(node_id), seq, tenant_id, event_id, event_name, IFNULL(service,''), IFNULL(status,''),"
    " IFNULL(latency_ms,''), IFNULL(channel,''), IFNULL(user_id,''), IFNULL(campaign_id,''),"
    " TIMESTAMPDIFF(SECOND,'1970-01-01',occurred_at), IFNULL(is_good,'') FROM events"
)


# Measured events, each once: rows, and dead letters that are no row yet.
_MEASURED = (
    "SELECT service, %s FROM ("
    "SELECT tenant_id, service, is_good AS good FROM events WHERE service IS NOT NULL AND status IS NOT NULL"
    " UNION ALL SELECT tenant_id, JSON_VALUE(payload, '$.service'), JSON_VALUE(payload, '$.status') < 500"
    " FROM dead_letters WHERE replayed_at IS NULL AND JSON_EXISTS(payload, '$.service')"
    " AND JSON_EXISTS(payload, '$.status')) measured %s"
)


class Verdict:
    def __init__(self):
        self.sent = self.acked = self.found = self.dead = self.attempts = self.repeats = 0
        self.lost = []  # acked but not there
        self.doubled = []  # there more than once
        self.refused_but_stored = []
        self.wrong = []  # a row that does not hold what was sent
        self.strangers = []  # rows nobody sent
        self.oddities = []
        self.gaps = []

    def problems(self):
        return [
            "%s: %d, first %r" % (name, len(found), found[:5])
            for name, found in (
                ("acked events lost", self.lost),
                ("events doubled", self.doubled),
                ("refused events stored", self.refused_but_stored),
                ("rows with other content", self.wrong),
                ("rows nobody sent", self.strangers),
                ("impossible answers", self.oddities),
                ("sequence", self.gaps),
            )
            if found
        ]

    def line(self):
        return (
            "events=%d attempts=%d acked=%d repeats=%d found=%d dead_letters=%d lost=%d doubled=%d"
            " refused_but_stored=%d wrong=%d"
        ) % (
            self.sent,
            self.attempts,
            self.acked,
            self.repeats,
            self.found,
            self.dead,
            len(self.lost),
            len(self.doubled),
            len(self.refused_but_stored),
            len(self.wrong),
        )


def _matches(row, want):
    name, service, status, latency, channel, user, campaign, second = want
    return (
        row[4] == name
        and row[5] == service
        and row[6] == status
        and (row[7] == "" if latency is None else row[7] != "" and abs(float(row[7]) - latency) < 1e-6)
        and row[8] == channel
        and row[9] == user
        and row[10] == campaign
        and int(row[11]) == second
        and (status == "" or row[12] == ("1" if int(status) < 500 else "0"))
    )


def compare(db, ledgers, own_prefixes=True):
    """The verdict over all LEDGERS; rows of other events (probes) are ignored unless OWN_PREFIXES."""
    verdict = Verdict()
    rows = collections.defaultdict(list)
    seqs = collections.defaultdict(list)
    for row in db.query(_ROWS):
        if row[2] == "_sluice":
            continue
        rows[row[3]].append(row)
        seqs[row[0]].append(int(row[1]))
    dead = collections.Counter()
    for event_id, node, seq in db.query(
        "SELECT event_id, HEX(node_id), seq FROM dead_letters WHERE replayed_at IS NULL"
    ):
        dead[event_id] += 1
        seqs[node].append(int(seq))
    verdict.found = sum(map(len, rows.values()))
    verdict.dead = sum(dead.values())

    for node, numbers in seqs.items():
        numbers.sort()
        if len(set(numbers)) != len(numbers):
            verdict.gaps.append("node %s has a seq twice" % node[:8])
        repeats = db.number(
            "SELECT IFNULL(SUM(duplicates), 0) FROM replication_offsets WHERE HEX(node_id) = '%s'" % node
        )
        if numbers[-1] != len(numbers) + repeats:
            verdict.gaps.append(
                "node %s: %d rows from seq %d to %d" % (node[:8], len(numbers), numbers[0], numbers[-1])
            )

    known = set()
    for ledger in ledgers:
        verdict.sent += ledger.count
        verdict.attempts += ledger.attempts
        verdict.acked += ledger.acked
        verdict.repeats += ledger.repeats
        verdict.oddities += ledger.oddities
        for event_id, flags, want, seq in ledger.each():
            known.add(event_id)
            have = rows.get(event_id, ())
            times = len(have) + dead.get(event_id, 0)
            if times > 1:
                verdict.doubled.append(event_id)
            elif times == 0 and flags & ACKED:
                verdict.lost.append(event_id)
            elif times and not flags & (ACKED | LOST | UNKNOWN):
                verdict.refused_but_stored.append(event_id)
            if have:
                if not _matches(have[0], want):
                    verdict.wrong.append((have[0], want))
                elif seq is not None and int(have[0][1]) != seq:
                    verdict.wrong.append((event_id, "acked as seq %d" % seq, "row has " + have[0][1]))
    if own_prefixes:
        verdict.strangers = [event_id for event_id in rows if event_id not in known]
    return verdict


def slo_totals(answer):
    """{service: (good, bad, total)} of a /slo/status answer."""
    return {
        item["service"]: (item["good"], item["bad"], item["total"])
        for item in answer.json()["services"]
        if item["total"]
    }


def slo_problems(db, server):
    """Differences between /slo/status and the rows of events, once drained."""
    with server.client() as client:
        answer = client.get("/slo/status")
    if answer.status != 200:
        return ["/slo/status: %r" % answer]
    told = slo_totals(answer)
    told.pop("_sluice", None)
    rows = {
        service: (int(good), int(total) - int(good), int(total))
        for service, good, total in db.query(
            _MEASURED % ("SUM(good), COUNT(*)", "WHERE tenant_id = 'default' GROUP BY service")
        )
    }
    if told != rows:
        return ["SLO figures (good, bad, total) are %r, rows and dead letters say %r" % (told, rows)]
    return []


def probe(db, server, event_id):
    """Sends one fresh event and sees it arrive; a problem as text, or nothing."""
    with server.client() as client:
        answer = client.post("/events", {"type": "probe", "id": event_id})
        if answer.status != 202:
            return ["a fresh event was answered %r" % answer]
    server.wait_drained()
    found = db.number("SELECT COUNT(*) FROM events WHERE event_id = '%s'" % event_id)
    return [] if found == 1 else ["a fresh event has %d rows" % found]


def audit_problems(db):
    """accepted = rows + dead letters + repeats MySQL found, per node; slices sum up to both."""
    problems = []
    offsets = db.query(
        "SELECT HEX(node_id), SUM(stored), SUM(dead), MAX(last_seq), SUM(duplicates)"
        " FROM replication_offsets GROUP BY node_id"
    )
    for node, stored, dead, last, repeats in offsets:
        rows = db.number("SELECT COUNT(*) FROM events WHERE node_id = UNHEX('%s')" % node)
        letters = db.number("SELECT COUNT(*) FROM dead_letters WHERE node_id = UNHEX('%s')" % node)
        replayed = db.number(
            "SELECT COUNT(*) FROM dead_letters JOIN events USING (node_id, seq)"
            " WHERE node_id = UNHEX('%s') AND replayed_at IS NOT NULL" % node
        )
        if (int(stored), int(dead)) != (rows - replayed, letters):
            problems.append(
                "node %s: the offsets say %s stored and %s dead, there are %d and %d"
                % (node[:8], stored, dead, rows, letters)
            )
        if int(stored) + int(dead) + int(repeats) != int(last):
            problems.append("node %s: %s + %s + %s is not %s" % (node[:8], stored, dead, repeats, last))
    slices = db.query(
        "SELECT service, SUM(good), SUM(bad), SUM(total) FROM slo_slices GROUP BY service ORDER BY service"
    )
    rows = db.query(
        _MEASURED % ("SUM(good), SUM(1 - good), COUNT(*)", "GROUP BY service ORDER BY service")
    )
    if slices != rows:
        problems.append("slo_slices sum up to %r, rows and dead letters to %r" % (slices, rows))
    return problems


def verify_command(server):
    """`sluice verify --mysql` beside the live server; a problem as text, or nothing."""
    if " verify " not in server.command("--help").stdout:
        return []
    done = server.command("verify", "--mysql")
    if done.returncode != 0:
        return [
            "sluice verify --mysql: exit %d: %s" % (done.returncode, (done.stdout + done.stderr)[-1500:])
        ]
    return []


def judge(test, db, server, ledgers, probe_id="probe-1", **options):
    """Drains, compares everything, prints the summary and fails TEST on any difference."""
    server.wait_drained(300)
    verdict = compare(db, ledgers, **options)
    problems = verdict.problems()
    problems += slo_problems(db, server)
    problems += audit_problems(db)
    problems += verify_command(server)
    problems += probe(db, server, probe_id)
    test.say("seed=%d %s", test.seed, verdict.line())
    if ledgers and any(ledger.codes for ledger in ledgers):
        test.say("refusals: %r", [dict(ledger.codes) for ledger in ledgers])
    test.assertEqual(problems, [])
    return verdict
