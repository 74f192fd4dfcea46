"""Loads a server with wrk, or Redis with its own load generator, and reads their reports."""

import os
import shutil
import subprocess
from contextlib import ExitStack

import service

WRK = service.ROOT / "bench" / "wrk"


def install():
    if shutil.which("wrk"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "wrk"], stdout=subprocess.DEVNULL)
    if not shutil.which("wrk"):
        service.fail("wrk is missing: apt-get install wrk (Debian, Ubuntu), brew install wrk, or see github.com/wg/wrk")


def command(arguments, watch=None, **options):
    """Runs a load generator to its end and returns exit code, output and errors. `watch` gets its process id, to sample it meanwhile."""
    return together([arguments], watch, **options)[0]


def together(commands, watch=None, **options):
    """Runs several load generators at the same time, each to its end, and returns the same for each. `watch` gets all process ids."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = []
    with ExitStack() as all_ended:
        try:
            for words in commands:
                child = subprocess.Popen([str(word) for word in words], **streams, **options)
                children.append(all_ended.enter_context(child))
            if watch:
                watch(*(child.pid for child in children))
            said = [child.communicate() for child in children]
        except BaseException:
            for child in children:
                child.kill()
            raise
    return [(child.returncode, out, err) for child, (out, err) in zip(children, said)]


def run(arguments, watch=None):
    """The result of one run of wrk; its script is in bench/wrk and reports with report.lua."""
    code, out, err = command(["wrk", *arguments], watch, cwd=WRK)
    report = next((line for line in out.splitlines() if line.startswith("report ")), None)
    if code or report is None:
        service.fail(f"wrk failed:\n{out}{err}")
    return {name: int(value) for name, value in (pair.split("=") for pair in report.split()[1:])}


def measure(row, options, connections, watch=None):
    """Returns requests per second, latencies, and CPU time of the row's process per request. Fails if any answer is an error."""
    threads = min(options.threads, connections)
    words = [f"-t{threads}", f"-c{connections}", f"-d{options.seconds}s", "--timeout", "10s"]
    for name, value in row.headers.items():
        words += ["-H", f"{name}: {value}"]
    words += ["-s", row.script, f"http://127.0.0.1:{row.process.port}{row.path}", *row.arguments]
    cpu = row.process.cpu_seconds()
    report = run(words, watch)
    cpu = row.process.cpu_seconds() - cpu
    wrong = {name: report[name] for name in ("status", "connect", "read", "write", "timeout") if report[name]}
    if wrong or not report["requests"]:
        service.fail(f"{row.name}: {row.path}: unexpected answers: {wrong}, {report['requests']} requests")
    return {
        "requests": report["requests"],
        "seconds": report["duration"] / 1e6,
        "per_second": report["requests"] * 1e6 / report["duration"],
        "p50_ms": report["p50"] / 1000,
        "p90_ms": report["p90"] / 1000,
        "p99_ms": report["p99"] / 1000,
        "p999_ms": report["p999"] / 1000,
        "max_ms": report["max"] / 1000,
        "cpu_us": cpu * 1e6 / report["requests"],
    }


def measure_setbit(redis, seconds, connections, bit, watch=None):
    """Measures the rate of Redis itself with single bits, with its own load generator."""
    requests = 20_000 * seconds
    words = ["redis-benchmark", "-p", redis.port, "-c", connections, "-n", requests]
    cpu = redis.cpu_seconds()
    # Its random numbers begin with zeros, which SETBIT refuses. Every bit costs the same.
    code, out, err = command([*words, "--csv", "SETBIT", "bits", bit, "1"], watch)
    cpu = redis.cpu_seconds() - cpu
    if code:
        service.fail(f"redis-benchmark failed:\n{out}{err}")
    names, values = (line.replace('"', "").split(",") for line in out.splitlines()[-2:])
    report = dict(zip(names, values))
    return {
        "requests": requests,
        "seconds": requests / float(report["rps"]),
        "per_second": float(report["rps"]),
        "p50_ms": float(report["p50_latency_ms"]),
        # Redis does not report it.
        "p90_ms": None,
        "p99_ms": float(report["p99_latency_ms"]),
        "p999_ms": None,
        "max_ms": float(report["max_latency_ms"]),
        "cpu_us": cpu * 1e6 / requests,
    }
