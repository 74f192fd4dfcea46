"""AWS KMS as moto models it, with IAM: requests must be signed by a user who may get public keys and sign, and nothing else.

moto hashes what it signs even if it is a digest already (MessageType DIGEST), which AWS does not; that is corrected here.

Usage: kms.py PORT KEY_SPEC...   Prints the credentials of the user and the ARN of each key as JSON, once it serves.
"""

import contextvars
import json
import sys
import threading

import boto3
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from moto.kms.responses import KmsResponse
from moto.kms.utils import ECDSAPrivateKey
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
HASHES = {"ECDSA_SHA_256": hashes.SHA256, "ECDSA_SHA_384": hashes.SHA384, "ECDSA_SHA_512": hashes.SHA512}

is_digest = contextvars.ContextVar("is_digest", default=False)
of_responses, of_key = KmsResponse.sign, ECDSAPrivateKey.sign


def sign_response(self):
    is_digest.set(self._get_param("MessageType") == "DIGEST")
    return of_responses(self)


def sign(self, message, signing_algorithm):
    if not is_digest.get():
        return of_key(self, message, signing_algorithm)
    # It fails if the digest has another length.
    return self.private_key.sign(message, ec.ECDSA(utils.Prehashed(HASHES[signing_algorithm]())))


KmsResponse.sign, ECDSAPrivateKey.sign = sign_response, sign

port, specs = int(sys.argv[1]), sys.argv[2:]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()
address = f"http://127.0.0.1:{port}"


def client(service):
    return boto3.client(
        service, region_name=REGION, endpoint_url=address, aws_access_key_id="a", aws_secret_access_key="b"
    )


iam, kms = client("iam"), client("kms")
iam.create_user(UserName="statuslist")
statement = {"Effect": "Allow", "Action": ["kms:GetPublicKey", "kms:Sign"], "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
iam.put_user_policy(UserName="statuslist", PolicyName="sign", PolicyDocument=policy)
access = iam.create_access_key(UserName="statuslist")["AccessKey"]
keys = [kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"] for spec in specs]
kms.create_alias(AliasName="alias/status", TargetKeyId=keys[0])
# From now on each request needs a signature.
requests.post(f"{address}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
print(json.dumps({"id": access["AccessKeyId"], "secret": access["SecretAccessKey"], "keys": keys}), flush=True)
threading.Event().wait()
