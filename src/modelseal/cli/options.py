"""Options that several verbs share, so that they look and mean the same everywhere."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

KEY_HELP = "Key provider: file:PATH, passphrase:, vault:MOUNT/KEY or vault-kv:MOUNT/PATH#FIELD."
VAULT_HELP = "vault: and vault-kv: use VAULT_ADDR, VAULT_TOKEN, VAULT_CACERT and VAULT_NAMESPACE."

Sealed = Annotated[
    str, typer.Argument(metavar="SEALED", help="A sealed model: a folder, or an https:// address.")
]
SealedFolder = Annotated[Path, typer.Argument(metavar="SEALED", help="A sealed model's folder.")]
Model = Annotated[
    str, typer.Option("--model", metavar="OWNER/NAME", help="The model's name, as it was sealed.")
]
OptionalModel = Annotated[
    str | None,
    typer.Option("--model", metavar="OWNER/NAME", help="The model's name, as it was sealed."),
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
        help="Whose signature is demanded: file:PATH.pub, ed25519:BASE64 or ecdsa-p256:BASE64. "
        "May be repeated; one valid signature suffices.",
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
