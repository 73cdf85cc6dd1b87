"""Options that several verbs share, so that they look and mean the same everywhere."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

KEY_HELP: Final = "file:PATH, passphrase:, vault:MOUNT/KEY, vault-kv:MOUNT/PATH#FIELD."
MODEL_HELP: Final = "The model's name, to which its key is bound."

Sealed = Annotated[
    str, typer.Argument(metavar="SEALED", help="A sealed model: a folder, or an https:// address.")
]
SealedFolder = Annotated[Path, typer.Argument(metavar="SEALED", help="A sealed model's folder.")]
Model = Annotated[str, typer.Option("--model", metavar="OWNER/NAME", help=MODEL_HELP)]
OptionalModel = Annotated[
    str | None,
    typer.Option("--model", metavar="OWNER/NAME", help=MODEL_HELP),
]
Key = Annotated[str, typer.Option("--key", metavar="PROVIDER", help=KEY_HELP)]
OptionalKey = Annotated[str | None, typer.Option("--key", metavar="PROVIDER", help=KEY_HELP)]
Keys = Annotated[
    list[str], typer.Option("--key", metavar="PROVIDER", help=f"{KEY_HELP} May be repeated.")
]
Signers = Annotated[
    list[str] | None,
    typer.Option(
        "--signer",
        metavar="PUB",
        help="Who must have signed: file:PATH.pub, ed25519:BASE64, ecdsa-p256:BASE64. "
        "May be repeated; one of them suffices.",
    ),
]
Digest = Annotated[
    str | None,
    typer.Option("--digest", metavar="sha256:HEX", help="Accept this seal only."),
]
MinSequence = Annotated[
    int | None,
    typer.Option("--min-sequence", metavar="N", min=0, help="Refuse seals with a lower sequence."),
]
AllowWeakest = Annotated[
    bool,
    typer.Option(
        "--allow-weakest",
        help="Allow a passphrase beside another key; the seal is then as weak as the passphrase.",
    ),
]
SourceCa = Annotated[
    Path | None,
    typer.Option("--source-ca", metavar="FILE", help="CA of the server that holds the model."),
]
SourceToken = Annotated[
    Path | None,
    typer.Option(
        "--source-token-file", metavar="FILE", help="Bearer token for the server, in a file."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
NotAfter = Annotated[
    datetime | None,
    typer.Option(
        "--not-after",
        metavar="DATE",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"],
        help="Refuse to open it after this time (UTC), such as 2027-01-31 or 2027-01-31T12:00:00Z.",
    ),
]
