"""What the operator asked of the API server, as the API server's own audit log tells it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

READS: Final = frozenset({"get", "list", "watch"})

CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"
DECISION: Final = "authorization.k8s.io/decision"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request and its answer."""

    user: str
    credential: str
    """Which token it came with; every replica of the tests has a token of its own."""
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    code: int
    forbidden: bool
    """Whether RBAC refused it."""
    time: str
    """When the API server had it, in UTC with microseconds: the order of texts is that of times."""

    @property
    def write(self) -> bool:
        """Whether it asks for a change."""
        return self.verb not in READS


class Audit:
    """The log from a moment on; requests without a resource (discovery) are left out."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._start = path.stat().st_size

    def requests(self) -> list[Request]:
        """Return every request since this object was made."""
        with self._path.open("rb") as log:
            log.seek(self._start)
            lines = log.read().split(b"\n")
        return list(_parsed(lines[:-1]))  # the last one may not be whole yet

    def writes(self, namespace: str | None = None) -> list[Request]:
        """Return what was written, without the leases of the election."""
        return [
            request
            for request in self.requests()
            if request.write
            and request.resource != "leases"
            and namespace in (None, request.namespace)
        ]


def _parsed(lines: list[bytes]) -> Iterator[Request]:
    for line in lines:
        raw: dict[str, Any] = json.loads(line)
        place = raw.get("objectRef")
        if place is None:
            continue
        sub = f"/{place['subresource']}" if "subresource" in place else ""
        yield Request(
            user=raw["user"]["username"],
            credential=raw["user"].get("extra", {}).get(CREDENTIAL, [""])[0],
            verb=raw["verb"],
            group=place.get("apiGroup", ""),
            resource=place["resource"] + sub,
            namespace=place.get("namespace", ""),
            name=place.get("name", ""),
            code=raw.get("responseStatus", {}).get("code", 0),
            forbidden=raw.get("annotations", {}).get(DECISION) == "forbid",
            time=raw["requestReceivedTimestamp"],
        )
