"""The agent's settings, read from its environment once, checked, and never changed.

No variable holds a secret: tokens and passphrases are named by the file that holds them. Variables
of other programs (`VAULT_ADDR`, `VAULT_TOKEN`, proxies) are not read.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from modelseal import contract
from modelseal.contract import Delivery, Demand, Env
from modelseal.errors import SettingsError, shown

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "debug", "info", "warning", "error")
MAX_LEASE_INTERVAL: Final = 3600.0
MAX_MAX_STALE: Final = 30 * 86400.0
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SEPARATORS: Final = re.compile(r"[\s,]+")
_MAX_INTEGER: Final = 1 << 53


class AuthMethod(StrEnum):
    """How the agent logs in to the key service."""

    KUBERNETES = "kubernetes"
    JWT = "jwt"
    APPROLE = "approle"
    TOKEN = "token"  # noqa: S105 - the name of a way to log in


@dataclass(frozen=True, kw_only=True)
class LeaseSettings:
    """How often the right is checked, and how long it outlives an unreachable key service."""

    interval: float
    max_stale: float

    def __post_init__(self) -> None:
        if not contract.MIN_LEASE_INTERVAL <= self.interval <= MAX_LEASE_INTERVAL:
            raise SettingsError(
                f"failed to read the lease interval: {self.interval:g} s is not between "
                f"{contract.MIN_LEASE_INTERVAL:g} and {MAX_LEASE_INTERVAL:g} s"
            )
        if not self.interval <= self.max_stale <= MAX_MAX_STALE:
            raise SettingsError(
                f"failed to read max stale: {self.max_stale:g} s is not between the lease "
                f"interval ({self.interval:g} s) and {MAX_MAX_STALE:g} s"
            )


@dataclass(frozen=True, kw_only=True)
class VaultEnvironment:
    """Where the key service is and how to log in, as the environment says it."""

    address: str
    namespace: str | None
    ca_file: Path | None
    auth: AuthMethod
    auth_mount: str | None
    role: str | None
    token_file: Path
    secret_id_file: Path | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the agent is told from outside."""

    model: str
    source: str
    source_ca_file: Path | None
    source_token_file: Path | None
    source_proxy: str | None
    key: str
    vault: VaultEnvironment | None
    passphrase_file: Path | None
    signers: tuple[str, ...]
    allow_unsigned: bool
    digest: str | None
    min_sequence: int | None
    posture: tuple[Demand, ...]
    model_size: int | None
    delivery: Delivery
    delivery_directory: Path
    socket: Path
    socket_fd: int | None
    peer_uid: int | None
    lease: LeaseSettings
    provider_directory: Path | None
    report_host: str
    report_port: int
    termination_log: Path | None
    allow_swap: bool
    log_level: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read and check the environment.

        Raises:
            SettingsError: a variable is missing or has no sense; the message names it.

        """
        read = _Reader(environ)
        settings = cls(
            model=read.required(Env.MODEL),
            source=read.required(Env.SOURCE),
            source_ca_file=read.path(Env.SOURCE_CA_FILE),
            source_token_file=read.path(Env.SOURCE_TOKEN_FILE),
            source_proxy=read.text(Env.SOURCE_PROXY),
            key=read.required(Env.KEY),
            vault=_vault(read),
            passphrase_file=read.path(Env.PASSPHRASE_FILE),
            signers=read.words(Env.SIGNERS),
            allow_unsigned=read.boolean(Env.ALLOW_UNSIGNED),
            digest=read.text(Env.DIGEST),
            min_sequence=read.integer(Env.MIN_SEQUENCE),
            posture=read.demands(Env.POSTURE),
            model_size=read.integer(Env.MODEL_SIZE),
            delivery=Delivery(read.choice(Env.DELIVERY, tuple(Delivery), Delivery.MEMFD)),
            delivery_directory=Path(
                read.text(Env.DELIVERY_DIRECTORY) or contract.DELIVERY_DIRECTORY
            ),
            socket=Path(
                read.text(Env.SOCKET) or f"{contract.SOCKET_DIRECTORY}/{contract.SOCKET_NAME}"
            ),
            socket_fd=read.integer(Env.SOCKET_FD),
            peer_uid=read.integer(Env.PEER_UID),
            lease=LeaseSettings(
                interval=read.seconds(Env.LEASE_INTERVAL, contract.DEFAULT_LEASE_INTERVAL),
                max_stale=read.seconds(Env.MAX_STALE, contract.DEFAULT_MAX_STALE),
            ),
            provider_directory=read.path(Env.PROVIDER_DIRECTORY),
            report_host=read.text(Env.REPORT_HOST) or "0.0.0.0",  # noqa: S104 - probes come from outside the pod
            report_port=read.port(Env.REPORT_PORT, contract.REPORT_PORT),
            termination_log=read.path(Env.TERMINATION_LOG),
            allow_swap=read.boolean(Env.ALLOW_SWAP),
            log_level=read.choice(Env.LOG_LEVEL, LOG_LEVELS, "INFO").upper(),
        )
        _check(settings)
        return settings


class _Reader:
    """Typed access to variables; an empty one counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: Env) -> str | None:
        return self._environ.get(name) or None

    def required(self, name: Env) -> str:
        value = self.text(name)
        if value is None:
            raise SettingsError(f"failed to read the settings: {name} is not set")
        return value

    def path(self, name: Env) -> Path | None:
        value = self.text(name)
        return Path(value) if value else None

    def choice(self, name: Env, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name) or default
        if value not in choices:
            raise _refused(name, value, f"one of {', '.join(choices)}")
        return value

    def words(self, name: Env) -> tuple[str, ...]:
        return tuple(filter(None, _SEPARATORS.split(self.text(name) or "")))

    def demands(self, name: Env) -> tuple[Demand, ...]:
        for word in self.words(name):
            if word not in tuple(Demand):
                raise _refused(name, word, f"one of {', '.join(Demand)}")
        return tuple(Demand(word) for word in self.words(name))

    def boolean(self, name: Env) -> bool:
        return self.choice(name, ("true", "false"), "false") == "true"

    def integer(self, name: Env) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,16}", value) or int(value) > _MAX_INTEGER:
            raise _refused(name, value, "a whole number")
        return int(value)

    def port(self, name: Env, default: int) -> int:
        value = self.integer(name)
        if value is not None and value > 0xFFFF:
            raise _refused(name, str(value), "a port")
        return default if value is None else value

    def seconds(self, name: Env, default: float) -> float:
        value = self.text(name)
        return default if value is None else parse_seconds(value, name)


