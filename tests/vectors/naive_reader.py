"""A second reader of `modelseal/1`, from docs/format.md, sharing no code with the library.

It is deliberately naive: everything in memory, one step after the other, in the order of section 9,
a bare `assert` for each check. Only AES-GCM, Argon2id and signatures come from a library. Run it as
`python naive_reader.py FOLDER MODEL KEK_HEX` to list what is in a sealed model.
"""

import base64
import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

FULL = 1 << 20
P = FULL - 32
PARAMS = bytes.fromhex("00000010000000000020")
MANIFEST = "application/vnd.modelseal.manifest.v1+json"


def b64(text: str) -> bytes:
    """Section 3.1, rule 5."""
    data = base64.b64decode(text, validate=True)
    assert base64.b64encode(data).decode() == text
    return data


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3, with SHA-384."""
    out, block, count = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([count]), "sha384")
        out, count = out + block, count + 1
    return out[:length]


def pae(kind: str, payload: bytes) -> bytes:
    """Section 4.1."""
    return f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload


def kek_context(model: str, seal_id: bytes) -> bytes:
    """Section 5.3."""
    text = b"modelseal/1\x00" + model.encode() + b"\x00"
    while len(text) % 3:
        text += b"\x00"
    return text + seal_id


def check_signature(envelope: dict[str, Any], signer: str) -> None:
    """Section 4.3: one signature by the pinned signer suffices."""
    algorithm, _, text = signer.partition(":")
    message = pae(envelope["payloadType"], b64(envelope["payload"]))
    sig = b64(envelope["signatures"][0]["sig"])
    if algorithm == "ed25519":
        ed25519.Ed25519PublicKey.from_public_bytes(b64(text)).verify(sig, message)
    else:
        assert algorithm == "ecdsa-p256"
        key = serialization.load_der_public_key(b64(text))
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(sig, message, ec.ECDSA(hashes.SHA256()))


def unwrap(wrap: bytes, kek: bytes, context: bytes) -> bytes:
    """Section 6.1."""
    assert len(wrap) == 92
    commitment, nonce, sealed = wrap[:32], wrap[32:44], wrap[44:]
    assert hmac.compare_digest(commitment, expand(kek, b"modelseal/1 wrap-commitment", 32))
    wrap_key = expand(kek, b"modelseal/1 wrap-key", 32)
    return AESGCM(wrap_key).decrypt(nonce, sealed, context)


def data_key(recipients: list[dict[str, str]], secret: bytes | str, context: bytes) -> bytes:
    """Sections 6.2 (a key of 32 bytes) and 6.3 (a passphrase)."""
    if isinstance(secret, bytes):
        key_id = expand(secret, b"modelseal/1 key-id", 16).hex()
        (mine,) = [one for one in recipients if (one["type"], one["key"]) == ("file", key_id)]
        return unwrap(b64(mine["wrapped"]), secret, context)
    wanted = ("passphrase", "passphrase")
    (mine,) = [one for one in recipients if (one["type"], one["key"]) == wanted]
    wrapped = b64(mine["wrapped"])
    argon = Argon2id(salt=wrapped[:16], length=32, iterations=3, lanes=4, memory_cost=65536)
    return unwrap(wrapped[16:], argon.derive(secret.encode()), context)


def open_payload(blob: bytes, entry: dict[str, Any], key: bytes, aad: bytes) -> bytes:
    """Section 8, in the order of steps 7 to 10 of section 9."""
    length, signed = entry["length"], b64(entry["header"])
    count = max(1, -(-length // P))
    assert len(blob) == 74 + length + 32 * count
    assert blob[:74] == signed
    head = blob[:42]
    assert head[:10] == PARAMS
    assert hmac.compare_digest(blob[42:74], expand(key, head + b"HEADER_TAG:" + aad, 32))
    message_key = expand(key, head + b"MESSAGE_KEY:" + aad, 48)
    plain, digests = b"", hashlib.sha256(signed).digest()
    for position in range(count):
        segment = blob[74 + position * FULL :][:FULL]
        final = position == count - 1
        assert segment[:4] == struct.pack(">I", len(segment) if final else 0xFFFFFFFF)
        epoch = struct.pack(">Q", position // 2**20 * 2**20)
        segment_key = expand(message_key, head + b"DEK:" + epoch + aad, 32)
        own = struct.pack(">QB", position, final)
        plain += AESGCM(segment_key).decrypt(segment[4:16], segment[16:], own)
        digests += hashlib.sha256(segment).digest()
    assert hashlib.sha256(digests).digest() == b64(entry["digest"])
    return plain


def open_sealed(
    folder: Path, model: str, secret: bytes | str, signer: str | None = None
) -> dict[str, bytes]:
    """Return all files by path; `secret` is a key file's bytes or a passphrase."""
    top = json.loads((folder / "seal.json").read_bytes())
    assert set(top) == {"format", "envelope", "mac", "recipients"}
    assert top["format"] == "modelseal/1"
    envelope = top["envelope"]
    assert envelope["payloadType"] == MANIFEST
    if signer is not None:
        check_signature(envelope, signer)
    payload = b64(envelope["payload"])
    manifest = json.loads(payload)
    assert manifest["format"] == "modelseal/1"
    assert manifest["model"] == model
    seal_id = b64(manifest["seal_id"])
    dek = data_key(top["recipients"], secret, kek_context(model, seal_id))
    mac_key = expand(dek, b"modelseal/1 manifest-mac\x00" + seal_id, 48)
    mac = hmac.digest(mac_key, pae(envelope["payloadType"], payload), "sha384")
    assert hmac.compare_digest(mac, b64(top["mac"]))
    key = expand(dek, b"modelseal/1 floe\x00" + seal_id, 32)
    plain = []
    for number, entry in enumerate(manifest["files"]):
        counts = struct.pack(">IIQ", number, len(manifest["files"]), entry["length"])
        blob = (folder / "p" / f"{number}.floe").read_bytes()
        plain.append(open_payload(blob, entry, key, b"modelseal/1\x00" + seal_id + counts))
    files = {}
    for item in json.loads(plain[0])["files"]:
        content = plain[item["number"]]
        assert hashlib.sha256(content).digest() == b64(item["sha256"])
        files[item["path"]] = content
    assert len(files) == len(plain) - 1
    return files


if __name__ == "__main__":
    for path, content in open_sealed(
        Path(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
    ).items():
        sys.stdout.write(f"{len(content):>12} {path}\n")
