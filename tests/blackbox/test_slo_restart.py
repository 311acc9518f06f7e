"""Two nodes on one database: what one of them makes of the alerts when it comes back.

After a start its own slices are there at once and the other node's a moment later. Judging in between would page for what
the two together do not burn, and resolve what they do.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import procs
import runner


class SloRestart(runner.Drill):
    deadline_seconds = 180

    def send(self, server, service, good, bad):
        one = [{"service": service, "status": 503, "latency_ms": 5}] * bad + [{"service": service, "status": 200, "latency_ms": 5}] * good
        with server.client() as client:
            answer = client.post("/events/bulk?ids=0", one)
        self.assertEqual(answer.status, 202, answer)

    def wait_total(self, server, service, total):
        def is_there():
            with server.client() as client:
                found = client.get("/slo/status?service=" + service).json()["services"]
            return bool(found) and found[0]["total"] == total

        procs.wait_until(is_there, 60 * procs.SLOWNESS, "%s has %d events" % (service, total))

    def test_a_node_that_comes_back_judges_what_all_nodes_have_seen(self):
        db = self.database()
        one = self.server(db, READY_REQUIRES_DB="true")
        two = self.server(db, READY_REQUIRES_DB="true", WAL_DIR=self.path("wal2"))
        self.send(one, "calm", good=5000, bad=0)
        self.send(one, "burning", good=0, bad=100)
        one.wait_drained()
        self.wait_total(two, "calm", 5000)
        self.wait_total(two, "burning", 100)
        self.send(two, "calm", good=0, bad=6)  # with the other node's: 1.2 times the budget, no page
        self.send(two, "burning", good=5000, bad=0)  # with the other node's: 20 times
        with two.client() as client:
            firing = [a for a in client.get("/slo/alerts?state=firing&severity=page").json()["alerts"] if a["objective"] == "default-availability"]
        self.assertEqual([alert["service"] for alert in firing], ["burning"])
        before = firing[0]["fired_at"]
        two.wait_drained()
        two.stop()
        two.start()
        self.wait_total(two, "calm", 5006)
        self.wait_total(two, "burning", 5100)
        # It has judged since: an answer includes what is acked.
        self.send(two, "later", good=0, bad=6)
        procs.wait_until(
            lambda: two.metrics().get('sluice_slo_alert_changes_total{state="firing"}', 0) >= 1, 60 * procs.SLOWNESS, "it judges"
        )
        with two.client() as client:
            pages = [a for a in client.get("/slo/alerts?severity=page").json()["alerts"] if a["objective"] == "default-availability"]
        states = {alert["service"]: alert for alert in pages}
        self.assertEqual(states["later"]["state"], "firing")
        self.assertEqual(states["calm"]["state"], "ok")
        self.assertEqual((states["burning"]["state"], states["burning"]["fired_at"]), ("firing", before))
        metrics = two.metrics()
        self.assertEqual(metrics['sluice_slo_alert_changes_total{state="firing"}'], 1)
        self.assertEqual(metrics.get('sluice_slo_alert_changes_total{state="resolved"}', 0), 0)
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
