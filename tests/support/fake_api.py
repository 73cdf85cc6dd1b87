"""A small API server in memory: enough of Kubernetes to run the operator's loop against faults.

It keeps versions, uids, conflicts, watches, server-side apply (as a merge without ownership) and
garbage collection. It has no schemas and no controllers; those are tested on a real control plane.
"""

import asyncio
import copy
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from modelseal_operator.kinds import KINDS, LEASE, Kind

Json = dict[str, Any]
Spot = tuple[str, str, str]
Fault = Callable[[str, str], web.Response | None]
"""May answer a request, by method and path, in the server's place."""

NAMESPACE = Kind(name="Namespace", group="", version="v1", plural="namespaces", namespaced=False)
CRD = Kind(
    name="CustomResourceDefinition",
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    namespaced=False,
)
CORE_EVENT = Kind(name="Event", group="", version="v1", plural="events")
ALL = (*KINDS.values(), LEASE, NAMESPACE, CRD, CORE_EVENT)


def status(code: int, message: str, *fields: str) -> web.Response:
    """Return an answer of kind Status, with the fields that are its causes."""
    details = {"causes": [{"field": field} for field in fields]}
    body = {"kind": "Status", "code": code, "message": message, "details": details}
    return web.json_response(body, status=code)


class FakeApi:
    """The server; `writes` lists every write but those to leases."""

    def __init__(self) -> None:
        self.objects: dict[Spot, Json] = {}
        self.writes: list[tuple[str, str]] = []
        self.fault: Fault = lambda _method, _path: None
        self.url = ""
        self._versions = itertools.count(100)
        self._history: list[tuple[int, str, Json]] = []
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._watching: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        self.drop_watches()
        if self._runner:
            await self._runner.cleanup()

    def drop_watches(self) -> None:
        """Break every watch, as a load balancer would."""
        for task in self._watching:
            task.cancel()

    def forget_history(self) -> None:
        """Make every earlier resourceVersion too old to watch from (410)."""
        self._history.clear()

    def get(self, kind: str, name: str, namespace: str = "vision") -> Json | None:
        """Return a copy of an object."""
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    def of(self, kind: str) -> list[Json]:
        """Return copies of all objects of a kind."""
        return [copy.deepcopy(v) for (k, _, _), v in sorted(self.objects.items()) if k == kind]

    async def put(self, kind: str, raw: Json) -> Json:
        """Create or replace an object from outside."""
        place = (kind, raw["metadata"].get("namespace", ""), raw["metadata"]["name"])
        return await self._store(place, copy.deepcopy(raw))

    async def remove(
        self, kind: str, name: str, namespace: str = "vision", *, quiet: bool = False
    ) -> None:
        """Delete an object and what it owns; `quiet` tells no watch."""
        gone = self.objects.pop((kind, namespace, name))
        await self._tell("DELETED", kind, gone, quiet=quiet)
        for place, owned in list(self.objects.items()):
            owners = owned["metadata"].get("ownerReferences", [])
            owner = gone["metadata"]["uid"]
            if place in self.objects and owner in [reference["uid"] for reference in owners]:
                await self.remove(place[0], place[2], place[1])

    async def _store(self, place: Spot, raw: Json) -> Json:
        before = self.objects.get(place)
        metadata = raw["metadata"]
        metadata.setdefault(
            "uid", before["metadata"]["uid"] if before else f"uid-{place[2]}-{next(self._versions)}"
        )
        changed = before is None or before.get("spec") != raw.get("spec")
        generation = before["metadata"].get("generation", 0) if before else 0
        metadata["generation"] = generation + 1 if changed else generation
        metadata["resourceVersion"] = str(next(self._versions))
        kind = next(k for k in ALL if k.name == place[0])
        raw["apiVersion"], raw["kind"] = kind.api_version, kind.name
        self.objects[place] = raw
        await self._tell("MODIFIED" if before else "ADDED", place[0], raw)
        return raw

    async def _tell(self, event: str, kind: str, raw: Json, *, quiet: bool = False) -> None:
        version = next(self._versions)
        told = copy.deepcopy(raw)
        if event == "DELETED":
            told["metadata"]["resourceVersion"] = str(version)
        async with self._changed:
            if not quiet:
                entry = {"type": event, "object": told}
                self._history.append((int(told["metadata"]["resourceVersion"]), kind, entry))
            self._changed.notify_all()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        faulty = self.fault(request.method, request.path)
        if faulty is not None:
            return faulty
        found = self._find(request.path)
        if found is None:
            return self._discover(request.path)
        kind, namespace, name, sub = found
        if request.method not in ("GET",) and kind is not LEASE:
            self.writes.append((request.method, request.path))
        if request.method == "GET" and name:
            raw = self.objects.get((kind.name, namespace, name))
            return web.json_response(raw) if raw else status(404, "not found")
        if request.method == "GET" and request.query.get("watch"):
            return await self._watch(request, kind, namespace)
        handlers: dict[str, Callable[..., Awaitable[web.Response]]] = {
            "GET": self._list,
            "POST": self._create,
            "PUT": self._replace,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }
        return await handlers[request.method](request, (kind.name, namespace, name), sub)

    def _find(self, path: str) -> tuple[Kind, str, str, str] | None:
        for kind in ALL:
            root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
            parts = path.removeprefix(root).strip("/").split("/") if path.startswith(root) else []
            namespace = ""
            if parts[:1] == ["namespaces"] and len(parts) > 2:
                namespace, parts = parts[1], parts[2:]
            if parts[:1] == [kind.plural]:
                rest = [*parts[1:], "", ""]
                return kind, namespace, rest[0], rest[1]
        return None

    def _discover(self, path: str) -> web.Response:
        groups = {(k.group, k.version) for k in ALL}
        if path.strip("/") == "apis":
            listed = [
                {"name": g, "preferredVersion": {"version": v}, "versions": [{"version": v}]}
                for g, v in sorted(groups)
                if g
            ]
            return web.json_response({"kind": "APIGroupList", "groups": listed})
        if path.strip("/") == "api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        found = [
            k for k in ALL if path.strip("/") in (f"apis/{k.group}/{k.version}", f"api/{k.version}")
        ]
        found = [k for k in found if bool(k.group) == path.startswith("/apis/")]
        if not found:
            return status(404, "no such path")
        resources = [
            {
                "name": k.plural,
                "singularName": k.name.lower(),
                "kind": k.name,
                "namespaced": k.namespaced,
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
            }
            for k in found
        ]
        return web.json_response({"kind": "APIResourceList", "resources": resources})

    async def _list(self, request: web.Request, place: Spot, _sub: str) -> web.Response:
        items = [
            raw
            for (kind, namespace, _), raw in sorted(self.objects.items())
            if kind == place[0] and place[1] in ("", namespace) and _selected(request, raw)
        ]
        return web.json_response(
            {"items": items, "metadata": {"resourceVersion": str(next(self._versions))}}
        )

    async def _watch(self, request: web.Request, kind: Kind, namespace: str) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        if since and self._history and since < self._history[0][0] - 1_000_000:
            return status(410, "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._watching.add(task)
        try:
            await self._stream(response, kind, namespace, since, request)
        except (asyncio.CancelledError, ConnectionError):
            if request.transport:
                request.transport.abort()
        finally:
            self._watching.discard(task)
        return response

    async def _stream(
        self,
        response: web.StreamResponse,
        kind: Kind,
        namespace: str,
        since: int,
        request: web.Request,
    ) -> None:
        while True:
            for version, name, entry in list(self._history):
                owner = entry["object"]["metadata"].get("namespace", "")
                wanted = name == kind.name and namespace in ("", owner)
                if version > since and wanted and _selected(request, entry["object"]):
                    await response.write(json.dumps(entry).encode() + b"\n")
            since = max([since, *(version for version, _, _ in self._history)])
            async with self._changed:
                while not any(version > since for version, _, _ in self._history):
                    await self._changed.wait()

    async def _create(self, request: web.Request, place: Spot, _sub: str) -> web.Response:
        raw = await request.json()
        place = (place[0], place[1], raw["metadata"]["name"])
        if place in self.objects:
            return status(409, "already exists")
        raw["metadata"]["namespace"] = place[1]
        return web.json_response(await self._store(place, raw), status=201)

    async def _replace(self, request: web.Request, place: Spot, _sub: str) -> web.Response:
        raw = await request.json()
        live = self.objects.get(place)
        version = raw["metadata"].get("resourceVersion")
        if live is None or version not in (None, live["metadata"]["resourceVersion"]):
            return status(409, "the object has been modified")
        return web.json_response(await self._store(place, raw))

    async def _patch(self, request: web.Request, place: Spot, sub: str) -> web.Response:
        change, live = await request.json(), self.objects.get(place)
        uid = change["metadata"].get("uid")
        if live is None:
            return status(404 if "merge" in request.content_type else 409, "no such object")
        if uid not in (None, live["metadata"]["uid"]):
            return status(422, "field is immutable", "metadata.uid")
        if sub == "status":
            change = {"status": change["status"]}
        return web.json_response(await self._store(place, _merge(live, change)))

    async def _delete(self, request: web.Request, place: Spot, _sub: str) -> web.Response:
        live = self.objects.get(place)
        if live is None:
            return status(404, "not found")
        body = await request.json()
        if body["preconditions"]["uid"] != live["metadata"]["uid"]:
            return status(409, "uid mismatch")
        await self.remove(place[0], place[2], place[1])
        return web.json_response({"kind": "Status"})


def _selected(request: web.Request, raw: Json) -> bool:
    wanted = dict(p.split("=", 1) for p in request.query.get("labelSelector", "").split(",") if p)
    labels = raw["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in wanted.items())


def _merge(live: Json, change: Json) -> Json:
    found = copy.deepcopy(live)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = _merge(found[key], value)
        else:
            found[key] = copy.deepcopy(value)
    return found
