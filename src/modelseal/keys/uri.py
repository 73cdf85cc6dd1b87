"""Key URIs: `file:PATH`, `passphrase:`, `vault:MOUNT/KEY`, `vault-kv:MOUNT/PATH#FIELD[@N]`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelseal.errors import SettingsError, shown
from modelseal.keys.interface import KeyProvider, Signer
from modelseal.keys.local import KeyFileProvider, PassphraseProvider
from modelseal.keys.settings import VaultSettings
from modelseal.secret import Secret

KINDS: Final = ("file", "passphrase", "vault", "vault-kv")
_SEGMENT: Final = r"[A-Za-z0-9_.-]+"
_TRANSIT: Final = re.compile(rf"({_SEGMENT}(?:/{_SEGMENT})*)/({_SEGMENT})")
_KV: Final = re.compile(
    rf"({_SEGMENT})/({_SEGMENT}(?:/{_SEGMENT})*)#({_SEGMENT})(?:@([1-9]\d{{0,8}}))?"
)
_HINT: Final = "write file:PATH, passphrase:, vault:MOUNT/KEY or vault-kv:MOUNT/PATH#FIELD"


@dataclass(frozen=True, kw_only=True)
class KeyUri:
    """A parsed key URI; what a kind does not have is empty."""

    kind: str
    path: str = ""
    """A file's path, or the KV secret's."""
    mount: str = ""
    key: str = ""
    field: str = ""
    version: int | None = None


def parse_key_uri(uri: str) -> KeyUri:
    """Read a key URI.

    Raises:
        SettingsError: it is none.

    """
    kind, colon, rest = uri.partition(":")
    parse = _PARSERS.get(kind) if colon else None
    parsed = parse(rest) if parse else None
    if parsed is None:
        raise SettingsError(f"failed to read the key {shown(uri)}: not a key URI", hint=_HINT)
    return parsed


def open_provider(
    uri: str,
    *,
    vault: VaultSettings | None = None,
    passphrase: Callable[[], Secret] | None = None,
) -> KeyProvider:
    """Return the provider that a key URI names; nothing is read or asked yet.

    Raises:
        SettingsError: the URI makes no sense, or what its kind needs was not given.

    """
    parsed = parse_key_uri(uri)
    if parsed.kind == "file":
        return KeyFileProvider(Path(parsed.path))
    if parsed.kind == "passphrase":
        if passphrase is None:
            raise SettingsError(
                "failed to open the key: there is nowhere to read a passphrase from"
            )
        return PassphraseProvider(passphrase)
    return _open_vault(parsed, _required(vault))


def open_signer(uri: str, *, vault: VaultSettings | None = None) -> Signer:
    """Return the signer that `file:PATH` or `vault:MOUNT/KEY` names.

    Raises:
        SettingsError: it is neither, or the key cannot sign.
        InputUnreadable: the file cannot be read.

    """
    parsed = parse_key_uri(uri)
    if parsed.kind == "file":
        from modelseal.envelope import LocalSigner  # noqa: PLC0415 - only where it is used

        return LocalSigner.load(Path(parsed.path))
    if parsed.kind == "vault":
        from modelseal.keys.transit import VaultSigner  # noqa: PLC0415 - needs the extra `vault`
        from modelseal.keys.vault import VaultClient  # noqa: PLC0415

        return VaultSigner(VaultClient(_required(vault)), mount=parsed.mount, key=parsed.key)
    raise SettingsError(
        f"failed to sign with {shown(uri)}: not a signing key",
        hint="write file:PATH of a private key, or vault:MOUNT/KEY",
    )


def _open_vault(parsed: KeyUri, settings: VaultSettings) -> KeyProvider:
    from modelseal.keys.transit import VaultTransitProvider  # noqa: PLC0415 - needs `vault`
    from modelseal.keys.vault import VaultClient  # noqa: PLC0415
    from modelseal.keys.vault_kv import VaultKvProvider  # noqa: PLC0415

    client = VaultClient(settings)
    if parsed.kind == "vault":
        return VaultTransitProvider(client, mount=parsed.mount, key=parsed.key)
    return VaultKvProvider(client, parsed)


def _required(vault: VaultSettings | None) -> VaultSettings:
    if vault is None:
        raise SettingsError(
            "failed to open the key: no key service is configured", hint="set VAULT_ADDR"
        )
    return vault


def _file(rest: str) -> KeyUri | None:
    return KeyUri(kind="file", path=rest) if rest and "\0" not in rest else None


def _passphrase(rest: str) -> KeyUri | None:
    return None if rest else KeyUri(kind="passphrase")


def _transit(rest: str) -> KeyUri | None:
    match = _TRANSIT.fullmatch(rest)
    return KeyUri(kind="vault", mount=match[1], key=match[2]) if match and _clean(rest) else None


def _kv(rest: str) -> KeyUri | None:
    match = _KV.fullmatch(rest)
    if match is None or not _clean(match[1], match[2]):
        return None
    version = int(match[4]) if match[4] else None
    return KeyUri(kind="vault-kv", mount=match[1], path=match[2], field=match[3], version=version)


def _clean(*paths: str) -> bool:
    """Say whether no part of a path is `.` or `..`."""
    return all(part not in (".", "..") for path in paths for part in path.split("/"))


_PARSERS: Final = {"file": _file, "passphrase": _passphrase, "vault": _transit, "vault-kv": _kv}
