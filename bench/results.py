"""Turns the measurements of `bench/run` into results.json, results.csv, samples.json, table.md and plots."""

import csv
import json
import re
import statistics
import time

import plot
import sample
import service
from matrix import reach_at
from rows import machine_text, measured, medians, ratio_text, ratios

LATENCIES = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"]
LATENCY_NAMES = ["50 %", "90 %", "99 %", "99.9 %", "max"]
ROLES = ["service", "database", "nginx", "parser", "load"]
# The words for a scenario that missed a threshold, and for a control, which has no targets.
LIMITS = ["missed", "missed_by_control"]
ROUNDS_ENOUGH = 5
# Cores that other processes may use during a measurement; the kernel's own work accounts for about a fifth of a core.
ELSEWHERE_MAX = 0.25


def role(part):
    """The role of a process in a row, whatever its store."""
    if part == sample.LOAD:
        return "load"
    if part.startswith("service"):
        return "service"
    return {"nginx": "nginx", "parse only": "parser"}.get(part, "database")


def used(uses, requests):
    """The resource usage of each process: medians over the rounds."""
    roles = {}
    for part in uses[0]["parts"]:
        rounds = [(use["parts"].get(part), use["seconds"], count) for use, count in zip(uses, requests)]
        rounds = [entry for entry in rounds if entry[0]]
        roles[role(part)] = {
            "cpu_us": statistics.median(use["cpu_seconds"] * 1e6 / count for use, _, count in rounds),
            "cores": statistics.median(use["cpu_seconds"] / seconds for use, seconds, _ in rounds),
            "peak_mib": statistics.median(use["peak_mib"] for use, _, _ in rounds),
            "written_kib_per_second": statistics.median(use["written_kib"] / seconds for use, seconds, _ in rounds),
        }
    return roles


def spread(runs, key):
    values = [run[key] for run in runs]
    return {f"{key}_min": min(values), f"{key}_max": max(values)}


def summarise(cells, counts, runs, uses):
    """One entry for each cell and number of connections."""
    entries = []
    for count in counts:
        for cell in cells:
            mine = runs[cell.key, count]
            entry = {"name": cell.name, "by": cell.by, "connections": count, "amount": cell.amount, **medians(mine)}
            entry |= spread(mine, "per_second") | spread(mine, "p99_ms")
            entry |= {"reference": cell.reference, "reach": reach_at(cell, count, counts)}
            if cell.reference:
                entry |= ratios(mine, runs[cell.reference, count])
            entry["used"] = used(uses[cell.key, count], [run["requests"] for run in mine])
            entry["cores_elsewhere"] = statistics.median(use["cores_elsewhere"] for use in uses[cell.key, count])
            entries.append(entry)
    return entries


def summarise_scenarios(runs, uses):
    """One entry for each scenario, with its steps inside."""
    entries = []
    for name, mine in runs.items():
        figures = {key: value for key, value in mine[0].items() if key not in ("steps", *LIMITS)}
        entry = {"name": name, **medians([{key: run[key] for key in figures} for run in mine]), **spread(mine, "per_second")}
        # A step that is missing in some round is left out of the table.
        steps = [step for step in mine[0]["steps"] if all(step in run["steps"] for run in mine)]
        entry["steps"] = {
            step: medians([run["steps"][step] for run in mine]) | spread([run["steps"][step] for run in mine], "p99_ms")
            for step in sorted(steps)
        }
        for limits in LIMITS:
            if limits in mine[0]:
                entry[limits] = [f"round {number + 1}: {limit}" for number, run in enumerate(mine) for limit in run[limits]]
        if "allowed" in entry:
            # A single round says little about the slowest hundredth, so the median is judged.
            entry |= spread(mine, "fetch_disturbed")
            if entry["fetch_disturbed"] > entry["allowed"]:
                limits = "missed_by_control" if "missed_by_control" in entry else "missed"
                entry[limits].append(f"99th percentile of fetches while updates ramp up: {disturbed(entry)}, allowed {entry['allowed']}")
        entry["used"] = used(uses[name], [run["requests"] for run in mine])
        entries.append(entry)
    return entries


def disturbed(entry):
    return f"{entry['fetch_disturbed']:.2f} × ({entry['fetch_disturbed_min']:.2f}–{entry['fetch_disturbed_max']:.2f})"


def targets(entries):
    return [entry for entry in entries if entry["reach"]]


def folder_of(machine):
    """The folder of a run that begins now: below the commit, or the image, that is measured."""
    return service.RESULTS / re.sub("[^A-Za-z0-9._-]", "_", measured(machine)) / time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())


