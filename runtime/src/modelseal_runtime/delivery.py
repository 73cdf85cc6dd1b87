"""What the agent hands over, checked before any of it is used."""

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from modelseal.contract import MAX_FILES
from modelseal.errors import PeerRejected
from modelseal.handover import File, Files, Model, close_all
from modelseal.memory import map_delivered

_ONE: Final = 1


@dataclass(kw_only=True)
class Delivery:
    """A model as it arrives: its description with a descriptor, then its files."""

    model: Model
    descriptor: int
    files: list[File] = field(default_factory=list)

    @classmethod
    def begin(cls, model: Model, descriptors: Sequence[int]) -> "Delivery":
        """Take a `Model` message and its one descriptor.

        Raises:
            PeerRejected: there is not exactly one descriptor, or there are too many files.

        """
        if len(descriptors) != _ONE or model.files > MAX_FILES or not model.size:
            close_all(descriptors)
            raise PeerRejected("failed to accept the model: its message is not a delivery")
        return cls(model=model, descriptor=descriptors[0])

    def add(self, files: Files) -> bool:
        """Take a run of files; return whether they are all there.

        Raises:
            PeerRejected: a file lies outside the memory, is named twice, or there are too many.

        """
        self.files += files.files
        if len(self.files) > self.model.files:
            raise PeerRejected("failed to accept the model: more files than announced")
        for file in files.files:
            if file.offset + file.length > self.model.size:
                raise PeerRejected("failed to accept the model: a file outside its memory")
        if len({file.path for file in self.files}) != len(self.files):
            raise PeerRejected("failed to accept the model: two files of one path")
        return len(self.files) == self.model.files

    def map(self) -> "Mapped":
        """Check the descriptor, map it, and close it.

        Raises:
            PeerRejected: it is not a sealed, read-only memfd of the announced size.

        """
        try:
            return Mapped(map_delivered(self.descriptor, self.model.size), self.files)
        finally:
            self.close()

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        close_all([self.descriptor] if self.descriptor >= 0 else [])
        self.descriptor = -1


class Mapped:
    """The delivered memory, and the files in it as read-only views."""

    def __init__(self, mapping: mmap.mmap, files: Sequence[File]) -> None:
        self._mapping: Final = mapping
        self._users = 0
        self._view = memoryview(mapping)
        self._views: dict[str, memoryview] = {
            file.path: self._view[file.offset : file.offset + file.length] for file in files
        }

    @property
    def files(self) -> Mapping[str, memoryview]:
        """The files by path."""
        return self._views

    def user(self) -> Callable[[], None]:
        """Count one more reader; the last of the returned calls unmaps the memory."""
        self._users += 1
        return self._leave

    def _leave(self) -> None:
        self._users -= 1
        if self._users:
            return
        for view in self._views.values():
            view.release()
        self._views = {}
        self._view.release()
        self._mapping.close()
