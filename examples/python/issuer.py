"""What an issuer does, with a client generated from the service's description: takes references for new credentials, sets statuses,
reads them back until they are published, and tells the errors of the service apart.

Environment: STATUSLIST_URL (http://localhost:8090), STATUSLIST_API_KEY, STATUSLIST_POOL (demo).
"""

import json
import os
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from statuslist_client import AuthenticatedClient
from statuslist_client.api.lists import fetch_aggregation, fetch_keys, fetch_list
from statuslist_client.api.pools import get_lists, get_pool, get_status
from statuslist_client.api.references import allocate_references
from statuslist_client.api.statuses import set_status, set_statuses
from statuslist_client.models import (
    AllocateReferencesClaims,
    BatchUpdate,
    Problem,
    Reference,
    StatusClaim,
    StatusName,
    Stored,
    Update,
)
from statuslist_client.types import UNSET, Response, Unset

POOL = os.environ.get("STATUSLIST_POOL", "demo")
SERVICE = AuthenticatedClient(
    base_url=os.environ.get("STATUSLIST_URL", "http://localhost:8090"),
    token=os.environ["STATUSLIST_API_KEY"],
    auth_header_name="X-Api-Key",
    prefix="",
    # An answer that is not in the description.
    raise_on_unexpected_status=True,
)


class Refused(Exception):
    """An answer that is a problem. Programs compare `code`; `message` is for people."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(f"{status} {problem.code}: {problem.message}")
        self.status = status
        self.code = problem.code


def body_of(response: Response[Any]) -> Any:
    """The body of a good answer; raises `Refused` with that of any other."""
    if isinstance(response.parsed, Problem):
        raise Refused(response.status_code, response.parsed)
    return response.parsed


def refusal(request: Callable[[], object]) -> Refused:
    """The problem of a request that must be refused."""
    try:
        request()
    except Refused as refused:
        return refused
    raise AssertionError("the service took a request that it should refuse")


def allocate(amount: int, idempotency_key: str) -> list[Reference]:
    """Allocates references, one for each new credential. A retry under the same key gets the same ones, whatever was lost."""
    answer = allocate_references.sync_detailed(
        POOL, client=SERVICE, amount=amount, claims=AllocateReferencesClaims.TRUE, idempotency_key=idempotency_key
    )
    return body_of(answer).references


def update(reference: Reference, value: StatusName, expected: StatusName | Unset = UNSET) -> Update:
    """A change. With `expected` it is made only if that is the stored status."""
    return Update(uri=reference.uri, index=reference.index, value=value, expected=expected)


def set_one(change: Update) -> None:
    body_of(set_status.sync_detailed(client=SERVICE, body=change))


def set_all(changes: list[Update]) -> None:
    """Sets several statuses, all or none."""
    body_of(set_statuses.sync_detailed(client=SERVICE, body=BatchUpdate(updates=changes)))


def id_of(reference: Reference) -> str:
    return reference.uri.rpartition("/")[2]


def stored(reference: Reference) -> Stored:
    return body_of(get_status.sync_detailed(POOL, id_of(reference), reference.index, client=SERVICE))


def wait_until_published(reference: Reference, beat_secs: int) -> None:
    """Waits until verifiers can see the stored status."""
    for _ in range(30):
        if stored(reference).published:
            return
        time.sleep(beat_secs)
    raise AssertionError(f"{reference.uri} is not published after 30 beats")


def check(holds: bool, what: str) -> None:
    """As `assert`, which `python -O` leaves out."""
    if not holds:
        raise AssertionError(what)


def main() -> None:
    pool = body_of(get_pool.sync_detailed(POOL, client=SERVICE))
    print(f"pool {POOL}: {pool.size} entries of {pool.bits} bits in each list, published every {pool.update_interval} s")

    idempotency_key = str(uuid.uuid4())
    references = allocate(3, idempotency_key)
    check(allocate(3, idempotency_key) == references, "a retry gets the same references")
    first, second, third = references
    # Goes into the credential as it is. (With `CBOR` it would be a text.)
    claim = first.status
    check(isinstance(claim, StatusClaim) and claim.status_list.idx == first.index, f"a claim: {claim}")
    print(f"status claim of a credential: {json.dumps(claim.to_dict())}")

    set_one(update(first, StatusName.REVOKED, expected=StatusName.VALID))
    set_all([update(second, StatusName.REVOKED), update(third, StatusName.VALID)])
    values = [stored(reference).value for reference in references]
    check(values == [1, 1, 0], f"the stored statuses: {values}")

    changed = refusal(lambda: set_one(update(first, StatusName.VALID, expected=StatusName.VALID)))
    check((changed.status, changed.code) == (412, "PRECONDITION_FAILED"), str(changed))
    beyond = refusal(lambda: set_one(Update(uri=first.uri, index=pool.size, value=1)))
    check((beyond.status, beyond.code) == (400, "INDEX_OUT_OF_BOUNDS"), str(beyond))
    print(f"refused: {beyond}")
    check(stored(first).value == 1, "a refused change changes nothing")

    lists = body_of(get_lists.sync_detailed(POOL, client=SERVICE)).lists
    check(any(one.uri == first.uri and one.open_ for one in lists), f"the list of a new reference is open: {lists}")

    for reference in references:
        wait_until_published(reference, pool.update_interval)
    # What verifiers fetch: the addresses of all lists, the keys, a signed list.
    addresses = body_of(fetch_aggregation.sync_detailed(POOL, client=SERVICE)).status_lists
    check(first.uri in addresses, f"the aggregation has the list: {addresses}")
    keys = body_of(fetch_keys.sync_detailed(client=SERVICE)).keys
    check(any(key["kid"] == pool.key_id for key in keys), f"the key of the pool is published: {keys}")
    token = body_of(fetch_list.sync_detailed(id_of(first), client=SERVICE))
    check(re.fullmatch(r"eyJ[\w-]+(\.[\w-]+){2}", token) is not None, f"a signed list: {token}")

    for reference in (first, second):
        print(f"revoked {reference.uri} {reference.index}")


if __name__ == "__main__":
    main()
