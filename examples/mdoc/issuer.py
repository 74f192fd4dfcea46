"""Builds an mdoc whose status can be looked up: takes a reference from a running service, with the `status` in CBOR, puts it into the
mobile security object (MSO), and signs that with pyMDOC-CBOR.

Usage: issuer.py SIGNER_KEY.pem SIGNER_CERTIFICATE.pem FILE

SIGNER_KEY is the P-256 key of the document signer, which is not the key that signs the lists. FILE gets the mdoc as its holder gets it
(`IssuerSigned`). Prints the reference, for a later revocation.
Environment: STATUSLIST_URL (http://localhost:8090), STATUSLIST_API_KEY, STATUSLIST_POOL (demo).
"""

import base64
import datetime
import json
import os
import sys
import urllib.request
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pymdoccbor.mdoc.issuer import MdocCborIssuer

SERVICE = os.environ.get("STATUSLIST_URL", "http://localhost:8090")
POOL = os.environ.get("STATUSLIST_POOL", "demo")
DOCTYPE = "org.iso.18013.5.1.mDL"
NAMESPACE = "org.iso.18013.5.1"


def new_reference() -> dict[str, Any]:
    """One reference, of which no other credential has the same. `status` is ready for the MSO."""
    url = f"{SERVICE}/pools/{POOL}/new-references?amount=1&claims=cbor"
    request = urllib.request.Request(url, method="POST", headers={"X-Api-Key": os.environ["STATUSLIST_API_KEY"]})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["references"][0]


def of_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def cose_key(key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    numbers = key.public_numbers()
    x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
    return {"KTY": "EC2", "CURVE": "P_256", "ALG": "ES256", "X": x, "Y": y}


def build(signer_key: str, signer_certificate: str, status: dict[str, Any]) -> dict[str, Any]:
    with open(signer_key, "rb") as file:
        private = load_pem_private_key(file.read(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    secret = private.private_numbers().private_value.to_bytes(32, "big")
    issuer = MdocCborIssuer(private_key=cose_key(private.public_key()) | {"D": secret}, alg="ES256")
    today = datetime.datetime.now(datetime.timezone.utc).date()
    validity = {"issuance_date": today, "expiry_date": today + datetime.timedelta(days=30)}
    # The holder's device makes this key and keeps it.
    device = ec.generate_private_key(ec.SECP256R1()).public_key()
    mdoc = issuer.new(
        doctype=DOCTYPE,
        data={NAMESPACE: {"family_name": "Mustermann", "given_name": "Erika", "birth_date": "1964-08-12"}},
        devicekeyinfo=cose_key(device),
        validity={name: date.isoformat() for name, date in validity.items()},
        cert_path=signer_certificate,
        # This becomes `status` of the MSO.
        revocation=status,
    )
    return mdoc["documents"][0]["issuerSigned"]


reference = new_reference()
issuer_signed = build(sys.argv[1], sys.argv[2], cbor2.loads(of_base64url(reference["status"])))
with open(sys.argv[3], "wb") as file:
    file.write(cbor2.dumps(issuer_signed))
print(reference["uri"], reference["index"])
