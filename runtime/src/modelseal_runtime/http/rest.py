"""The Open Inference Protocol over REST."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from typing import Any, Final

import orjson

from modelseal.contract import VERSION
from modelseal.errors import shown
from modelseal_runtime import description
from modelseal_runtime.batching import Inference, Outputs
from modelseal_runtime.http.messages import (
    COMPRESS_FROM,
    Body,
    Head,
    Header,
    Reply,
    compress,
    content_length,
    decompress,
    failure_reply,
    json_reply,
    known_encoding,
    wanted_encoding,
    whole_number,
)
from modelseal_runtime.http.routes import Action, Route, route
from modelseal_runtime.logs import Diary
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.protocol import rest
from modelseal_runtime.protocol.failure import Failure, Kind, as_failure, invalid
from modelseal_runtime.protocol.query import Query
from modelseal_runtime.scheduler import Scheduler
from modelseal_runtime.serving import Serving
from modelseal_runtime.tracing import Trace, trace_of

DEADLINES: Final = ("X-Request-Timeout-Ms", "X-Envoy-Expected-Rq-Timeout-Ms")
"""Headers with the milliseconds after which nobody waits for an answer any more."""
_DEADLINES: Final = tuple((name, name.lower().encode()) for name in DEADLINES)
_SMALL_BODY: Final = 4096
_PROTOCOL: Final = "rest"

Respond = Callable[[Reply], None]


class RestApplication:
    """Answers `/v2/...`."""

    def __init__(
        self,
        serving: Serving,
        scheduler: Scheduler,
        metrics: Metrics,
        *,
        max_body_bytes: int,
        request_timeout: float,
    ) -> None:
        self._serving: Final = serving
        self._scheduler: Final = scheduler
        self._metrics: Final = metrics
        self._limit: Final = max_body_bytes
        self._seconds: Final = request_timeout
        self._diary: Final = Diary(_PROTOCOL)
        self._openapi: Final = _openapi()
        self._simple: Final[Mapping[Action, Callable[[Route, Body], Reply]]] = {
            Action.SERVER: lambda _, __: json_reply(description.server()),
            Action.OPENAPI: lambda _, __: Reply(body=self._openapi),
            Action.LIVE: lambda _, __: json_reply({"live": True}),
            Action.READY: self._ready,
            Action.INDEX: self._index,
            Action.MODEL: self._model,
            Action.MODEL_READY: self._model_ready,
            Action.CONFIG: self._config,
            Action.STATISTICS: self._statistics,
        }

    def admit(self, head: Head) -> int:
        """Return how long the body may be.

        Raises:
            Failure: nothing is there, or the method, the length or the encoding is not allowed.

        """
        where = route(head.path)
        if head.method != where.method and (head.method, where.method) != ("HEAD", "GET"):
            raise Failure(Kind.METHOD, f"the method {shown(head.method)} is not allowed here")
        if where.action is not Action.INFER:
            content_length(head.headers, _SMALL_BODY)
            return _SMALL_BODY
        known_encoding(head.headers.get(b"content-encoding", b""))
        content_length(head.headers, self._limit)
        self._serving.find(where.model, where.version)
        return self._limit

    def answer(self, head: Head, body: Body, respond: Respond) -> Callable[[], None] | None:
        """Answer one request.

        Raises:
            Failure: it is refused.

        """
        where = route(head.path)
        if where.action is Action.INFER:
            return self._infer(where, head, body, respond)
        respond(self._simple[where.action](where, body))
        return None

    def refused(self, head: Head | None, failure: Failure) -> tuple[Header, ...]:
        """Count and log a request that was refused; return further headers of its answer."""
        trace = trace_of({} if head is None else head.headers)
        self._diary.refused(failure, trace)
        if head is not None and head.path.endswith("/infer"):
            self._metrics.failure(_PROTOCOL, failure.kind)
        if failure.kind is Kind.METHOD and head is not None:
            allowed = b"POST" if route(head.path).method == "POST" else b"GET, HEAD"
            return (*_headers(trace), (b"allow", allowed))
        return _headers(trace)

    def _infer(self, where: Route, head: Head, body: Body, respond: Respond) -> Callable[[], None]:
        started = time.perf_counter()
        headers = head.headers
        served = self._serving.find(where.model, where.version)
        split = headers.get(rest.HEADER_LENGTH)
        header_length = None if split is None else whole_number(rest.HEADER_NAME, split)
        packed = known_encoding(headers.get(b"content-encoding", b""))
        wanted = wanted_encoding(headers.get(b"accept-encoding", b""))
        size = len(body)

        def parse() -> Query:
            plain = decompress(body, self._limit) if packed else body
            return rest.parse(memoryview(plain), header_length, served.interface)

        def encode(query: Query, outputs: Outputs) -> tuple[rest.Answer, bytes]:
            return encoded(rest.encode(served.identity, query, outputs), wanted)

        def settle(result: Any, error: BaseException | None) -> None:
            if error is not None:
                failure = as_failure(error)
                respond(failure_reply(failure, *self.refused(head, failure)))
                return
            found, encoding = result
            trace = trace_of(headers)
            seconds = time.perf_counter() - started
            self._metrics.success(_PROTOCOL, seconds=seconds, received=size, sent=len(found.body))
            self._diary.answered(trace, seconds)
            respond(_reply(found, encoding, trace))

        patience = self._patience(headers)
        job = self._scheduler.submit(Inference(served, parse, encode), patience, settle, size=size)
        return partial(self._gone, job)

    def _gone(self, job: Any) -> None:
        self._scheduler.abandon(job)
        self._metrics.failure(_PROTOCOL, Kind.CANCELLED)

    def _patience(self, headers: Mapping[bytes, bytes]) -> float:
        """Return the seconds after which nobody waits for the answer any more."""
        seconds = self._seconds
        for name, key in _DEADLINES:
            value = headers.get(key)
            if value is not None:
                seconds = min(seconds, whole_number(name, value) / 1000)
        return seconds

    def _ready(self, _: Route, __: Body) -> Reply:
        ready = self._serving.ready
        return json_reply({"ready": ready}, 200 if ready else 503)

    def _index(self, _: Route, body: Body) -> Reply:
        try:
            wish = orjson.loads(body) if body else {}
        except orjson.JSONDecodeError:
            raise invalid("the body is not JSON") from None
        ready_only = wish.get("ready", False) if isinstance(wish, dict) else None
        if not isinstance(ready_only, bool):
            raise invalid('the body is not an object of at most {"ready": true or false}')
        return json_reply(description.index(self._serving, ready_only=ready_only))

    def _model(self, where: Route, _: Body) -> Reply:
        return json_reply(description.model(self._serving.find(where.model, where.version)))

    def _model_ready(self, where: Route, _: Body) -> Reply:
        served = self._serving.find(where.model, where.version)
        ready = self._serving.ready
        return json_reply({"name": served.identity.name, "ready": ready}, 200 if ready else 503)

    def _config(self, where: Route, _: Body) -> Reply:
        return json_reply(description.config(self._serving.find(where.model, where.version)))

    def _statistics(self, where: Route, _: Body) -> Reply:
        name = where.model or self._serving.name
        served = self._serving.find(name, where.version)
        return json_reply(description.statistics(served, self._metrics.totals()))


def encoded(found: rest.Answer, wanted: bytes) -> tuple[rest.Answer, bytes]:
    """Compress an answer where its client asked for that and it is worth it."""
    if not wanted or len(found.body) < COMPRESS_FROM:
        return found, b""
    return rest.Answer(compress(found.body, wanted), found.header_length), wanted


def _reply(found: rest.Answer, encoding: bytes, trace: Trace) -> Reply:
    headers = _headers(trace)
    if encoding:
        headers = (*headers, (b"content-encoding", encoding), (b"vary", b"accept-encoding"))
    if found.header_length is None:
        return Reply(200, found.body, rest.JSON_TYPE, headers)
    header = (rest.HEADER_LENGTH, b"%d" % found.header_length)
    return Reply(200, found.body, rest.BINARY_TYPE, (*headers, header))


def _headers(trace: Trace) -> tuple[Header, ...]:
    return tuple((name.encode(), value.encode()) for name, value in trace.answer)


def _openapi() -> bytes:
    document = orjson.loads(files(__package__).joinpath("openapi.json").read_bytes())
    document["info"]["version"] = VERSION
    return orjson.dumps(document)
