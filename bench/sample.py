"""Samples the CPU time, memory and disk writes of processes under load, from /proc."""

import os
import resource
import threading
import time
from pathlib import Path

import service

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LOAD = "load generator"


def written_bytes(pid):
    """The bytes that a process has written to disks so far; 0 without permission to read it."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def busy_seconds():
    """The busy time of all cores so far, for any process; includes time stolen by the host."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _waiting, interrupt, soft_interrupt, stolen = fields[:8]
    return (user + nice + system + interrupt + soft_interrupt + stolen) / TICKS


class Sampler(threading.Thread):
    """Samples every process several times a second, until it is stopped. Use it as a context manager."""

    def __init__(self, processes, interval):
        super().__init__(daemon=True)
        self.processes, self.interval = processes, interval
        self.generators = []
        self.samples = []
        self.lock, self.ended = threading.Lock(), threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    def run(self):
        while not self.ended.wait(self.interval):
            self.sample()

    def watch(self, *pids):
        """The current load generators."""
        self.generators = pids

    def sample(self):
        """CPU seconds, resident bytes and written bytes of each process, summed over processes of one name."""
        with self.lock:
            seen = {"time": time.monotonic(), "busy": busy_seconds()}
            of_each = {name: process.pids() for name, process in self.processes.items()}
            of_each[LOAD] = self.generators
            for name, pids in of_each.items():
                try:
                    looks = [(service.cpu_seconds(pid), resident_bytes(pid), written_bytes(pid)) for pid in pids]
                except OSError:
                    # It ended between two samples, as load generators do.
                    continue
                if looks:
                    seen[name] = tuple(map(sum, zip(*looks)))
            self.samples.append(seen)
            return seen

    def use(self, parts, work):
        """Returns the result of `work()`, and the resources that each part and the load generator used meanwhile."""
        children = children_seconds()
        before = self.sample()
        result = work()
        self.generators = []
        after = self.sample()
        children = children_seconds() - children
        during = [sample for sample in self.samples if before["time"] <= sample["time"] <= after["time"]]
        used, mine = {}, 0.0
        for name in [*parts, LOAD]:
            looks = [sample[name] for sample in during if name in sample]
            if not looks:
                continue
            # A load generator has ended, and its CPU time now counts as that of this process.
            cpu = children if name == LOAD else after[name][0] - before[name][0]
            mine += cpu
            used[name] = {
                "cpu_seconds": cpu,
                "peak_mib": max(memory for _, memory, _ in looks) / 2**20,
                "written_kib": (looks[-1][2] - looks[0][2]) / 1024,
            }
        seconds = after["time"] - before["time"]
        elsewhere = max(0.0, after["busy"] - before["busy"] - mine) / seconds
        return result, {"seconds": seconds, "cores_elsewhere": elsewhere, "parts": used, "series": series(during, used)}

    def whole(self, points=600):
        """The whole time as series of at most this many points, for a plot."""
        step = max(1, len(self.samples) // points)
        return series(self.samples[::step], [*self.processes, LOAD])


def children_seconds():
    """The CPU time of child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def series(samples, names):
    """For each name: seconds from the first sample, cores used since the sample before, memory in MiB."""
    lines = {name: {"seconds": [], "cores": [], "mib": []} for name in names}
    for before, after in zip(samples, samples[1:]):
        span = after["time"] - before["time"]
        if span < 0.01:
            continue
        for name, line in lines.items():
            if name in before and name in after:
                # Less than before: this is another load generator.
                cores = max(0.0, after[name][0] - before[name][0]) / span
                line["seconds"].append(round(after["time"] - samples[0]["time"], 3))
                line["cores"].append(round(cores, 3))
                line["mib"].append(round(after[name][1] / 2**20, 2))
    return lines
