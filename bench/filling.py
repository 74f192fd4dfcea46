"""Takes every reference of a list, one request after the other, and times them as the list fills up."""

import statistics
import time

import lists
import service

# The stages, as shares of the list already handed out: tenths, and the last hundredth.
STAGES = [*(tenth / 10 for tenth in range(10)), 0.99, 0.999]
REQUESTS = 1000


def measure(folder, size):
    """Returns the microseconds for each reference, at every stage; all references must differ."""
    port = service.free_port()
    amount = size // REQUESTS
    pool = f"{{ api-key: {service.KEY}, size: {size}, open-lists: 1 }}"
    statuslist = service.statuslist(folder, port, service.paths(folder, port) + f"status-list-pools: {{ f: {pool} }}\n")
    first, handed_out = None, {}
    stages = [[] for _ in STAGES[1:]]
    while True:
        begun = time.perf_counter()
        references = lists.references(statuslist, "f", amount)
        micros = (time.perf_counter() - begun) * 1e6 / amount
        first = first or references[0]["uri"]
        share = len(handed_out.get(first, ())) / size
        for reference in references:
            indices = handed_out.setdefault(reference["uri"], set())
            if reference["index"] in indices:
                service.fail(f"handed out twice: {reference}")
            indices.add(reference["index"])
        stages[max(stage for stage, begin in enumerate(STAGES[:-1]) if begin <= share)].append(micros)
        if len(handed_out[first]) >= STAGES[-1] * size:
            break
        if sum(map(len, handed_out.values())) > 3 * size:
            service.fail(f"three lists' worth of references were handed out, and {first} is not full")
    statuslist.stop()
    return [
        {"from": begin, "to": end, "requests": len(times), "micros": statistics.median(times) if times else None}
        for begin, end, times in zip(STAGES, STAGES[1:], stages)
    ]


def rounds(folder, size, count):
    """The medians of several lists, each from a service of its own."""
    measured = []
    for number in range(count):
        of_round = folder / f"filling-{number}"
        of_round.mkdir()
        measured.append(measure(of_round, size))
    return [
        {**stages[0], "micros": statistics.median(stage["micros"] for stage in stages)}
        for stages in zip(*measured)
        if all(stage["requests"] for stage in stages)
    ]


def table(size, stages):
    yield f"A list of {size:,} entries, filled by requests for {size // REQUESTS:,} references, one after the other:"
    yield ""
    yield "| handed out before | µs for each reference, median | compared with the first tenth |"
    yield "|---:|---:|---:|"
    for stage in stages:
        ratio = stage["micros"] / stages[0]["micros"]
        yield f"| {stage['from'] * 100:g}–{stage['to'] * 100:g} % | {stage['micros']:.2f} | {ratio:.2f} × |"
