"""Child processes, temporary directories and waiting: what every drill stands on.

A child gets SIGKILL when the drill dies (PR_SET_PDEATHSIG), so an interrupted run leaves nothing
behind. That signal is tied to the thread that started the child: start children from the main
thread only.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _slowness():
    """How much longer than a plain build's anything may take (DRILL_DEADLINE_FACTOR, or by build)."""
    given = os.environ.get("DRILL_DEADLINE_FACTOR", "")
    if given:
        return float(given)
    binary = os.environ.get("SLUICE_BIN", "")
    return 5.0 if "/tsan/" in binary else 3.0 if "/asan/" in binary else 1.0


# Waits are bounds on hanging, not measurements.
SLOWNESS = _slowness()

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def spawn(args, **options):
    """subprocess.Popen of a child that does not outlive the drill."""
    user = options.pop("as_nobody", False)
    if user and os.geteuid() == 0:
        # The death signal is cleared by a change of user, so change first: Popen runs preexec_fn
        # after it has set user and group.
        options.update(user="nobody", group="nogroup", extra_groups=[])
    return subprocess.Popen(args, preexec_fn=_die_with_parent, **options)


def run(args, timeout=60, check=True, **options):
    """Runs a command to its end; stdout and stderr as text."""
    done = subprocess.run(
        args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, text=True, **options
    )
    if check and done.returncode != 0:
        raise RuntimeError(
            "%s: exit %d: %s" % (" ".join(args), done.returncode, (done.stderr or done.stdout)[-2000:])
        )
    return done


def end(child, timeout=10):
    """Kills CHILD if it still runs (also when stopped) and reaps it; returns its exit code."""
    if child is None:
        return None
    if child.poll() is None:
        child.kill()
    return child.wait(timeout)


def free_port():
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, timeout, what, pause=0.02):
    """Calls CONDITION until it is true and returns what it gave; AssertionError after TIMEOUT s."""
    give_up = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > give_up:
            raise AssertionError("waited %.0f s in vain: %s" % (timeout, what))
        time.sleep(pause)


def int_env(name, default):
    """A whole number from the environment, for the sizes of a drill."""
    return int(os.environ.get(name, "") or default)


def disk_bytes(directory):
    """Bytes the files below DIRECTORY really take on the disk."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total
