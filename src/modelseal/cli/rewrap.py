"""`modelseal rewrap`: who may open a sealed model, changed without touching what was signed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from modelseal import opening
from modelseal.cli import console
from modelseal.cli import options as opt
from modelseal.cli.environment import open_key
from modelseal.cli.recipients import Change, refuse_weakest
from modelseal.cli.replacing import replace_seal
from modelseal.cli.source import open_sealed
from modelseal.cli.trust import trust
from modelseal.envelope import parse_seal, replace_recipients
from modelseal.envelope.recipients import Recipient

EXAMPLES: Final = """\
modelseal rewrap model.sealed --model me/model --key vault:transit/models
modelseal rewrap model.sealed --model me/model --key file:my.key --add vault:transit/customer
modelseal rewrap model.sealed --model me/model --key file:my.key --add passphrase: \\
    --remove file:my.key
"""

Add = Annotated[
    list[str] | None,
    typer.Option("--add", metavar="PROVIDER", help="Let this key open it too. May be repeated."),
]
Remove = Annotated[
    list[str] | None,
    typer.Option("--remove", metavar="PROVIDER", help="This key opens it no more. Repeatable."),
]
RenewAll = Annotated[
    bool,
    typer.Option("--all", help="Refuse unless every recipient is renewed by one of the keys."),
]


def command(
    sealed: opt.SealedFolder,
    *,
    model: opt.Model,
    key: opt.Keys,
    add: Add = None,
    remove: Remove = None,
    renew_all: RenewAll = False,
    signer: opt.Signers = None,
    allow_weakest: opt.AllowWeakest = False,
    json: opt.Json = False,
) -> None:
    """Change who may open a sealed model; its content stays as it is.

    With --key alone, the data key is wrapped under the newest version of that key, inside the key
    service where there is one: the step between rotating a key and forbidding its old versions.
    With --add and --remove, other keys come and go. What was signed is not touched. The new file
    is tried before it replaces the old one. A data key that leaked needs a new seal instead.
    """
    with open_sealed(str(sealed)) as source:
        demands = trust(signer, model=model, digest=None, min_sequence=None)
        seal = opening.read_manifest(source, demands, datetime.now(UTC))
    change = Change(
        seal=seal,
        model=model,
        keys=[open_key(uri) for uri in key],
        added=[open_key(uri, new=True) for uri in add or ()],
        removed=[open_key(uri) for uri in remove or ()],
    )
    recipients = change.recipients(renew_all=renew_all)
    refuse_weakest([recipient.kind for recipient in recipients], allowed=allow_weakest)
    content = replace_recipients(seal, recipients)
    change.prove(parse_seal(content))
    replace_seal(sealed, content)
    _show(recipients, json=json)


def _show(recipients: Sequence[Recipient], *, json: bool) -> None:
    if json:
        found = [{"kind": one.kind, "key": one.key} for one in recipients]
        console.show_json({"recipients": found})
    else:
        lines = [console.printable(f"{one.kind} {one.key}".strip()) for one in recipients]
        console.show_fields({"opened by": lines})
