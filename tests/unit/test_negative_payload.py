"""Attacks on payloads (docs/format.md, section 8): numbers 22 to 27, 29 and the forgery.

Segments are tiny here, eight plaintext bytes each, so that every byte of a ciphertext can be
changed; the code is the one that reads segments of 1 MiB.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelseal.envelope import DataKeys, decrypt_payload, verify_digest, verify_payload
from modelseal.envelope import floe as floe_module
from modelseal.envelope.derive import payload_context
from modelseal.envelope.floe import Cipher
from modelseal.errors import (
    DigestMismatch,
    KeyCommitmentMismatch,
    PayloadError,
    SegmentInvalid,
    SourceChanged,
    TrailingData,
    TruncatedError,
)
from modelseal.secret import Secret
from modelseal.sources.folder import FolderSource
from support.seals import (
    MODEL,
    TINY,
    FolderSeal,
    MemoryPayload,
    TinySeal,
    encrypt_tiny,
    seal_folder,
    tiny_seal,
    with_entry,
)

HEADER = 74
FULL = TINY.segment_length
CAPACITY = TINY.capacity
CONTENT = bytes(range(5 * CAPACITY + 3))
"""Six segments, the last of three bytes, and two keys."""


@pytest.fixture(scope="module")
def made() -> TinySeal:
    return tiny_seal([b"index", CONTENT, bytes(reversed(CONTENT))])


def refused(made: TinySeal, number: int, data: bytes) -> PayloadError:
    """Return how an object of the right length is refused, after seeing that `out` was wiped."""
    entry = made.entry(number)
    out = bytearray(entry.plaintext_length)
    with pytest.raises(PayloadError) as caught:
        decrypt_payload(
            seal=made.seal,
            entry=entry,
            payload=MemoryPayload(data=data),
            keys=made.keys,
            out=memoryview(out),
            threads=1,
            parameters=TINY,
        )
    assert not any(out)
    return caught.value


def segment_range(position: int) -> slice:
    start = HEADER + position * FULL
    return slice(start, start + FULL)


def test_what_nobody_touched_is_opened(made: TinySeal) -> None:
    assert [made.open(number) for number in range(3)] == made.plain


@pytest.mark.negative(22)
@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_every_changed_byte_of_a_header_is_refused_before_anything_is_decrypted(
    mask: int, made: TinySeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floe_module, "AESGCM", no_cipher)
    for position in range(HEADER):
        data = bytearray(made.objects[1])
        data[position] ^= mask
        assert type(refused(made, 1, bytes(data))) is KeyCommitmentMismatch


def no_cipher(*_: object) -> None:
    raise AssertionError("a segment's key was made before the commitment was checked")


def test_the_header_is_refused_first_also_when_later_runs_are_faster(
    made: TinySeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelseal.envelope.payload.RUN_LENGTH", FULL)
    monkeypatch.setattr(floe_module, "AESGCM", no_cipher)
    data = bytearray(made.objects[1])
    data[50] ^= 1
    with pytest.raises(KeyCommitmentMismatch):
        made.open(1, bytes(data), threads=4)


WRONG: dict[str, Callable[[bytes, int, int, int], bytes]] = {
    "another seal": lambda seal_id, i, n, size: payload_context(bytes(32), i, n, size),
    "another number": lambda seal_id, i, n, size: payload_context(seal_id, i + 1, n, size),
    "another count": lambda seal_id, i, n, size: payload_context(seal_id, i, n + 1, size),
    "another length": lambda seal_id, i, n, size: payload_context(seal_id, i, n, size + 1),
    "no format": lambda seal_id, i, n, size: payload_context(seal_id, i, n, size)[12:],
}


@pytest.mark.negative(22)
@pytest.mark.parametrize("name", WRONG)
def test_a_payload_that_was_made_for_another_place_is_refused(
    name: str, made: TinySeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = WRONG[name](made.seal.manifest.seal_id, 1, 3, len(CONTENT))
    cipher = Cipher.start(made.keys().payload, context, TINY, os.urandom)
    entry, data = encrypt_tiny(1, CONTENT, cipher)
    monkeypatch.setattr(floe_module, "AESGCM", no_cipher)
    with pytest.raises(KeyCommitmentMismatch, match="of another key"):
        made.open(1, data, seal=with_entry(made.seal, 1, entry))


@pytest.mark.negative(22)
def test_a_payload_is_refused_under_another_key(
    made: TinySeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floe_module, "AESGCM", no_cipher)
    wrong = DataKeys.from_dek(Secret(bytes(32)), made.seal.manifest.seal_id)
    with pytest.raises(KeyCommitmentMismatch, match="of another key"):
        verify_payload(
            seal=made.seal,
            entry=made.entry(1),
            payload=MemoryPayload(data=made.objects[1]),
            keys=lambda: wrong,
            parameters=TINY,
        )


@pytest.mark.negative(23)
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_changed_byte_of_a_segment_is_refused_by_its_position(
    mask: int, made: TinySeal
) -> None:
    for offset in range(HEADER, len(made.objects[1])):
        data = bytearray(made.objects[1])
        data[offset] ^= mask
        error = refused(made, 1, bytes(data))
        assert type(error) is SegmentInvalid
        assert f"segment {(offset - HEADER) // FULL}:" in error.message


@pytest.mark.negative(23)
def test_every_changed_byte_is_found_without_a_key_too(made: TinySeal) -> None:
    verify_digest(made.seal, made.entry(1), MemoryPayload(data=made.objects[1]), parameters=TINY)
    for offset in range(len(made.objects[1])):
        data = bytearray(made.objects[1])
        data[offset] ^= 1
        kind = DigestMismatch if offset >= HEADER else KeyCommitmentMismatch
        with pytest.raises(kind):
            verify_digest(
                made.seal, made.entry(1), MemoryPayload(data=bytes(data)), parameters=TINY
            )


@pytest.mark.negative(24)
def test_segments_that_changed_places_are_refused(made: TinySeal) -> None:
    whole = made.objects[1]
    for first in range(5):
        for second in range(first + 1, 5):
            data = bytearray(whole)
            data[segment_range(first)] = whole[segment_range(second)]
            data[segment_range(second)] = whole[segment_range(first)]
            error = refused(made, 1, bytes(data))
            assert type(error) is SegmentInvalid
            assert f"segment {first}:" in error.message


@pytest.mark.negative(24)
def test_a_repeated_or_a_missing_segment_is_refused(made: TinySeal) -> None:
    whole = made.objects[1]
    for position in range(4):
        repeated = bytearray(whole)
        repeated[segment_range(position + 1)] = whole[segment_range(position)]
        assert type(refused(made, 1, bytes(repeated))) is SegmentInvalid
        part = segment_range(position)
        for changed in (
            whole[: part.start] + whole[part.stop :],
            whole[: part.stop] + whole[part.start :],
        ):
            padded = changed[: len(whole)].ljust(len(whole), b"\x00")
            assert type(refused(made, 1, padded)) is SegmentInvalid
            with pytest.raises((TruncatedError, TrailingData)):
                made.open(1, changed)


@pytest.mark.negative(24)
@pytest.mark.parametrize("source", ["another file", "another seal", "another sealing"])
def test_a_segment_of_the_same_key_and_place_from_elsewhere_is_refused(
    source: str, made: TinySeal
) -> None:
    seal_id = made.seal.manifest.seal_id if source == "another sealing" else None
    other = tiny_seal(made.plain, dek=made.dek, seal_id=seal_id)
    foreign = made.objects[2] if source == "another file" else other.objects[1]
    for position in range(6):
        data = bytearray(made.objects[1])
        data[segment_range(position)] = foreign[segment_range(position)]
        error = refused(made, 1, bytes(data))
        assert type(error) is SegmentInvalid
        assert f"segment {position}:" in error.message


@pytest.mark.negative(25)
def test_no_truncation_is_accepted_at_any_byte(made: TinySeal) -> None:
    for length in range(len(made.objects[1])):
        with pytest.raises(TruncatedError):
            made.open(1, made.objects[1][:length])


@pytest.mark.negative(26)
def test_a_last_segment_in_the_middle_or_a_second_one_is_refused(made: TinySeal) -> None:
    whole = made.objects[1]
    last = whole[HEADER + 5 * FULL :]
    moved = whole[: HEADER + 4 * FULL] + last + whole[segment_range(4)]
    assert "segment 4: its length field" in refused(made, 1, moved).message
    second = bytearray(whole)
    start = HEADER + 2 * FULL
    second[start : start + len(last)] = last
    assert "segment 2: its length field" in refused(made, 1, bytes(second)).message


@pytest.mark.negative(26)
@pytest.mark.parametrize("count", [1, FULL - 1, FULL, FULL + 1])
def test_bytes_behind_the_last_segment_are_refused(count: int, made: TinySeal) -> None:
    with pytest.raises(TrailingData):
        made.open(1, made.objects[1] + made.objects[1][segment_range(1)].ljust(count)[:count])


@pytest.mark.negative(26)
def test_an_earlier_end_is_not_an_end_although_a_key_holder_made_it(made: TinySeal) -> None:
    """The final flag comes from the signed length: a shorter, well-formed payload is refused."""
    context = payload_context(made.seal.manifest.seal_id, 1, 3, len(CONTENT))
    cipher = Cipher(made.keys().payload, context, made.objects[1][10:42], TINY)
    _, short = encrypt_tiny(1, CONTENT[: 2 * CAPACITY], cipher)
    padded = short + made.objects[1][len(short) :]
    error = refused(made, 1, padded)
    assert "segment 1: its length field" in error.message


@pytest.mark.negative(27)
def test_payloads_that_changed_places_are_refused(made: TinySeal) -> None:
    assert made.entry(1).plaintext_length == made.entry(2).plaintext_length
    for number, other in ((1, 2), (2, 1)):
        error = refused(made, number, made.objects[other])
        assert type(error) is KeyCommitmentMismatch


def forged(made: TinySeal) -> bytes:
    """Encrypt other content under the same data key, place and IV: every tag is right."""
    context = payload_context(made.seal.manifest.seal_id, 1, 3, len(CONTENT))
    cipher = Cipher(made.keys().payload, context, made.objects[1][10:42], TINY)
    _, data = encrypt_tiny(1, b"EVIL".ljust(len(CONTENT), b"!"), cipher)
    return data


@pytest.mark.negative(24)
def test_a_forgery_by_a_holder_of_the_data_key_is_refused(made: TinySeal) -> None:
    data = forged(made)
    assert data[:HEADER] == made.objects[1][:HEADER]
    assert type(refused(made, 1, data)) is DigestMismatch
    payload = MemoryPayload(data=data)
    with pytest.raises(DigestMismatch):
        verify_digest(made.seal, made.entry(1), payload, parameters=TINY)
    with pytest.raises(DigestMismatch):
        verify_payload(
            seal=made.seal,
            entry=made.entry(1),
            payload=payload,
            keys=made.keys,
            parameters=TINY,
        )


@pytest.mark.negative(24)
def test_one_forged_segment_among_honest_ones_is_refused(made: TinySeal) -> None:
    data = forged(made)
    for position in range(6):
        mixed = bytearray(made.objects[1])
        mixed[segment_range(position)] = data[segment_range(position)]
        assert type(refused(made, 1, bytes(mixed))) is DigestMismatch


@pytest.mark.negative(29)
def test_a_wrong_payload_keeps_failing_and_is_wiped_each_time(made: TinySeal) -> None:
    data = bytearray(made.objects[1])
    data[-1] ^= 1
    out = bytearray(len(CONTENT))
    for _ in range(3):
        assert "segment 5:" in refused(made, 1, bytes(data)).message
    assert made.open(1) == CONTENT
    assert not any(out)


# --- the same through files of the real segment length ---


@pytest.fixture
def folder(tmp_path: Path) -> FolderSeal:
    return seal_folder(tmp_path / "out", {"a": b"first file", "b": b"other file"})


def open_from(made: FolderSeal, number: int) -> bytes:
    """Decrypt a file of a folder through the source that users have."""
    entry = made.seal.manifest.files[number]
    out = bytearray(entry.plaintext_length)
    payload = FolderSource(made.folder).open_payload(entry.name, entry.ciphertext_length)
    try:
        decrypt_payload(
            seal=made.seal, entry=entry, payload=payload, keys=made.keys, out=memoryview(out)
        )
    except BaseException:
        assert not any(out)
        raise
    finally:
        payload.close()
    return bytes(out)


@pytest.mark.negative(23)
def test_every_changed_byte_of_a_whole_sealed_model_is_refused(folder: FolderSeal) -> None:
    for number in range(3):
        path = folder.folder / "p" / f"{number}.floe"
        whole = path.read_bytes()
        for offset in range(len(whole)):
            changed = bytearray(whole)
            changed[offset] ^= 1 << offset % 8
            path.write_bytes(changed)
            with pytest.raises(SegmentInvalid if offset >= HEADER else KeyCommitmentMismatch):
                open_from(folder, number)
        path.write_bytes(whole)
        assert open_from(folder, number)


@pytest.mark.negative(25)
def test_every_truncated_file_is_refused(folder: FolderSeal) -> None:
    path = folder.folder / "p" / "1.floe"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedError):
            open_from(folder, 1)


@pytest.mark.negative(28)
def test_a_longer_file_and_one_that_shrinks_while_it_is_read_are_refused(
    folder: FolderSeal,
) -> None:
    path = folder.folder / "p" / "1.floe"
    whole = path.read_bytes()
    path.write_bytes(whole + b"\x00")
    with pytest.raises(TrailingData):
        open_from(folder, 1)
    path.write_bytes(whole)
    entry = folder.seal.manifest.files[1]
    payload = FolderSource(folder.folder).open_payload(entry.name, entry.ciphertext_length)
    os.truncate(path, len(whole) - 1)
    out = bytearray(entry.plaintext_length)
    with pytest.raises(SourceChanged):
        decrypt_payload(
            seal=folder.seal, entry=entry, payload=payload, keys=folder.keys, out=memoryview(out)
        )
    payload.close()
    assert not any(out)


@pytest.mark.negative(27)
def test_files_that_changed_places_are_refused(folder: FolderSeal) -> None:
    one, two = (folder.folder / "p" / f"{number}.floe" for number in (1, 2))
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    for number in (1, 2):
        with pytest.raises(KeyCommitmentMismatch, match=f"p/{number}.floe"):
            open_from(folder, number)


def test_a_seal_of_the_same_files_under_the_same_name_has_nothing_in_common(
    folder: FolderSeal, tmp_path: Path
) -> None:
    again = seal_folder(tmp_path / "again", {"a": b"first file", "b": b"other file"}, model=MODEL)
    assert again.dek != folder.dek
    assert again.seal.manifest.seal_id != folder.seal.manifest.seal_id
    for number in range(3):
        one, two = ((made.folder / "p" / f"{number}.floe").read_bytes() for made in (folder, again))
        assert len(one) == len(two)
        assert one[10:] != two[10:]
        assert replace(folder.seal.manifest.files[number]) != again.seal.manifest.files[number]
