"""Requests to the API server: every one bounded in time, counted, and kept below a rate.

Only the transport of the official client is used (`kubernetes.aio`): its models would parse every
object into classes that nothing here needs.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from modelseal.contract import FIELD_MANAGER
from modelseal.errors import SettingsError
from modelseal_operator.cluster.errors import (
    ClusterError,
    Missing,
    NotLeading,
    Unreachable,
    error_of,
)
from modelseal_operator.kinds import Kind

Json = dict[str, Any]
READ_SECONDS: Final = 15.0
WRITE_SECONDS: Final = 5.0
"""A write ends before the lease that it was begun under can be somebody else's."""
PAGE: Final = 500
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_JSON: Final = "application/json-patch+json"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


async def connect(kubeconfig: str | None) -> ApiClient:
    """Return the transport: from a kubeconfig, or from the pod's own service account."""
    found = Configuration()
    try:
        if kubeconfig:
            load: Any = config.load_kube_config
            await load(config_file=kubeconfig, client_configuration=found)
        else:
            load = config.load_incluster_config
            load(client_configuration=found)
    except config.ConfigException as error:
        raise SettingsError(
            "failed to find the cluster: there is no service account and no kubeconfig",
            hint="run it in a pod, or set MODELSEAL_OPERATOR_KUBECONFIG",
        ) from error
    found.connection_pool_maxsize = 64
    found.client_session_kwargs = {"trust_env": False}
    return ApiClient(configuration=found)


class Bucket:
    """A token bucket: at most `rate` requests a second, with bursts of twice as many."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate: Final = rate
        self._clock: Final = clock
        self._free_at = 0.0

    async def take(self) -> None:
        """Wait until a request may be sent."""
        now = self._clock()
        self._free_at = max(self._free_at, now - 2.0) + 1.0 / self._rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Cluster:
    """The API server. Writes ask `may_write` first, so that a lost leader sends none."""

    def __init__(
        self,
        api: ApiClient,
        bucket: Bucket,
        *,
        may_write: Callable[[], bool],
        count: Callable[[str, str], None],
    ) -> None:
        self._api: Final = api
        self._bucket: Final = bucket
        self._may_write: Final = may_write
        self._count: Final = count

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """Return an object, or None if it does not exist."""
        try:
            return await self._send("GET", kind.path(namespace, name), f"get {kind.name}")
        except Missing:
            return None

    async def create(self, kind: Kind, body: Json) -> Json:
        """Create an object; Conflict if it exists."""
        path = kind.path(body["metadata"].get("namespace"))
        query = {"fieldManager": FIELD_MANAGER}
        return await self._send("POST", path, f"create {kind.name}", query=query, body=body)

    async def apply(self, kind: Kind, body: Json, uid: str) -> Json:
        """Server-side apply to the object that was seen; Conflict if it is another by now."""
        metadata = body["metadata"]
        seen = {**body, "metadata": {**metadata, "uid": uid}}
        return await self._send(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"]),
            f"apply {kind.name}",
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=seen,
            content_type=_APPLY,
        )

    async def own(self, kind: Kind, live: Mapping[str, Any], managers: list[Json]) -> Json:
        """Write who manages which fields of exactly the version that was read."""
        metadata = live["metadata"]
        version = metadata["resourceVersion"]
        change = [
            {"op": "replace", "path": "/metadata/managedFields", "value": managers},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._send("PATCH", path, f"own {kind.name}", body=change, content_type=_JSON)

    async def merge(self, kind: Kind, raw: Mapping[str, Any], change: Json, sub: str = "") -> Json:
        """Merge-patch the object that was seen; Conflict if it is another by now."""
        metadata = raw["metadata"]
        body = {"metadata": {"uid": metadata["uid"], **change.pop("metadata", {})}, **change}
        return await self._send(
            "PATCH",
            kind.path(metadata.get("namespace"), metadata["name"], sub),
            f"patch {kind.name} {sub}".strip(),
            query={"fieldManager": FIELD_MANAGER},
            body=body,
            content_type=_MERGE,
        )

    async def replace(self, kind: Kind, body: Json) -> Json:
        """Replace exactly the version that was read; Conflict if it has changed."""
        metadata = body["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._send("PUT", path, f"replace {kind.name}", body=body)

    async def delete(self, kind: Kind, raw: Mapping[str, Any]) -> None:
        """Delete exactly the object that was seen; nothing happens if it is gone."""
        metadata = raw["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": metadata["uid"]},
        }
        path = kind.path(metadata["namespace"], metadata["name"])
        try:
            await self._send("DELETE", path, f"delete {kind.name}", body=body)
        except Missing:
            return

    async def list_metadata(self, kind: Kind, namespace: str | None) -> AsyncIterator[Json]:
        """Yield the metadata of all objects that a watch of this kind would see."""
        query = {"limit": str(PAGE)}
        if kind.selector:
            query["labelSelector"] = kind.selector
        while True:
            path = kind.path(namespace)
            page = await self._send(
                "GET", path, f"list {kind.plural}", query=query, accept=_METADATA
            )
            for item in page.get("items") or ():  # an empty list is null
                yield item
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return
            query["continue"] = more

    async def served(self, group: str, version: str) -> frozenset[str]:
        """Return the plurals that the API server serves of a group."""
        try:
            found = await self._send("GET", f"/apis/{group}/{version}", "discover the resources")
        except Missing:
            return frozenset()
        return frozenset(resource["name"] for resource in found.get("resources") or ())

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def _send(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | list[Json] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Json:
        await self._bucket.take()
        if method != "GET" and not self._may_write():
            raise NotLeading(f"failed to {what}: this replica is not the leader")
        bound = READ_SECONDS if method == "GET" else WRITE_SECONDS
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        request = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            status, data, wait = await self._exchange(request, bound)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, "unreachable")
            raise Unreachable(f"failed to {what}: {type(error).__name__}") from None
        self._count(method, str(status))
        if status >= 300:
            raise error_of(status, data, what, wait)
        return _parsed(data, what)

    async def _exchange(
        self, request: tuple[Any, ...], bound: float
    ) -> tuple[int, bytes, str | None]:
        method, url, headers, body, _ = request
        answer = await self._api.call_api(
            method, url, headers, body, _request_timeout=aiohttp.ClientTimeout(bound)
        )
        data = await answer.read()  # type: ignore[no-untyped-call]
        return answer.status, data, answer.getheader("Retry-After")  # type: ignore[no-untyped-call]


def _parsed(data: bytes, what: str) -> Json:
    try:
        found = json.loads(data)
    except ValueError:
        raise ClusterError(f"failed to {what}: the answer is not JSON") from None
    if not isinstance(found, dict):
        raise ClusterError(f"failed to {what}: the answer is not an object")
    return found
