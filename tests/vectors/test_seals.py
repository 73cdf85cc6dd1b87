"""The committed example seals stay readable for ever, by the library and by the second reader."""

import hashlib
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modelseal.envelope import (
    DataKeys,
    LocalSigner,
    Policy,
    Seal,
    check_policy,
    decrypt_payload,
    encode_seal,
    kek_context,
    parse_index,
    parse_seal,
    parse_signer,
    verify_digest,
    verify_mac,
    verify_payload,
    verify_signature,
)
from modelseal.secret import Secret
from support.seals import MODEL, opened, seal_folder
from vectors import make_seals, naive_reader

EXAMPLES = sorted((Path(__file__).parent / "seals").iterdir())
NOW = datetime(2026, 11, 23, tzinfo=UTC)
FULL = (1 << 20) - 32


def expected(example: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((example / "expect.json").read_text(encoding="utf-8"))
    return facts


def contents(example: Path) -> dict[str, bytes]:
    files = expected(example)["files"].items()
    return {path: hashlib.shake_128(path.encode()).digest(length) for path, length in files}


def read_all(folder: Path, seal: Seal, keys: DataKeys) -> list[bytes]:
    """Open every payload with the library."""
    found = []
    for entry in seal.manifest.files:
        payload = opened((folder / entry.name).read_bytes(), entry.ciphertext_length)
        out = bytearray(entry.plaintext_length)
        verify_digest(seal, entry, payload)
        verify_payload(seal=seal, entry=entry, payload=payload, keys=lambda: keys)
        decrypt_payload(
            seal=seal, entry=entry, payload=payload, keys=lambda: keys, out=memoryview(out)
        )
        found.append(bytes(out))
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_library_opens_an_example(example: Path) -> None:
    facts = expected(example)
    seal = parse_seal((example / "sealed" / "seal.json").read_bytes())
    pinned = [parse_signer(facts["signer"])] if facts["signer"] else []
    signer = verify_signature(seal, pinned, allow_unsigned=not pinned)
    assert (signer.uri if signer else None) == facts["signer"]
    check_policy(seal, Policy(model=facts["model"], digest=seal.digest, min_sequence=7), NOW)
    context = kek_context(facts["model"], seal.manifest.seal_id)
    recipients = [
        {"type": one.kind, "key": one.key, "wrapped": one.wrapped} for one in seal.recipients
    ]
    dek = naive_reader.data_key(recipients, bytes.fromhex(facts["key"]), context)
    with DataKeys.from_dek(Secret(dek), seal.manifest.seal_id) as keys:
        verify_mac(seal, keys)
        index, *files = read_all(example / "sealed", seal, keys)
    entries = parse_index(index, seal).entries
    assert {one.path: files[one.number - 1] for one in entries} == contents(example)
    assert [one.path for one in entries] == list(facts["files"])


@pytest.mark.parametrize("secret", ["key", "passphrase"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_second_reader_opens_an_example(example: Path, secret: str) -> None:
    facts = expected(example)
    key = bytes.fromhex(facts["key"]) if secret == "key" else facts["passphrase"]
    found = naive_reader.open_sealed(example / "sealed", facts["model"], key, facts["signer"])
    assert found == contents(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_encoded_as_it_was(example: Path) -> None:
    data = (example / "sealed" / "seal.json").read_bytes()
    assert encode_seal(parse_seal(data)) == data


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256"])
@pytest.mark.negative(30)
def test_the_second_reader_opens_what_the_library_seals_now(algorithm: str, tmp_path: Path) -> None:
    signer = LocalSigner.generate(tmp_path / "key", algorithm)
    files = {f"{length}": bytes(length) for length in (0, 1, FULL - 1, FULL, FULL + 1, 2 * FULL)}
    kek = bytes(range(32))
    made = seal_folder(
        tmp_path / "out", files, signer=signer, wrap=partial(make_seals.recipients, kek)
    )
    found = naive_reader.open_sealed(tmp_path / "out", MODEL, kek, signer.public)
    assert found == files
    assert {path: made.open(number) for number, path in enumerate(files, start=1)} == files
