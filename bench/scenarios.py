"""Runs the scenarios of k6/ against the service on one store and nginx over its files, and reads their summaries."""

import json
import os
import re
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Optional

import load
import priority
import service


@dataclass(frozen=True)
class Scenario:
    """A script, and how to run it."""

    script: str
    # Number of clients; None: as in the script.
    clients: Optional[int] = None
    # A pool of bench/stand.py, and its beat; None: that of the knob.
    pool: str = "k"
    beat: Optional[int] = None
    # The server of the lists; None: it fetches none.
    site: Optional[str] = "nginx"
    # Distinguishes it from other scenarios of the same script.
    note: str = ""
    # For fetch-vs-update: whether files come before updates on shared cores; None for the other scripts.
    fetches_first: Optional[bool] = None
    # The minimum seconds of each phase. Such a scenario runs only with --long.
    phase_seconds: int = 0

    @property
    def name(self):
        clients = f"{self.clients} clients" if self.clients else ""
        note = self.note.format(beat=self.beat)
        return ", ".join(part for part in (self.script, clients, note) if part)

    @property
    def file_name(self):
        """Its name, for files."""
        return re.sub("[^a-z0-9]+", "-", self.name)

    @property
    def sides(self):
        """The sides, with one k6 for each: a k6 that updates while it fetches would disturb its own fetches."""
        return ["both"] if self.fetches_first is None else ["fetch", "update"]

    @property
    def is_control(self):
        """Whether this is the control, which shows the effect of the priorities. It is expected to miss its times, which are not targets."""
        return self.fetches_first is False

    def phase(self, asked):
        return max(asked, self.phase_seconds)

    def seconds(self, asked):
        """Its duration: phases, start and end."""
        times, besides = LONGER.get(self.script, (1, 3))
        return self.phase(asked) * times + besides + self.beat


SCENARIOS = [
    Scenario("fetch-status-list", 100, note="nginx"),
    Scenario("fetch-status-list", 100, site="built-in", note="built-in"),
    Scenario("update-status", 10, site=None),
    Scenario("update-status", 100, site=None),
    Scenario("fetch-reference-basic", site=None),
    Scenario("fetch-reference-bulk", site=None),
    Scenario("fetch-reference-unlimited", 10, site=None),
    Scenario("fetch-reference-unlimited", 100, site=None),
    Scenario("fetch-reference-unlimited", 100, pool="k-fail", note="fail", site=None),
    Scenario("lifecycle", 100),
    Scenario("ramp", 100),
    Scenario("fetch-vs-update", note="beat of {beat} s, fetches first", fetches_first=True),
    Scenario("fetch-vs-update", note="beat of {beat} s, control", fetches_first=False),
    Scenario("fetch-vs-update", pool="k-slow", beat=5, note="beat of {beat} s, fetches first", fetches_first=True),
    # Long enough for some publications.
    Scenario("fetch-vs-update", pool="k-min", beat=60, note="beat of {beat} s, fetches first", fetches_first=True, phase_seconds=60),
]
SCRIPTS = list(dict.fromkeys(scenario.script for scenario in SCENARIOS))
# The length of a script: a multiple of the given duration, plus a number of seconds.
LONGER = {"lifecycle": (1, 11), "ramp": (1, 11), "fetch-vs-update": (4, 34)}
THRESHOLDS_MISSED = 99
# The folder of k6's reports.
REPORTS = "k6"
# The time until two k6 have made their clients, on busy cores; they start together.
READY_SECONDS = 20
PERCENTILES = {"p50_ms": "p(50)", "p90_ms": "p(90)", "p99_ms": "p(99)", "p999_ms": "p(99.9)", "max_ms": "max"}


def program():
    own = service.TARGET / "test-tools" / "venv" / "bin" / "k6"
    found = own if own.exists() else shutil.which("k6")
    return found or service.fail("k6 is missing: run scripts/install-test-tools, or leave the scenarios out with --no-k6")


def chosen(knobs):
    """The scenarios that the knobs choose, with their clients and beats. Those that thereby become the same are one."""
    found = {}
    for scenario in SCENARIOS:
        scenario = replace(scenario, clients=knobs.vus or scenario.clients, beat=scenario.beat or knobs.scenario_beat)
        served = scenario.site is None or scenario.site in knobs.servers
        wanted = scenario.script in knobs.scenarios and (knobs.long or not scenario.phase_seconds)
        if wanted and served and knobs.only in scenario.name:
            found.setdefault(scenario.name, scenario)
    return list(found.values())


