"""Files before updates where both share a machine: the service and its Redis behind nginx, as docs/OPERATIONS.md has it, and the load
generators out of nginx' way, because they stand for wallets and issuers on machines of their own. Needs root."""

import functools
import os
import subprocess
import sys
from contextlib import contextmanager

NICE = 10
REAL_TIME = ["chrt", "-r", "10"]
# What goes before the command of a load generator, by what it asks for.
FIRST = {"fetch": REAL_TIME, "update": ["chrt", "-i", "0"]}


@functools.cache
def permitted():
    """Whether priorities can be set here; says once if not."""
    try:
        done = subprocess.run([*REAL_TIME, "true"], capture_output=True)
    except OSError:
        done = None
    if done is None or done.returncode:
        print("priorities cannot be set here (root and chrt are needed): fetches do not come first", file=sys.stderr)
        return False
    return True


@contextmanager
def fetches_first(*processes):
    """Lowers these processes meanwhile. Answers what goes before the commands of the load generators, as in FIRST."""
    if not permitted():
        yield {}
        return
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    renice(processes, NICE)
    try:
        yield FIRST
    finally:
        renice(processes, usual)


def renice(processes, nice):
    """All threads; those that come later inherit it."""
    for process in processes:
        for thread in os.listdir(f"/proc/{process.child.pid}/task"):
            try:
                os.setpriority(os.PRIO_PROCESS, int(thread), nice)
            except ProcessLookupError:
                # Ended meanwhile.
                pass
