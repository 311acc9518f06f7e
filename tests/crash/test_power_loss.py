"""Power loss: the log lies on ext4 in a file, and the file system is shut down without flushing.

After EXT4_IOC_SHUTDOWN with NOLOGFLUSH nothing more reaches the image; what was not synced is gone.
An ack that was given before its commit was on stable storage shows here, where kill -9 cannot show it.
Sizes: POWER_ROUNDS (4).
"""

import fcntl
import os
import struct
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import oracle
import procs
import runner
from load import Load, Plan

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


def shut_down(mount_point):
    fd = os.open(mount_point, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(fd)


class PowerLoss(runner.Drill):
    deadline_seconds = 300

    @staticmethod
    def staged(server):
        """How many events the server's last start took back from the stage."""
        return sum(line["staged"] for line in server.lines() if line.get("event") == "wal.opened")

    def rounds(self, db_for_round, plan, **env):
        """POWER_ROUNDS times: load, power loss, remount, restart. Compares at the end."""
        image, disk = self.loop_ext4("disk", 400)
        db = self.database()
        server = self.server(
            db, start=False, WAL_DIR=os.path.join(disk, "wal"), HTTP_PORT=procs.free_port(), **env
        )
        load = Load(self.dir, server.port, self.seed, plan=plan)
        self.addCleanup(load.kill)
        rounds = procs.int_env("POWER_ROUNDS", 4)
        staged = []
        for number in range(rounds):
            db_for_round(db, number, before=True)
            server.start()
            acked = load.acked()
            procs.wait_until(lambda: load.acked() > acked + 200, 30, "acks before the power loss")
            time.sleep(self.random.uniform(0.02, 0.7))
            shut_down(disk)
            time.sleep(self.random.uniform(0, 0.1))
            at_loss = load.acked()
            server.kill()
            self.unmount(disk)
            procs.run(["mount", "-o", "loop", image, disk])
            db_for_round(db, number, before=False)
            self.say("round %d: %d acks before the power went", number + 1, at_loss)
            staged.append(self.staged(server))
        server.start()
        staged.append(self.staged(server))
        self.say("the starts found %s events in the stage", staged[1:])
        time.sleep(0.2)
        ledger = load.stop()
        oracle.judge(self, db, server, [ledger])
        server.stop()
        self.check_stderr()

    def test_acked_events_survive_power_loss(self):
        self.rounds(lambda *_, **__: None, Plan(rate=8000, connections=16))

    def test_acked_events_survive_power_loss_with_mysql_away(self):
        """Nothing but the log holds them then."""

        def away(db, number, before):
            if before and number == 0:
                db.stop()
            if not before and number == procs.int_env("POWER_ROUNDS", 4) - 1:
                db.restart()

        self.rounds(away, Plan(rate=4000, connections=16, bulk_share=0.02))

    def test_the_log_directory_itself_survives_power_loss_right_after_the_first_ack(self):
        """The new file's directory entry must be synced too, all the way up."""
        image, disk = self.loop_ext4("fresh", 400)
        for number in range(3):
            wal = os.path.join(disk, "a%d" % number, "wal")
            os.makedirs(os.path.dirname(wal))
            # The parent is the operator's; it was made long ago.
            for directory in (disk, os.path.dirname(wal)):
                fd = os.open(directory, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            server = self.server(None, WAL_DIR=wal)
            with server.client() as client:
                answer = client.post("/events", {"type": "first", "id": "only"})
            self.assertEqual(answer.status, 202)
            shut_down(disk)
            server.kill()
            self.unmount(disk)
            procs.run(["mount", "-o", "loop", image, disk])
            server.start()
            with server.client() as client:
                again = client.post("/events", {"type": "first", "id": "only"})
            self.assertEqual((again.status, again.json()["seq"]), (200, answer.json()["seq"]))
            server.stop()
        self.check_stderr()


if __name__ == "__main__":
    runner.main()
