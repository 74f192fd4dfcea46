"""Gets references and published lists from a service, for the measurements."""

import json
import random
import time

import service


def until(reached, complaint, seconds=60, pause=0.05):
    """Waits for a condition; fails with the complaint after some time."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            service.fail(complaint)
        time.sleep(pause)


def references(statuslist, pool, amount):
    status, _, body = statuslist.ask("POST", f"/pools/{pool}/new-references?amount={amount}")
    if status != 200:
        service.fail(f"new-references of pool {pool} answered {status}: {body.decode()}")
    return json.loads(body)["references"]


def uris(statuslist, pool, count):
    """The lists whose references a pool hands out."""
    seen = set()

    def complete():
        # References of several lists come mixed: it takes several requests to see every list.
        seen.update(reference["uri"] for reference in references(statuslist, pool, 1000))
        return len(seen) >= count

    until(complete, f"pool {pool} does not hand out references of {count} lists", pause=0)
    return sorted(seen)


def path_of(uri):
    return "/" + uri.split("/", 3)[3]


def revoke(statuslist, entries):
    """Sets these entries, as one batch; each is (uri, index)."""
    body = {"statusListReferences": [{"uri": uri, "index": index} for uri, index in entries], "value": 1}
    status, _, answer = statuslist.ask("PATCH", "/status-lists/batch-update", body)
    if status != 204:
        service.fail(f"batch-update answered {status}: {answer.decode()}")


def published(statuslist, pool, size):
    """The path of a published list of the pool with 1 % of its entries set, always the same ones."""
    uri = references(statuslist, pool, 1)[0]["uri"]
    revoke(statuslist, [(uri, index) for index in random.Random(1).sample(range(size), size // 100)])
    state = f"/pools/{pool}/lists/{uri.rpartition('/')[2]}/statuses/0"
    is_published = lambda: json.loads(statuslist.ask("GET", state)[2])["published"]
    until(is_published, "the list to fetch is not published", pause=0.1)
    return path_of(uri)


def wait_for_buffer(statuslist, pool="p", ready=100_000):
    """Waits until the buffer of references is warm, and the background work of earlier rows is done."""
    filled = lambda: json.loads(statuslist.ask("GET", f"/pools/{pool}")[2])["references"]["ready"] >= ready
    until(filled, "the buffer of references does not fill")
    time.sleep(0.2)
