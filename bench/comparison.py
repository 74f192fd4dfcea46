"""Results folders of `bench/run`, and what can be compared between two of them."""

import json

import service

# With fewer rounds there is no spread, so no difference can be told from noise.
ROUNDS_ENOUGH = 3
# The knobs that only choose what is measured, or how often (an interrupt leaves fewer rounds). All others may change the figures.
CHOICES = {"image", "only", "scenarios", "long", "rounds"}
# The facts of a machine that change the figures.
FACTS = ["cpu", "cores", "kernel", "nginx", "redis", "postgres"]


def read(folder):
    """The results in a folder, with all comparable entries as `lines`."""
    file = folder / "results.json" if folder.is_dir() else folder
    try:
        results = json.loads(file.read_text())
        return {**results, "lines": lines_of(results)}
    except (OSError, ValueError, KeyError) as error:
        service.fail(f"{file} was not written by bench/run: {error!r}")


def lines_of(results):
    """The comparable entries: rows and scenarios have rates, steps of scenarios have only times."""
    lines = {f"{row['name']}, {row['by']}, {row['connections']} connections": row for row in results["rows"]}
    for scenario in results["scenarios"]:
        lines[f"k6 {scenario['name']}"] = scenario
        for step, entry in scenario["steps"].items():
            lines[f"k6 {scenario['name']}: {step}"] = entry
    return lines


def compare(old, new, key):
    """The ratio of the medians, and whether the rounds of the two do not overlap. None if there is nothing to compare."""
    if not old.get(key) or new.get(key) is None:
        return None
    apart = new[f"{key}_min"] > old[f"{key}_max"] or new[f"{key}_max"] < old[f"{key}_min"]
    return new[key] / old[key], apart


def word(compared, more_is_better):
    """`better` or `WORSE`, of a change outside the spread of the rounds."""
    if compared is None or not compared[1]:
        return ""
    return "better" if (compared[0] > 1) == more_is_better else "WORSE"


def circumstances(results):
    """The facts of the machine and the knobs that change the figures: only runs in which they are equal are comparable."""
    machine = {fact: results["machine"].get(fact) for fact in FACTS}
    knobs = {knob: value for knob, value in results["options"].items() if knob not in CHOICES}
    return machine, knobs
