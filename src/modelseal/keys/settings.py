"""How to reach a key service and how to log in to it; values only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelseal.secret import Secret

ReadSecret = Callable[[], Secret]
"""Reads a credential anew at each login, so that a rotated file is noticed."""


@dataclass(frozen=True, kw_only=True)
class TokenAuth:
    """A token that somebody else obtained."""

    read: ReadSecret


@dataclass(frozen=True, kw_only=True)
class AppRoleAuth:
    """An AppRole: a role id, which is no secret, and a secret id."""

    role_id: str
    read: ReadSecret
    mount: str = "approle"


@dataclass(frozen=True, kw_only=True)
class JwtAuth:
    """A signed token and a role; `method` is `jwt` or `kubernetes`."""

    role: str
    read: ReadSecret
    method: str = "kubernetes"
    mount: str = "kubernetes"


VaultAuth = TokenAuth | AppRoleAuth | JwtAuth


@dataclass(frozen=True, kw_only=True)
class VaultSettings:
    """A Vault or OpenBao server and the way in."""

    address: str
    auth: VaultAuth
    namespace: str | None = None
    ca_file: Path | None = None
    busy_seconds: float = 0.0
    """For how long a request is repeated, beyond the usual tries, while the answer is HTTP 429."""