def parse_seconds(text: str, name: str) -> float:
    """Read a number of seconds, such as `60` or `7.5`.

    Raises:
        SettingsError: it is not one; the message names `name`.

    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        raise _refused(name, text, "a number of seconds")
    return seconds


def _refused(name: str, value: str, expected: str) -> SettingsError:
    return SettingsError(f"failed to read {name}: {shown(value)} is not {expected}")


def _vault(read: _Reader) -> VaultEnvironment | None:
    address = read.text(Env.VAULT_ADDRESS)
    if address is None:
        return None
    auth = AuthMethod(read.choice(Env.VAULT_AUTH, tuple(AuthMethod), AuthMethod.KUBERNETES))
    if auth is not AuthMethod.TOKEN:
        read.required(Env.VAULT_ROLE)
    if auth is AuthMethod.APPROLE:
        read.required(Env.VAULT_SECRET_ID_FILE)
    return VaultEnvironment(
        address=address,
        namespace=read.text(Env.VAULT_NAMESPACE),
        ca_file=read.path(Env.VAULT_CA_FILE),
        auth=auth,
        auth_mount=read.text(Env.VAULT_AUTH_MOUNT),
        role=read.text(Env.VAULT_ROLE),
        token_file=Path(read.text(Env.VAULT_TOKEN_FILE) or contract.TOKEN_PATH),
        secret_id_file=read.path(Env.VAULT_SECRET_ID_FILE),
    )


def _check(settings: Settings) -> None:
    """Refuse settings that make no sense together."""
    if settings.key.startswith("vault") and settings.vault is None:
        raise SettingsError(f"failed to read the settings: {Env.VAULT_ADDRESS} is not set")
    if settings.digest is not None and not _DIGEST.fullmatch(settings.digest):
        raise _refused(Env.DIGEST, settings.digest, "sha256: and 64 hexadecimal digits")
    if not settings.signers and not settings.allow_unsigned:
        raise SettingsError(
            f"failed to read the settings: {Env.SIGNERS} is not set",
            hint=f"pin the signer's public key, or set {Env.ALLOW_UNSIGNED}=true for a local test",
        )
    if settings.delivery is Delivery.MEMFD and settings.socket_fd is None:
        _check_peer(settings.peer_uid)


def _check_peer(uid: int | None) -> None:
    if uid is None:
        raise SettingsError(
            f"failed to read the settings: neither {Env.PEER_UID} nor {Env.SOCKET_FD} is set",
            hint="say which uid the runtime has; the agent hands the model to no other",
        )
    if uid == contract.OVERFLOW_UID:
        raise _refused(Env.PEER_UID, str(uid), "a uid that stands for one user only")
