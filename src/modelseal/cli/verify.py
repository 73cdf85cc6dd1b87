"""`modelseal verify`: everything that can be checked, and nothing written anywhere."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from modelseal import opening
from modelseal.cli import console, progress
from modelseal.cli.environment import open_key
from modelseal.cli.options import (
    Digest,
    Json,
    MinSequence,
    OptionalKey,
    OptionalModel,
    Sealed,
    Signers,
    SourceCa,
    SourceToken,
)
from modelseal.cli.source import open_sealed
from modelseal.cli.trust import trust
from modelseal.envelope import FileEntry, Seal, parse_seal, verify_digest, verify_payload
from modelseal.errors import SettingsError
from modelseal.sources import Payload, Source

EXAMPLES: Final = """\
modelseal verify model.sealed --signer file:release.pub
modelseal verify model.sealed --signer file:release.pub --model me/model --key file:my.key
"""
_CHECKS: Final = ("format", "policy", "ciphertext digests")
_KEY_CHECKS: Final = ("data key", "manifest MAC", "index", "every segment")


def command(
    sealed: Sealed,
    *,
    signer: Signers = None,
    key: OptionalKey = None,
    model: OptionalModel = None,
    digest: Digest = None,
    min_sequence: MinSequence = None,
    source_ca: SourceCa = None,
    source_token_file: SourceToken = None,
    json: Json = False,
) -> None:
    """Check a sealed model without writing anything.

    Without a key: the signature, the name, the expiry and the digest of every encrypted file. With
    --key and --model also what only the key can tell: that the wrapped key belongs to this
    manifest, and that every segment decrypts. The plaintext is dropped as it is made.
    """
    if key and not model:
        raise SettingsError(
            "failed to use the key: --model is missing",
            hint="the name is part of the key; it never comes from the file",
        )
    with open_sealed(sealed, ca_file=source_ca, token_file=source_token_file) as source:
        wanted = model or parse_seal(source.read_seal()).manifest.model
        demands = trust(signer, model=wanted, digest=digest, min_sequence=min_sequence)
        seal = opening.read_manifest(source, demands, datetime.now(UTC))
        if key and model:
            _verify_all(seal, source, key, model)
        else:
            _verify_ciphertext(seal, source)
    _show(seal, signed=bool(signer), with_key=bool(key), json=json)


def _verify_ciphertext(seal: Seal, source: Source) -> None:
    """Compare every payload with its signed length and digest; no key is needed."""
    with progress.in_bytes("checking", seal.plaintext_size) as advance:
        for entry in seal.manifest.files:
            with _payload(source, entry) as payload:
                verify_digest(seal, entry, payload, progress=advance)


def _verify_all(seal: Seal, source: Source, key: str, model: str) -> None:
    """Open the data key, and decrypt every segment into nothing."""
    with opening.unwrap_keys(seal, open_key(key), model) as keys:
        opening.open_index(seal, source, lambda: keys)
        with progress.in_bytes("decrypting", seal.plaintext_size) as advance:
            for entry in seal.manifest.files[1:]:
                with _payload(source, entry) as payload:
                    verify_payload(
                        seal=seal, entry=entry, payload=payload, keys=lambda: keys, progress=advance
                    )


def _show(seal: Seal, *, signed: bool, with_key: bool, json: bool) -> None:
    checks = [*_CHECKS, *(["signature"] if signed else []), *(_KEY_CHECKS if with_key else [])]
    result = {
        "model": seal.manifest.model,
        "version": seal.manifest.version,
        "digest": seal.digest,
        "modelSize": seal.plaintext_size,
        "verified": checks,
    }
    if json:
        console.show_json(result)
        return
    texts = {name: console.printable(str(value)) for name, value in result.items()}
    console.show_fields(texts | {"verified": ", ".join(checks)})


@contextlib.contextmanager
def _payload(source: Source, entry: FileEntry) -> Iterator[Payload]:
    payload = source.open_payload(entry.name, entry.ciphertext_length)
    try:
        yield payload
    finally:
        payload.close()
