"""Every SLO figure against an oracle that knows nothing but the raw rows of table events.

Randomized traffic of several tenants, in bursts and silences over 90 days, some of it long late,
under objectives of every kind of window and rule. The oracle recomputes each figure of /slo/status
for the moment the answer names, and each row of slo_windows: counts exactly, percentiles within the
stated error. SLO_ORACLE_EVENTS (4000) sets the size, DRILL_SEED the course.
"""

import datetime
import json
import math
import os
import sys
import time
import zoneinfo

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner

EVENTS = procs.int_env("SLO_ORACLE_EVENTS", 4000)
ADMIN = (("X-API-Key", "admin-key"),)
TENANTS = {"acme": "acme-key", "beta": "beta-key"}
SERVICES = ("checkout", "search", "quiet ")
BURN = {"5m": 5, "30m": 30, "1h": 60, "6h": 360, "3d": 4320}
DAY = 1440
ERROR = 0.0109


def instant(text):
    """Microseconds since 1970 of an RFC 3339 time in UTC."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone)
    return seconds * 1000000 + int((fraction or "0").ljust(6, "0"))


def good_status(rule):
    if rule in (None, "lt500"):
        return lambda status: status < 500
    if rule == "lt400":
        return lambda status: status < 400
    ranges = [[int(n) for n in str(part).split("-")] for part in rule]
    return lambda status: any(r[0] <= status <= r[-1] for r in ranges)


class Rows:
    """One service's events: (minute, status, latency or None)."""

    def __init__(self):
        self.rows = []

    def of(self, first_minute):
        return [row for row in self.rows if row[0] >= first_minute]


def good_bad(rows, definition):
    if definition["slo_type"] == "latency":
        timed = [row for row in rows if row[2] is not None]
        good = sum(row[2] <= definition["threshold_ms"] for row in timed)
        return good, len(timed) - good
    is_good = good_status(definition.get("good_status"))
    good = sum(is_good(row[1]) for row in rows)
    return good, len(rows) - good


def broken(good, bad, target):
    """In integers: a target has nine decimals."""
    return bad * 10**9 > (good + bad) * round((1 - target) * 10**9)


def minutes_of(rows):
    minutes = {}
    for row in rows:
        minutes.setdefault(row[0], []).append(row)
    return minutes


ZONES = ("UTC", "Asia/Kolkata", "America/New_York", "Pacific/Kiritimati")


def window_first(definition, now_minute):
    window = definition["window"]
    if window in ("week", "month"):
        zone = zoneinfo.ZoneInfo(definition.get("time_zone", "UTC"))
        today = datetime.datetime.fromtimestamp(now_minute * 60, zone)
        back = today.weekday() if window == "week" else today.day - 1
        day = today.date() - datetime.timedelta(days=back)
        return int(datetime.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) // 60
    return now_minute + 1 - int(window[:-1]) * {"h": 60, "d": DAY}[window[-1]]


