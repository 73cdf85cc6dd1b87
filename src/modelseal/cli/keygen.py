"""`modelseal keygen`: a key file that wraps data keys, or a key pair that signs manifests."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from modelseal.cli import console
from modelseal.cli.options import Json
from modelseal.envelope import LocalSigner
from modelseal.errors import OutputFailed, shown
from modelseal.keys import generate_key_file

EXAMPLES: Final = """\
modelseal keygen -o my.key
modelseal keygen -o release --type ed25519
"""


class Kind(StrEnum):
    """What `keygen` can make."""

    SEALING = "sealing"
    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="Where the key is written.")
    ],
    kind: Annotated[
        Kind, typer.Option("--type", help="A sealing key, or a signing key pair.")
    ] = Kind.SEALING,
    json: Json = False,
) -> None:
    """Make a local sealing key, or a signing key pair.

    A sealing key is used as --key file:PATH by whoever seals and whoever opens: keep it secret. A
    signing key pair is PATH, which signs, and PATH.pub, which you give to whoever verifies.
    """
    result = {"type": str(kind), "path": str(output)}
    if kind is Kind.SEALING:
        generate_key_file(output)
        result["key"] = f"file:{output}"
    else:
        result |= _key_pair(output, kind)
    if json:
        console.show_json(result)
    else:
        console.show_fields(result)


def _key_pair(output: Path, kind: Kind) -> dict[str, str]:
    public = Path(f"{output}.pub")
    if public.exists():
        raise OutputFailed(f"failed to write {shown(str(public))}: it exists already")
    signer = LocalSigner.generate(output, str(kind))
    return {"public": str(public), "signer": signer.public}
