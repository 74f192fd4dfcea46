"""A key service in a page: keys in files, behind a Unix socket, by the protocol of docs/KEY_SERVICE.md. Replace `Key` by what asks
your key management, and keep the rest. Needs Python 3.8 and the package cryptography.

Usage: key_service.py SOCKET NAME=KEY.pem [NAME=KEY.pem ...]

Its owner and its group may use the socket, so both may sign: run it as a user of its own, in a group of the status list service alone.
"""

import base64
import binascii
import json
import os
import re
import socketserver
import sys
from http.server import BaseHTTPRequestHandler

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

# The algorithm, the curve's name in a JWK, the bytes of a coordinate, and the hash.
CURVES = {
    "secp256r1": ("ES256", "P-256", 32, hashes.SHA256()),
    "secp384r1": ("ES384", "P-384", 48, hashes.SHA384()),
    "secp521r1": ("ES512", "P-521", 66, hashes.SHA512()),
}
# Ed25519 signs messages, so the whole token comes.
BODY_BYTES_MAX = 32 * 1024 * 1024


class Refused(Exception):
    def __init__(self, status: int, title: str, detail: str):
        self.status, self.title, self.detail = status, title, detail


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Key:
    def __init__(self, path: str):
        with open(path, "rb") as file:
            self.private = serialization.load_pem_private_key(file.read(), password=None)
        public = self.private.public_key()
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            self.algorithm = "EdDSA"
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": encode(raw)}
        else:
            self.algorithm, curve, self.size, self.hash = CURVES[self.private.curve.name]
            numbers = public.public_numbers()
            x, y = (encode(number.to_bytes(self.size, "big")) for number in (numbers.x, numbers.y))
            self.jwk = {"kty": "EC", "crv": curve, "x": x, "y": y}

    def describe(self) -> dict:
        return {"algorithm": self.algorithm, "publicKey": self.jwk}

    def sign(self, wanted: dict) -> dict:
        if wanted["algorithm"] != self.algorithm:
            raise Refused(400, "Wrong algorithm", f"this key signs with {self.algorithm} only")
        if self.algorithm == "EdDSA":
            return {"signature": encode(self.private.sign(decode(wanted["message"])))}
        digest = decode(wanted["digest"])
        if len(digest) != self.hash.digest_size:
            raise Refused(400, "Wrong digest", f"{len(digest)} bytes, expected {self.hash.digest_size}")
        r, s = utils.decode_dss_signature(self.private.sign(digest, ec.ECDSA(utils.Prehashed(self.hash))))
        return {"signature": encode(r.to_bytes(self.size, "big") + s.to_bytes(self.size, "big"))}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # One write for each answer.
    timeout = 60  # For idle connections.

    def do_GET(self):
        self.answer(r"/v1/keys/([\w.-]+)", Key.describe)

    def do_POST(self):
        self.answer(r"/v1/keys/([\w.-]+)/sign", lambda key: key.sign(json.loads(self.body)))

    def answer(self, path: str, work):
        try:
            # Read in any case: the next request on this connection follows it.
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 <= length <= BODY_BYTES_MAX:
                self.close_connection = True
                raise Refused(413, "Too large", f"at most {BODY_BYTES_MAX} bytes")
            self.body = self.rfile.read(length)
            found = re.fullmatch(path, self.path)
            if found is None or found[1] not in self.server.keys:
                raise Refused(404, "No such key", self.path)
            status, media_type, answer = 200, "application/json", work(self.server.keys[found[1]])
        except Refused as refused:
            status, media_type = refused.status, "application/problem+json"
            answer = {"title": refused.title, "detail": refused.detail}
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            status, media_type = 400, "application/problem+json"
            answer = {"title": "Not understood", "detail": f"{type(error).__name__}: {error}"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "socket"  # A Unix socket has no address of the other side.


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all("=" in key for key in sys.argv[2:]):
        sys.exit(__doc__)
    socket, keys = sys.argv[1], dict(key.split("=", 1) for key in sys.argv[2:])
    if os.path.exists(socket):
        os.remove(socket)  # An earlier process left it.
    os.umask(0o117)
    with Server(socket, Handler) as server:
        server.keys = {name: Key(path) for name, path in keys.items()}
        server.serve_forever()
