"""Reading the agents' logs, and what `kubectl get -o json` wrote."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelseal.cli.auditing.keyservice import parse_time
from modelseal.contract import LABEL_MODEL, UNWRAPPED


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What an agent said about one opening."""

    request: str | None
    time: datetime
    model: str
    version: str
    digest: str
    key: str
    key_version: int | None
    host: str


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One pod of the cluster."""

    namespace: str
    name: str
    account: str
    node: str
    created: datetime
    addresses: tuple[str, ...]
    resource: str | None
    """The EncryptedModel that it belongs to, by its label."""


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The pods and the EncryptedModels' model names, by namespace and name."""

    pods: tuple[Pod, ...] = ()
    models: tuple[tuple[str, str, str], ...] = ()
    """Namespace, name, and `spec.model.name`."""


def read_claims(lines: Iterable[str]) -> Iterator[Claim]:
    """Yield the openings that an agent logged; `kubectl logs --prefix` and other lines may be."""
    for line in lines:
        if UNWRAPPED not in line:
            continue
        try:
            entry = json.loads(line[line.index("{") :])
            if entry.get("event") == UNWRAPPED:
                yield _claim(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _claim(entry: dict[str, Any]) -> Claim:
    version, request = entry["keyVersion"], entry["request"]
    return Claim(
        request=request if isinstance(request, str) else None,
        time=parse_time(entry["time"]),
        model=str(entry["model"]),
        version=str(entry["version"]),
        digest=str(entry["digest"]),
        key=str(entry["key"]),
        key_version=version if type(version) is int else None,
        host=str(entry["host"]),
    )


def read_objects(documents: Iterable[Any]) -> Objects:
    """Read lists or single objects; kinds that say nothing here are passed over.

    Raises:
        ValueError: a document is not what `kubectl get -o json` writes.

    """
    pods: list[Pod] = []
    models: list[tuple[str, str, str]] = []
    for each in (item for document in documents for item in _items(document)):
        try:
            if each.get("kind") == "Pod":
                pods.append(_pod(each))
            elif each.get("kind") == "EncryptedModel":
                meta = each["metadata"]
                models.append((meta["namespace"], meta["name"], each["spec"]["model"]["name"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("an object lacks what every object has") from error
    return Objects(pods=tuple(pods), models=tuple(models))


def _items(document: Any) -> list[Any]:
    if not isinstance(document, dict):
        raise ValueError("not an object")
    items = document.get("items", [document])
    if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
        raise ValueError("not a list of objects")
    return items


def _pod(each: dict[str, Any]) -> Pod:
    meta, spec, status = each["metadata"], each.get("spec") or {}, each.get("status") or {}
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        account=spec.get("serviceAccountName") or "default",
        node=spec.get("nodeName") or "",
        created=parse_time(meta["creationTimestamp"]),
        addresses=tuple(str(each["ip"]) for each in status.get("podIPs") or ()),
        resource=(meta.get("labels") or {}).get(LABEL_MODEL),
    )
