"""The runtime's settings, read from its environment once, checked, and never changed."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from modelseal import contract
from modelseal.contract import Env
from modelseal.engine.configuration import ByDevice, read_by_device
from modelseal.errors import SettingsError, shown

AUTO: Final = "AUTO"
HINTS: Final = (AUTO, "LATENCY", "THROUGHPUT")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
DEFAULT_BODY_BYTES: Final = 64 << 20
DEFAULT_QUEUE_SIZE: Final = 64
DEFAULT_REQUEST_TIMEOUT: Final = 60.0
DEFAULT_DRAIN_SECONDS: Final = 30.0
_MAX_INTEGER: Final = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the runtime is told from outside."""

    socket: Path
    socket_fd: int | None
    peer_uid: int | None
    model_name: str | None
    devices: tuple[str, ...]
    device_properties: ByDevice
    hint: str
    host: str
    rest_port: int
    grpc_port: int
    health_port: int
    max_body_bytes: int
    queue_size: int
    request_timeout: float
    batch_rows: int
    batch_wait: float
    drain_seconds: float
    allow_swap: bool
    log_level: str
    termination_log: Path | None

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read and check the environment.

        Raises:
            SettingsError: a variable is missing or has no sense; the message names it.

        """
        read = _Reader(environ)
        settings = cls(
            socket=read.path(Env.SOCKET) or Path(contract.SOCKET_DIRECTORY, contract.SOCKET_NAME),
            socket_fd=read.optional_number(Env.SOCKET_FD),
            peer_uid=read.optional_number(Env.PEER_UID),
            model_name=read.text(Env.MODEL_NAME, "") or None,
            devices=split_devices(read.text(Env.DEVICES, "CPU")),
            device_properties=read_by_device(read.text(Env.DEVICE_PROPERTIES, "").split()),
            hint=read.choice(Env.PERFORMANCE_HINT, HINTS, AUTO),
            host=read.text(Env.HOST, "0.0.0.0"),  # noqa: S104 -- clients come from outside the pod
            rest_port=read.number(Env.REST_PORT, contract.REST_PORT, 0, 0xFFFF),
            grpc_port=read.number(Env.GRPC_PORT, contract.GRPC_PORT, 0, 0xFFFF),
            health_port=read.number(Env.HEALTH_PORT, contract.HEALTH_PORT, 0, 0xFFFF),
            max_body_bytes=read.number(Env.MAX_BODY_BYTES, DEFAULT_BODY_BYTES, 1024, 1 << 31),
            queue_size=read.number(Env.QUEUE_SIZE, DEFAULT_QUEUE_SIZE, 1, 1 << 16),
            request_timeout=read.seconds(Env.REQUEST_TIMEOUT, DEFAULT_REQUEST_TIMEOUT),
            batch_rows=read.number(Env.BATCH_ROWS, 1, 1, 1 << 16),
            batch_wait=read.seconds(Env.BATCH_WAIT, 0.0, least=0.0),
            drain_seconds=read.seconds(Env.DRAIN_SECONDS, DEFAULT_DRAIN_SECONDS),
            allow_swap=read.choice(Env.ALLOW_SWAP, ("true", "false"), "false") == "true",
            log_level=read.choice(Env.LOG_LEVEL, LOG_LEVELS, "info"),
            termination_log=read.path(Env.TERMINATION_LOG),
        )
        if settings.socket_fd is None and settings.peer_uid is None:
            raise SettingsError(
                f"failed to read the settings: {Env.PEER_UID} is not set",
                hint=f"set the uid of the agent, or {Env.SOCKET_FD} for an inherited socket",
            )
        return settings


def split_devices(text: str) -> tuple[str, ...]:
    """Split a list of devices at blanks, semicolons and, where no name has parts, commas.

    `GPU,CPU` are two devices, `AUTO:GPU,CPU` is one.
    """
    separators = r"[\s;]+" if ":" in text else r"[\s;,]+"
    return tuple(filter(None, re.split(separators, text)))


class _Reader:
    """Typed access to variables; an empty one counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: Env, default: str) -> str:
        return self._environ.get(name) or default

    def path(self, name: Env) -> Path | None:
        text = self.text(name, "")
        return Path(text) if text else None

    def choice(self, name: Env, choices: Sequence[str], default: str) -> str:
        given = self.text(name, default)
        for choice in choices:
            if given.lower() == choice.lower():
                return choice
        raise _refused(name, given, f"one of {', '.join(choices)}")

    def optional_number(self, name: Env) -> int | None:
        text = self.text(name, "")
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,13}", text) or int(text) > _MAX_INTEGER:
            raise _refused(name, text, "a whole number")
        return int(text)

    def number(self, name: Env, default: int, least: int, most: int) -> int:
        value = self.optional_number(name)
        if value is None:
            return default
        if not least <= value <= most:
            raise _refused(name, str(value), f"between {least} and {most}")
        return value

    def seconds(self, name: Env, default: float, least: float = 1e-3) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= 86400:
            raise _refused(name, text, f"a number of seconds from {least:g} to 86400")
        return value


def _refused(name: str, value: str, wanted: str) -> SettingsError:
    return SettingsError(f"failed to read the settings: {name} is {shown(value)}, not {wanted}")
