"""Alerts of a real server: what fires, who may see it, what survives a kill, and how it is told.

Receivers are real HTTP servers that fail, hang, go away and come back; where it is installed, a real
Alertmanager. Default objectives: 0.999 over 30 days, so six bad events page, 2 500 good ones beside
them end the page (burn below 6) and 10 000 the ticket (below 1).
"""

import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import programs
import runner
from http_client import Client, ConnectionLost
from receiver import Receiver

BAD = 6


def events(service, good, bad):
    one = [{"service": service, "status": 503, "latency_ms": 5}] * bad
    return one + [{"service": service, "status": 200, "latency_ms": 5}] * good


class SloAlerts(runner.Drill):
    deadline_seconds = 180

    def receiver(self, **options):
        receiver = Receiver(**options)
        self.addCleanup(receiver.close)
        return receiver

    def send(self, server, service="checkout", good=0, bad=0, headers=()):
        with server.client() as client:
            answer = client.post("/events/bulk?ids=0", events(service, good, bad), headers)
        self.assertEqual(answer.status, 202, answer)

    def alerts(self, server, query="", headers=()):
        with server.client() as client:
            answer = client.get("/slo/alerts" + query, headers)
        self.assertEqual(answer.status, 200, answer)
        return answer.json()["alerts"]

    def one(self, server, severity="page", service="checkout", objective="default-availability"):
        found = [
            alert
            for alert in self.alerts(server, "?service=%s&severity=%s" % (service, severity))
            if alert["objective"] == objective
        ]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def wait_posts(self, receiver, count):
        return procs.wait_until(
            lambda: receiver.taken() if len(receiver.taken()) >= count else None,
            60 * procs.SLOWNESS,
            "%d posts, not %d" % (count, len(receiver.taken())),
        )

    def wait_metric(self, server, name, least):
        procs.wait_until(
            lambda: server.metrics().get(name, 0) >= least, 60 * procs.SLOWNESS, "%s is %s" % (name, least)
        )

    def wait_stored(self, server, service, objective, status=b"\x02"):
        """Until alerts.state says so of the page (2: firing); the layout is drawn in core/slo/alerts_codec.c."""
        path = os.path.join(server.wal_dir, "alerts.state")
        names = "default%s%s" % (service, objective)

        def stored():
            try:
                with open(path, "rb") as file:
                    _, found, rest = file.read().partition(names.encode())
            except FileNotFoundError:
                return False
            return found and rest[:1] == status

        procs.wait_until(stored, 30 * procs.SLOWNESS, "the state is stored")

    # ---- judging ----

    def test_an_alert_is_there_with_the_ack_that_makes_it(self):
        """No waiting: an answer after the ack includes what the acked events do."""
        server = self.server()
        self.send(server, good=10)
        self.assertEqual(self.one(server)["state"], "ok")
        self.send(server, bad=BAD)
        alert = self.one(server)
        self.assertEqual(alert["state"], "firing")
        self.assertEqual(alert["rules"][0]["long_window"], "1h")
        self.assertEqual(alert["rules"][0]["short_window"], "5m")
        self.assertAlmostEqual(alert["rules"][0]["threshold"], 14.4)
        self.assertAlmostEqual(alert["rules"][1]["threshold"], 6)
        self.assertAlmostEqual(alert["rules"][0]["burn_rate"]["long"], 6 / 16 / 0.001)
        self.assertEqual(alert["rules"][0]["bad_events"], BAD)
        self.assertAlmostEqual(alert["rules"][0]["budget_spent"], 6 / 16 / 0.001 / 720)
        self.assertIn("30-day budget is gone", alert["summary"])
        ticket = self.one(server, "ticket")
        self.assertEqual((ticket["state"], ticket["held_back"]), ("ok", True))
        with server.client() as client:
            status = client.get("/slo/status?service=checkout").json()
        named = {o["id"]: o["alerts"] for o in status["services"][0]["objectives"]}
        self.assertEqual([(a["severity"], a["state"]) for a in named["default-availability"]], [("page", "firing")])
        self.assertEqual(named["default-latency"], [])
        self.send(server, good=2500)
        self.assertEqual(self.one(server)["state"], "resolved")
        self.assertEqual(self.one(server, "ticket")["state"], "firing")  # 2.4 times too fast
        self.send(server, good=8000)
        self.assertEqual(self.one(server, "ticket")["state"], "resolved")
        metrics = server.metrics()
        label = '{tenant="default",service="checkout",objective="default-availability",severity="page"}'
        self.assertEqual(metrics["sluice_slo_alert_firing" + label], 0)
        self.assertEqual(metrics['sluice_slo_alert_changes_total{state="firing"}'], 2)
        self.check_stderr()

    def test_the_judge_needs_no_reader_and_no_database(self):
        """Nobody asks for alerts, MySQL refuses connections: it fires all the same."""
        server = self.server(DB_URL="mysql://root@127.0.0.1:%d/x" % procs.free_port(), DB_TIMEOUT_MS=1000)
        self.send(server, bad=BAD)
        procs.wait_until(
            lambda: any(line.get("event") == "alert.firing" for line in server.lines()),
            30 * procs.SLOWNESS,
            "the log tells of a firing alert",
        )

    def test_four_bad_events_do_not_page(self):
        server = self.server()
        self.send(server, bad=4)
        self.assertEqual(self.one(server)["state"], "ok")
        self.send(server, bad=1)
        self.assertEqual(self.one(server)["state"], "firing")

    def test_latency_objectives_alert_too(self):
        server = self.server()
        with server.client() as client:
            for _ in range(BAD):
                client.post("/ingest", {"service": "slow", "status": 200, "latency_ms": 900})
        alert = self.one(server, service="slow", objective="default-latency")
        self.assertEqual(alert["state"], "firing")
        self.assertIn("took longer than 500 ms", alert["summary"])
        self.assertEqual(self.one(server, service="slow")["state"], "ok")

    def test_old_events_are_no_data(self):
        server = self.server()
        with server.client() as client:
            old = {"service": "gone", "status": 500, "latency_ms": 5, "timestamp": int(time.time()) - 7 * 3600}
            for _ in range(BAD):
                client.post("/ingest", old)
        alert = self.one(server, service="gone")
        self.assertEqual((alert["state"], alert["no_data"]), ("pending-no-data", True))
        self.assertIn("no events", alert["summary"])

    def test_tenants_and_filters(self):
        server = self.server(API_KEYS="acme:a,globex:g")
        acme, globex = {"X-API-Key": "a"}, {"X-API-Key": "g"}
        self.send(server, "checkout", bad=BAD, headers=acme)
        self.send(server, "search", good=BAD, headers=acme)
        self.send(server, "checkout", good=BAD, headers=globex)
        every = self.alerts(server, headers=acme)
        self.assertEqual(len(every), 8)
        self.assertEqual((every[0]["service"], every[0]["severity"], every[0]["state"]), ("checkout", "page", "firing"))
        self.assertEqual(len(self.alerts(server, "?state=firing", acme)), 1)
        self.assertEqual(self.alerts(server, "?state=firing", globex), [])
        self.assertEqual(len(self.alerts(server, "?severity=ticket", acme)), 4)
        self.assertEqual(len(self.alerts(server, "?service=search&state=ok&severity=page", acme)), 2)
        self.assertEqual(self.alerts(server, "?service=nobody", acme), [])
        with server.client() as client:
            self.assertEqual(client.get("/slo/alerts").status, 401)
            for query in ("state=burning", "severity=high", "service=%zz", "state=%"):
                answer = client.get("/slo/alerts?" + query, acme)
                self.assertEqual((answer.status, answer.json()["error"]), (400, "validation_error"), query)

    def test_a_services_own_definitions_alert_instead_of_the_defaults(self):
        server = self.server()
        self.send(server, bad=BAD)
        self.assertEqual(self.one(server)["state"], "firing")
        own = {
            "id": "checkout-own",
            "service_name": "checkout",
            "slo_type": "availability",
            "slo_value": 0.99,
            "window": "7d",
            "good_status": "lt400",
            "min_bad_events": 20,
        }
        with server.client() as client:
            answer = client.post("/slo/objectives", own)
            self.assertEqual(answer.status, 201, answer)
        alert = self.one(server, objective="checkout-own")
        # Six bad events are too few now; and the window's own thresholds hold.
        self.assertEqual((alert["state"], alert["min_bad_events"], alert["window"]), ("ok", 20, "7d"))
        self.assertEqual([rule["long_window"] for rule in alert["rules"]], ["30m", "3h"])
        self.assertAlmostEqual(alert["rules"][0]["threshold"], 6.72)
        defaults = self.alerts(server, "?service=checkout")
        self.assertEqual({a["objective"] for a in defaults}, {"checkout-own"})
        with server.client() as client:
            for _ in range(14):
                client.post("/ingest", {"service": "checkout", "status": 404, "latency_ms": 1})
        self.assertEqual(self.one(server, objective="checkout-own")["state"], "firing")
        fired = self.one(server, objective="checkout-own")["fired_at"]
        # The default's page has ended with the default.
        ended = [line for line in server.lines() if line["event"] == "alert.resolved"]
        self.assertEqual([line["objective"] for line in ended], ["default-availability"])
        self.wait_stored(server, "checkout", "checkout-own")
        server.kill()
        server.start()
        self.assertEqual(self.one(server, objective="checkout-own")["fired_at"], fired)
        with server.client() as client:
            self.assertEqual(client.request("DELETE", "/slo/objectives/checkout-own").status, 204)
        self.assertEqual(self.one(server)["state"], "firing")

    def test_a_defined_service_without_events_is_no_data(self):
        server = self.server()
        with server.client() as client:
            own = {"id": "quiet", "service_name": "silent", "slo_type": "availability", "slo_value": 0.99}
            self.assertEqual(client.post("/slo/objectives", own).status, 201)
            status = client.get("/slo/status").json()
        self.assertEqual((status["health"], len(status["services"])), ("no_data", 1))
        self.assertEqual(status["services"][0]["objectives"][0]["health"], "no_data")
        alert = self.one(server, service="silent", objective="quiet")
        self.assertEqual((alert["state"], alert["no_data"]), ("pending-no-data", True))
        self.assertEqual(alert["summary"], "silent: no events in the last 5 min, so nothing is judged")
        self.assertEqual(len(self.alerts(server, "?state=pending-no-data")), 2)
        server.stop()
        server.start()
        self.assertEqual(len(self.alerts(server)), 2)
        self.send(server, "silent", bad=BAD)
        self.assertEqual(self.one(server, service="silent", objective="quiet")["state"], "firing")

    # ---- keeping ----

    def test_the_state_survives_a_kill(self):
        server = self.server()
        self.send(server, bad=BAD)
        before = self.one(server)
        self.wait_stored(server, "checkout", "default-availability")
        server.kill()
        server.start()
        after = self.one(server)
        for name in ("state", "since", "fired_at", "resolved_at"):
            self.assertEqual(after[name], before[name], name)
        self.send(server, good=2500)
        resolved = self.one(server)
        self.assertEqual((resolved["state"], resolved["fired_at"]), ("resolved", before["fired_at"]))
        server.stop()
        server.start()
        for name in ("since", "fired_at", "resolved_at"):
            self.assertEqual(self.one(server)[name], resolved[name], name)

    def test_a_damaged_state_file_is_said_and_begins_anew(self):
        server = self.server()
        self.send(server, bad=BAD)
        self.assertEqual(self.one(server)["state"], "firing")
        server.stop()
        path = os.path.join(server.wal_dir, "alerts.state")
        with open(path, "rb") as file:
            good = file.read()
        place = self.random.randrange(len(good))
        for damaged in (
            good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :],
            good[: len(good) // 2],
            b"",
            good + b"x",
        ):
            with open(path, "wb") as file:
                file.write(damaged)
            server.start()
            self.assertTrue([line for line in server.lines() if line["event"] == "alerts.state_lost"])
            self.assertEqual(self.one(server)["state"], "firing")  # what still burns fires again
            server.stop()
        self.check_stderr()

    # ---- telling, as JSON ----

    def test_each_change_is_told_once_as_json(self):
        receiver = self.receiver()
        server = self.server(
            ALERT_WEBHOOK_URL=receiver.url("/hook?room=7"),
            ALERT_WEBHOOK_TOKEN="t0ken",
            ALERT_WEBHOOK_HEADER="X-Team: payments",
            ALERT_EXTERNAL_URL="https://sluice.example/base/",
        )
        self.send(server, "a b/ü", bad=BAD)
        firing = self.wait_posts(receiver, 1)[0]
        self.send(server, "a b/ü", good=2500)
        self.wait_posts(receiver, 3)  # the page is over, which lets the ticket fire
        path, headers, _, _ = receiver.all()[0]
        self.assertEqual(path, "/hook?room=7")
        self.assertEqual(headers["Authorization"], "Bearer t0ken")
        self.assertEqual(headers["X-Team"], "payments")
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(headers["Idempotency-Key"], firing["id"])
        self.assertEqual(
            [firing[k] for k in ("version", "state", "severity", "tenant", "service", "objective", "type")],
            [1, "firing", "page", "default", "a b/ü", "default-availability", "availability"],
        )
        self.assertEqual([firing[k] for k in ("target", "window", "long_window", "short_window")], [0.999, "30d", "1h", "5m"])
        self.assertAlmostEqual(firing["threshold"], 14.4)
        self.assertAlmostEqual(firing["burn_rate"]["long"], 1000)
        self.assertIsNone(firing["resolved_at"])
        self.assertEqual(firing["url"], "https://sluice.example/base/slo/alerts?service=a%20b%2F%C3%BC")
        told = [(body["severity"], body["state"]) for body in receiver.taken()]
        self.assertEqual(sorted(told), [("page", "firing"), ("page", "resolved"), ("ticket", "firing")])
        resolved = [body for body in receiver.taken() if body["state"] == "resolved"][0]
        self.assertEqual(resolved["fired_at"], firing["fired_at"])
        self.assertGreater(resolved["resolved_at"], resolved["fired_at"])
        self.assertEqual(len({body["id"] for body in receiver.taken()}), 3)
        # A restart has nothing to tell; the next change is the next post. The receiver has a post before the
        # server has its answer, which is what counts.
        self.wait_metric(server, 'sluice_alert_notices_total{result="sent"}', 3)
        server.stop()
        server.start()
        self.send(server, "other", bad=BAD)
        self.wait_posts(receiver, 4)
        self.assertEqual(receiver.taken()[3]["service"], "other")
        self.wait_metric(server, 'sluice_alert_notices_total{result="sent"}', 1)
        self.assertEqual(server.metrics()['sluice_alert_notices_total{result="sent"}'], 1)
        self.check_stderr()

    def test_a_failing_receiver_gets_it_when_it_works_again(self):
        receiver = self.receiver(status=503)
        server = self.server(ALERT_WEBHOOK_URL=receiver.url())
        self.send(server, bad=BAD)
        self.wait_metric(server, "sluice_alert_webhook_failures_total", 2)
        self.send(server, "more", good=100)  # and ingest goes on
        self.assertEqual(receiver.taken(), [])
        receiver.status = 200
        self.wait_posts(receiver, 1)
        self.wait_metric(server, 'sluice_alert_notices_total{result="sent"}', 1)
        ids = {body["id"] for _, _, body, _ in receiver.all()}
        self.assertEqual(len(ids), 1)
        self.assertGreaterEqual(len(receiver.all()), 3)

    def test_what_is_refused_for_good_is_not_repeated(self):
        receiver = self.receiver(status=422)
        server = self.server(ALERT_WEBHOOK_URL=receiver.url())
        self.send(server, bad=BAD)
        self.wait_metric(server, 'sluice_alert_notices_total{result="refused"}', 1)
        receiver.status = 200
        self.send(server, "second", bad=BAD)
        self.wait_posts(receiver, 1)
        self.assertEqual([body["service"] for _, _, body, _ in receiver.all()], ["checkout", "second"])

    def test_a_redirect_is_not_followed(self):
        receiver = self.receiver(status=307)
        receiver.headers = {"Location": "/elsewhere"}
        server = self.server(ALERT_WEBHOOK_URL=receiver.url())
        self.send(server, bad=BAD)
        self.wait_metric(server, "sluice_alert_webhook_failures_total", 2)
        self.assertEqual({path for path, _, _, _ in receiver.all()}, {"/hook"})

    def test_a_hanging_receiver_blocks_nobody_and_a_stop_is_prompt(self):
        receiver = self.receiver()
        receiver.hanging = True
        server = self.server(ALERT_WEBHOOK_URL=receiver.url(), ALERT_WEBHOOK_TIMEOUT_MS=600000)
        self.send(server, bad=BAD)
        procs.wait_until(lambda: receiver.hung, 30 * procs.SLOWNESS, "a request hangs")
        for number in range(30):  # judged and acked while it hangs
            self.send(server, "s%d" % number, bad=BAD)
            self.assertEqual(self.one(server, service="s%d" % number)["state"], "firing")
        self.assertEqual(server.stop(), 0)  # ten minutes before the attempt would time out
        self.assertFalse([line for line in server.lines() if line["event"] == "serve.stop_forced"])
        receiver.hanging = False
        server.start()
        self.wait_posts(receiver, 31)
        self.assertEqual(len({body["service"] for body in receiver.taken()}), 31)
        self.check_stderr()

    def test_a_receiver_that_is_away_gets_it_after_a_kill_of_the_server(self):
        port = procs.free_port()
        server = self.server(ALERT_WEBHOOK_URL="http://127.0.0.1:%d/" % port)
        self.send(server, bad=BAD)
        fired = self.one(server)["fired_at"]
        self.wait_metric(server, "sluice_alert_webhook_failures_total", 1)
        server.kill()
        server.start()
        self.wait_metric(server, "sluice_alert_webhook_failures_total", 1)
        receiver = self.receiver(port=port)
        self.assertEqual(self.wait_posts(receiver, 1)[0]["fired_at"], fired)
        self.assertEqual(self.one(server)["fired_at"], fired)

    def test_an_address_nobody_resolves_does_not_hold_up_the_stop(self):
        server = self.server(ALERT_WEBHOOK_URL="http://no-such-host.invalid/hook")
        self.send(server, bad=BAD)
        self.assertEqual(server.stop(), 0)
        self.assertFalse([line for line in server.lines() if line["event"] == "serve.stop_forced"])

    # ---- telling, as Alertmanager takes it ----

    def test_alertmanagers_form_is_repeated_while_it_fires(self):
        receiver = self.receiver()
        server = self.server(ALERT_WEBHOOK_URL=receiver.url("/am/api/v2/alerts"), ALERT_REPEAT_MS=1000)
        self.send(server, bad=BAD)
        posts = self.wait_posts(receiver, 3)
        for post in posts[:3]:
            self.assertEqual(len(post), 1)
            alert = post[0]
            self.assertEqual(
                alert["labels"],
                {
                    "alertname": "SluiceSloBurnRate",
                    "tenant": "default",
                    "service": "checkout",
                    "objective": "default-availability",
                    "severity": "page",
                    "slo_type": "availability",
                },
            )
            self.assertIn("30-day budget", alert["annotations"]["summary"])
            self.assertEqual(alert["annotations"]["threshold"], "14.4")
            self.assertEqual(alert["startsAt"], self.one(server)["fired_at"])
            self.assertGreater(alert["endsAt"], alert["startsAt"])
            self.assertIn("/slo/alerts?service=checkout", alert["generatorURL"])
        self.send(server, good=10000)
        resolved = self.one(server)

        def ended():
            return [a for post in receiver.taken() for a in post if a["endsAt"] == resolved["resolved_at"]]

        procs.wait_until(lambda: len(ended()) >= 2, 60 * procs.SLOWNESS, "the end is told, and told again")
        # Nothing but the end is told from then on.
        seen = len(receiver.taken())
        after = self.wait_posts(receiver, seen + 2)[seen:]
        for post in after:
            for alert in post:
                if alert["labels"]["severity"] == "page":
                    self.assertEqual(alert["endsAt"], resolved["resolved_at"])
        self.check_stderr()

    def test_a_queue_of_alertmanagers_holds_each_alert_once(self):
        """The receiver is away for a while: what waits is how things stand, not every repetition."""
        receiver = self.receiver(status=503)
        server = self.server(
            ALERT_WEBHOOK_URL=receiver.url(), ALERT_WEBHOOK_FORMAT="alertmanager", ALERT_REPEAT_MS=1000
        )
        for number in range(20):
            self.send(server, "s%d" % number, bad=BAD)
        self.wait_metric(server, "sluice_alert_webhook_failures_total", 3)
        self.assertLessEqual(server.metrics()["sluice_alert_queue_notices"], 20)
        self.assertEqual(server.metrics()['sluice_alert_notices_total{result="dropped"}'], 0)
        receiver.status = 200
        procs.wait_until(
            lambda: len({a["labels"]["service"] for post in receiver.taken() for a in post}) == 20,
            60 * procs.SLOWNESS,
            "every service's alert arrives",
        )

    def test_a_real_alertmanager_shows_the_alert_and_its_end(self):
        program, why_not = programs.find("prometheus-alertmanager", "prometheus-alertmanager")
        if not program:
            self.skipTest(why_not)
        port = procs.free_port()
        config = self.path("alertmanager.yml")
        with open(config, "w") as file:
            file.write("route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")
        with open(self.path("alertmanager.log"), "wb") as log:
            child = procs.spawn(
                [
                    program,
                    "--config.file=" + config,
                    "--storage.path=" + self.path("alertmanager"),
                    "--web.listen-address=127.0.0.1:%d" % port,
                    "--cluster.listen-address=",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(procs.end, child)

        def ask(path):
            try:
                with Client(port) as client:
                    answer = client.get(path)
                return answer.json() if answer.status == 200 else None
            except (OSError, ConnectionLost, ValueError):
                return None

        procs.wait_until(lambda: ask("/api/v2/status"), 60, "Alertmanager answers")
        server = self.server(ALERT_WEBHOOK_URL="http://127.0.0.1:%d/api/v2/alerts" % port, ALERT_REPEAT_MS=1000)
        service = 'quote " back\\slash ü'
        self.send(server, service, bad=BAD)
        shown = procs.wait_until(lambda: ask("/api/v2/alerts"), 60, "Alertmanager shows an alert")
        self.assertEqual(len(shown), 1)
        self.assertEqual(shown[0]["labels"]["service"], service)
        self.assertEqual(shown[0]["labels"]["severity"], "page")
        self.assertEqual(shown[0]["status"]["state"], "active")
        self.assertIn("30-day budget", shown[0]["annotations"]["summary"])
        self.send(server, service, good=10000)
        procs.wait_until(lambda: ask("/api/v2/alerts") == [], 60, "Alertmanager has let go of it")
        self.assertEqual(server.metrics()['sluice_alert_notices_total{result="refused"}'], 0)
        self.check_stderr()

    # ---- settings ----

    def test_settings_that_make_no_sense_stop_the_start(self):
        server = self.server(start=False)
        for name, value in (
            ("ALERT_WEBHOOK_URL", "ftp://secret@host/"),
            ("ALERT_WEBHOOK_URL", "not an address"),
            ("ALERT_WEBHOOK_FORMAT", "xml"),
            ("ALERT_WEBHOOK_TOKEN", "a\r\nX-Evil: 1"),
            ("ALERT_WEBHOOK_HEADER", "no colon"),
            ("ALERT_EXTERNAL_URL", "javascript:alert(1)"),
            ("ALERT_REPEAT_MS", "5"),
        ):
            server.env[name] = value
            done = server.command("check-config")
            self.assertEqual(done.returncode, 2, name)
            self.assertIn(name, done.stderr)
            self.assertNotIn("secret", done.stderr)
            del server.env[name]
        server.env["ALERT_WEBHOOK_URL"] = "https://user:secret@hook.example/x"
        done = server.command("check-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("secret", done.stdout)
        self.assertIn("ALERT_WEBHOOK_URL=(set)", done.stdout)


if __name__ == "__main__":
    runner.main()
