#!/usr/bin/env python3
"""A provider for kmsfs: keys that are derived from a file, which is the only argument. docs/KMS.md has the protocol.
It stands for whatever reaches a KMS: the file is read at each call, and without it all keys are disabled."""
import base64, hashlib, hmac, json, os, struct, sys

def mac(p, *parts):  # Under the key that is named, with the context bound to it.
    named = [p["KeyId"].encode(), json.dumps(p.get("EncryptionContext", {}), sort_keys=True).encode(), *parts]
    return hmac.digest(open(sys.argv[1], "rb").read(), b"".join(struct.pack(">I", len(x)) + x for x in named), "sha256")
def mask(p, nonce, data):
    return bytes(a ^ b for at in range(0, len(data), 32) for a, b in zip(data[at:at + 32], mac(p, b"mask", nonce, b"%d" % at)))
def seal(p, plaintext):
    nonce = os.urandom(16)
    sealed = nonce + mask(p, nonce, plaintext)
    return {"KeyId": p["KeyId"], "CiphertextBlob": base64.b64encode(sealed + mac(p, b"tag", sealed)).decode()}
def unseal(p):
    blob = base64.b64decode(p["CiphertextBlob"])
    if not hmac.compare_digest(mac(p, b"tag", blob[:-32]), blob[-32:]):
        raise ValueError("it was not made under this key and context")
    return {"KeyId": p["KeyId"], "Plaintext": base64.b64encode(mask(p, blob[:16], blob[16:-32])).decode()}
def generate(p, key):
    return {**seal(p, key), "Plaintext": base64.b64encode(key).decode()}
CALLS = {
    "Hello": lambda p: {"Version": 1, "Provider": "example", "Endpoint": sys.argv[1]},
    "GenerateDataKey": lambda p: generate(p, os.urandom(32)),
    "Encrypt": lambda p: seal(p, base64.b64decode(p["Plaintext"])),
    "Decrypt": unseal,
    "DescribeKey": lambda p: {"KeyId": p["KeyId"], "KeyState": "Enabled" if mac(p) else ""},
}
ERRORS = {KeyError: "UnsupportedOperationException", ValueError: "InvalidCiphertextException", FileNotFoundError: "DisabledException"}
while len(head := sys.stdin.buffer.read(4)) == 4:
    request = json.loads(sys.stdin.buffer.read(struct.unpack(">I", head)[0]))
    try:
        answer = {"result": CALLS[request["operation"]](request["parameters"])}
    except Exception as error:
        answer = {"error": {"code": ERRORS.get(type(error), "KMSInternalException"), "message": str(error)}}
    frame = json.dumps({"id": request["id"], **answer}).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(frame)) + frame)
    sys.stdout.buffer.flush()
