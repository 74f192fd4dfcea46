"""Rows of a table: the request, its server, the expected answer, and the result of several measurements."""

import statistics
from dataclasses import dataclass, field
from typing import Optional

import service


@dataclass
class Row:
    """The request of wrk, its server, and the expected answer."""

    name: str
    process: service.Process
    path: str = ""
    method: str = "GET"
    status: int = 200
    script: str = "get.lua"
    headers: dict = field(default_factory=dict)
    body: Optional[dict] = None
    arguments: list = field(default_factory=list)
    # The expected content of the answer, if known.
    size: Optional[int] = None
    coding: Optional[str] = None
    # The row whose rate is the reference, and the required ratio.
    reference: Optional[str] = None
    reach: Optional[float] = None
    # The store of the service, if it takes part in the work.
    redis: Optional[service.Redis] = None


def check_answer(row):
    """Checks one answer exactly; wrk only counts answers above 399."""
    status, headers, body = row.process.ask(row.method, row.path, row.body, row.headers)
    size = len(body) if row.size is None else row.size
    got, wanted = (status, len(body), headers.get("Content-Encoding")), (row.status, size, row.coding)
    if got != wanted:
        service.fail(f"{row.name}: {row.method} {row.path} returned {got}, not {wanted}: {body[:500]!r}")


def medians(runs):
    """The median of each figure over the runs; None if there is none."""
    return {
        key: statistics.median(run[key] for run in runs) if runs[0][key] is not None else None for key in runs[0]
    }


def ratios(runs, reference_runs):
    """The ratios to the rates of the reference, round by round, because a disturbance in a round affects both."""
    each = [a["per_second"] / b["per_second"] for a, b in zip(runs, reference_runs)]
    return {"ratio": statistics.median(each), "ratio_min": min(each), "ratio_max": max(each)}


def ratio_text(row):
    """The two table cells about the reference: the ratio, and whether it is reached."""
    ratio = reach = ""
    if row["reference"]:
        ratio = f"{row['ratio']:.2f} × {row['reference']} ({row['ratio_min']:.2f}–{row['ratio_max']:.2f})"
    if row["reach"]:
        reach = f"≥ {row['reach']}: {'yes' if row['ratio'] >= row['reach'] else '**NO**'}"
    return ratio, reach


def measured(machine):
    """What was measured: a commit, or an image."""
    return machine.get("image") or machine["commit"]


def machine_text(machine):
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, {measured(machine)}, {machine['time']}"
