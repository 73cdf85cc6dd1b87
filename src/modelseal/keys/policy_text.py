"""What to paste into Vault or OpenBao: policies and roles for one model (docs/keys.md).

Pure: from names to commands. The tests run exactly these commands against a real server.

A policy pins the model by the beginning of the KEK context, which is readable and ends, before the
seal's identity, at a multiple of three bytes, so that its base64 is a prefix of every context of
that model and of no other model's. Listing the allowed parameters also shuts the door of
`batch_input`, by which a context could be passed unseen.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelseal.envelope import kek_context, valid_model_name
from modelseal.errors import SettingsError, shown
from modelseal.keys.uri import KeyUri, parse_key_uri

SEAL_ID_LENGTH: Final = 32
DEFAULT_PROGRAM: Final = "bao"
ROLES: Final = ("sealer", "agent", "rewrapper", "admin", "signer")
TOKEN_SECONDS: Final = 300


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command with the reason for it."""

    why: str
    command: str


@dataclass(frozen=True, kw_only=True)
class Login:
    """How a model's agent logs in: by its Kubernetes service account, or by a signed token."""

    method: str
    """`kubernetes` or `jwt`."""
    mount: str
    namespace: str
    service_account: str
    audience: str


_CONFIGURED: Final = ("min_decryption_version", "min_encryption_version", "auto_rotate_period")
"""What an administrator may set of a key: nothing that would let it out."""

Rule = tuple[str, str, Mapping[str, Sequence[str]]]
"""A path, its capabilities, and which values of which parameters are allowed (none: any)."""


def context_pattern(model: str) -> str:
    """Return what every base64 KEK context of a model, and of no other, begins with, and `*`."""
    prefix = kek_context(model, bytes(SEAL_ID_LENGTH))[:-SEAL_ID_LENGTH]
    return base64.b64encode(prefix).decode("ascii") + "*"


def policy_name(model: str, role: str) -> str:
    """Return a policy's name; `_` occurs in no model's name, so two models never share one."""
    return f"modelseal-{model.replace('/', '_')}-{role}"


def vault_steps(
    *,
    model: str,
    key: str,
    login: Login | None = None,
    signing_key: str | None = None,
    program: str = DEFAULT_PROGRAM,
) -> tuple[Step, ...]:
    """Return the commands that prepare a key service for one model.

    Args:
        model: `OWNER/NAME`.
        key: `vault:MOUNT/KEY` or `vault-kv:MOUNT/PATH#FIELD`.
        login: how the agent logs in; without it no role is made.
        signing_key: `vault:MOUNT/KEY` of a transit key that signs.
        program: `bao` or `vault`; both take the same commands.

    Raises:
        SettingsError: the model or a key makes no sense here.

    """
    if not valid_model_name(model):
        raise SettingsError(f"failed to write policies: {shown(model)} is not OWNER/NAME")
    uri = parse_key_uri(key)
    if uri.kind == "vault":
        steps = _transit_steps(model, uri)
    elif uri.kind == "vault-kv":
        steps = _kv_steps(model, uri)
    else:
        raise SettingsError(
            f"failed to write policies: {shown(key)} is not a key of a key service",
            hint="give vault:MOUNT/KEY or vault-kv:MOUNT/PATH#FIELD",
        )
    if signing_key is not None:
        steps += _signing_steps(model, signing_key)
    if login is not None:
        steps.append(_role_step(model, login))
    return tuple(Step(why=why, command=f"{program} {command}") for why, command in steps)


def script(steps: Iterable[Step]) -> str:
    """Return the steps as one text to read and to paste."""
    return "\n".join(f"# {step.why}\n{step.command}\n" for step in steps)