def write(folder, results, series, whole):
    """Writes everything into the folder."""
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "samples.json").write_text(json.dumps({"rows": dict(series), "whole": whole}) + "\n")
    (folder / "table.md").write_text(table(results) + "\n")
    write_csv(folder / "results.csv", results)
    draw(folder, results, series, whole)


def write_csv(file, results):
    """A line for each row and for each step of a scenario."""
    figures = ["per_second", "per_second_min", "per_second_max", *LATENCIES, "failed", "ratio", "reach", "cores_elsewhere"]
    uses = ["cpu_us", "cores", "peak_mib", "written_kib_per_second"]
    columns = [f"{name}_{use}" for name in ROLES for use in uses]
    with open(file, "w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["kind", "name", "by", "connections", "amount", *figures, *columns])
        lines = [("row", entry["name"], entry["by"], entry) for entry in results["rows"]]
        for scenario in results["scenarios"]:
            lines.append(("scenario", scenario["name"], "", scenario))
            lines += [("step", scenario["name"], step, entry) for step, entry in scenario["steps"].items()]
        for kind, name, by, entry in lines:
            found = [entry.get("used", {}).get(name_of_role, {}).get(use) for name_of_role in ROLES for use in uses]
            first = [kind, name, by, entry.get("connections"), entry.get("amount")]
            writer.writerow([*first, *(entry.get(figure) for figure in figures), *found])


def draw(folder, results, series, whole):
    rows, counts = results["rows"], results["options"]["connections"]
    keys = list(dict.fromkeys((row["name"], row["by"]) for row in rows))
    found = {(row["name"], row["by"], row["connections"]): row for row in rows}
    label = lambda key: f"{key[0]} · {key[1]}"

    bar = lambda row: (row["per_second"], row["per_second_min"], row["per_second_max"])
    groups = [(label(key), [bar(found[*key, count]) for count in counts]) for key in keys]
    names = [f"{count} connections" for count in counts]
    plot.bars(folder / "throughput.svg", "Requests per second: median, and the spread of the rounds", groups, names)
    for count in counts:
        times = [(label(key), [found[*key, count][latency] for latency in LATENCIES]) for key in keys]
        title = f"Latency with {count} connections"
        plot.percentiles(folder / f"latency-{count}.svg", title, times, LATENCY_NAMES)
    scenarios = results["scenarios"]
    if scenarios:
        times = [
            (f"{scenario['name']} · {step}", [entry[latency] for latency in LATENCIES])
            for scenario in scenarios
            for step, entry in scenario["steps"].items()
        ]
        plot.percentiles(folder / "latency-scenarios.svg", "Latency in the scenarios", times, LATENCY_NAMES)
    plot.over_time(folder / "resources.svg", "CPU and memory in the last round", series)
    plot.over_time(folder / "whole-run.svg", "CPU and memory over the whole run", [("all rounds", whole)], 220)


def table(results):
    options = results["options"]
    rounds = options["rounds"]
    versions = "".join(f"{what} {results['machine'][what]}; " for what in ("nginx", "redis", "postgres") if what in results["machine"])
    lines = [
        f"{machine_text(results['machine'])}; {versions}wrk with {options['threads']} threads on the same machine; medians of {rounds} × "
        f"{options['seconds']} s, rounds interleaved; RSS and CPU of each process from /proc.",
        "",
        "## Targets",
        "",
    ]
    if rounds < ROUNDS_ENOUGH:
        lines += [f"**Only {rounds} round(s): this shows that everything runs, and says nothing about speed.**", ""]
    lines += ["| row | connections | ratio (min–max) | reach |", "|---|---:|---|---|"]
    elsewhere = max((entry["cores_elsewhere"] for entry in targets(results["rows"])), default=0)
    for entry in targets(results["rows"]):
        ratio, reach = ratio_text(entry)
        lines.append(f"| {entry['name']}, {entry['by']} | {entry['connections']} | {ratio} | {reach} |")
    if elsewhere > ELSEWHERE_MAX:
        lines += ["", f"**Other processes used up to {elsewhere:.1f} cores meanwhile: measure again when the machine is idle.**"]
    lines += ["", "## Rows", "", *row_lines(results["rows"])]
    if results["scenarios"]:
        lines += ["", "## Scenarios (k6)", "", *scenario_lines(results)]
    lines += ["", *notes(options)]
    return "\n".join(lines)


def number(value, digits=1):
    return "" if value is None else f"{value:,.{digits}f}"


def row_lines(entries):
    yield (
        "| row | by | conn. | requests/s (min–max) | items/s | p50 ms | p90 | p99 | p99.9 | max | "
        "CPU µs: service | database | nginx | load | memory MiB: service | database | written KiB/s | cores elsewhere | ratio |"
    )
    yield "|---|---|" + "---:|" * 16 + "---|"
    for entry in entries:
        uses = entry["used"]
        # The parser's CPU time is shown in the column of the service.
        uses = {**uses, "service": uses.get("service", uses.get("parser", {}))}
        of = lambda name, what: number(uses.get(name, {}).get(what))
        rate = f"{entry['per_second']:,.0f} ({entry['per_second_min']:,.0f}–{entry['per_second_max']:,.0f})"
        items = number(entry["per_second"] * entry["amount"], 0) if entry["amount"] > 1 else ""
        written = sum(use["written_kib_per_second"] for name, use in entry["used"].items() if name != "load")
        cells = [entry["name"], entry["by"], entry["connections"], rate, items]
        cells += [number(entry[latency], 2) for latency in LATENCIES]
        cells += [of("service", "cpu_us"), of("database", "cpu_us"), of("nginx", "cpu_us"), of("load", "cpu_us")]
        cells += [of("service", "peak_mib"), of("database", "peak_mib"), number(written, 0)]
        cells += [number(entry["cores_elsewhere"], 2), ratio_text(entry)[0]]
        yield f"| {' | '.join(map(str, cells))} |"


def scenario_lines(results):
    yield (
        f"The service on {results['front']}, nginx over its files, a beat of {results['options']['scenario_beat']} s unless stated "
        f"otherwise; {results['options']['scenario_seconds']} s each, in every round. Milliseconds. *fail*: the pool answers 429 at once when no "
        "references are ready, the others wait. `fetch-vs-update` runs two k6 at once, one that fetches and one that updates. *Fetches "
        "first*: nginx has a real-time priority; so has the k6 that fetches; the one that updates gets the remaining time, because they "
        "stand for wallets and issuers on other machines. *Control*: the same without priorities, to show what they do; it has no targets."
    )
    if results["machine"].get("priorities") is False:
        yield ""
        yield "**Priorities could not be set in this run, so *fetches first* equals the control.**"
    yield ""
    yield "| scenario | step | requests/s | failed | p50 | p90 | p99 | p99.9 | max | thresholds |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---|"
    for scenario in results["scenarios"]:
        first = [scenario["name"], "all", number(scenario["per_second"], 0), f"{scenario['failed']:.3%}"]
        yield f"| {' | '.join(first)} | | | | | | {verdict(scenario)} |"
        for step, entry in scenario["steps"].items():
            yield f"| | {step} | | | {' | '.join(number(entry[latency], 2) for latency in LATENCIES)} | |"
    for scenario in results["scenarios"]:
        if "allowed" in scenario:
            yield ""
            limit = "a control" if "missed_by_control" in scenario else f"allowed {scenario['allowed']}"
            yield (
                f"{scenario['name']}: while the other kind of requests ramped up, the 99th percentile at a fixed rate became "
                f"{disturbed(scenario)} for fetches ({limit}) and "
                f"{scenario['update_disturbed']:.2f} × for updates."
            )


def verdict(scenario):
    if scenario["missed"]:
        return f"**MISSED** {'; '.join(scenario['missed'])}"
    if "missed_by_control" not in scenario:
        return "met"
    return f"a control; it missed {'; '.join(scenario['missed_by_control']) or 'nothing'}"


def notes(options):
    yield "## What was measured"
    yield ""
    yield (
        "Fetches never touch the store and writes never go to a file server, so fetches are measured for each server and "
        f"writes for each store ({', '.join(options['stores'])}). `a file` is an arbitrary file of the list's size, from "
        "the same nginx without the shipped configuration. `redis-disabled` keeps nothing on the disk: it has no target. "
        "Targets of writes are for the largest number of connections. *Cores elsewhere*: the cores that other processes used "
        "meanwhile; with high values a row means little. Memory of PostgreSQL counts what its processes share in each of them. Raw compression and signature are the reference of publishing: "
        "`bench/micro publish` ([benches/publish.rs](../../../../benches/publish.rs))."
    )
    yield ""
    yield "Plots: throughput.svg, latency-*.svg, resources.svg (each row), whole-run.svg; series: samples.json. knobs.toml repeats the run."
