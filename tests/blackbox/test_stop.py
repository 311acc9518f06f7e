"""Stopping: in time, with exit code 0, and without losing what was acked."""

import os
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner
from http_client import ConnectionLost
from load import Load, Plan


class Stop(runner.Drill):
    deadline_seconds = 120

    def under_load(self, db, **env):
        server = self.server(db, HTTP_PORT=procs.free_port(), SHUTDOWN_TIMEOUT_MS=4000, **env)
        load = Load(self.dir, server.port, self.seed, plan=Plan(workers=1, connections=24, rate=8000))
        self.addCleanup(load.kill)
        procs.wait_until(lambda: load.acked() > 1000, 30, "the load runs")
        return server, load

    def stop_within(self, server, seconds, number=signal.SIGTERM):
        began = time.monotonic()
        server.process.send_signal(number)
        code = server.wait_exit(seconds)
        self.say("stopped in %.2f s", time.monotonic() - began)
        return code

    def restart_and_judge(self, db, server, load):
        server.start()
        time.sleep(0.3)
        ledger = load.stop()
        self.assertTrue(
            set(ledger.codes) <= {"503 shutting_down", "503 log_failed"}, dict(ledger.codes)
        )
        oracle.judge(self, db, server, [ledger])
        self.check_stderr()

    def test_sigterm_under_load_again_and_again(self):
        db = self.database()
        server, load = self.under_load(db)
        for number in range(4):
            self.assertEqual(self.stop_within(server, 15, signal.SIGINT if number == 2 else signal.SIGTERM), 0)
            server.start()
            time.sleep(self.random.uniform(0.05, 0.5))
        self.assertEqual(self.stop_within(server, 15), 0)
        self.restart_and_judge(db, server, load)

    def test_a_stop_drains_into_mysql(self):
        db = self.database()
        server = self.server(db, BATCH_MAX_EVENTS=500)
        ledger = Load(
            self.dir, server.port, self.seed, plan=Plan(workers=1, connections=8, events_max=5000)
        ).join()
        self.assertEqual(self.stop_within(server, 20), 0)
        verdict = oracle.compare(db, [ledger])
        self.assertEqual(verdict.problems(), [])
        self.assertEqual(verdict.found, ledger.count)
        self.check_stderr()

    def test_a_second_sigterm_hurries_and_loses_nothing(self):
        db = self.database()
        server, load = self.under_load(db)
        for pause in (0.0, 0.05, 0.3):
            server.terminate()
            time.sleep(pause)
            if server.running():
                server.terminate()
            self.assertIn(server.wait_exit(10), (0, 1, -signal.SIGTERM, 128 + signal.SIGTERM))
            server.start()
            time.sleep(0.2)
        self.restart_after_running(db, server, load)

    def restart_after_running(self, db, server, load):
        self.assertEqual(self.stop_within(server, 15), 0)
        self.restart_and_judge(db, server, load)

    def test_sigterm_while_mysql_hangs(self):
        """Neither the drain nor closing the connection may wait for it beyond the deadline."""
        db = self.database()
        server, load = self.under_load(db, DB_TIMEOUT_MS=3000)
        db.pause()
        try:
            time.sleep(0.5)
            # The deadline, one database timeout and some air.
            self.assertEqual(self.stop_within(server, 4 + 3 + 5), 0)
        finally:
            db.resume()
        self.restart_and_judge(db, server, load)

    def test_sigterm_while_mysql_is_away(self):
        db = self.database()
        server, load = self.under_load(db)
        db.stop()
        time.sleep(0.5)
        self.assertEqual(self.stop_within(server, 15), 0)
        db.restart()
        self.restart_and_judge(db, server, load)

    def test_idle_and_half_sent_requests_do_not_hold_the_stop(self):
        server = self.server(None, SHUTDOWN_TIMEOUT_MS=2000)
        clients = [server.client() for _ in range(20)]
        for number, client in enumerate(clients):
            if number % 2:
                self.assertEqual(client.get("/health").status, 200)
            else:
                client.send(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        self.assertEqual(self.stop_within(server, 10), 0)
        for client in clients:
            client.close()
        self.check_stderr()

    def test_ready_is_503_as_soon_as_the_stop_begins(self):
        server = self.server(None, SHUTDOWN_TIMEOUT_MS=3000)
        with server.client() as client, server.client() as other:
            self.assertEqual(client.get("/ready").status, 200)
            # A request that is under way keeps the stop from being over at once.
            other.send(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
            server.terminate()
            seen = set()
            for _ in range(2000):
                try:
                    status = client.get("/ready").status
                except (ConnectionLost, OSError):
                    break
                seen.add(status)
                if status == 503:
                    break
            self.assertTrue(seen <= {200, 503}, seen)
            after = server.ready_status()
            self.assertIn(after, (503, None))
        self.assertEqual(server.wait_exit(15), 0)
        self.check_stderr()

    def test_a_request_under_way_is_finished(self):
        server = self.server(None, SHUTDOWN_TIMEOUT_MS=5000)
        body = b'{"type":"late","id":"under-way"}'
        with server.client() as client:
            client.send(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:9])
            time.sleep(0.2)
            server.terminate()
            time.sleep(0.1)
            client.send(body[9:])
            answer = client.read()
        self.assertIn(answer.status, (202, 503))
        self.assertEqual(server.wait_exit(15), 0)
        server.start()
        with server.client() as client:
            again = client.post("/events", body)
        self.assertEqual(again.status, 200 if answer.status == 202 else 202)
        self.check_stderr()

    def test_sigterm_during_the_start(self):
        server = self.server(None)
        server.stop()
        for _ in range(10):
            server.launch()
            time.sleep(self.random.uniform(0.0, 0.06))
            server.terminate()
            self.assertIn(server.wait_exit(15), (0, -signal.SIGTERM))
        server.start()
        self.assertEqual(server.stop(), 0)
        self.check_stderr()

    def test_sighup_and_a_closed_reader_of_the_log_lines_leave_it_running(self):
        server = self.server(None)
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGPIPE)
        time.sleep(0.3)
        self.assertEqual(server.ready_status(), 200)
        self.assertEqual(server.stop(), 0)
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