def run(it, folder, scenario, options, watch, watcher=None, is_last=True):
    """Runs one scenario and returns the result of each measured step, and the thresholds that it missed. The Prometheus of `watcher`
    gets k6's series. The last round leaves reports: they cost k6 CPU time, which medians over the rounds hardly show."""
    api = f"http://127.0.0.1:{it.services[it.front].port}"
    settings = {
        "API": api,
        "SITE": f"{api}/lists" if scenario.site == "built-in" else f"http://127.0.0.1:{it.nginx.port}/lists",
        "POOL": scenario.pool,
        "API_KEY": service.KEY,
        "BEAT": scenario.beat,
        "DURATION": f"{scenario.phase(options.scenario_seconds)}s",
        "MOST_UPDATES": options.most_updates,
    }
    if scenario.clients:
        settings["VUS"] = scenario.clients
    words = [program(), "run", "--quiet", "--no-color", "--address", ""]
    start = time.time() + READY_SECONDS
    if len(scenario.sides) > 1:
        settings["START"] = start
    for name, value in settings.items():
        words += ["-e", f"{name}={value}"]
    environment = {**os.environ, "K6_NO_USAGE_REPORT": "true"}
    if watcher:
        environment |= watcher.environment()
    if scenario.fetches_first is not None:
        environment |= priority.K6_ENVIRONMENT
    file = service.ROOT / "k6" / f"{scenario.script}.js"
    summaries = {side: folder / f"summary-{side}.json" for side in scenario.sides}
    with priority.real_time(it.nginx) if scenario.fetches_first else nullcontext({}) as first:
        commands = []
        for side, summary in summaries.items():
            summary.unlink(missing_ok=True)
            report = ["env", *report_settings(folder, scenario, side)] if options.reports and is_last else []
            series = watcher.words(scenario.name, side) if watcher else []
            commands.append([*first.get(side, []), *report, *words, *series, "-e", f"SIDE={side}", "-e", f"SUMMARY={summary}", file])
        ended = load.together(commands, watch, cwd=folder, env=environment)
    seconds = time.time() - start
    for (side, summary), (code, out, err) in zip(summaries.items(), ended):
        if code not in (0, THRESHOLDS_MISSED) or not summary.exists():
            service.fail(f"k6 run {file.name} (SIDE={side}) ended with {code}:\n{out[-4000:]}{err[-4000:]}")
    found = read([json.loads(summary.read_text()) for summary in summaries.values()])
    if "START" in settings:
        # k6's rates include the wait.
        found["per_second"] = found["requests"] / seconds
    if scenario.is_control:
        # A wrong answer still fails here.
        found["missed_by_control"] = [limit for limit in found["missed"] if not limit.startswith("checks")]
        found["missed"] = [limit for limit in found["missed"] if limit.startswith("checks")]
    return {"beat": scenario.beat, **found}


def report_settings(folder, scenario, side):
    """What makes k6 write its HTML report, without opening a port."""
    (folder / REPORTS).mkdir(exist_ok=True)
    name = scenario.file_name if side == "both" else f"{scenario.file_name}-{side}"
    # Reports have a point for each period, and a scenario may take only some seconds.
    settings = {"": "true", "_PORT": "-1", "_PERIOD": "1s", "_EXPORT": folder / REPORTS / f"{name}.html"}
    return [f"K6_WEB_DASHBOARD{setting}={value}" for setting, value in settings.items()]


def read(summaries):
    """The rate of one k6, or of several that made up one scenario and ran for about the same time."""
    total = lambda metric, value: sum(summary["metrics"][metric]["values"][value] for summary in summaries)
    requests = total("http_reqs", "count")
    # k6 counts failed requests as passes of "it failed".
    found = {"requests": requests, "per_second": total("http_reqs", "rate"), "failed": total("http_req_failed", "passes") / requests}
    metrics = [item for summary in summaries for item in summary["metrics"].items()]
    missed = sorted({
        f"{name}: {limit}"
        for name, metric in metrics
        for limit, result in metric.get("thresholds", {}).items()
        if not result["ok"]
    })
    # Only fetch-vs-update: how much longer the 99th percentiles became. k6 cannot have a threshold for a ratio.
    if ratios := {side: ratio for summary in summaries for side, ratio in summary.get("interference", {}).items()}:
        found |= {"fetch_disturbed": ratios["fetch"], "update_disturbed": ratios["update"], "allowed": ratios["allowed"]}
    steps = {}
    for name, metric in metrics:
        # Times of requests by their tags, and everything else that the script measures.
        wanted = name.startswith("http_req_duration{") and "expected_response" not in name or name == "freshness"
        if wanted and metric["values"].get("max"):
            label = name.partition("{")[2].rstrip("}").partition(":")[2] or name
            steps[label] = {key: metric["values"][value] for key, value in PERCENTILES.items()}
    return {**found, "steps": steps, "missed": missed}
