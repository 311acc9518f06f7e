"""Counts: what was sent, computed again in Python, is what every question is answered.

A client sends random events over real sockets to a server with a real MariaDB; the questions are
asked of GET /metrics and GET /v1/counts at once after the acks, with MySQL stopped, after restarts,
while batches move. Zones are Python's zoneinfo.
"""

import collections
import csv
import io
import json
import os
import random
import sys
import threading
import time
import urllib.parse
import zoneinfo
from datetime import datetime, timedelta, timezone

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner
from http_client import Client, ConnectionLost

SECONDS = procs.int_env("COUNTS_SECONDS", 4)
START = 1767225600  # 2026-01-01T00:00:00Z
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe")
UNITS = ("minute", "hour", "day", "week", "month")
VALUES = {"channel": "channel", "campaign_id": "campaign_id", "user_id": "user_id"}

Sent = collections.namedtuple("Sent", "name us channel campaign_id user_id")


def stamp(us):
    whole, part = divmod(us, 1000000)
    text = datetime.fromtimestamp(whole, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (".%06dZ" % part if part else "Z")


def label(us, unit, zone):
    local = datetime.fromtimestamp(us // 1000000, timezone.utc).astimezone(zoneinfo.ZoneInfo(zone))
    if unit == "week":
        local -= timedelta(days=local.weekday())
    return local.strftime(
        {
            "minute": "%Y-%m-%d %H:%M:00",
            "hour": "%Y-%m-%d %H:00:00",
            "day": "%Y-%m-%d",
            "week": "%Y-%m-%d",
            "month": "%Y-%m",
        }[unit]
    )


def users(events):
    return len({e.user_id for e in events if e.user_id is not None})


class Counts(runner.Drill):
    deadline_seconds = 240

    def ask(self, client, status=200, path="/v1/counts", headers=(), **params):
        """PARAMS: from_ for from; channel=.. and so on in FILTER."""
        named = []
        for name, value in params.items():
            if name == "filter":
                named += [("filter[%s]" % key, what) for key, what in value.items()]
            elif value is not None:
                named.append((name.rstrip("_"), value))
        answer = client.get(path + "?" + urllib.parse.urlencode(named), headers)
        self.assertEqual(answer.status, status, "%r: %r" % (params, answer))
        return answer

    def random_event(self, rng, names, range_s, keyed):
        """A body of one of the shapes that have a name, and what it should count as."""
        name = rng.choice(names)
        at = START + rng.randrange(range_s)
        kind = rng.random()
        if kind < 0.7:
            event = {
                "event_name": name,
                "channel": rng.choice(("web", "app", "mail, \"quoted\"", "=cmd")),
                "user_id": "u%d" % rng.randrange(40),
                "timestamp": at,
                "event_id": keyed,
            }
            if rng.random() < 0.5:
                event["campaign_id"] = rng.choice(("spring", "été", "winter"))
            return event, Sent(name, at * 1000000, event["channel"], event.get("campaign_id"), event["user_id"])
        us = at * 1000000 + rng.randrange(1000000)
        return {"event_name": name, "timestamp": stamp(us), "event_id": keyed}, Sent(name, us, None, None, None)

    def send_random(self, client, count, names=("buy", "view"), range_s=3 * 86400, prefix="e"):
        sent = []
        at = 0
        while at < count:
            size = min(self.random.choice((1, 1, 20, 200)), count - at)
            batch = [
                self.random_event(self.random, names, range_s, "%s-%d" % (prefix, at + n)) for n in range(size)
            ]
            at += size
            bodies = [body for body, _ in batch]
            answer = client.post("/events" if size == 1 else "/events/bulk", bodies[0] if size == 1 else bodies)
            self.assertIn(answer.status, (201, 202), repr(answer))
            sent += [event for _, event in batch]
        return sent

    def expected(self, sent, name, from_us, to_us, filters):
        return [
            e
            for e in sent
            if e.name == name
            and from_us <= e.us < to_us
            and all(getattr(e, key) == value for key, value in filters.items())
        ]

    def compare(self, client, sent, rounds=60, range_s=3 * 86400, by_user=True):
        """Random questions against Python's own sums."""
        rng = self.random
        for _ in range(rounds):
            name = rng.choice(("buy", "view", "nobody"))
            low = rng.randrange(-3600, range_s) if rng.random() < 0.7 else -1000000
            high = low + rng.randrange(1, range_s) if rng.random() < 0.7 else range_s + 1000000
            group = rng.choice((None, "channel", "campaign_id") + UNITS + (("user_id",) if by_user else ()))
            if group == "minute":
                high = min(high, low + 6 * 86400)
            zone = rng.choice(ZONES)
            filters = {}
            for key, value in (("channel", "web"), ("campaign_id", "été"), ("user_id", "u7")):
                if rng.random() < 0.15 and (by_user or key != "user_id"):
                    filters[key] = value
            if rng.random() < 0.5:
                bounds = {"from_": START + low, "to": START + high}
                span = ((START + low) * 1000000, (START + high + 1) * 1000000)
            else:
                span = ((START + low) * 1000000 + rng.randrange(1000000), (START + high) * 1000000 + 1000000)
                bounds = {"from_": stamp(span[0]), "to": stamp(span[1])}
            want = self.expected(sent, name, *span, filters)
            fill = group in UNITS and rng.random() < 0.3
            order = rng.choice((None, "asc", "desc"))
            limit = rng.choice((None, None, 1, 3))
            told = self.ask(
                client,
                path=rng.choice(("/metrics", "/v1/counts")),
                event_name=name,
                group_by=group,
                tz=zone,
                fill="zero" if fill else None,
                order=order,
                limit=limit,
                filter=filters,
                **bounds,
            ).json()
            what = "%s %s %s %s %s" % (name, bounds, group, zone, filters)
            self.assertEqual((told["event_name"], told["from"], told["to"]), (name, bounds["from_"], bounds["to"]))
            self.assertEqual(told["bounds"], "[from,to]" if isinstance(told["from"], int) else "[from,to)")
            self.assertEqual((told["count"], told["total_count"]), (len(want), len(want)), what)
            self.assertEqual(told["unique_count"], users(want), what)
            if group is None:
                self.assertNotIn("groups", told)
                continue
            self.assertEqual(told["group_by"], group)
            rows = self.group(want, group, zone, span, fill, order)
            self.assertEqual(told["group_count"], len(rows), what)
            rows = rows if limit is None else rows[:limit]
            got = [(g["group_value"], g["total_count"], g["unique_count"]) for g in told["groups"]]
            self.assertEqual(got, rows, what)

    def group(self, events, group, zone, span, fill, order):
        found = collections.defaultdict(list)
        for event in events:
            found[label(event.us, group, zone) if group in UNITS else getattr(event, group)].append(event)
        if fill:
            step = 60 if group == "minute" else 900
            for second in range(span[0] // 1000000, (span[1] - 1) // 1000000 + 1, step):
                found[label(second * 1000000, group, zone)]
            found[label(span[1] - 1, group, zone)]
        rows = [(value, len(members), users(members)) for value, members in found.items()]
        if group in UNITS:
            return sorted(rows, reverse=order == "desc")
        down = -1 if order != "asc" else 1
        return sorted(rows, key=lambda r: (down * r[1], r[0] is None, (r[0] or "").encode()))

    # ---- read your write ----

    def test_an_event_is_counted_the_moment_it_is_acked(self):
        db = self.database()
        server = self.server(db)
        with server.client() as client:
            for n in range(60):
                answer = client.post("/events", {"event_name": "now", "timestamp": stamp((START + n) * 1000000)})
                self.assertEqual(answer.status, 201)
                told = self.ask(client, path="/metrics", event_name="now", from_=START, to=START + 3600).json()
                self.assertEqual(told["count"], n + 1)
                told = self.ask(client, event_name="now", from_=START, to=START + 3600, group_by="user_id").json()
                self.assertEqual(told["groups"], [{"group_value": None, "total_count": n + 1, "unique_count": 0}])
            # A repeat changes nothing.
            body = {"event_name": "now", "timestamp": stamp(START * 1000000), "event_id": "twice"}
            self.assertEqual([client.post("/events", body).status for _ in range(2)], [201, 200])
            self.assertEqual(self.ask(client, event_name="now", from_=START, to=START + 3600).json()["count"], 61)
        self.check_stderr()

    def test_random_traffic_is_counted_as_python_counts_it(self):
        db = self.database()
        server = self.server(db)
        self.say("seed %d", self.seed)
        with server.client() as client:
            sent = self.send_random(client, 1500)
            self.compare(client, sent)
            server.wait_drained()
            self.compare(client, sent)
            sent += self.send_random(client, 500, prefix="later")
            self.compare(client, sent, rounds=30)
            names = client.get("/events/names").json()
            want = collections.Counter(e.name for e in sent)
            self.assertEqual({n["event_name"]: n["total_count"] for n in names["names"]}, dict(want))
            self.assertEqual([n["event_name"] for n in names["names"]], sorted(want))
            for one in names["names"]:
                last = max(e.us for e in sent if e.name == one["event_name"])
                self.assertEqual(one["last_seen"][:16], stamp(last)[:16])
        server.kill()
        server.start()
        with server.client() as client:
            self.compare(client, sent, rounds=30)
        self.check_stderr()

    def test_with_mysql_stopped_and_after_a_restart_without_it(self):
        db = self.database()
        server = self.server(db, DB_RETRY_BACKOFF_MAX_MS=200, DB_TIMEOUT_MS=1500)
        with server.client() as client:
            sent = self.send_random(client, 400)
            server.wait_drained()
        db.stop()
        with server.client() as client:
            sent += self.send_random(client, 200, prefix="down")
            procs.wait_until(
                lambda: self.ask(client, event_name="buy", from_=START, to=START + 9).json()["degraded"],
                30,
                "the answer says that MySQL is away",
            )
            self.compare(client, sent, rounds=40, by_user=False)
        for how in ("kill", "stop"):
            getattr(server, how)()
            server.start()
            with server.client() as client:
                self.compare(client, sent, rounds=25, by_user=False)
                told = self.ask(client, event_name="buy", from_=START, to=START + 9).json()
                self.assertIs(told["degraded"], True)
                self.assertGreater(told["pending"], 0)
        with server.client() as client:
            # What is known of users then is the log's; the total is all there is.
            want = self.expected(sent, "buy", START * 1000000, (START + 9000000) * 1000000, {})
            told = self.ask(client, event_name="buy", from_=START, to=START + 9000000, group_by="user_id").json()
            self.assertEqual((told["count"], told["unique_count"]), (len(want), users(want)))
            self.assertIs(told["degraded"], True)
            self.assertLessEqual(sum(g["total_count"] for g in told["groups"]), len(want))
        db.restart()
        server.wait_drained()
        with server.client() as client:
            self.compare(client, sent, rounds=25)
            self.assertIs(self.ask(client, event_name="buy", from_=START, to=START + 9).json()["degraded"], False)
        self.check_stderr()

    def test_a_server_without_a_database_counts_too(self):
        server = self.server()
        with server.client() as client:
            sent = self.send_random(client, 300)
            self.compare(client, sent, rounds=40)
            self.assertIs(self.ask(client, event_name="buy", from_=START, to=START + 9).json()["degraded"], False)
        self.check_stderr()

    def hammer(self, disturb, **env):
        """acked before the question <= count <= sent before the answer, for totals and groups."""
        db = self.database()
        server = self.server(db, BATCH_MAX_EVENTS=20, BATCH_MAX_MS=2, DB_RETRY_BACKOFF_MAX_MS=200, **env)
        lock, going, found, asked = threading.Lock(), [True], [], [0]
        sent, acked = collections.Counter(), collections.Counter()

        def write(number):
            rng, client, serial = random.Random(self.seed + number), Client(server.port), 0
            while going[0]:
                size = rng.choice((1, 1, 30))
                name = rng.choice(("one", "two"))
                events = []
                for _ in range(size):
                    serial += 1
                    events.append(
                        {
                            "event_name": name,
                            "channel": "c%d" % number,
                            "user_id": "u%d" % rng.randrange(9),
                            "timestamp": START + rng.randrange(86400),
                            "event_id": "%d-%d" % (number, serial),
                        }
                    )
                with lock:
                    sent[name] += size
                body = events[0] if size == 1 else events
                while True:
                    try:
                        answer = client.post("/events" if size == 1 else "/events/bulk", body)
                        if answer.status in (200, 202):
                            break
                        if answer.status != 503:
                            found.append("sent: %r" % answer)
                            return
                    except (ConnectionLost, OSError):
                        client.close()
                    time.sleep(0.01)
                with lock:
                    acked[name] += size

        def read(number):
            rng, client = random.Random(self.seed - number), Client(server.port)
            while going[0]:
                name = rng.choice(("one", "two"))
                group = rng.choice((None, "channel", "hour", "user_id"))
                target = "/v1/counts?event_name=%s&from=%d&to=%d" % (name, START, START + 86399)
                with lock:
                    least = acked[name]
                try:
                    answer = client.get(target + ("&group_by=" + group if group else ""))
                except (ConnectionLost, OSError):
                    client.close()
                    time.sleep(0.01)
                    continue
                with lock:
                    most = sent[name]
                if answer.status != 200:
                    if answer.status != 503:
                        found.append("%s: %r" % (group, answer))
                    continue
                told = answer.json()
                asked[0] += 1
                if group == "user_id" and told["degraded"]:
                    continue  # those groups need MySQL
                counts = [told["count"]]
                counts += [sum(g["total_count"] for g in told["groups"])] if group else []
                if len(set(counts)) != 1 or not least <= counts[0] <= most:
                    found.append("%s by %s: acked %d <= %r <= sent %d" % (name, group, least, counts, most))

        def guarded(work, number):
            try:
                work(number)
            except Exception as error:
                found.append("%s %d: %r" % (work.__name__, number, error))

        threads = [threading.Thread(target=guarded, args=(write, n), daemon=True) for n in range(4)]
        threads += [threading.Thread(target=guarded, args=(read, n), daemon=True) for n in range(3)]
        for thread in threads:
            thread.start()
        disturb(db, server)
        going[0] = False
        for thread in threads:
            thread.join(90)
            self.assertFalse(thread.is_alive(), "a client hangs")
        self.say("seed=%d sent=%d answers=%d", self.seed, sum(sent.values()), asked[0])
        self.assertEqual(found[:5], [])
        self.assertGreater(asked[0], 50)
        self.assertEqual(sent, acked)
        server.wait_drained()
        with server.client() as client:
            for name in ("one", "two"):
                rows = db.number("SELECT COUNT(*) FROM events WHERE event_name = '%s'" % name)
                for group in (None, "user_id", "hour"):
                    told = self.ask(client, event_name=name, from_=START, to=START + 86399, group_by=group).json()
                    self.assertEqual((told["count"], rows), (sent[name], sent[name]))
        self.check_stderr()

    def test_while_batches_move_to_mysql(self):
        self.hammer(lambda db, server: time.sleep(SECONDS))

    def test_while_mysql_comes_and_goes(self):
        def disturb(db, server):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                time.sleep(self.random.uniform(0.1, 0.6))
                db.kill()
                time.sleep(self.random.uniform(0.1, 0.6))
                db.restart()

        self.hammer(disturb, DB_TIMEOUT_MS=1500)

    def test_while_the_server_is_killed_again_and_again(self):
        def disturb(db, server):
            for _ in range(5):
                time.sleep(self.random.uniform(0.1, 0.8))
                server.kill()
                server.start()

        self.hammer(disturb, HTTP_PORT=procs.free_port())

    # ---- what a question means ----

    def test_the_bounds_mean_what_they_meant_in_the_systems_they_come_from(self):
        server = self.server()
        with server.client() as client:
            for us in (-1, 0, 1, 999999, 1000000, 1000001, 1999999, 2000000):
                body = {"event_name": "edge", "timestamp": stamp(START * 1000000 + us)}
                self.assertEqual(client.post("/events", body).status, 201)

            def count(from_, to):
                return self.ask(client, event_name="edge", from_=from_, to=to).json()["count"]

            self.assertEqual(count(START, START), 3)  # that second
            self.assertEqual(count(START, START + 1), 6)  # both seconds
            self.assertEqual(count(stamp(START * 1000000), stamp((START + 1) * 1000000)), 3)
            self.assertEqual(count(stamp(START * 1000000), stamp((START + 2) * 1000000)), 6)
            self.assertEqual(count(stamp(START * 1000000 + 1), stamp((START + 1) * 1000000 + 1)), 3)
            self.assertEqual(count("2026-01-01T01:00:00+01:00", "2025-12-31T19:00:01-05:00"), 3)
            told = client.get("/metrics?event_name=edge&from=2026-01-01T01:00:00+01:00&to=2026-01-01T01:00:01+01:00")
            self.assertEqual((told.status, told.json()["count"]), (200, 3))  # + not encoded
            self.assertEqual(told.json()["from"], "2026-01-01T01:00:00+01:00")
            self.assertEqual(count(0, 253402300799), 8)
            self.assertEqual(count("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"), 8)

    def test_daylight_saving_makes_long_and_missing_hours(self):
        server = self.server()
        begin = datetime(2026, 10, 25, 0, 0, tzinfo=timezone.utc)
        with server.client() as client:
            for minutes in range(0, 180, 30):  # 02:00, 02:30 CEST, 02:00, 02:30 CET, 03:00, 03:30
                body = {"event_name": "dst", "timestamp": (begin + timedelta(minutes=minutes)).isoformat()}
                self.assertEqual(client.post("/events", body).status, 201)

            def groups(unit, tz, fill=None, **bounds):
                told = self.ask(client, event_name="dst", group_by=unit, tz=tz, fill=fill, **bounds).json()
                return [(g["group_value"], g["total_count"]) for g in told["groups"]]

            day = {"from_": "2026-10-25T00:00:00+02:00", "to": "2026-10-26T00:00:00+01:00"}
            self.assertEqual(
                groups("hour", "Europe/Berlin", **day), [("2026-10-25 02:00:00", 4), ("2026-10-25 03:00:00", 2)]
            )
            self.assertEqual(len(groups("hour", "Europe/Berlin", "zero", **day)), 24)
            self.assertEqual(
                groups("minute", "Europe/Berlin", **day)[:2], [("2026-10-25 02:00:00", 2), ("2026-10-25 02:30:00", 2)]
            )
            self.assertEqual(groups("day", "Europe/Berlin", **day), [("2026-10-25", 6)])
            spring = {"from_": "2026-03-29T00:00:00+01:00", "to": "2026-03-30T00:00:00+02:00"}
            labels = [value for value, _ in groups("hour", "Europe/Berlin", "zero", **spring)]
            self.assertEqual(len(labels), 23)
            self.assertNotIn("2026-03-29 02:00:00", labels)
            # By the rule alone, beyond every table.
            labels = groups("hour", "Europe/Berlin", "zero", from_="2040-03-25T00:00:00+01:00", to="2040-03-26T00:00:00+02:00")
            self.assertEqual(len(labels), 23)

    def test_csv_can_be_read_by_a_spreadsheet_and_cannot_run_in_it(self):
        server = self.server()
        values = ("plain", 'a,b "c"', "line\nbreak", "=1+1", "+1", "-1", "@x", "\tx", "été", None)
        with server.client() as client:
            for n, value in enumerate(values):
                event = {"event_name": "csv", "user_id": "u", "channel": "c", "timestamp": START}
                event.update({"campaign_id": value} if value else {}, event_id="c%d" % n)
                self.assertEqual(client.post("/events", event).status, 202)
            for how in ({"format": "csv"}, {"headers": [("Accept", "text/csv")]}):
                answer = self.ask(client, event_name="csv", from_=START, to=START, group_by="campaign_id", **how)
                self.assertTrue(answer.header("content-type").startswith("text/csv"))
                self.assertTrue(answer.text().endswith("\r\n"))
                rows = list(csv.reader(io.StringIO(answer.text(), newline="")))
                self.assertEqual(rows[0], ["group_value", "total_count", "unique_count"])
                safe = {"'" + v if v and v[0] in "=+-@\t" else v or "" for v in values}
                self.assertEqual({row[0] for row in rows[1:]}, safe)
                self.assertEqual({tuple(row[1:]) for row in rows[1:]}, {("1", "1")})
            answer = self.ask(client, event_name="csv", from_=START, to=START, format="csv")
            self.assertEqual(
                answer.text(),
                "event_name,from,to,total_count,unique_count\r\ncsv,%d,%d,10,1\r\n" % (START, START),
            )
            # JSON has the values as they are.
            told = self.ask(client, event_name="csv", from_=START, to=START, group_by="campaign_id").json()
            self.assertEqual({g["group_value"] for g in told["groups"]}, set(values))
            both = self.ask(client, event_name="csv", from_=START, to=START, format="json", headers=[("Accept", "text/csv")])
            self.assertEqual(both.header("content-type"), "application/json")

    # ---- whose ----

    def test_tenants_see_their_own_and_the_metrics_stay_open(self):
        db = self.database()
        server = self.server(db, API_KEYS="t1:k1,t2:k2", ADMIN_KEY="root")
        keys = {name: [("X-API-Key", key)] for name, key in (("t1", "k1"), ("t2", "k2"), ("admin", "root"))}
        with server.client() as client:
            for tenant, count in (("t1", 3), ("t2", 5)):
                for n in range(count):
                    body = {"event_name": "e", "channel": tenant, "user_id": "u%d" % n, "timestamp": START}
                    self.assertEqual(client.post("/events", body, keys[tenant]).status, 202)
            for drained in (False, True):
                if drained:
                    server.wait_drained()
                for tenant, count in (("t1", 3), ("t2", 5)):
                    for group, want in ((None, None), ("channel", [tenant]), ("user_id", ["u%d" % n for n in range(count)])):
                        told = self.ask(client, path="/metrics", headers=keys[tenant], event_name="e", from_=START,
                                        to=START, group_by=group).json()  # fmt: skip
                        self.assertEqual((told["count"], told["unique_count"]), (count, count))
                        if group:
                            self.assertEqual([g["group_value"] for g in told["groups"]], want)
                    names = client.get("/events/names", keys[tenant]).json()["names"]
                    self.assertEqual([(n["event_name"], n["total_count"]) for n in names], [("e", count)])
            for path in ("/metrics", "/v1/counts"):
                for headers, status in (((), 401), ([("X-API-Key", "no")], 401), (keys["admin"], 403)):
                    self.ask(client, status, path, headers, event_name="e", from_=START, to=START)
                    self.ask(client, status, path, headers, group_by="hour")
            self.assertEqual(client.get("/events/names").status, 401)
            for target in ("/metrics", "/metrics?x=1", "/metrics/prometheus", "/metrics/prometheus?event_name=e"):
                answer = client.get(target)
                self.assertEqual(answer.status, 200)
                self.assertIn("sluice_events_acked_total", answer.text())
            text = client.get("/metrics").text()
            self.assertIn('route="/v1/counts"', text)
            self.assertIn('route="/events/names"', text)


if __name__ == "__main__":
    runner.main()
