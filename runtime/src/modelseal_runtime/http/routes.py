"""Which path means what: a small table, and nothing that looks at a request's content."""

from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from modelseal.errors import shown
from modelseal_runtime.protocol.failure import Failure, Kind


class Action(Enum):
    """What a request asks for."""

    SERVER = "server"
    OPENAPI = "openapi"
    LIVE = "live"
    READY = "ready"
    INDEX = "index"
    MODEL = "model"
    MODEL_READY = "model ready"
    CONFIG = "config"
    STATISTICS = "statistics"
    INFER = "infer"


class Route(NamedTuple):
    """An action, the method it takes, and the model it concerns; an empty version is any."""

    action: Action
    method: str = "GET"
    model: str = ""
    version: str = ""


_FIXED: Final = {
    ("v2",): Route(Action.SERVER),
    ("v2", "openapi.json"): Route(Action.OPENAPI),
    ("v2", "health", "live"): Route(Action.LIVE),
    ("v2", "health", "ready"): Route(Action.READY),
    ("v2", "models", "stats"): Route(Action.STATISTICS),
    ("v2", "repository", "index"): Route(Action.INDEX, "POST"),
}
_OF_MODEL: Final = {
    (): (Action.MODEL, "GET"),
    ("ready",): (Action.MODEL_READY, "GET"),
    ("config",): (Action.CONFIG, "GET"),
    ("stats",): (Action.STATISTICS, "GET"),
    ("infer",): (Action.INFER, "POST"),
}
_UNSUPPORTED: Final = frozenset(
    {"cudasharedmemory", "systemsharedmemory", "logging", "trace", "generate", "generate_stream"}
)


@lru_cache(256)
def route(path: str) -> Route:
    """Return what a path asks for.

    Raises:
        Failure: nothing is there, or another server's extension that this one does not have.

    """
    parts = tuple(path.strip("/").split("/"))
    if parts in _FIXED:
        return _FIXED[parts]
    if parts[:2] == ("v2", "models") and len(parts) > 2:
        return _of_model(path, parts[2], parts[3:])
    if parts[:1] == ("v2",) and len(parts) > 1:
        managed = parts[:3] == ("v2", "repository", "models") and parts[-1] in ("load", "unload")
        if managed or parts[1] in _UNSUPPORTED:
            raise Failure(
                Kind.UNSUPPORTED, f"this server does not have the extension of {shown(path)}"
            )
    raise _nothing(path)


def _of_model(path: str, model: str, rest: tuple[str, ...]) -> Route:
    version = ""
    if rest[:1] == ("versions",) and len(rest) > 1:
        version, rest = rest[1], rest[2:]
    if rest[:1] and rest[0] in _UNSUPPORTED:
        raise Failure(Kind.UNSUPPORTED, f"this server does not have the extension of {shown(path)}")
    if rest not in _OF_MODEL:
        raise _nothing(path)
    action, method = _OF_MODEL[rest]
    return Route(action, method, model, version)


def _nothing(path: str) -> Failure:
    return Failure(Kind.NOT_FOUND, f"there is nothing at {shown(path)}")
