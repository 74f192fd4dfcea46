"""Priority for files over updates on a shared machine, as docs/OPERATIONS.md recommends: nginx gets a real-time priority, or the
service and its Redis get a smaller share than nginx. Load generators stand for wallets and issuers on machines of their own, so they
must not compete with nginx. Needs root."""

import functools
import os
import subprocess
import sys
from contextlib import contextmanager

NICE = 10
REAL_TIME = 10
# The prefix of a load generator's command, by the kind of its requests.
FIRST = {"fetch": ["chrt", "-r", str(REAL_TIME)], "update": ["chrt", "-i", "0"]}
# For a k6 that measures short times: while it collects garbage, on all cores, responses wait. So it collects rarely, but
# within a bound.
K6_ENVIRONMENT = {"GOGC": "1000", "GOMEMLIMIT": "4GiB"}


@functools.cache
def permitted():
    """Whether priorities can be set here; prints a note once if not."""
    try:
        done = subprocess.run([*FIRST["fetch"], "true"], capture_output=True)
    except OSError:
        done = None
    if done is None or done.returncode:
        print("priorities cannot be set here (root and chrt are needed): fetches have no priority", file=sys.stderr)
        return False
    return True


@contextmanager
def real_time(nginx):
    """Gives nginx priority over all others meanwhile. Returns the prefixes of the load generators' commands, as in FIRST."""
    if not permitted():
        yield {}
        return
    schedule(nginx, os.SCHED_RR, REAL_TIME)
    try:
        yield FIRST
    finally:
        schedule(nginx, os.SCHED_OTHER, 0)


@contextmanager
def smaller_share(*others):
    """Gives these a smaller share than nginx meanwhile. Returns the same prefixes."""
    if not permitted():
        yield {}
        return
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    renice(others, NICE)
    try:
        yield FIRST
    finally:
        renice(others, usual)


def schedule(process, policy, priority):
    for pid in process.pids():
        os.sched_setscheduler(pid, policy, os.sched_param(priority))


def renice(processes, nice):
    """Applies to all threads; later ones inherit it."""
    for process in processes:
        for thread in os.listdir(f"/proc/{process.child.pid}/task"):
            try:
                os.setpriority(os.PRIO_PROCESS, int(thread), nice)
            except ProcessLookupError:
                # The thread has ended.
                pass
