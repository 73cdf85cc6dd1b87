"""How long clients of gRPC are waited for, whatever method they call.

gRPC itself waits for the message of a call as long as the connection lives, and counts the call
among those that run at a time: a few clients that say nothing would keep everybody out. It also
lets a stream that tells of changes stay for ever, which is what it is for; so there are only so
many of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc import aio

_untyped: Final[Any] = aio  # its stubs lack the end of a stream
if TYPE_CHECKING:
    _Interceptor = aio.ServerInterceptor[Any, Any]
else:
    _Interceptor = aio.ServerInterceptor
Context = Any
Continue = Callable[[Any], Awaitable[Any]]


class Patience(_Interceptor):
    """Ends calls whose message does not come, and refuses streams beyond a number."""

    def __init__(self, *, seconds: float, streams: int) -> None:
        self._seconds: Final = seconds
        self._streams_left = streams
        self._known: Final[dict[str, Any]] = {}

    async def intercept_service(self, continuation: Continue, details: Any) -> Any:
        """Return a handler that waits for a while only."""
        known = self._known.get(details.method)
        if known is None:
            found = await continuation(details)
            if found is None:
                return None
            known = self._known[details.method] = self._bounded(found)
        return known

    def _bounded(self, found: Any) -> Any:
        if found.request_streaming and found.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._counted_generator(found.stream_stream),
                found.request_deserializer,
                found.response_serializer,
            )
        # A handler that takes a stream is called before there is a message.
        if found.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._counted(self._patient(found.unary_stream)),
                found.request_deserializer,
                found.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            self._patient(found.unary_unary),
            found.request_deserializer,
            found.response_serializer,
        )

    def _patient(self, handler: Any) -> Any:
        """Call a handler of one message when that is there."""

        async def call(_: Any, context: Context) -> Any:
            try:
                async with asyncio.timeout(self._seconds):
                    message = await context.read()
            except TimeoutError:
                return await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    "the message of the request did not come in time",
                )
            if message is _untyped.EOF:
                return await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "the request has no message"
                )
            return await handler(message, context)

        return call

    def _counted(self, handler: Any) -> Any:
        """Let a handler that writes run while there is room for it."""

        async def call(requests: Any, context: Context) -> None:
            await self._take_stream(context)
            await handler(requests, context)

        return call

    def _counted_generator(self, handler: Any) -> Any:
        """Let a handler that yields run while there is room for it."""

        async def call(requests: Any, context: Context) -> Any:
            await self._take_stream(context)
            async for message in handler(requests, context):
                yield message

        return call

    async def _take_stream(self, context: Context) -> None:
        if self._streams_left <= 0:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "there are too many streams; try again later"
            )
        self._streams_left -= 1
        context.add_done_callback(self._give_stream)

    def _give_stream(self, _: Context) -> None:
        self._streams_left += 1
