"""Proves that openvc-core accepts our list as a JWT, through its own status check for a credential that refers to us: signature
by the published key of the header's `kid`, `typ`, `sub` equal to the reference's `uri`, `iat` and `exp` with no tolerance at all.
Controls: the same token is rejected with changed claims, with another key, under another URI, and after its `exp`.

Environment: LIST_URI, JWKS_URL, IDX, EXPECTED (the status at IDX, a number).
"""

import base64
import json
import os
import sys
import urllib.request

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from openvc.errors import OpenvcError
from openvc.proof.errors import SignatureInvalid
from openvc.status import StatusListError, build_token_status_reference, check_token_status, verify_status_list_token

MEDIA_TYPE = "application/statuslist+jwt"
CURVES = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1}


class CheckFailed(Exception):
    pass


def require(holds: bool, reason: str) -> None:
    if not holds:
        raise CheckFailed(reason)


def setting(name: str) -> str:
    require(bool(os.environ.get(name)), f"set the environment variable {name}")
    return os.environ[name]


def get(url: str, accept: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as response:
        content_type = response.headers["Content-Type"]
        require(content_type == accept, f"GET {url} as {accept} answered with Content-Type {content_type}")
        return response.read()


def segment(token: str, number: int) -> dict:
    part = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def key_named(kid: str) -> dict:
    with urllib.request.urlopen(setting("JWKS_URL"), timeout=10) as response:
        keys = json.load(response)["keys"]
    for key in keys:
        require("d" not in key, "the key set gives away a private key")
    found = [key for key in keys if key["kid"] == kid]
    require(len(found) == 1, f"the list's kid {kid!r} is in the key set {len(found)} times")
    return found[0]


def lookalike(key: dict) -> dict:
    """A fresh public key of the same kind, with the same kid."""
    if key["kty"] == "OKP":
        return OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True) | {"kid": key["kid"]}
    public = ec.generate_private_key(CURVES[key["crv"]]()).public_key()
    return ECAlgorithm.to_jwk(public, as_dict=True) | {"kid": key["kid"]}


def require_rejected(control: str, reason: type, token: str, key: dict, **options) -> None:
    try:
        verify_status_list_token(token, public_key_jwk=key, leeway_s=0, **options)
    except reason:
        return
    raise CheckFailed(f"control: accepted {control}")


def check() -> str:
    uri, idx, expected = setting("LIST_URI"), int(setting("IDX")), int(setting("EXPECTED"))
    token = get(uri, MEDIA_TYPE).decode("ascii")
    key = key_named(segment(token, 0)["kid"])

    def resolve(list_uri: str) -> dict:
        return verify_status_list_token(token, public_key_jwk=key, expected_uri=list_uri, leeway_s=0)

    result = check_token_status(build_token_status_reference(uri=uri, index=idx), resolve_status_list_token=resolve)
    require(result.status == expected, f"status at {idx} is {result.status}, not {expected}")
    claims = resolve(uri)
    for name in ("iat", "exp", "ttl"):
        require(type(claims.get(name)) is int, f"{name} is {claims.get(name)!r}, not an integer")
    require(claims["ttl"] > 0, f"ttl is {claims['ttl']}")

    header, _, signature = token.split(".")
    longer_lived = base64.urlsafe_b64encode(json.dumps(claims | {"exp": claims["exp"] + 1}).encode()).rstrip(b"=").decode()
    require_rejected("a changed exp", SignatureInvalid, f"{header}.{longer_lived}.{signature}", key)
    require_rejected("another key", SignatureInvalid, token, lookalike(key))
    require_rejected("a list of another URI", StatusListError, token, key, expected_uri=uri + "0")
    require_rejected("an expired list", StatusListError, token, key, now=claims["exp"])
    return f"status {result.status} at {idx}, {claims['status_list']['bits']} bits, {claims['exp'] - claims['iat']} s lifetime"


try:
    print(f"openvc_verify: ok: {check()}")
except CheckFailed as failure:
    sys.exit(f"openvc_verify: FAILED: {failure}")
except (OpenvcError, OSError, ValueError, KeyError) as error:
    sys.exit(f"openvc_verify: FAILED: {type(error).__name__}: {' '.join(str(error).split())}")
