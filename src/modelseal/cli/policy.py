"""`modelseal policy`: what to paste into Vault or OpenBao."""

from enum import StrEnum
from typing import Annotated, Final

import typer

from modelseal.cli import console
from modelseal.cli import options as opt
from modelseal.errors import SettingsError
from modelseal.keys.policy_text import Login, script, vault_steps

EXAMPLES: Final = """\
modelseal policy --model me/model --key vault:transit/models | less
modelseal policy --model me/model --key vault:transit/models --program vault \\
    --namespace vision --service-account filetype --audience https://vault.example:8200
"""


class Program(StrEnum):
    """Whose command line the steps are written for."""

    BAO = "bao"
    VAULT = "vault"


class Method(StrEnum):
    """How the agent logs in."""

    KUBERNETES = "kubernetes"
    JWT = "jwt"


WhichKey = Annotated[
    str,
    typer.Option("--key", metavar="PROVIDER", help="vault:MOUNT/KEY or vault-kv:MOUNT/PATH#FIELD."),
]
SigningKey = Annotated[
    str | None,
    typer.Option(metavar="PROVIDER", help="vault:MOUNT/KEY of a transit key that signs."),
]
WhichProgram = Annotated[Program, typer.Option(help="For the program bao, or vault.")]
Namespace = Annotated[
    str | None, typer.Option(metavar="NAME", help="Kubernetes namespace of the agent's role.")
]
ServiceAccount = Annotated[
    str | None, typer.Option(metavar="NAME", help="Service account that the role is bound to.")
]
Audience = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Audience of its tokens: the key service's address."),
]
HowToLogIn = Annotated[Method, typer.Option("--auth", help="How the agent logs in.")]
AuthMount = Annotated[
    str | None, typer.Option(metavar="PATH", help="Mount of that way; by default its own name.")
]


def command(
    *,
    model: opt.Model,
    key: WhichKey,
    signing_key: SigningKey = None,
    namespace: Namespace = None,
    service_account: ServiceAccount = None,
    audience: Audience = None,
    auth: HowToLogIn = Method.KUBERNETES,
    auth_mount: AuthMount = None,
    program: WhichProgram = Program.BAO,
    json: opt.Json = False,
) -> None:
    """Print the Vault policies and roles for a model.

    Prints commands with the reason for each, to read and to paste; nothing is asked or changed.
    There is one policy each for whoever seals, serves, rotates and administers, each bound to this
    model's name. With --namespace, --service-account and --audience, also the agent's role.
    """
    given = (namespace, service_account, audience)
    if any(given) and not all(given):
        raise SettingsError(
            "failed to write the role: it needs --namespace, --service-account and --audience"
        )
    login = Login(
        method=auth,
        mount=auth_mount or str(auth),
        namespace=namespace or "",
        service_account=service_account or "",
        audience=audience or "",
    )
    steps = vault_steps(
        model=model,
        key=key,
        login=login if all(given) else None,
        signing_key=signing_key,
        program=program,
    )
    if json:
        console.show_json([{"why": step.why, "command": step.command} for step in steps])
    else:
        console.show_text(script(steps))
