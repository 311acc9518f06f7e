"""The answer to COMMIT is lost, or the COMMIT itself: MySQL is asked, nothing is stored twice or never."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner
from load import Load, Plan
from proxy import Proxy

EVENTS = procs.int_env("COMMIT_EVENTS", 5000)


class LostCommit(runner.Drill):
    deadline_seconds = 180

    def drill(self, decide, kill_server=False, **env):
        db = self.database()
        proxy = Proxy(db.port, decide)
        self.addCleanup(proxy.close)
        server = self.server(
            db,
            HTTP_PORT=procs.free_port(),
            DB_URL="mysql://root@127.0.0.1:%d/%s" % (proxy.port, db.name),
            DB_RETRY_BACKOFF_MS=10,
            DB_RETRY_BACKOFF_MAX_MS=100,
            BATCH_MAX_EVENTS=100,
            BATCH_MAX_MS=2,
            **env,
        )
        load = Load(
            self.dir,
            server.port,
            self.seed,
            plan=Plan(workers=1, connections=8, rate=4000, bulk_share=0.02, events_max=EVENTS),
        )
        self.addCleanup(load.kill)
        if kill_server:
            for _ in range(6):
                time.sleep(self.random.uniform(0.05, 0.4))
                server.kill()
                server.start()
        ledger = load.join()
        server.wait_drained(100)
        proxy.decide = lambda: "pass"
        self.say("COMMITs: %r", proxy.counts)
        oracle.judge(self, db, server, [ledger])
        self.check_stderr()
        return proxy

    def test_the_answer_to_every_third_commit_is_lost(self):
        proxy = self.drill(lambda: "no_answer" if self.random.random() < 0.33 else "pass")
        self.assertGreater(proxy.counts["no_answer"], 5)

    def test_every_third_commit_never_arrives(self):
        proxy = self.drill(lambda: "no_request" if self.random.random() < 0.33 else "pass")
        self.assertGreater(proxy.counts["no_request"], 5)

    def test_both_at_random_while_the_server_is_killed_too(self):
        self.drill(
            lambda: self.random.choice(("pass", "pass", "no_answer", "no_request")), kill_server=True
        )

    def test_connections_are_cut_at_any_moment(self):
        db = self.database()
        proxy = Proxy(db.port)
        self.addCleanup(proxy.close)
        server = self.server(
            db,
            DB_URL="mysql://root@127.0.0.1:%d/%s" % (proxy.port, db.name),
            DB_RETRY_BACKOFF_MS=10,
            DB_RETRY_BACKOFF_MAX_MS=100,
            BATCH_MAX_EVENTS=300,
            BATCH_MAX_MS=2,
        )
        load = Load(self.dir, server.port, self.seed, plan=Plan(workers=1, connections=8, rate=5000))
        self.addCleanup(load.kill)
        for number in range(60):
            time.sleep(self.random.uniform(0.005, 0.08))
            proxy.cut()
            if number % 10 == 9:
                proxy.refuse()
                time.sleep(0.5)
                proxy.allow()
        ledger = load.stop()
        self.assertEqual(dict(ledger.codes), {})
        oracle.judge(self, db, server, [ledger])
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
