"""Make the example seals: `python tests/vectors/make_seals.py NEW_FOLDER`.

Sealing is random, so this never makes the same bytes again: the committed examples are kept, and
new ones are added under new names when the format gets something new to show. What the files
contain is made from their names, so that only ciphertext is committed.
"""

import base64
import hashlib
import io
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from modelseal.envelope import LocalSigner, PlainFile, Recipient, seal_files
from modelseal.secret import Secret
from vectors.naive_reader import expand

PASSPHRASE = "an example, not a secret"
EXAMPLES: dict[str, dict[str, int]] = {
    "ed25519": {
        "model.xml": 700,
        "model.bin": (1 << 20) + 4321,
        "tokenizer/vocab.txt": 1,
        "tokenizer/empty.txt": 0,
    },
    "ecdsa-p256": {"naïve model.onnx": 2000},
    "unsigned": {"model.xml": 300, "model.bin": 5000},
}
ROLES = {".xml": "model", ".onnx": "model", ".bin": "weights"}


def content(path: str, length: int) -> bytes:
    """Return what an example file contains: SHAKE-128 of its path."""
    return hashlib.shake_128(path.encode()).digest(length)


def wrap(kek: bytes, dek: bytes, context: bytes) -> bytes:
    """Return a committing wrap (docs/format.md, section 6.1)."""
    nonce = os.urandom(12)
    sealed = AESGCM(expand(kek, b"modelseal/1 wrap-key", 32)).encrypt(nonce, dek, context)
    return expand(kek, b"modelseal/1 wrap-commitment", 32) + nonce + sealed


def recipients(kek: bytes, dek: Secret, context: bytes) -> Sequence[Recipient]:
    """Wrap for a key file and for a passphrase."""
    data = bytes(dek.buffer)
    salt = os.urandom(16)
    argon = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65536)
    strong = wrap(kek, data, context)
    weak = salt + wrap(argon.derive(PASSPHRASE.encode()), data, context)
    key_id = expand(kek, b"modelseal/1 key-id", 16).hex()
    return [
        Recipient(kind="file", key=key_id, wrapped=base64.b64encode(strong).decode()),
        Recipient(kind="passphrase", key="passphrase", wrapped=base64.b64encode(weak).decode()),
    ]


def make(name: str, folder: Path) -> None:
    """Seal one example, and write beside it what is needed to open it."""
    kek = os.urandom(32)
    signer = None
    if name != "unsigned":
        key = folder / "signer"
        signer = LocalSigner.generate(key, name)
        key.unlink()
        key.with_suffix(".pub").unlink()
    files = [
        PlainFile(
            path=path,
            role=ROLES.get(Path(path).suffix, "other"),
            length=length,
            open=partial(io.BytesIO, content(path, length)),
        )
        for path, length in EXAMPLES[name].items()
    ]
    seal_files(
        files=files,
        output=folder / "sealed",
        model=f"examples/{name}",
        version="1.0",
        sequence=7,
        not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) if signer else None,
        recipients_for=lambda dek, context: recipients(kek, dek, context),
        signer=signer,
    )
    facts = {
        "model": f"examples/{name}",
        "key": kek.hex(),
        "passphrase": PASSPHRASE,
        "signer": signer.public if signer else None,
        "files": EXAMPLES[name],
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    (folder / "expect.json").write_text(text + "\n", encoding="utf-8")


def main(target: Path) -> None:
    """Make all examples in a new folder."""
    for name in EXAMPLES:
        folder = target / name
        folder.mkdir(parents=True)
        make(name, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
