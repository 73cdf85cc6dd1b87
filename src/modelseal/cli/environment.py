"""The only reader of environment variables: Vault's usual ones, and where a passphrase comes from.

The command line honours what people have set for the `vault` and `bao` programs; the agent honours
none of it.
"""

import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modelseal.cli.inherited import Inherited
from modelseal.contract import Env
from modelseal.errors import InputUnreadable, SettingsError, shown
from modelseal.keys import (
    KeyProvider,
    Signer,
    TokenAuth,
    VaultSettings,
    open_provider,
    open_signer,
    parse_key_uri,
)
from modelseal.secret import Secret

MAX_PASSPHRASE_BYTES: Final = 1024
MAX_TOKEN_BYTES: Final = 64 << 10
BUSY_SECONDS: Final = 60.0
"""For how long a person or a script waits for a key service with a rate limit."""
_LOGIN_FILE: Final = ".vault-token"


def open_key(uri: str, *, new: bool = False) -> KeyProvider:
    """Return the provider that a key URI names; a new passphrase is asked for twice."""
    settings = vault_settings(os.environ) if _needs_vault(uri) else None
    return open_provider(uri, vault=settings, passphrase=PassphraseReader(new=new))


def open_signing_key(uri: str) -> Signer:
    """Return who signs: `vault:MOUNT/KEY`, `file:PATH` or just the path of a private key."""
    named = uri if uri.startswith(("file:", "vault:")) else f"file:{uri}"
    return open_signer(named, vault=vault_settings(os.environ) if _needs_vault(named) else None)


def agent_key(uri: str, inherited: Inherited) -> dict[str, str]:
    """Return what an agent is told of the key; secrets go into memory that it inherits."""
    parsed = parse_key_uri(uri)
    if parsed.kind == "file":
        return {Env.KEY: f"file:{Path(parsed.path).resolve()}"}
    if parsed.kind == "passphrase":
        path = inherited.secret("passphrase", PassphraseReader(new=False)())
        return {Env.KEY: uri, Env.PASSPHRASE_FILE: path}
    settings = vault_settings(os.environ)
    told = {
        Env.KEY: uri,
        Env.VAULT_ADDRESS: settings.address,
        Env.VAULT_AUTH: "token",
        Env.VAULT_TOKEN_FILE: inherited.secret("token", settings.auth.read()),
    }
    if settings.namespace:
        told[Env.VAULT_NAMESPACE] = settings.namespace
    if settings.ca_file:
        told[Env.VAULT_CA_FILE] = str(settings.ca_file.resolve())
    return {str(name): value for name, value in told.items()}


def vault_settings(environ: Mapping[str, str]) -> VaultSettings:
    """Return how to reach Vault or OpenBao, from `VAULT_*` or `BAO_*`.

    Raises:
        SettingsError: the address or the token is missing.

    """
    address = _variable(environ, "ADDR")
    if not address:
        raise SettingsError(
            "failed to reach a key service: VAULT_ADDR is not set",
            hint="export VAULT_ADDR=https://... and, for a private CA, VAULT_CACERT=FILE",
        )
    ca_file = _variable(environ, "CACERT")
    return VaultSettings(
        address=address,
        namespace=_variable(environ, "NAMESPACE") or None,
        ca_file=Path(ca_file) if ca_file else None,
        auth=TokenAuth(read=lambda: vault_token(environ)),
        busy_seconds=BUSY_SECONDS,
    )


def vault_token(environ: Mapping[str, str]) -> Secret:
    """Return the token of `VAULT_TOKEN`, or of the file that `vault login` writes.

    Raises:
        SettingsError: there is none.

    """
    token = _variable(environ, "TOKEN")
    path = Path(environ.get("HOME") or Path.home()) / _LOGIN_FILE
    if not token and path.is_file():
        token = _read_line(path, MAX_TOKEN_BYTES, "the Vault token").decode("ascii", "replace")
    if not token:
        raise SettingsError(
            "failed to log in to the key service: there is no token",
            hint="run `vault login` or `bao login`, or export VAULT_TOKEN",
        )
    return Secret(token.encode())


class PassphraseReader:
    """Gets the passphrase from a file or the terminal when it is needed, and asks only once."""

    def __init__(self, *, new: bool) -> None:
        self._new = new
        self._kept: Secret | None = None

    def __call__(self) -> Secret:
        """Return a copy of the passphrase, which the caller wipes."""
        if self._kept is None:
            path = os.environ.get(Env.PASSPHRASE_FILE)
            self._kept = (
                passphrase_from_file(Path(path))
                if path
                else passphrase_from_terminal(new=self._new)
            )
        return Secret(self._kept.buffer)


def passphrase_from_file(path: Path) -> Secret:
    """Return the first line of the file.

    Raises:
        InputUnreadable: it cannot be read.
        SettingsError: it is empty, or too long.

    """
    return Secret(_read_line(path, MAX_PASSPHRASE_BYTES, "the passphrase"))


def passphrase_from_terminal(*, new: bool) -> Secret:
    """Ask on the terminal, without showing it.

    Raises:
        SettingsError: there is no terminal, nothing was typed, or the two answers differ.

    """
    if not sys.stdin.isatty():
        raise SettingsError(
            "failed to ask for the passphrase: this is not a terminal",
            hint=f"put it into a file and name that in {Env.PASSPHRASE_FILE}",
        )
    first = getpass.getpass("New passphrase: " if new else "Passphrase: ")
    if not first:
        raise SettingsError("failed to read the passphrase: it is empty")
    if new and getpass.getpass("Again, to be sure: ") != first:
        raise SettingsError("failed to read the passphrase: the two differ")
    return Secret(first.encode())


def _needs_vault(uri: str) -> bool:
    return parse_key_uri(uri).kind.startswith("vault")


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(f"VAULT_{name}") or environ.get(f"BAO_{name}") or ""


def _read_line(path: Path, limit: int, what: str) -> bytes:
    """Return a file's only line; its content is never part of a message."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputUnreadable(
            f"failed to read {what} from {shown(str(path))}: {error.strerror}"
        ) from None
    line = content.split(b"\n", 1)[0].rstrip(b"\r")
    if not line or len(content) > limit:
        problem = f"it is empty or longer than {limit} bytes"
        raise SettingsError(f"failed to read {what} from {shown(str(path))}: {problem}")
    return line
