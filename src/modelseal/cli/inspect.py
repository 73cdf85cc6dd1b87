"""`modelseal inspect`: what a sealed model says about itself, with no key and no promise."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

from modelseal import contract
from modelseal.cli import console
from modelseal.cli.options import Json, Sealed, SourceCa, SourceToken
from modelseal.cli.source import open_sealed
from modelseal.envelope import Seal, parse_seal
from modelseal.envelope.recipients import Recipient

EXAMPLES: Final = """\
modelseal inspect model.sealed
modelseal inspect model.sealed --json | jq .digest
"""


def command(
    sealed: Sealed,
    *,
    source_ca: SourceCa = None,
    source_token_file: SourceToken = None,
    json: Json = False,
) -> None:
    """Show what a sealed model says about itself, without a key.

    Nothing is verified: whoever could write to the place could write these lines. `modelseal
    verify` checks them. File names are encrypted and therefore not shown.
    """
    with open_sealed(sealed, ca_file=source_ca, token_file=source_token_file) as source:
        seal = parse_seal(source.read_seal())
    if json:
        console.show_json(describe(seal))
    else:
        console.show_fields(summary(seal))


def describe(seal: Seal) -> dict[str, Any]:
    """Return all that can be known without a key, as `--json` prints it."""
    manifest = seal.manifest
    return {
        "format": contract.FORMAT,
        "model": manifest.model,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "notAfter": _stamp(manifest.not_after),
        "digest": seal.digest,
        "modelSize": seal.plaintext_size,
        "ciphertextSize": seal.ciphertext_size,
        "files": [
            {"name": entry.name, "plaintextLength": entry.plaintext_length}
            for entry in manifest.files
        ],
        "signatures": [signature.keyid for signature in seal.envelope.signatures],
        "recipients": [_recipient(recipient) for recipient in seal.recipients],
    }


def summary(seal: Seal) -> dict[str, Any]:
    """Return the same for people."""
    facts = describe(seal)
    count = len(facts["files"]) - 1
    return {
        "model": console.printable(facts["model"]),
        "version": console.printable(facts["version"]),
        "sequence": str(facts["sequence"]),
        "expires": facts["notAfter"] or "never",
        "digest": facts["digest"],
        "modelSize": f"{facts['modelSize']}",
        "files": f"{count} ({console.human_size(facts['ciphertextSize'])} encrypted), and an index",
        "signed by": [console.printable(keyid) for keyid in facts["signatures"]] or ["nobody"],
        "opened by": [
            console.printable(" ".join(filter(None, recipient.values())))
            for recipient in facts["recipients"]
        ],
    }


def _recipient(recipient: Recipient) -> dict[str, str]:
    return {"kind": recipient.kind, "key": recipient.key}


def _stamp(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def is_sealed(path: Path) -> bool:
    """Whether a folder looks like a sealed model."""
    return (path / contract.SEAL_NAME).is_file()
