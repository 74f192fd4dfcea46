"""Proves that python-cwt, a general COSE library that knows nothing of status lists, verifies our list as a CWT: a COSE_Sign1
with tag 18 and no CWT tag 61, signed by the published key whose `kid` it names, with the header and the claims of the Token Status
List specification, "Status List Token in CWT Format". Controls: it fails with one bit of the payload or of the protected header
flipped, and with another key.

Environment: LIST_URI, JWKS_URL. Optional: IDX and EXPECTED (the status at IDX, a number).
"""

import json
import os
import sys
import time
import urllib.request
import zlib

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, CWT, COSEKey, CWTError, VerifyError

MEDIA_TYPE = "application/statuslist+cwt"
SUB, EXP, IAT, STATUS_LIST, TTL = 2, 4, 6, 65533, 65534
ALG, KID, TYP = 1, 4, 16
FRESH_KEY = {-7: lambda: ec.generate_private_key(ec.SECP256R1()), -35: lambda: ec.generate_private_key(ec.SECP384R1()),
             -36: lambda: ec.generate_private_key(ec.SECP521R1()),
             -8: ed25519.Ed25519PrivateKey.generate}


class CheckFailed(Exception):
    pass


def require(holds: bool, reason: str) -> None:
    if not holds:
        raise CheckFailed(reason)


def setting(name: str) -> str:
    require(bool(os.environ.get(name)), f"set the environment variable {name}")
    return os.environ[name]


def get_token(uri: str) -> bytes:
    # The list inside is compressed already: a server that gzips the CWT only makes it larger.
    request = urllib.request.Request(uri, headers={"Accept": MEDIA_TYPE, "Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=10) as response:
        content_type, encoding = response.headers["Content-Type"], response.headers["Content-Encoding"]
        require(content_type == MEDIA_TYPE, f"GET {uri} as {MEDIA_TYPE} answered with Content-Type {content_type}")
        require(encoding is None, f"the CWT comes with Content-Encoding {encoding}")
        return response.read()


def published_keys() -> list:
    with urllib.request.urlopen(setting("JWKS_URL"), timeout=10) as response:
        return [COSEKey.from_jwk(key) for key in json.load(response)["keys"]]


def require_rejected(control: str, token: bytes, key) -> None:
    try:
        COSE.new(verify_kid=True).decode(token, key)
    except VerifyError:
        return
    raise CheckFailed(f"control: accepted {control}")


def with_flipped_bit(token: bytes, part: int) -> bytes:
    sign1 = cbor2.loads(token)
    changed = bytearray(sign1.value[part])
    changed[-1] ^= 1
    sign1.value[part] = bytes(changed)
    return cbor2.dumps(sign1)


def check_headers(protected: dict, unprotected: dict, key) -> None:
    require(protected.get(ALG) == key.alg, f"protected alg is {protected.get(ALG)}, the key's is {key.alg}")
    require(protected.get(TYP) == MEDIA_TYPE, f"protected header 16 is {protected.get(TYP)!r}, not {MEDIA_TYPE!r}")
    twice = protected.keys() & unprotected.keys()
    require(not twice, f"protected and unprotected headers share {sorted(twice)}")


def check_claims(claims: dict, uri: str) -> bytes:
    """Checks the claims and returns the inflated list."""
    require(claims.get(SUB) == uri, f"sub is {claims.get(SUB)!r}, not {uri!r}")
    for name, label in (("exp", EXP), ("iat", IAT), ("ttl", TTL)):
        require(type(claims.get(label)) is int, f"{name} ({label}) is {claims.get(label)!r}, not an integer")
    require(claims[IAT] <= time.time() < claims[EXP], f"iat {claims[IAT]} and exp {claims[EXP]} do not enclose the present")
    require(claims[TTL] > 0, f"ttl is {claims[TTL]}")
    status_list = claims.get(STATUS_LIST)
    require(isinstance(status_list, dict), f"status_list (65533) is {type(status_list).__name__}, not a map")
    members = set(status_list)
    require({"bits", "lst"} <= members <= {"bits", "lst", "aggregation_uri"}, f"status_list has the members {members}")
    require(status_list["bits"] in (1, 2, 4, 8), f"bits is {status_list['bits']!r}")
    require(isinstance(status_list["lst"], bytes), "lst is not a byte string")
    require(isinstance(status_list.get("aggregation_uri", ""), str), "aggregation_uri is not text")
    return zlib.decompress(status_list["lst"])


def check_status(array: bytes, bits: int) -> str:
    if "IDX" not in os.environ:
        return "status not asked for"
    idx, expected = int(setting("IDX")), int(setting("EXPECTED"))
    status = array[idx * bits // 8] >> (idx * bits % 8) & ((1 << bits) - 1)
    require(status == expected, f"status at {idx} is {status}, not {expected}")
    return f"status {status} at {idx}"


def check() -> str:
    uri, keys = setting("LIST_URI"), published_keys()
    token = get_token(uri)
    require(token[0] == 0xD2, f"the first byte is {token[0]:#x}, not the tag of COSE_Sign1 (0xd2)")
    protected, unprotected, payload = COSE.new(verify_kid=True).decode_with_headers(token, keys)
    key = next(key for key in keys if key.kid == unprotected[KID])
    check_headers(protected, unprotected, key)
    claims = CWT.new(leeway=1).decode(token, keys)
    require(claims == cbor2.loads(payload), "the payload is not the claims")
    array = check_claims(claims, uri)
    bits = claims[STATUS_LIST]["bits"]
    status = check_status(array, bits)

    require_rejected("a changed payload", with_flipped_bit(token, 2), keys)
    require_rejected("a changed protected header", with_flipped_bit(token, 0), keys)
    fresh = FRESH_KEY[key.alg]().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    require_rejected("another key", token, COSEKey.from_pem(fresh, kid=key.kid))
    return f"alg {key.alg}, {len(array) * 8 // bits} entries of {bits} bits, {status}"


try:
    print(f"cose_verify: ok: {check()}")
except CheckFailed as failure:
    sys.exit(f"cose_verify: FAILED: {failure}")
except (CWTError, OSError, ValueError, KeyError, IndexError, zlib.error) as error:
    sys.exit(f"cose_verify: FAILED: {type(error).__name__}: {' '.join(str(error).split())}")
