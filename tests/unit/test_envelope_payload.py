"""Payloads are read by many threads as by one; what is reported depends on the data alone."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelseal.envelope import (
    DataKeys,
    FileEntry,
    decrypt_payload,
    verify_digest,
    verify_payload,
)
from modelseal.envelope import payload as payload_module
from modelseal.errors import (
    DigestMismatch,
    KeyAccessDenied,
    KeyCommitmentMismatch,
    SegmentInvalid,
    SourceUnavailable,
)
from support.seals import TINY, MemoryPayload, TinySeal, tiny_seal

FULL = TINY.segment_length
CAPACITY = TINY.capacity
DEADLINE = 10.0


@pytest.fixture(autouse=True)
def _runs_of_two_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_module, "RUN_LENGTH", 2 * FULL)


@pytest.fixture(scope="module")
def made() -> TinySeal:
    return tiny_seal([b"index", bytes(range(200))])


def run_of(offset: int) -> int:
    return max(0, offset - 74) // (2 * FULL)


@dataclass(kw_only=True)
class OrderedPayload(MemoryPayload):
    """Answers a read only after the runs that `after` names for it have been answered."""

    after: dict[int, int]
    answered: dict[int, threading.Event] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def event(self, run: int) -> threading.Event:
        with self.lock:
            return self.answered.setdefault(run, threading.Event())

    def read_into(self, offset: int, buffer: memoryview) -> None:
        run = run_of(offset)
        if run in self.after:
            assert self.event(self.after[run]).wait(DEADLINE)
        try:
            super().read_into(offset, buffer)
        finally:
            self.event(run).set()


def decrypt(
    made: TinySeal,
    payload: MemoryPayload,
    *,
    keys: Callable[[], DataKeys] | None = None,
    threads: int = 4,
    progress: Callable[[int], None] | None = None,
) -> bytes:
    """Decrypt file 1 through a payload that misbehaves; nothing is left in `out` on failure."""
    entry = made.entry(1)
    out = bytearray(entry.plaintext_length)
    try:
        decrypt_payload(
            seal=made.seal,
            entry=entry,
            payload=payload,
            keys=keys or made.keys,
            out=memoryview(out),
            threads=threads,
            progress=progress,
            parameters=TINY,
        )
    except BaseException:
        assert not any(out)
        raise
    return bytes(out)


def flipped(made: TinySeal, *positions: int) -> bytes:
    data = bytearray(made.objects[1])
    for position in positions:
        data[74 + position * FULL + 20] ^= 1
    return bytes(data)


@pytest.mark.negative(31)
@given(threads=st.integers(1, 9), length=st.integers(0, 130))
@settings(max_examples=40)
def test_any_number_of_threads_gives_the_same_plaintext(threads: int, length: int) -> None:
    made = tiny_seal([b"", bytes(range(length))])
    assert decrypt(made, MemoryPayload(data=made.objects[1]), threads=threads) == made.plain[1]


@pytest.mark.negative(31)
def test_runs_that_arrive_in_reverse_are_put_in_their_places(made: TinySeal) -> None:
    payload = OrderedPayload(data=made.objects[1], after={0: 1, 1: 2, 2: 3})
    assert decrypt(made, payload) == made.plain[1]
    assert [run_of(offset) for offset in payload.reads[:4]] == [3, 2, 1, 0]


@pytest.mark.negative(31)
@pytest.mark.parametrize("bad", range(25))
def test_one_bad_segment_among_many_fails_the_whole_file(bad: int, made: TinySeal) -> None:
    with pytest.raises(SegmentInvalid, match=f"segment {bad}:"):
        decrypt(made, MemoryPayload(data=flipped(made, bad)))


@pytest.mark.negative(31)
def test_of_several_bad_segments_the_first_is_named_although_it_came_last(made: TinySeal) -> None:
    data = flipped(made, 1, 3, 5, 7)
    payload = OrderedPayload(data=data, after={0: 1, 1: 2, 2: 3})
    with pytest.raises(SegmentInvalid, match="segment 1:"):
        decrypt(made, payload)


def test_a_failure_stops_the_fetching(made: TinySeal) -> None:
    payload = MemoryPayload(data=flipped(made, 0))
    with pytest.raises(SegmentInvalid):
        decrypt(made, payload, threads=1)
    assert payload.reads == [0]


def test_keys_are_asked_for_once_and_after_the_first_run_was_fetched(made: TinySeal) -> None:
    payload = MemoryPayload(data=made.objects[1])
    asked: list[int] = []

    def keys() -> DataKeys:
        assert 0 in payload.reads
        asked.append(1)
        return made.keys()

    assert decrypt(made, payload, keys=keys) == made.plain[1]
    assert asked == [1]


def test_ciphertext_arrives_while_the_key_is_still_being_unwrapped(made: TinySeal) -> None:
    payload = OrderedPayload(data=made.objects[1], after={})

    def keys() -> DataKeys:
        for run in range(4):
            assert payload.event(run).wait(DEADLINE)
        return made.keys()

    assert decrypt(made, payload, keys=keys) == made.plain[1]


@dataclass(kw_only=True)
class BrokenPayload(MemoryPayload):
    """Fails to deliver one run."""

    broken: int

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if run_of(offset) == self.broken:
            raise SourceUnavailable(f"failed to fetch run {self.broken}")
        super().read_into(offset, buffer)


def denied() -> DataKeys:
    raise KeyAccessDenied("failed to unwrap: not allowed")


@pytest.mark.parametrize("broken", [0, 3])
def test_a_refused_key_is_reported_before_a_source_that_failed_first(
    broken: int, made: TinySeal
) -> None:
    payload = BrokenPayload(data=made.objects[1], broken=broken)
    with pytest.raises(KeyAccessDenied):
        decrypt(made, payload, keys=denied)
    with pytest.raises(SourceUnavailable, match=f"run {broken}"):
        decrypt(made, payload)


def test_a_refused_key_is_reported_before_a_wrong_header(made: TinySeal) -> None:
    data = b"\xff" + made.objects[1][1:]
    with pytest.raises(KeyAccessDenied):
        decrypt(made, MemoryPayload(data=data), keys=denied)
    with pytest.raises(KeyCommitmentMismatch):
        decrypt(made, MemoryPayload(data=data))


def test_a_wrong_header_is_reported_before_any_segment(made: TinySeal) -> None:
    data = b"\xff" + flipped(made, 0, 4, 8)[1:]
    payload = OrderedPayload(data=data, after={0: 1})
    with pytest.raises(KeyCommitmentMismatch):
        decrypt(made, payload)


@pytest.mark.parametrize("threads", [1, 4])
def test_progress_counts_every_plaintext_byte_once(threads: int, made: TinySeal) -> None:
    counts: list[int] = []
    payload = MemoryPayload(data=made.objects[1])
    decrypt(made, payload, threads=threads, progress=counts.append)
    assert sum(counts) == 200


@pytest.mark.negative(29)
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_whatever_ends_a_decryption_wipes_what_was_decrypted(
    kind: type[BaseException], threads: int, made: TinySeal
) -> None:
    done: list[int] = []

    def interrupt(count: int) -> None:
        done.append(count)
        if len(done) == 5:
            raise kind

    before = threading.active_count()
    with pytest.raises(kind):
        decrypt(made, MemoryPayload(data=made.objects[1]), threads=threads, progress=interrupt)
    assert threading.active_count() == before


def test_an_output_of_another_length_is_a_mistake_of_the_caller(made: TinySeal) -> None:
    with pytest.raises(ValueError, match="199 bytes for a file of 200"):
        decrypt_payload(
            seal=made.seal,
            entry=made.entry(1),
            payload=MemoryPayload(data=made.objects[1]),
            keys=made.keys,
            out=memoryview(bytearray(199)),
            parameters=TINY,
        )


@pytest.mark.negative(30)
@pytest.mark.parametrize(
    "length",
    [0, 1, CAPACITY - 1, CAPACITY, CAPACITY + 1, 2 * CAPACITY, 4 * CAPACITY, 4 * CAPACITY + 1, 130],
)
def test_every_boundary_of_segments_and_keys_is_read_back(length: int) -> None:
    made = tiny_seal([b"", bytes(range(length))])
    assert len(made.objects[1]) == TINY.ciphertext_length(length)
    assert made.open(1) == made.plain[1]
    verify_payload(
        seal=made.seal,
        entry=made.entry(1),
        payload=MemoryPayload(data=made.objects[1]),
        keys=made.keys,
        parameters=TINY,
    )


@dataclass(kw_only=True)
class NoisePayload:
    """An object of any length that is never wholly in memory."""

    length: int

    def read_into(self, offset: int, buffer: memoryview) -> None:
        assert offset + len(buffer) <= self.length


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_digests_of_a_long_payload_are_compared_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    monkeypatch.undo()
    entry = FileEntry(number=1, plaintext_length=256 << 20, header=bytes(74), digest=bytes(32))
    with pytest.raises(DigestMismatch):
        verify_digest(
            tiny_seal([b"", b""]).seal,
            entry,
            NoisePayload(length=entry.ciphertext_length),
            threads=2,
        )
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