def quantile(latencies, q):
    ordered = sorted(latencies)
    return ordered[-(-len(ordered) * q // 1000) - 1]


class Oracle(runner.Drill):
    def near(self, given, wanted, what):
        if wanted is None:
            self.assertIsNone(given, what)
        else:
            self.assertIsNotNone(given, what)
            self.assertLessEqual(abs(given - wanted), 1e-9 * max(1.0, abs(wanted)), "%s: %r, not %r" % (what, given, wanted))

    def check_quantiles(self, given, rows, what):
        latencies = [row[2] for row in rows if row[2] is not None]
        for name, q in (("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990)):
            if not latencies:
                self.assertIsNone(given[name], what)
                continue
            wanted = quantile(latencies, q)
            self.assertLessEqual(abs(given[name] - wanted), ERROR * wanted + 1e-3, "%s %s: %r, not %r" % (what, name, given[name], wanted))

    def define(self, client):
        """Objectives of every kind; what a service counts and is told by. By (tenant, service)."""
        found = {}
        rules = ["lt500", "lt400", ["200-299", 404], ["100-399", 429], None]
        windows = ["1h", "7d", "28d", "30d", "90d", "week", "month"]
        for tenant in TENANTS:
            for service in SERVICES[:2]:
                for n in range(self.random.randrange(2, 7)):
                    kind = self.random.choice(["availability", "availability", "latency"])
                    body = {
                        "id": "%s-%s-%d" % (tenant, service, n),
                        "tenant": tenant,
                        "service_name": service,
                        "slo_type": kind,
                        "slo_value": self.random.choice([0.5, 0.9, 0.99, 0.999, 0.95]),
                        "window": self.random.choice(windows),
                    }
                    if body["window"] in ("week", "month"):
                        body["time_zone"] = self.random.choice(ZONES)
                    if kind == "latency":
                        body["threshold_ms"] = self.random.choice([0.3, 10, 99.999, 250, 300, 1000])
                    else:
                        rule = self.random.choice(rules)
                        if rule:
                            body["good_status"] = rule
                    answer = client.post("/slo/objectives", json.dumps(body), ADMIN)
                    self.assertEqual(answer.status, 201, repr(answer))
                    found.setdefault((tenant, service), {})[body["id"]] = body
        return found

    def event(self, serial, moment):
        status = self.random.choices([200, 201, 301, 404, 429, 500, 503], [80, 5, 3, 4, 3, 3, 2])[0]
        event = {"event_id": "o-%d" % serial, "service": self.random.choice(SERVICES), "status": status}
        # A latency of its own, or exactly a threshold's.
        latency = self.random.choice([0, 0.3, 10, 99.999, 100, 250, 300, 1000, None, None, None])
        event["latency_ms"] = round(math.exp(self.random.gauss(4, 1.5)), self.random.randrange(4)) if latency is None else latency
        event["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + ".%03dZ" % self.random.randrange(1000)
        return event

    def send(self, server, count, first_serial):
        now = time.time() - 2
        serial = first_serial
        with server.client() as client:
            while serial < first_serial + count:
                burst = self.random.choice([1, 5, 50, 200])
                ago = self.random.choice([0, 60, 200, 1000, 4000, 20000, 86400, 300000, 7 * 86400, 27 * 86400, 40 * 86400, 88 * 86400])
                start = now - ago * self.random.uniform(0.5, 1)
                events = [self.event(serial + i, start - self.random.uniform(0, 180)) for i in range(burst)]
                serial += burst
                tenant = self.random.choice(list(TENANTS))
                answer = client.post("/events/bulk", json.dumps(events), [("X-API-Key", TENANTS[tenant])])
                self.assertEqual(answer.status, 202, repr(answer))
        return serial

    def rows(self, db):
        """By (tenant, service), out of the raw rows alone."""
        found = {}
        text = "SELECT tenant_id, CONCAT(service,'|'), status, IFNULL(latency_ms,''), TIMESTAMPDIFF(MICROSECOND,'1970-01-01',occurred_at) FROM events"
        for tenant, service, status, latency, us in db.query(text):
            rows = found.setdefault((tenant, service[:-1]), Rows())
            rows.rows.append((int(us) // 60000000, int(status), float(latency) if latency else None))
        return found

    def check_objective(self, given, definition, rows, now_minute, what):
        target = definition["slo_value"]
        first = window_first(definition, now_minute)
        self.assertEqual(instant(given["window_start"]) // 60000000, first, what)
        inside = rows.of(first)
        good, bad = good_bad(inside, definition)
        self.assertEqual((given["good"], given["bad"]), (good, bad), what)
        self.assertNotIn("uncounted", given)
        total = good + bad
        self.near(given["attained"], good / total if total else None, what + " attained")
        remaining = 1 - (bad / total) / (1 - target) if total else None
        self.near(given["error_budget_remaining"], remaining, what + " budget")
        self.near(given["events_left"], total * (1 - target) - bad if total else None, what + " events_left")
        elapsed = now_minute + 1 - first
        self.near(given["minutes_left"], (total * (1 - target) - bad) / total * elapsed if total else None, what + " minutes")
        for name, minutes in BURN.items():
            g, b = good_bad(rows.of(now_minute + 1 - minutes), definition)
            self.near(given["burn_rate"][name], b / (g + b) / (1 - target) if g + b else None, what + " burn " + name)
        violations = sum(broken(*good_bad(part, definition), target) for part in minutes_of(inside).values())
        self.assertEqual(given["violations"], violations, what)
        hour_bad = good_bad(rows.of(now_minute + 1 - 60), definition)[1]
        left = total * (1 - target) - bad
        if total and left > 1e-9 and hour_bad:
            self.near(given["time_to_exhaustion_s"], left / (hour_bad / 3600), what + " exhaustion")
        if not total:
            self.assertEqual(given["health"], "no_data", what)
        else:
            self.assertEqual(given["health"] == "violated", broken(good, bad, target), what)

    def check_status(self, server, definitions, facts):
        checked = 0
        with server.client() as client:
            for tenant, key in TENANTS.items():
                answer = client.get("/slo/status", [("X-API-Key", key)]).json()
                now_minute = instant(answer["as_of"]) // 60000000
                self.assertEqual({s["service"] for s in answer["services"]}, {s for t, s in facts if t == tenant})
                order = [s["health"] for s in answer["services"]]
                self.assertEqual(order, sorted(order, key=["violated", "at_risk", "healthy", "no_data"].index))
                for service in answer["services"]:
                    rows = facts[(tenant, service["service"])]
                    own = definitions.get((tenant, service["service"])) or {
                        "default-availability": {"slo_type": "availability", "slo_value": 0.999, "window": "30d"},
                        "default-latency": {"slo_type": "latency", "slo_value": 0.99, "window": "30d", "threshold_ms": 500},
                    }
                    self.assertEqual({o["id"] for o in service["objectives"]}, set(own))
                    first = min(window_first(d, now_minute) for d in own.values())
                    inside = rows.of(first)
                    good, bad = good_bad(inside, {"slo_type": "availability"})
                    self.assertEqual((service["good"], service["bad"], service["total"]), (good, bad, good + bad))
                    self.near(service["availability"], good / (good + bad) if inside else None, "availability")
                    self.near(service["error_rate"], bad / (good + bad) if inside else None, "error_rate")
                    self.check_quantiles(service["latency_ms"], inside, service["service"])
                    for given in service["objectives"]:
                        self.check_objective(given, own[given["id"]], rows, now_minute, "%s %s" % (tenant, given["id"]))
                        checked += 1
        return checked

    def check_windows(self, db, facts, definitions):
        """Each minute with events has its row, and no row says anything else."""
        text = (
            "SELECT tenant_id, CONCAT(service,'|'), TIMESTAMPDIFF(MINUTE,'1970-01-01',window_start), good_count, bad_count,"
            "IFNULL(availability,''), IFNULL(latency_p50,''), IFNULL(latency_p90,''), IFNULL(latency_p95,''), IFNULL(latency_p99,''), violated"
            " FROM slo_windows WHERE window_end <= UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE"
        )
        minutes = {key: minutes_of(rows.rows) for key, rows in facts.items()}
        seen = 0
        for tenant, service, minute, good, bad, availability, p50, p90, p95, p99, violated in db.query(text):
            rows = minutes[(tenant, service[:-1])].pop(int(minute), [])
            wanted = good_bad(rows, {"slo_type": "availability"})
            what = "%s %s %s" % (tenant, service, minute)
            self.assertEqual((int(good), int(bad)), wanted, what)
            self.near(float(availability) if availability else None, wanted[0] / sum(wanted) if rows else None, what)
            numbers = {n: float(v) if v else None for n, v in (("p50", p50), ("p90", p90), ("p95", p95), ("p99", p99))}
            self.check_quantiles(numbers, rows, what)
            own = definitions.get((tenant, service[:-1])) or {"a": {"slo_type": "availability", "slo_value": 0.999}, "l": {"slo_type": "latency", "slo_value": 0.99, "threshold_ms": 500}}
            self.assertEqual(violated == "1", any(broken(*good_bad(rows, d), d["slo_value"]) for d in own.values()), what)
            seen += 1
        running = int(time.time()) // 60 - 2
        missing = [(key, m) for key, left in minutes.items() for m in left if m < running]
        self.assertEqual(missing, [], "minutes without a row")
        return seen

    def bring_windows_up(self, server, db):
        """A start takes up what is left of every finished minute."""
        server.wait_drained()
        self.assertEqual(server.stop(), 0)
        server.start()

        def taken_up():
            behind = (
                "SELECT COUNT(*) FROM slo_slices s LEFT JOIN slo_windows w ON w.tenant_id = s.tenant_id AND w.service = s.service"
                " AND w.window_start = TIMESTAMPADD(MINUTE, s.minute, '1970-01-01') WHERE s.minute < FLOOR(UNIX_TIMESTAMP() / 60) - 1"
                " AND (w.updated_at IS NULL OR w.updated_at < s.updated_at)"
            )
            return db.number(behind) == 0

        procs.wait_until(taken_up, 90 * procs.SLOWNESS, "the windows are brought up to date", pause=0.2)

    def test_every_figure_is_what_the_raw_rows_say(self):
        db = self.database()
        keys = ",".join("%s:%s" % item for item in TENANTS.items())
        server = self.server(db, API_KEYS=keys, ADMIN_KEY="admin-key", READY_REQUIRES_DB="true")
        with server.client() as client:
            definitions = self.define(client)
        serial = 0
        for _ in range(2):
            serial = self.send(server, EVENTS // 2, serial)
            server.wait_drained()
            checked = self.check_status(server, definitions, self.rows(db))
            self.assertGreater(checked, 10)
            self.bring_windows_up(server, db)
            # The same after a restart, and late events are in the rows of their minutes.
            facts = self.rows(db)
            self.check_status(server, definitions, facts)
            seen = self.check_windows(db, facts, definitions)
            self.say("%d events, %d objectives, %d windows", serial, checked, seen)


if __name__ == "__main__":
    runner.main()
