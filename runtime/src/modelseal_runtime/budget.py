"""How many bytes of requests may be held at a time, in all connections together."""

from types import TracebackType
from typing import Final, Self

from modelseal_runtime.protocol.failure import Failure, Kind


class Budget:
    """Bytes that are left; for one thread."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    @property
    def left(self) -> int:
        """How many bytes may still be held."""
        return self._left

    def hold(self) -> "Hold":
        """Return a share of no bytes yet."""
        return Hold(self)

    def take(self, size: int) -> None:
        """Take bytes off the budget, or give them back where `size` is negative.

        Raises:
            Failure: there are not so many left.

        """
        if size > self._left:
            raise Failure(Kind.BUSY, "other requests hold the memory for requests; try again later")
        self._left -= size


class Hold:
    """One request's share, given back by `release` or when the block is left."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget: Final = budget
        self._size = 0

    def grow(self, size: int) -> None:
        """Hold `size` bytes in all, if it is not more already.

        Raises:
            Failure: there are not so many left.

        """
        if size > self._size:
            self._budget.take(size - self._size)
            self._size = size

    def release(self) -> None:
        """Give everything back; idempotent."""
        self._budget.take(-self._size)
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
