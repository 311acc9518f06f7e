"""A private MariaDB: own data directory, socket and port, started, stopped, killed and paused at will.

Rows are read through the mariadb client, so no driver is needed and the reader shares no code with
the server under test.
"""

import os
import shutil
import signal
import subprocess
import time

import procs


def _open_to_all(directory):
    """Whether every folder above DIRECTORY lets other users pass."""
    while directory != "/":
        directory = os.path.dirname(directory)
        if not os.stat(directory).st_mode & 0o001:
            return False
    return True


class MariaDB:
    def __init__(self, directory, name="sluice", options=()):
        self.dir = directory
        self.name = name
        self.options = list(options)
        self.data = os.path.join(directory, "data")
        self.socket = os.path.join(directory, "s")
        self.port = procs.free_port()
        self.process = None
        # As root it runs as nobody, unless nobody cannot reach its folder.
        self.as_nobody = os.geteuid() != 0 or _open_to_all(directory)
        if not self.as_nobody:
            self.options.append("--user=root")

    @property
    def url(self):
        return "mysql://root@/%s?socket=%s" % (self.name, self.socket)

    def _environment(self):
        """Temporary tables go to our own folder: in a shared one two servers' names collide."""
        return {**os.environ, "TMPDIR": self.dir}

    def start(self):
        """Creates the data directory when it is missing; returns once queries are answered."""
        if not os.path.isdir(self.data):
            os.makedirs(self.dir, exist_ok=True)
            if os.geteuid() == 0 and self.as_nobody:
                shutil.chown(self.dir, "nobody", "nogroup")
            install = procs.spawn(
                [
                    "mariadb-install-db",
                    "--no-defaults",
                    "--datadir=" + self.data,
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    *([] if self.as_nobody else ["--user=root"]),
                ],
                as_nobody=self.as_nobody,
                env=self._environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            _, text = install.communicate(timeout=120)
            if install.returncode != 0:
                raise RuntimeError("mariadb-install-db: " + text.decode("utf-8", "replace")[-2000:])
        self.launch()
        self.wait_up()
        self.query("CREATE DATABASE IF NOT EXISTS `%s` CHARACTER SET utf8mb4" % self.name, database="")

    def launch(self):
        """Starts the process without waiting for it."""
        self.process = procs.spawn(
            [
                "mariadbd",
                "--no-defaults",
                "--datadir=" + self.data,
                "--socket=" + self.socket,
                "--pid-file=" + os.path.join(self.dir, "pid"),
                "--port=%d" % self.port,
                "--bind-address=127.0.0.1",
                "--log-error=" + os.path.join(self.dir, "err.log"),
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=64M",
                "--innodb-log-file-size=16M",
                "--character-set-server=utf8mb4",
                *self.options,
            ],
            as_nobody=self.as_nobody,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_up(self, timeout=60):
        def answers():
            if self.process.poll() is not None:
                with open(os.path.join(self.dir, "err.log"), errors="replace") as file:
                    raise RuntimeError("mariadbd has ended: " + file.read()[-2000:])
            return self._client("SELECT 1", "", 5).returncode == 0

        procs.wait_until(answers, timeout, "MariaDB answers", pause=0.05)

    def _client(self, sql, database, timeout):
        command = ["mariadb", "--no-defaults", "--socket=" + self.socket, "-uroot"]
        command += ["--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4"]
        if database:
            command.append("--database=" + database)
        return subprocess.run(
            command, input=sql.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout
        )

    def query(self, sql, database=None, timeout=120):
        """Rows as lists of strings; SQL NULL is the string NULL, so use IFNULL where it matters."""
        done = self._client(sql, self.name if database is None else database, timeout)
        if done.returncode != 0:
            raise RuntimeError("%s: %s" % (sql[:200], done.stderr.decode("utf-8", "replace")))
        text = done.stdout.decode("utf-8", "surrogateescape")
        return [line.split("\t") for line in text.split("\n")[:-1]]

    def number(self, sql):
        return int(self.query(sql)[0][0])

    def has_table(self, table):
        return (
            self.number(
                "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '%s'"
                " AND table_name = '%s'" % (self.name, table)
            )
            > 0
        )

    def session(self, sql):
        """A second session that runs SQL and keeps its connection until it is killed."""
        client = procs.spawn(
            ["mariadb", "--no-defaults", "--socket=" + self.socket, "-uroot", "--unbuffered", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        client.stdin.write((sql + ";\nSELECT 'done';\n").encode())
        client.stdin.flush()
        while b"done" not in client.stdout.readline():
            if client.poll() is not None:
                raise RuntimeError("the session ended: " + sql)
        return client

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """kill -9."""
        procs.end(self.process)
        self.process = None

    def stop(self, timeout=60):
        """Orderly stop."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(timeout)
        self.process = None

    def restart(self):
        self.launch()
        self.wait_up()

    def copy_data(self, target):
        """A copy of the data directory; stop first."""
        procs.run(["cp", "-a", self.data, target])

    def destroy(self):
        procs.end(self.process)
        self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)
