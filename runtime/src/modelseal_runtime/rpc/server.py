"""A gRPC server in our event loop: the protocol, `grpc.health.v1` and reflection."""

from dataclasses import dataclass
from typing import Any, Final

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from modelseal.errors import PortInUse, shown
from modelseal_runtime.http.connection import HEADER_SECONDS, MAX_HEADER_BYTES
from modelseal_runtime.http.server import MAX_CONNECTIONS
from modelseal_runtime.rpc.connections import connected, life
from modelseal_runtime.rpc.patience import Patience
from modelseal_runtime.rpc.service import SERVICE, InferenceService

_OVERHEAD: Final = 1 << 20
"""What a message may have beyond the body limit: names, shapes, parameters."""
AGE_GRACE_SECONDS: Final = 60
MAX_CALLS_OF_ONE: Final = 1024
"""Calls at a time of one connection; more than run, so that the answer says why one does not."""
MAX_STREAMS: Final = 32
"""Calls at a time that only listen, of health and reflection."""
_STATUS: Final = health_pb2.HealthCheckResponse
_untyped: Final[Any] = health  # its stubs do not know the asynchronous half


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What connections may take; the defaults are those of HTTP."""

    connections: int = MAX_CONNECTIONS
    handshake_seconds: float = HEADER_SECONDS
    ping_seconds: float = 30.0
    """A peer that has been silent for so long is asked whether it is there."""
    pong_seconds: float = 10.0
    """How long its answer may take, and how long it may leave what was sent unread."""


class GrpcServer:
    """Listens from `start` to `stop`."""

    def __init__(
        self,
        service: InferenceService,
        *,
        max_body_bytes: int,
        max_calls: int,
        request_seconds: float,
        drain_seconds: float,
        bounds: Bounds = Bounds(),
    ) -> None:
        self._server: Final[Any] = aio.server(
            maximum_concurrent_rpcs=max_calls,
            interceptors=(Patience(seconds=request_seconds, streams=MAX_STREAMS),),
            options=(*_options(bounds, max_body_bytes), *_ages(drain_seconds)),
        )
        self._port = 0
        self._health: Final[Any] = _untyped.aio.HealthServicer()
        self._server.add_generic_rpc_handlers((service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    def listen(self, host: str, port: int) -> int:
        """Bind the port and return it.

        Raises:
            PortInUse: another program listens there.

        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound: int = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise PortInUse(f"failed to listen on {shown(host)} port {port} for gRPC")
        self._port = bound
        return bound

    async def start(self) -> None:
        """Answer calls."""
        await self.report(ready=False)
        await self._server.start()

    @property
    def busy(self) -> bool:
        """Whether a client is connected, which may call at any moment."""
        return connected(self._port)

    async def report(self, *, ready: bool) -> None:
        """Set what `grpc.health.v1` answers and tells its watchers."""
        status = _STATUS.SERVING if ready else _STATUS.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def stop(self, seconds: float) -> None:
        """Cancel new calls, even of clients who cannot know yet; wait for the others."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(seconds)


def _options(bounds: Bounds, max_body_bytes: int) -> tuple[tuple[str, int], ...]:
    limit = min(max_body_bytes + _OVERHEAD, (1 << 31) - 1)
    return (
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
        ("grpc.max_allowed_incoming_connections", bounds.connections),
        ("grpc.max_concurrent_streams", MAX_CALLS_OF_ONE),
        # Two limits, one value: between them gRPC refuses at random.
        ("grpc.max_metadata_size", MAX_HEADER_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
        ("grpc.server_handshake_timeout_ms", round(bounds.handshake_seconds * 1000)),
        ("grpc.http2.settings_timeout", round(bounds.handshake_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", round(bounds.ping_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(bounds.pong_seconds * 1000)),
        ("grpc.http2.ping_timeout_ms", round(bounds.pong_seconds * 1000)),
    )


def _ages(drain_seconds: float) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_connection_age_ms", round(life(drain_seconds) * 1000)),
        ("grpc.max_connection_age_grace_ms", AGE_GRACE_SECONDS * 1000),
    )
