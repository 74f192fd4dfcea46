"""Runs the scenarios of k6/ against the service on one store and nginx over its files, and reads their summaries."""

import json
import os
import shutil
from dataclasses import dataclass
from typing import Optional

import load
import service


@dataclass(frozen=True)
class Scenario:
    """A script, and how it is run."""

    script: str
    # At a time; None: as the script has it.
    clients: Optional[int] = None
    # Of bench/stand.py.
    pool: str = "k"
    beat: int = 1
    # Who answers for the lists.
    site: str = "nginx"
    # What tells it from others of the same script.
    note: str = ""

    @property
    def name(self):
        clients = f"{self.clients} clients" if self.clients else ""
        return ", ".join(part for part in (self.script, clients, self.note) if part)

    def seconds(self, asked):
        """How long it takes: its phases, its beginning and its end."""
        times, besides = LONGER.get(self.script, (1, 3))
        return asked * times + besides + self.beat


SCENARIOS = [
    Scenario("fetch-status-list", 100, note="nginx"),
    Scenario("fetch-status-list", 100, site="built-in", note="built-in"),
    Scenario("update-status", 10),
    Scenario("update-status", 100),
    Scenario("fetch-reference-basic"),
    Scenario("fetch-reference-bulk"),
    Scenario("fetch-reference-unlimited", 10),
    Scenario("fetch-reference-unlimited", 100),
    Scenario("fetch-reference-unlimited", 100, pool="k-fail", note="fail"),
    Scenario("lifecycle", 100),
    Scenario("ramp", 100),
    Scenario("fetch-vs-update", note="beat of 1 s"),
    Scenario("fetch-vs-update", pool="k-slow", beat=5, note="beat of 5 s"),
]
# How many times the asked duration a script takes, and seconds besides.
LONGER = {"lifecycle": (1, 11), "ramp": (1, 11), "fetch-vs-update": (4, 14)}
THRESHOLDS_MISSED = 99
PERCENTILES = {"p50_ms": "p(50)", "p90_ms": "p(90)", "p99_ms": "p(99)", "p999_ms": "p(99.9)", "max_ms": "max"}


def program():
    own = service.TARGET / "test-tools" / "venv" / "bin" / "k6"
    found = own if own.exists() else shutil.which("k6")
    return found or service.fail("k6 is missing: run scripts/install-test-tools, or leave the scenarios out with --no-k6")


def run(it, folder, scenario, options, watch):
    """One scenario: what each of its measured steps came to, and which thresholds it missed."""
    summary = folder / "summary.json"
    summary.unlink(missing_ok=True)
    api = f"http://127.0.0.1:{it.services[it.front].port}"
    settings = {
        "API": api,
        "SITE": f"http://127.0.0.1:{it.nginx.port}/lists" if scenario.site == "nginx" else f"{api}/lists",
        "POOL": scenario.pool,
        "API_KEY": service.KEY,
        "BEAT": scenario.beat,
        "DURATION": f"{options.scenario_seconds}s",
        "SUMMARY": summary,
    }
    if scenario.clients:
        settings["VUS"] = scenario.clients
    if options.most_updates:
        settings["MOST_UPDATES"] = options.most_updates
    words = [program(), "run", "--quiet", "--no-color", "--address", ""]
    for name, value in settings.items():
        words += ["-e", f"{name}={value}"]
    environment = {**os.environ, "K6_NO_USAGE_REPORT": "true"}
    file = service.ROOT / "k6" / f"{scenario.script}.js"
    code, out, err = load.command([*words, file], watch, cwd=folder, env=environment)
    if code not in (0, THRESHOLDS_MISSED) or not summary.exists():
        service.fail(f"k6 run {file.name} ended with {code}:\n{out[-4000:]}{err[-4000:]}")
    return {"beat": scenario.beat, **read(json.loads(summary.read_text()))}


def read(summary):
    metrics = summary["metrics"]
    requests = metrics["http_reqs"]["values"]
    found = {"requests": requests["count"], "per_second": requests["rate"], "failed": metrics["http_req_failed"]["values"]["rate"]}
    missed = sorted(
        f"{name}: {limit}"
        for name, metric in metrics.items()
        for limit, result in metric.get("thresholds", {}).items()
        if not result["ok"]
    )
    # Only fetch-vs-update: how much longer the 99th percentiles became. k6 cannot have a threshold for a ratio.
    if ratios := summary.get("interference"):
        found |= {"fetch_disturbed": ratios["fetch"], "update_disturbed": ratios["update"], "allowed": ratios["allowed"]}
        if ratios["fetch"] > ratios["allowed"]:
            missed.append(f"99th percentile of fetches while updates ramp up: {ratios['fetch']:.2f} × > {ratios['allowed']}")
    steps = {}
    for name, metric in metrics.items():
        # Times of requests by their tags, and whatever else the script measures.
        wanted = name.startswith("http_req_duration{") and "expected_response" not in name or name == "freshness"
        if wanted and metric["values"].get("max"):
            label = name.partition("{")[2].rstrip("}").partition(":")[2] or name
            steps[label] = {key: metric["values"][value] for key, value in PERCENTILES.items()}
    return {**found, "steps": steps, "missed": missed}
