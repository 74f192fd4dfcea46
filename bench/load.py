"""Loads a server with wrk and reads what it reports."""

import os
import shutil
import subprocess

import service

WRK = service.ROOT / "bench" / "wrk"


def install():
    if shutil.which("wrk"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "wrk"], stdout=subprocess.DEVNULL)
    if not shutil.which("wrk"):
        service.fail("wrk is missing: apt-get install wrk (Debian, Ubuntu), brew install wrk, or see github.com/wg/wrk")


def run(arguments):
    """What one run of wrk came to; its script is in bench/wrk and reports with report.lua."""
    done = subprocess.run(["wrk", *arguments], cwd=WRK, capture_output=True, text=True)
    report = next((line for line in done.stdout.splitlines() if line.startswith("report ")), None)
    if done.returncode or report is None:
        service.fail(f"wrk failed:\n{done.stdout}{done.stderr}")
    return {name: int(value) for name, value in (pair.split("=") for pair in report.split()[1:])}


def measure(process, path, options, headers=None, script="get.lua", arguments=()):
    """Requests per second, latencies, and CPU time of `process` per request. Fails if any answer was an error."""
    command = [f"-t{options.threads}", f"-c{options.connections}", f"-d{options.seconds}s", "--timeout", "10s"]
    for name, value in (headers or {}).items():
        command += ["-H", f"{name}: {value}"]
    command += ["-s", script, f"http://127.0.0.1:{process.port}{path}", *arguments]
    cpu = process.cpu_seconds()
    report = run(command)
    cpu = process.cpu_seconds() - cpu
    wrong = {name: report[name] for name in ("status", "connect", "read", "write", "timeout") if report[name]}
    if wrong or not report["requests"]:
        service.fail(f"{path}: answers were not as expected: {wrong}, {report['requests']} requests")
    return {
        "requests": report["requests"],
        "seconds": report["duration"] / 1e6,
        "per_second": report["requests"] * 1e6 / report["duration"],
        "p50_ms": report["p50"] / 1000,
        "p99_ms": report["p99"] / 1000,
        "max_ms": report["max"] / 1000,
        "cpu_us": cpu * 1e6 / report["requests"],
    }
