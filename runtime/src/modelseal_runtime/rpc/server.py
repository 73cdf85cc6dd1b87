"""A gRPC server in our event loop: the protocol, `grpc.health.v1` and reflection."""

from typing import Any, Final

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from modelseal.errors import PortInUse, shown
from modelseal_runtime.rpc.service import SERVICE, InferenceService

_OVERHEAD: Final = 1 << 20
"""What a message may have beyond the body limit: names, shapes, parameters."""
AGE_SECONDS: Final = 600
AGE_GRACE_SECONDS: Final = 60
_STATUS: Final = health_pb2.HealthCheckResponse
_untyped: Final[Any] = health  # its stubs do not know the asynchronous half


class GrpcServer:
    """Listens from `start` to `stop`."""

    def __init__(self, service: InferenceService, *, max_body_bytes: int, max_calls: int) -> None:
        limit = min(max_body_bytes + _OVERHEAD, (1 << 31) - 1)
        self._server: Final[Any] = aio.server(
            maximum_concurrent_rpcs=max_calls,
            options=(
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
                # Connections end after a while, so that clients spread over new replicas.
                ("grpc.max_connection_age_ms", AGE_SECONDS * 1000),
                ("grpc.max_connection_age_grace_ms", AGE_GRACE_SECONDS * 1000),
                ("grpc.max_metadata_size", 32 << 10),
            ),
        )
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
        return bound

    async def start(self) -> None:
        """Answer calls."""
        await self.report(ready=False)
        await self._server.start()

    async def report(self, *, ready: bool) -> None:
        """Set what `grpc.health.v1` answers and tells its watchers."""
        status = _STATUS.SERVING if ready else _STATUS.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def stop(self, seconds: float) -> None:
        """Refuse new calls, and wait for the others."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(seconds)
