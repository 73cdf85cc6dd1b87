"""How `modelseal serve` sets up its two programs: what each is told, and what neither is.

The agent's environment names files; a passphrase or token lies in a memfd that only the agent
inherits. The runtime's environment names ports and devices, and nothing about keys.
"""

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from modelseal import opening
from modelseal.cli import console
from modelseal.cli.children import base_environment, require_programs, started
from modelseal.cli.environment import agent_key, open_key
from modelseal.cli.inherited import Inherited
from modelseal.cli.source import open_sealed
from modelseal.cli.supervision import Supervisor
from modelseal.cli.trust import trust
from modelseal.contract import Env
from modelseal.errors import PortInUse, SettingsError, shown

LOCAL: Final = "127.0.0.1"
DRAIN_SECONDS: Final = 10
"""Less than a child may take to end."""
_TAKEN: Final = (errno.EADDRINUSE, errno.EACCES)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asked for; the fields are the command's options."""

    sealed: str
    model: str
    key: str
    signer: list[str] | None
    digest: str | None
    min_sequence: int | None
    device: str
    device_property: list[str] | None
    name: str | None
    host: str
    http_port: int
    grpc_port: int
    health_port: int
    lease_interval: float
    max_stale: float
    allow_swap: bool
    log_level: str | None
    source_ca: Path | None
    source_token_file: Path | None
    json: bool

    @property
    def served_name(self) -> str:
        """The model's name on the wire."""
        return self.name or self.model.rpartition("/")[2]

    @property
    def place(self) -> str:
        """The source, as an address or an absolute path."""
        return self.sealed if "://" in self.sealed else str(Path(self.sealed).resolve())


def serve(wish: Wish) -> None:
    """Serve until somebody interrupts, or the right to the model ends.

    Raises:
        ModelsealError: the model cannot be served, or was unloaded; the error says why.

    """
    require_programs()
    require_properties(wish.device_property or [])
    for port in (wish.http_port, wish.grpc_port, wish.health_port):
        require_free(wish.host, port)
    demands = trust(
        wish.signer, model=wish.model, digest=wish.digest, min_sequence=wish.min_sequence
    )
    check_manifest(wish, demands)
    with Inherited() as inherited:
        agent = agent_environment(wish, demands) | agent_key(wish.key, inherited)
        with started(
            agent=agent,
            runtime=runtime_environment(wish),
            descriptors=inherited.descriptors,
            show_logs=wish.log_level is not None,
        ) as (first, second):
            _run(wish, Supervisor(agent=first, runtime=second))


def _run(wish: Wish, supervisor: Supervisor) -> None:
    try:
        report = supervisor.wait_until_served()
        _announce(wish, supervisor.endpoints(wish.host), report)
        supervisor.watch()
    except KeyboardInterrupt:
        console.note("stopping")


def _announce(wish: Wish, endpoints: Mapping[str, str], report: Mapping[str, Any]) -> None:
    """Say where the model is served, once it is."""
    facts = {
        "model": wish.served_name,
        "digest": str(report.get("digest")),
        "device": str(report.get("runtime", {}).get("device")),
        **endpoints,
    }
    if wish.json:
        console.show_json(facts)
        return
    console.show_fields(facts)
    console.note("serving; Ctrl-C ends it")


def require_properties(words: Sequence[str]) -> None:
    """Say before anything is started that a device's property is not an allowed one.

    Raises:
        SettingsError: a word is not `DEVICE.NAME=VALUE`, or not an allowed one.

    """
    if words:
        from modelseal.engine.configuration import read_by_device  # noqa: PLC0415 - loads OpenVINO

        read_by_device(words)


def require_free(host: str, port: int) -> None:
    """Say before anything is started that a port is taken.

    Raises:
        PortInUse: somebody listens there.
        SettingsError: this machine has no such address.

    """
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        kind = PortInUse if error.errno in _TAKEN else SettingsError
        raise kind(f"failed to listen on {shown(host)}:{port}: {error.strerror}") from error


def check_manifest(wish: Wish, demands: opening.Trust) -> None:
    """Check signature, policy and recipient here as well, where messages can name what differs.

    The agent checks everything itself; nothing that was read here is used further.
    """
    with open_sealed(
        wish.sealed, ca_file=wish.source_ca, token_file=wish.source_token_file
    ) as source:
        seal = opening.read_manifest(source, demands, datetime.now(UTC))
    opening.choose_recipient(seal, open_key(wish.key))


def agent_environment(wish: Wish, demands: opening.Trust) -> dict[str, str]:
    """Return what the agent is told, but for the key."""
    return base_environment(os.environ) | _settings(
        {
            Env.MODEL: wish.model,
            Env.SOURCE: wish.place,
            Env.SOURCE_CA_FILE: wish.source_ca,
            Env.SOURCE_TOKEN_FILE: wish.source_token_file,
            Env.SIGNERS: " ".join(signer.uri for signer in demands.signers),
            Env.ALLOW_UNSIGNED: demands.allow_unsigned,
            Env.DIGEST: wish.digest,
            Env.MIN_SEQUENCE: wish.min_sequence,
            Env.LEASE_INTERVAL: wish.lease_interval,
            Env.MAX_STALE: max(wish.max_stale, wish.lease_interval),
            Env.REPORT_HOST: LOCAL,
            Env.REPORT_PORT: 0,
            Env.TERMINATION_LOG: os.devnull,
            Env.ALLOW_SWAP: wish.allow_swap,
            Env.LOG_LEVEL: wish.log_level,
        }
    )


def runtime_environment(wish: Wish) -> dict[str, str]:
    """Return what the runtime is told: nothing about keys or sources."""
    return base_environment(os.environ) | _settings(
        {
            Env.MODEL_NAME: wish.served_name,
            Env.DEVICES: wish.device,
            Env.DEVICE_PROPERTIES: " ".join(wish.device_property or []),
            Env.HOST: wish.host,
            Env.REST_PORT: wish.http_port,
            Env.GRPC_PORT: wish.grpc_port,
            Env.HEALTH_PORT: wish.health_port,
            Env.DRAIN_SECONDS: DRAIN_SECONDS,
            Env.ALLOW_SWAP: wish.allow_swap,
            Env.LOG_LEVEL: wish.log_level,
        }
    )


def _settings(values: Mapping[Env, object]) -> dict[str, str]:
    """Return the variables that have a value, as the programs read them."""
    texts = {True: "true", False: "false"}
    return {
        str(name): texts[value] if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value is not None and value != ""
    }