def _transit_steps(model: str, uri: KeyUri) -> list[tuple[str, str]]:
    mount, key = uri.mount, uri.key
    context = {"context": [context_pattern(model)]}
    sealed: Rule = (f"{mount}/encrypt/{key}", "update", {"plaintext": [], **context})
    opened: Rule = (f"{mount}/decrypt/{key}", "update", {"ciphertext": [], **context})
    renewed: Rule = (f"{mount}/rewrap/{key}", "update", {"ciphertext": [], **context})
    asked: Rule = ("sys/capabilities-self", "update", {})
    managed: list[Rule] = [
        (f"{mount}/keys/{key}", "read", {}),
        (f"{mount}/keys/{key}/rotate", "update", {}),
        (f"{mount}/keys/{key}/config", "update", dict.fromkeys(_CONFIGURED, ())),
        (f"{mount}/keys/{key}/trim", "update", {}),
    ]
    return [
        (
            "the transit engine; skip this where it is there",
            f"secrets enable -path={mount} transit",
        ),
        (
            "let the audit log name model and seal",
            f"secrets tune -audit-non-hmac-request-keys=context {mount}",
        ),
        (
            "the key: derived, so that every use is bound to a model and a seal",
            f"write -f {mount}/keys/{key} type=aes256-gcm96 derived=true",
        ),
        _policy_step(model, "sealer", "whoever seals: wraps, and can open nothing", [sealed]),
        _policy_step(
            model, "agent", "whoever serves: opens this model only", [opened, renewed, asked]
        ),
        _policy_step(
            model, "rewrapper", "whoever rotates: renews, and can open nothing", [renewed, asked]
        ),
        _policy_step(
            model, "admin", "whoever manages the key, and can use it for nothing", managed
        ),
    ]


def _kv_steps(model: str, uri: KeyUri) -> list[tuple[str, str]]:
    read: Rule = (f"{uri.mount}/data/{uri.path}", "read", {})
    managed: list[Rule] = [
        (f"{uri.mount}/data/{uri.path}", "create update", {}),
        (f"{uri.mount}/metadata/{uri.path}", "read", {}),
        (f"{uri.mount}/delete/{uri.path}", "update", {}),
        (f"{uri.mount}/destroy/{uri.path}", "update", {}),
    ]
    return [
        (
            "the KV engine, version 2; skip this where it is there",
            f"secrets enable -path={uri.mount} -version=2 kv",
        ),
        (
            "the key: 32 random bytes that never appear on a command line",
            f"kv put -cas=0 -mount={uri.mount} {uri.path} {uri.field}=- "
            '< <(head -c 32 /dev/urandom | base64 | tr -d "\\n")',
        ),
        _policy_step(model, "agent", "whoever seals or serves: reads the key itself", [read]),
        _policy_step(model, "admin", "whoever makes and destroys versions", managed),
    ]


def _signing_steps(model: str, signing_key: str) -> list[tuple[str, str]]:
    uri = parse_key_uri(signing_key)
    if uri.kind != "vault":
        raise SettingsError(
            f"failed to write policies: {shown(signing_key)} is not vault:MOUNT/KEY"
        )
    signs: list[Rule] = [
        (f"{uri.mount}/sign/{uri.key}", "update", {}),
        (f"{uri.mount}/keys/{uri.key}", "read", {}),
    ]
    return [
        ("the signing key", f"write -f {uri.mount}/keys/{uri.key} type=ed25519"),
        _policy_step(model, "signer", "whoever vouches for a model", signs),
    ]


def _role_step(model: str, login: Login) -> tuple[str, str]:
    role = policy_name(model, "agent")
    common = (
        f"token_policies={role} token_ttl={TOKEN_SECONDS} token_max_ttl={TOKEN_SECONDS} "
        f"token_no_default_policy=true"
    )
    if login.method == "kubernetes":
        bound = (
            f"bound_service_account_names={login.service_account} "
            f"bound_service_account_namespaces={login.namespace} audience={login.audience}"
        )
    else:
        subject = f"system:serviceaccount:{login.namespace}:{login.service_account}"
        bound = (
            f"role_type=jwt user_claim=sub bound_subject={subject} bound_audiences={login.audience}"
        )
    return (
        "the role: this service account, with a token made for this key service",
        f"write auth/{login.mount}/role/{role} {bound} {common}",
    )


def _policy_step(model: str, role: str, why: str, rules: Iterable[Rule]) -> tuple[str, str]:
    text = "\n".join(_rule(*rule) for rule in rules)
    return why, f"policy write {policy_name(model, role)} - <<'POLICY'\n{text}\nPOLICY"


def _rule(path: str, capabilities: str, parameters: Mapping[str, Sequence[str]]) -> str:
    listed = ", ".join(f'"{each}"' for each in capabilities.split())
    lines = [f'path "{path}" {{', f"  capabilities = [{listed}]"]
    if parameters:
        lines.append("  allowed_parameters = {")
        for name, values in parameters.items():
            quoted = ", ".join(f'"{value}"' for value in values)
            lines.append(f'    "{name}" = [{quoted}]')
        lines.append("  }")
    return "\n".join([*lines, "}"])
