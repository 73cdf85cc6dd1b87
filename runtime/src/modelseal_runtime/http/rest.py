"""The Open Inference Protocol over REST: a raw ASGI application with a small table of routes."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from modelseal.errors import shown
from modelseal_runtime import description
from modelseal_runtime.budget import Budget
from modelseal_runtime.http.messages import (
    Header,
    Receive,
    Reply,
    Scope,
    Send,
    content_length,
    decompress,
    failure_reply,
    json_reply,
    read_body,
    send_reply,
    whole_number,
)
from modelseal_runtime.logs import log
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.protocol import rest
from modelseal_runtime.protocol.failure import Failure, Kind, as_failure, invalid
from modelseal_runtime.scheduler import Scheduler
from modelseal_runtime.serving import Phase, Served, Serving

_MAX_INDEX_BODY: Final = 4096
Body = bytes | bytearray


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request: its method, the parts of its path, its headers and its body to come."""

    method: str
    parts: Sequence[str]
    headers: dict[bytes, bytes]
    receive: Receive


Handler = Callable[[Request], Awaitable[Reply]]


class RestApplication:
    """Answers `/v2/...`."""

    def __init__(
        self,
        serving: Serving,
        scheduler: Scheduler,
        metrics: Metrics,
        budget: Budget,
        *,
        max_body_bytes: int,
        request_timeout: float,
    ) -> None:
        self._serving: Final = serving
        self._scheduler: Final = scheduler
        self._metrics: Final = metrics
        self._budget: Final = budget
        self._limit: Final = max_body_bytes
        self._seconds: Final = request_timeout
        self._fixed: Final[Mapping[tuple[str, ...], tuple[str, Handler]]] = {
            ("v2",): ("GET", self._server),
            ("v2", "health", "live"): ("GET", self._live),
            ("v2", "health", "ready"): ("GET", self._ready),
            ("v2", "repository", "index"): ("POST", self._index),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing that it does ends the server."""
        request = Request(
            method=scope["method"],
            parts=scope["path"].strip("/").split("/"),
            headers=dict(scope["headers"]),
            receive=receive,
        )
        try:
            reply = await self._route(request)
        except Exception as error:  # whatever a client sends, the server goes on
            failure = as_failure(error)
            if failure.kind is Kind.INTERNAL:
                log(logging.ERROR, "a request failed", failure=error, protocol="rest")
            allow = _allowed(request) if failure.kind is Kind.METHOD else ()
            reply = failure_reply(failure, *allow)
        await send_reply(send, reply, close=self._serving.phase in (Phase.DRAINING, Phase.ENDED))

    async def _route(self, request: Request) -> Reply:
        parts = tuple(request.parts)
        if parts in self._fixed:
            method, handler = self._fixed[parts]
            _require(request, method)
            return await handler(request)
        match parts:
            case ("v2", "models", name, "infer") | ("v2", "models", name, "versions", _, "infer"):
                return await self._counted(request, name, _version(parts))
            case ("v2", "models", name, "ready") | ("v2", "models", name, "versions", _, "ready"):
                _require(request, "GET")
                return self._model_ready(name, _version(parts))
            case ("v2", "models", name) | ("v2", "models", name, "versions", _):
                _require(request, "GET")
                return json_reply(description.model(self._serving.find(name, _version(parts))))
        raise Failure(Kind.NOT_FOUND, f"there is nothing at {shown('/' + '/'.join(parts))}")

    async def _server(self, _: Request) -> Reply:
        return json_reply(description.server())

    async def _live(self, _: Request) -> Reply:
        return json_reply({"live": True})

    async def _ready(self, _: Request) -> Reply:
        ready = self._serving.ready
        return json_reply({"ready": ready}, 200 if ready else 503)

    async def _index(self, request: Request) -> Reply:
        with self._budget.hold() as hold:
            body = await read_body(request.receive, _MAX_INDEX_BODY, self._seconds, hold)
        try:
            wish = orjson.loads(body) if body else {}
        except orjson.JSONDecodeError:
            raise invalid("the body is not JSON") from None
        ready_only = wish.get("ready", False) if isinstance(wish, dict) else None
        if not isinstance(ready_only, bool):
            raise invalid('the body is not an object of at most {"ready": true or false}')
        return json_reply(description.index(self._serving, ready_only=ready_only))

    def _model_ready(self, name: str, version: str) -> Reply:
        served = self._serving.find(name, version)
        ready = self._serving.ready
        return json_reply({"name": served.identity.name, "ready": ready}, 200 if ready else 503)

    async def _counted(self, request: Request, name: str, version: str) -> Reply:
        started = time.perf_counter()
        try:
            _require(request, "POST")
            received, reply = await self._infer(request, self._serving.find(name, version))
        except Exception as error:
            self._metrics.failure("rest", as_failure(error).kind)
            raise
        self._metrics.success(
            "rest",
            seconds=time.perf_counter() - started,
            received=received,
            sent=len(reply.body),
        )
        return reply

    async def _infer(self, request: Request, served: Served) -> tuple[int, Reply]:
        headers = request.headers
        length = content_length(headers, self._limit)
        split = headers.get(rest.HEADER_LENGTH)
        header_length = None if split is None else whole_number(rest.HEADER_NAME, split)
        encoding = headers.get(b"content-encoding", b"")
        with self._budget.hold() as hold:
            hold.grow(self._limit if encoding else length or 0)
            body = await read_body(request.receive, self._limit, self._seconds, hold)

            def work() -> rest.Answer:
                plain = decompress(body, encoding, self._limit) if encoding else body
                return answer(served, plain, header_length)

            result = await self._scheduler.run(work, self._seconds)
        if result.header_length is None:
            return len(body), Reply(body=result.body)
        header = (rest.HEADER_LENGTH, b"%d" % result.header_length)
        return len(body), Reply(body=result.body, content_type=rest.BINARY_TYPE, headers=(header,))


def answer(served: Served, body: Body, header_length: int | None) -> rest.Answer:
    """Run one inference request from its body to the body of its answer."""
    query = rest.parse(memoryview(body), header_length, served.interface)
    return served.model.run(
        query.inputs, lambda outputs: rest.encode(served.identity, query, outputs)
    )


def _version(parts: Sequence[str]) -> str:
    return parts[4] if len(parts) > 4 else ""


def _require(request: Request, method: str) -> None:
    if request.method not in (method, "HEAD" if method == "GET" else method):
        raise Failure(Kind.METHOD, f"the method {shown(request.method)} is not allowed here")


def _allowed(request: Request) -> tuple[Header, ...]:
    posted = request.parts[-1] in ("infer", "index")
    return ((b"allow", b"POST" if posted else b"GET, HEAD"),)
