"""The rows of `bench/run`: each operation with each store or server that affects it, and the references.

A fetch never touches the store, and a write goes to the service, never to a file server. So fetches are combined with the servers,
writes with the stores, and both with the numbers of connections.
"""

import os
from dataclasses import dataclass, field

import service
from rows import Row

HEALTH, PARSE_ONLY, SETBIT = "health", "parse only", "SETBIT"
FILE, SMALL_FILE, FILE_304 = "a file", "a file, compressed size", "a file, 304"
REFERENCES_REACH, FETCH_REACH = 0.8, 0.95
# Of updates. A store that is not durable has no target, only a ratio.
UPDATE_REACH = {"sqlite": 0.5, "redis-always": 0.5, "postgres": 0.5}
BATCH = 100


@dataclass
class Cell(Row):
    """A row of the matrix, measured with each number of connections."""

    # The server: a store of the service, or a server of files.
    by: str = ""
    # The names of the participating processes in the sampler.
    parts: list = field(default_factory=list)
    # Number of references or entries in each request.
    amount: int = 1

    @property
    def key(self):
        return f"{self.name}, {self.by}"


def rows(it):
    """All cells, each directly after its reference, so that both see the machine in the same state."""
    cells = [*references(it), *fetches(it)]
    for store in it.stores:
        cells += writes(it, store)
    ordered = []
    for cell in cells:
        if not cell.reference:
            ordered += [cell, *(other for other in cells if other.reference == cell.key)]
    assert len(ordered) == len(cells), "the reference of a row is missing"
    return ordered


def reach_at(cell, count, counts):
    """Targets of writes apply to many connections, those of fetches to any number."""
    return cell.reach if cell.parts == ["nginx"] or count == max(counts) else None


def references(it):
    """The references."""
    front = it.services[it.front]
    token = it.folders[it.front] / "public" / "lists" / (it.list_path.rpartition("/")[2] + ".jwt")
    plain, gzip = token.stat().st_size, token.with_suffix(".jwt.gz").stat().st_size
    for name, size in (("plain.bin", plain), ("gzip.bin", gzip)):
        (it.folders[it.front] / name).write_bytes(os.urandom(size))
    etag = it.static.ask("GET", "/plain.bin")[1]["ETag"]
    file = {"process": it.static, "by": "nginx", "parts": ["nginx"]}
    update = update_of(it, it.front)
    yield Cell(HEALTH, front, "/health/live", by="service", parts=[f"service on {it.front}"])
    yield Cell(PARSE_ONLY, it.parser, by="parser", parts=["parse only"], **update)
    for store, database in it.databases.items():
        if isinstance(database, service.Redis):
            yield Cell(SETBIT, database, by=store, parts=[store])
    yield Cell(FILE, path="/plain.bin", size=plain, **file)
    yield Cell(SMALL_FILE, path="/gzip.bin", size=gzip, **file)
    yield Cell(FILE_304, path="/plain.bin", status=304, size=0, headers={"If-None-Match": etag}, **file)


def fetches(it):
    """A list with 1 % of its entries set, from the chosen servers, plain and precompressed."""
    gzip = {"Accept-Encoding": "gzip"}
    front = it.services[it.front]
    built_in = {"process": front, "path": it.list_path, "parts": [f"service on {it.front}"]}
    shipped = {"process": it.nginx, "path": it.list_path, "parts": ["nginx"]}
    for by, server, headers, coding, file, reach in (
        ("built-in", built_in, {}, None, FILE, None),
        ("built-in, gzip", built_in, gzip, "gzip", SMALL_FILE, None),
        ("nginx", shipped, {}, None, FILE, FETCH_REACH),
        ("nginx, gzip_static", shipped, gzip, "gzip", SMALL_FILE, FETCH_REACH),
    ):
        if by.partition(",")[0] not in it.servers:
            continue
        etag = server["process"].ask("GET", it.list_path, None, headers)[1]["ETag"]
        same = {**headers, "If-None-Match": etag}
        yield Cell("fetch", by=by, headers=headers, coding=coding, reference=f"{file}, nginx", reach=reach, **server)
        yield Cell("304", by=by, status=304, size=0, headers=same, reference=f"{FILE_304}, nginx", reach=reach, **server)


def update_of(it, store):
    """A PATCH of one entry; the parser gets the same request."""
    uris = it.updated[store]
    return {
        "path": "/status-lists/update",
        "method": "PATCH",
        "status": 204,
        "script": "update.lua",
        "headers": {"X-Api-Key": service.KEY},
        "body": {"uri": uris[0], "index": 0, "value": 1},
        "arguments": [str(it.size), *uris],
    }


def writes(it, store):
    database = it.databases.get(store)
    redis = database if isinstance(database, service.Redis) else None
    by = {"process": it.services[store], "by": store, "parts": [f"service on {store}"] + ([store] if database else [])}
    key = {"X-Api-Key": service.KEY}
    new = {"method": "POST", "script": "references.lua", "headers": key}
    path = "/pools/p/new-references?amount="
    yield Cell("references, 1", path=f"{path}1", reference=f"{HEALTH}, service", reach=REFERENCES_REACH, **new, **by)
    yield Cell("references, 25", path=f"{path}25", amount=25, **new, **by)

    reference = f"{SETBIT}, {store}" if redis else f"{PARSE_ONLY}, parser"
    update = update_of(it, store)
    yield Cell("update", reference=reference, reach=UPDATE_REACH.get(store), redis=redis, **update, **by)

    targets = [{"uri": update["body"]["uri"], "index": index} for index in range(BATCH)]
    batch = {
        "path": "/status-lists/batch-update",
        "script": "batch.lua",
        "body": {"statusListReferences": targets, "value": 1},
        "arguments": [str(it.size), str(BATCH), *it.updated[store]],
    }
    yield Cell(f"batch-update, {BATCH}", amount=BATCH, redis=redis, **{**update, **batch}, **by)
