"""The volumes of a pod and where each of its two containers sees them.

A container sees nothing that it does not need: the token, the provider's settings and the source
are the agent's alone; the runtime sees the socket (or the delivered files), read-only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelseal.contract import (
    DELIVERY_DIRECTORY,
    PROVIDER_DIRECTORY,
    SOCKET_DIRECTORY,
    SOURCE_DIRECTORY,
    TOKEN_PATH,
    TOKEN_SECONDS,
    Delivery,
)
from modelseal_operator.children.common import Context, Json
from modelseal_operator.quantities import format_bytes, round_up
from modelseal_operator.resource import Claim, Image, Web

SOURCE_CA_DIRECTORY: Final = "/etc/modelseal/source"
SOURCE_TOKEN_DIRECTORY: Final = "/var/run/secrets/modelseal-source"  # noqa: S105 (a path)
_TOKEN_DIRECTORY: Final = TOKEN_PATH.rpartition("/")[0]
_ROOM: Final = 1 << 20
"""Beside the files themselves a delivery needs room for its directories."""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A volume and its mounts; a container without a path does not see it."""

    name: str
    content: Json
    agent: str | None = None
    agent_writes: bool = False
    runtime: str | None = None


def pod_volumes(context: Context) -> tuple[Volume, ...]:
    """Return the volumes of a model's pods."""
    provider = {"configMap": {"name": provider_name(context.model.name)}}
    return (
        _delivery(context),
        Volume(name="token", content=_token(context), agent=_TOKEN_DIRECTORY),
        Volume(name="provider", content=provider, agent=PROVIDER_DIRECTORY),
        *_source(context),
    )


def provider_name(name: str) -> str:
    """Return the name of the ConfigMap with the provider's settings."""
    return f"{name}-provider"


def mounts(volumes: Sequence[Volume], container: str) -> list[Json]:
    """Return the volumeMounts of one of the two containers."""
    found = []
    for volume in volumes:
        path = volume.agent if container == "agent" else volume.runtime
        writes = container == "agent" and volume.agent_writes
        if path is not None:
            read_only = {} if writes else {"readOnly": True}
            found.append({"name": volume.name, "mountPath": path, **read_only})
    return found


def source_address(context: Context) -> str:
    """Return the source as the agent understands it."""
    source = context.model.source
    if isinstance(source, Web):
        return source.url
    return f"{SOURCE_DIRECTORY}/{source.path}" if source.path else SOURCE_DIRECTORY


def _delivery(context: Context) -> Volume:
    if context.model.delivery is Delivery.TMPFS:
        room = round_up(context.model.model_size + _ROOM)
        return Volume(
            name="delivery",
            content={"emptyDir": {"medium": "Memory", "sizeLimit": format_bytes(room)}},
            agent=DELIVERY_DIRECTORY,
            agent_writes=True,
            runtime=DELIVERY_DIRECTORY,
        )
    return Volume(
        name="socket",
        content={"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        agent=SOCKET_DIRECTORY,
        agent_writes=True,
        runtime=SOCKET_DIRECTORY,
    )


def _token(context: Context) -> Json:
    token = {
        "audience": context.resolved.provider.vault.audience,
        "expirationSeconds": TOKEN_SECONDS,
        "path": TOKEN_PATH.rpartition("/")[2],
    }
    # 0444: without fsGroup the file is root's, and the agent is not
    return {"projected": {"defaultMode": 0o444, "sources": [{"serviceAccountToken": token}]}}


def _source(context: Context) -> tuple[Volume, ...]:
    source = context.model.source
    match source:
        case Claim():
            content: Json = {"persistentVolumeClaim": {"claimName": source.name, "readOnly": True}}
        case Image():
            image = {"reference": source.reference, "pullPolicy": source.pull_policy}
            content = {"image": image}
        case Web():
            return _web(source)
    return (Volume(name="source", content=content, agent=SOURCE_DIRECTORY),)


def _web(source: Web) -> tuple[Volume, ...]:
    found = []
    if source.ca:
        item = {"key": source.ca.key, "path": "ca.crt"}
        content: Json = {"configMap": {"name": source.ca.name, "items": [item]}}
        found.append(Volume(name="source-ca", content=content, agent=SOURCE_CA_DIRECTORY))
    if source.token:
        item = {"key": source.token.key, "path": "token"}
        content = {"secret": {"secretName": source.token.name, "items": [item]}}
        found.append(Volume(name="source-token", content=content, agent=SOURCE_TOKEN_DIRECTORY))
    return tuple(found)
