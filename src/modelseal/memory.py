"""Memory for plaintext: mappings that never reach a core dump, and memfds that only we may change.

Standard library only. The seals and their order come from design section 8: the owner keeps one
writable mapping, seals the memfd against growth and against new writers, and hands out read-only
reopenings, so that it alone can wipe and truncate what it gave away.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from modelseal.errors import DeliveryError, OutOfMemory, PeerRejected

_MADV_POPULATE_WRITE: Final = 23
_MFD_NOEXEC_SEAL: Final = 0x8
_F_ADD_SEALS: Final = 1033
_F_GET_SEALS: Final = 1034
_F_SEAL_SEAL: Final = 0x1
_F_SEAL_GROW: Final = 0x4
_F_SEAL_FUTURE_WRITE: Final = 0x10
_SEALS: Final = _F_SEAL_SEAL | _F_SEAL_GROW | _F_SEAL_FUTURE_WRITE
_HUGE_MEMFDS: Final = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")

PAGE: Final = mmap.PAGESIZE


def page_aligned(length: int) -> int:
    """Round a length in bytes up to whole pages."""
    return -(-length // PAGE) * PAGE


class PlaintextMemory:
    """A shared mapping of a memfd (or of anonymous memory) that this process may fill and wipe.

    `view` is writable until `seal`; after it, writes through `view` fault, until `wipe` makes the
    mapping writable once more and zeroes it.
    """

    def __init__(self, length: int, *, name: str | None = "modelseal") -> None:
        """Allocate `length` bytes (at least one page).

        Args:
            length: size in bytes.
            name: the memfd's name in `/proc`; `None` makes anonymous memory that cannot be shared.

        Raises:
            OutOfMemory: the memory cannot be had.

        """
        self._length = max(page_aligned(length), PAGE)
        self._fd = -1
        try:
            if name is None:
                self._map = mmap.mmap(-1, self._length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            else:
                self._fd = _create_memfd(name, self._length)
                self._map = mmap.mmap(self._fd, self._length, flags=mmap.MAP_SHARED)
        except (OSError, OverflowError) as error:
            self._close_descriptor()
            raise OutOfMemory(
                f"failed to allocate {length} bytes for the model",
                hint="declare the model's size and give the container that much memory",
            ) from error
        self._map.madvise(mmap.MADV_DONTDUMP)
        self._map.madvise(mmap.MADV_DONTFORK)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._view: memoryview | None = memoryview(self._map)

    def __len__(self) -> int:
        return self._length

    @property
    def view(self) -> memoryview:
        """The whole mapping."""
        if self._view is None:
            raise DeliveryError("failed to use the model's memory: it was released")
        return self._view

    def prefault(self, offset: int = 0, length: int | None = None) -> None:
        """Touch pages now, so that decryption does not wait for them later; call from a thread.

        The kernel does the work without the interpreter's lock. Where it cannot (before Linux
        5.14), pages are faulted in by the first write instead.

        Raises:
            OutOfMemory: the memory cannot be had.

        """
        end = self._length if length is None else min(page_aligned(offset + length), self._length)
        start = offset // PAGE * PAGE
        if _libc.madvise(self._address + start, end - start, _MADV_POPULATE_WRITE) != 0:
            code = ctypes.get_errno()
            if code != errno.EINVAL:
                raise OutOfMemory(f"failed to get memory for the model: {os.strerror(code)}")

    @property
    def writes_well(self) -> bool:
        """Whether `write` costs less than the first touch of a page through `view`.

        The kernel neither zeroes nor faults in the page of a memfd that is written whole; but a
        touch is cheaper still where it may give huge pages to memfds.
        """
        return self._fd >= 0 and not _huge_memfds()

    def write(self, offset: int, data: memoryview) -> None:
        """Copy into the memfd, for which `writes_well`; thread-safe; not after `seal`.

        Raises:
            OutOfMemory: the memory cannot be had.

        """
        try:
            while len(data) > 0:
                done = os.pwrite(self._fd, data, offset)
                offset, data = offset + done, data[done:]
        except OSError as error:
            raise OutOfMemory(f"failed to get memory for the model: {error.strerror}") from error

    def seal(self) -> None:
        """Make the content final: no growth, no new writer, our own mapping read-only."""
        if self._fd >= 0:
            fcntl.fcntl(self._fd, _F_ADD_SEALS, _SEALS)
        self._protect(mmap.PROT_READ)

    def reader(self) -> int:
        """Return a new read-only descriptor of the memfd; the caller closes it."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def wipe(self) -> None:
        """Zero the content, for every reader at once; idempotent."""
        if self._view is None:
            return
        self._protect(mmap.PROT_READ | mmap.PROT_WRITE)
        ctypes.memset(self._address, 0, self._length)

    def discard(self, offset: int, length: int) -> None:
        """Zero a part that is no longer needed and give its whole pages back; not after `seal`."""
        if not 0 <= offset <= offset + length <= self._length:
            raise DeliveryError("failed to discard a part of the model's memory: out of range")
        ctypes.memset(self._address + offset, 0, length)
        start, end = page_aligned(offset), (offset + length) // PAGE * PAGE
        if start < end:
            advice = mmap.MADV_DONTNEED if self._fd < 0 else mmap.MADV_REMOVE
            self._map.madvise(advice, start, end - start)

    def truncate(self) -> None:
        """Free the pages; a reader that is left gets SIGBUS at its next access."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)

    def release(self) -> None:
        """Wipe, free and unmap; idempotent."""
        if self._view is None:
            return
        self.wipe()
        try:
            self._view.release()
            self._map.close()
        except BufferError:  # the traceback of a failure still holds a part of the view
            if self._fd < 0:
                self._map.madvise(mmap.MADV_DONTNEED)
        self._view = None
        self.truncate()
        self._close_descriptor()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _protect(self, protection: int) -> None:
        if _libc.mprotect(self._address, self._length, protection) != 0:
            raise DeliveryError(
                f"failed to protect the model's memory: {os.strerror(ctypes.get_errno())}"
            )

    def _close_descriptor(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def map_delivered(descriptor: int, length: int) -> mmap.mmap:
    """Map a descriptor that the agent handed over, after checking what it is.

    Raises:
        PeerRejected: it is not a sealed, read-only memfd of at least `length` bytes.

    """
    problem = _delivery_problem(descriptor, length)
    if problem:
        raise PeerRejected(f"failed to accept the model's memory: {problem}")
    mapping = mmap.mmap(descriptor, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    mapping.madvise(mmap.MADV_DONTDUMP)
    mapping.madvise(mmap.MADV_DONTFORK)
    return mapping


def _huge_memfds() -> bool:
    """Say whether the kernel may give huge pages to memfds that ask for them."""
    try:
        chosen = _HUGE_MEMFDS.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
    return "[never]" not in chosen and "[deny]" not in chosen


def _delivery_problem(descriptor: int, length: int) -> str:
    """Say what is wrong with a delivered descriptor, or nothing."""
    try:
        seals = fcntl.fcntl(descriptor, _F_GET_SEALS)
    except OSError:
        return "it is not a memfd"
    if seals & _SEALS != _SEALS:
        return "it is not sealed"
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return "it is not read-only"
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or not 0 < length <= status.st_size:
        return "its size is not the announced one"
    return ""


def _create_memfd(name: str, length: int) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3 the flag is unknown
            raise
        descriptor = os.memfd_create(name, flags)
    try:
        os.fchmod(descriptor, 0o400)
        os.ftruncate(descriptor, length)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _load_libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return libc


_libc: Final = _load_libc()
