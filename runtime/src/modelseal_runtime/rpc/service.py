"""The Open Inference Protocol over gRPC.

Messages of inferences stay bytes until a worker has them: parsing and serialising happen there, not
on the event loop. What Triton adds to the protocol is answered UNIMPLEMENTED by gRPC itself.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message

from modelseal_runtime import description
from modelseal_runtime.budget import Budget
from modelseal_runtime.logs import log
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.proto import open_inference_pb2 as pb
from modelseal_runtime.protocol import rpc
from modelseal_runtime.protocol.failure import Failure, Kind, as_failure, invalid
from modelseal_runtime.scheduler import Scheduler
from modelseal_runtime.serving import Serving

SERVICE: Final = "inference.GRPCInferenceService"
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

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """Return what a server takes to answer the service's methods."""
        parsed: dict[str, tuple[Method, type[Message]]] = {
            "ServerLive": (self._server_live, pb.ServerLiveRequest),
            "ServerReady": (self._server_ready, pb.ServerReadyRequest),
            "ModelReady": (self._model_ready, pb.ModelReadyRequest),
            "ServerMetadata": (self._server_metadata, pb.ServerMetadataRequest),
            "ModelMetadata": (self._model_metadata, pb.ModelMetadataRequest),
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(method), kind.FromString, lambda answer: answer.SerializeToString()
            )
            for name, (method, kind) in parsed.items()
        }
        methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(_guarded(self._model_infer))
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

    async def _model_infer(self, request: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        left = context.time_remaining()
        seconds = self._seconds if left is None else min(left, self._seconds)
        try:
            with self._budget.hold() as hold:
                hold.grow(len(request))
                answer = await self._scheduler.run(lambda: self._infer(request), seconds)
        except Exception as error:
            self._metrics.failure("grpc", as_failure(error).kind)
            raise
        self._metrics.success(
            "grpc",
            seconds=time.perf_counter() - started,
            received=len(request),
            sent=len(answer),
        )
        return answer

    def _infer(self, data: bytes) -> bytes:
        try:
            request = pb.ModelInferRequest.FromString(data)
        except DecodeError:
            raise invalid("the message is not a ModelInferRequest") from None
        served = self._serving.find(request.model_name, request.model_version)
        query = rpc.parse(request, served.interface)
        response = served.model.run(
            query.inputs, lambda outputs: rpc.encode(served.identity, query, outputs)
        )
        return response.SerializeToString()


def _guarded(method: Method) -> Method:
    """Answer every exception with the status of its failure."""

    async def answer(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except Exception as error:  # whatever a client sends, the server goes on
            failure = as_failure(error)
            if failure.kind is Kind.INTERNAL:
                log(logging.ERROR, "a request failed", failure=error, protocol="grpc")
        await context.abort(grpc.StatusCode[failure.kind.grpc], failure.message)

    return answer
