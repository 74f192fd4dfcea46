"""Runs the scenarios of k6/ against the service on one store and nginx over its files, and reads their summaries."""

import json
import os
import shutil

import load
import service

# Script and clients at a time (None: as the script has it).
SCENARIOS = [
    ("fetch-status-list", 100),
    ("update-status", 10),
    ("update-status", 100),
    ("fetch-reference-basic", None),
    ("fetch-reference-bulk", None),
    ("fetch-reference-unlimited", 10),
    ("fetch-reference-unlimited", 100),
    ("lifecycle", 100),
    ("ramp", 100),
    ("fetch-vs-update", None),
]
# How many times the asked duration a script takes, and seconds besides: its phases, its beginning and its end.
LONGER = {"lifecycle": (1, 12), "ramp": (1, 12), "fetch-vs-update": (4, 15)}
BEAT = 1
THRESHOLDS_MISSED = 99
PERCENTILES = {"p50_ms": "p(50)", "p90_ms": "p(90)", "p99_ms": "p(99)", "p999_ms": "p(99.9)", "max_ms": "max"}


def program():
    own = service.TARGET / "test-tools" / "venv" / "bin" / "k6"
    found = own if own.exists() else shutil.which("k6")
    return found or service.fail("k6 is missing: run scripts/install-test-tools, or leave the scenarios out with --no-k6")


def name_of(script, clients):
    return f"{script}, {clients} clients" if clients else script


def expected_seconds(script, seconds):
    times, besides = LONGER.get(script, (1, 3))
    return seconds * times + besides


def run(it, folder, script, clients, seconds, watch):
    """One scenario: what each of its measured steps came to, and which thresholds it missed."""
    summary = folder / "summary.json"
    summary.unlink(missing_ok=True)
    settings = {
        "API": f"http://127.0.0.1:{it.services[it.front].port}",
        "SITE": f"http://127.0.0.1:{it.nginx.port}/lists",
        "POOL": "k",
        "API_KEY": service.KEY,
        "BEAT": BEAT,
        "DURATION": f"{seconds}s",
        "SUMMARY": summary,
    }
    if clients:
        settings["VUS"] = clients
    words = [program(), "run", "--quiet", "--no-color", "--address", ""]
    for name, value in settings.items():
        words += ["-e", f"{name}={value}"]
    environment = {**os.environ, "K6_NO_USAGE_REPORT": "true"}
    file = service.ROOT / "k6" / f"{script}.js"
    code, out, err = load.command([*words, file], watch, cwd=folder, env=environment)
    if code not in (0, THRESHOLDS_MISSED) or not summary.exists():
        service.fail(f"k6 run {file.name} ended with {code}:\n{out[-4000:]}{err[-4000:]}")
    return read(json.loads(summary.read_text()))


def read(summary):
    metrics = summary["metrics"]
    requests = metrics["http_reqs"]["values"]
    missed = sorted(
        f"{name}: {limit}"
        for name, metric in metrics.items()
        for limit, result in metric.get("thresholds", {}).items()
        if not result["ok"]
    )
    # Only fetch-vs-update: how much longer the 99th percentiles became.
    ratios = summary.get("interference", {})
    disturbed = {f"{name}_disturbed": ratios[name] for name in ("fetch", "update") if name in ratios}
    steps = {}
    for name, metric in metrics.items():
        # Times of requests by their tags, and whatever else the script measures.
        wanted = name.startswith("http_req_duration{") and "expected_response" not in name or name == "freshness"
        if wanted and metric["values"].get("max"):
            label = name.partition("{")[2].rstrip("}").partition(":")[2] or name
            steps[label] = {key: metric["values"][value] for key, value in PERCENTILES.items()}
    return {"requests": requests["count"], "per_second": requests["rate"], "steps": steps, "missed": missed, **disturbed}
