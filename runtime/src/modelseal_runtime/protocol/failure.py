"""What can go wrong with a request, and what it is called over HTTP, over gRPC and in metrics."""

from enum import Enum
from typing import ClassVar, Final

from modelseal.errors import ModelClosed, RequestInvalid, ServingError


class Kind(Enum):
    """A kind of failure: its name in metrics, its HTTP status, its gRPC status code."""

    INVALID = ("invalid", 400, "INVALID_ARGUMENT")
    NOT_FOUND = ("not_found", 404, "NOT_FOUND")
    METHOD = ("method", 405, "UNIMPLEMENTED")
    SLOW = ("slow", 408, "DEADLINE_EXCEEDED")
    TOO_LARGE = ("too_large", 413, "RESOURCE_EXHAUSTED")
    HEADER = ("header", 431, "RESOURCE_EXHAUSTED")
    ENCODING = ("encoding", 415, "UNIMPLEMENTED")
    BUSY = ("busy", 503, "RESOURCE_EXHAUSTED")
    UNAVAILABLE = ("unavailable", 503, "UNAVAILABLE")
    TIMEOUT = ("timeout", 504, "DEADLINE_EXCEEDED")
    CANCELLED = ("cancelled", 499, "CANCELLED")
    UNSUPPORTED = ("unsupported", 501, "UNIMPLEMENTED")
    INTERNAL = ("internal", 500, "INTERNAL")

    def __init__(self, label: str, http: int, grpc: str) -> None:
        self.label: Final = label
        self.http: Final = http
        self.grpc: Final = grpc


class Failure(ServingError):
    """A request that is not answered with a result; the message is a sentence for the client."""

    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind  # type: ignore[misc] # the class says what an unnamed one is


def invalid(message: str) -> Failure:
    """Return the failure of a request that does not follow the protocol or fit the model."""
    return Failure(Kind.INVALID, message)


def as_failure(error: BaseException) -> Failure:
    """Return what a client is told of an exception; an unexpected one gives away nothing."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, RequestInvalid):
        return invalid(f"{error.message} ({error.hint})" if error.hint else error.message)
    if isinstance(error, ModelClosed):
        return Failure(Kind.UNAVAILABLE, "the model is not loaded any more")
    if isinstance(error, ServingError):
        return Failure(Kind.INTERNAL, error.message)
    if isinstance(error, MemoryError):
        return Failure(Kind.BUSY, "there is no memory left for this request")
    failure = Failure(Kind.INTERNAL, "the server failed to answer; its log says where")
    failure.__cause__ = error  # for the log
    return failure
