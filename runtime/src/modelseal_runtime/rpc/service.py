"""The Open Inference Protocol over gRPC.

Messages of inferences stay bytes until a worker has them: parsing and serialising happen there, not
on the event loop. Of what Triton adds to the protocol, the parts that only tell something are
answered; the others are answered UNIMPLEMENTED by gRPC itself.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message

from modelseal_runtime import description
from modelseal_runtime.batching import Inference, Outputs
from modelseal_runtime.budget import Budget
from modelseal_runtime.http.messages import RETRY_SECONDS
from modelseal_runtime.logs import Diary
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.proto import open_inference_pb2 as pb
from modelseal_runtime.protocol import rpc
from modelseal_runtime.protocol.crowding import require_few_fields
from modelseal_runtime.protocol.failure import Failure, Kind, as_failure, invalid
from modelseal_runtime.protocol.query import Query
from modelseal_runtime.scheduler import Scheduler
from modelseal_runtime.serving import Serving
from modelseal_runtime.tracing import Trace, trace_of

SERVICE: Final = "inference.GRPCInferenceService"
_PROTOCOL: Final = "grpc"
Context = Any
Method = Callable[[Any, Context], Awaitable[Any]]


class InferenceService:
    """The methods of `inference.GRPCInferenceService`."""

    def __init__(
        self,
        serving: Serving,
        scheduler: Scheduler,
        metrics: Metrics,
        budget: Budget,
        *,
        request_timeout: float,
    ) -> None:
        self._serving: Final = serving
        self._scheduler: Final = scheduler
        self._metrics: Final = metrics
        self._budget: Final = budget
        self._seconds: Final = request_timeout
        self._diary: Final = Diary(_PROTOCOL)

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """Return what a server takes to answer the service's methods."""
        parsed: dict[str, tuple[Method, type[Message]]] = {
            "ServerLive": (self._server_live, pb.ServerLiveRequest),
            "ServerReady": (self._server_ready, pb.ServerReadyRequest),
            "ModelReady": (self._model_ready, pb.ModelReadyRequest),
            "ServerMetadata": (self._server_metadata, pb.ServerMetadataRequest),
            "ModelMetadata": (self._model_metadata, pb.ModelMetadataRequest),
            "ModelConfig": (self._model_config, pb.ModelConfigRequest),
            "ModelStatistics": (self._model_statistics, pb.ModelStatisticsRequest),
            "RepositoryIndex": (self._repository_index, pb.RepositoryIndexRequest),
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(method), kind.FromString, lambda answer: answer.SerializeToString()
            )
            for name, (method, kind) in parsed.items()
        }
        methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(
            self._guarded(self._model_infer)
        )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _server_live(self, _: Any, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, _: Any, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._serving.ready)

    async def _model_ready(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        try:
            self._serving.find(request.name, request.version)
        except Failure as failure:
            if failure.kind is not Kind.UNAVAILABLE:
                raise
        return pb.ModelReadyResponse(ready=self._serving.ready)

    async def _server_metadata(self, _: Any, context: Context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**description.server())

    async def _model_metadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        served = self._serving.find(request.name, request.version)
        return rpc.metadata(served.identity, served.interface, description.PLATFORM)

    async def _model_config(
        self, request: pb.ModelConfigRequest, context: Context
    ) -> pb.ModelConfigResponse:
        config = description.config(self._serving.find(request.name, request.version))
        return ParseDict({"config": config}, pb.ModelConfigResponse())

    async def _model_statistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        served = self._serving.find(request.name or self._serving.name, request.version)
        statistics = description.statistics(served, self._metrics.totals())
        return ParseDict(statistics, pb.ModelStatisticsResponse(), ignore_unknown_fields=True)

    async def _repository_index(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        models = description.index(self._serving, ready_only=request.ready)
        return ParseDict({"models": models}, pb.RepositoryIndexResponse())

    async def _model_infer(self, request: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        left = context.time_remaining()
        seconds = self._seconds if left is None else min(left, self._seconds)
        hold = self._budget.hold()
        try:
            hold.grow(len(request))
            answer: bytes = await self._scheduler.run(
                self._inference(request), seconds, size=len(request)
            )
            if len(answer) > len(request):
                hold.grow(len(answer))  # until its client has made room for it
            context.add_done_callback(lambda _: hold.release())
        except BaseException as error:
            hold.release()
            gone = not isinstance(error, Exception)  # the client has cancelled the call
            self._metrics.failure(_PROTOCOL, Kind.CANCELLED if gone else as_failure(error).kind)
            raise
        spent = time.perf_counter() - started
        self._metrics.success(_PROTOCOL, seconds=spent, received=len(request), sent=len(answer))
        trace = _trace(context)
        context.set_trailing_metadata(trace.answer)
        self._diary.answered(trace, spent)
        return answer

    def _inference(self, data: bytes) -> Inference:
        served = self._serving.find(self._serving.name)

        def parse() -> Query:
            require_few_fields(data)
            try:
                request = pb.ModelInferRequest.FromString(data)
            except DecodeError:
                raise invalid("the message is not a ModelInferRequest") from None
            self._serving.find(request.model_name, request.model_version)
            return rpc.parse(request, served.interface)

        def encode(query: Query, outputs: Outputs) -> bytes:
            message: bytes = rpc.encode(served.identity, query, outputs).SerializeToString()
            return message

        return Inference(served, parse, encode)

    def _guarded(self, method: Method) -> Method:
        """Answer every exception with the status of its failure."""

        async def answer(request: Any, context: Context) -> Any:
            try:
                return await method(request, context)
            except Exception as error:  # whatever a client sends, the server goes on
                failure = as_failure(error)
            trace = _trace(context)
            self._diary.refused(failure, trace)
            await context.abort(
                grpc.StatusCode[failure.kind.grpc], failure.message, _trailers(failure, trace)
            )

        return answer


def _trace(context: Context) -> Trace:
    given: Mapping[bytes, bytes] = {
        key.encode(): value.encode()
        for key, value in context.invocation_metadata() or ()
        if isinstance(value, str)
    }
    return trace_of(given)


def _trailers(failure: Failure, trace: Trace) -> tuple[tuple[str, str], ...]:
    if failure.kind not in (Kind.BUSY, Kind.UNAVAILABLE):
        return trace.answer
    # https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback
    pushback = ("grpc-retry-pushback-ms", str(RETRY_SECONDS * 1000))
    return (*trace.answer, ("retry-after", str(RETRY_SECONDS)), pushback)
