"""Every published known answer of FLOE, in both directions (docs/format.md, section 8.1)."""

import hashlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelseal.envelope import payload as payload_module
from modelseal.envelope.derive import DataKeys
from modelseal.envelope.encrypting import Plaintext, encrypt_payload
from modelseal.envelope.floe import Cipher, Parameters
from modelseal.envelope.manifest import FileEntry
from modelseal.errors import SegmentInvalid
from modelseal.secret import Secret
from support.seals import MemoryPayload, tiny_seal

FOLDER = Path(__file__).parent / "floe"
NAMES = sorted(path.name.removesuffix("_ct.txt") for path in FOLDER.glob("*_ct.txt"))
CANONICAL = [name for name in NAMES if name != "java_lastSegEmpty"]
KEY = bytes(32)
AAD = b"This is AAD"


def known(name: str) -> tuple[bytes, bytes, Parameters]:
    """Return ciphertext, plaintext and parameters of a known answer."""
    sealed, plain = (
        bytes.fromhex((FOLDER / f"{name}_{part}.txt").read_text().strip()) for part in ("ct", "pt")
    )
    (length,) = struct.unpack_from(">I", sealed, 2)
    bits = 2 if "rotation" in name else 20
    return sealed, plain, Parameters(segment_length=length, rotation_bits=bits)


def segments(sealed: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Walk over segments by their own length fields, as a generic FLOE reader does."""
    (full,) = struct.unpack_from(">I", sealed, 2)
    offset, position, final = 74, 0, False
    while not final:
        (length,) = struct.unpack_from(">I", sealed, offset)
        final = length != 0xFFFFFFFF
        yield position, sealed[offset : offset + (length if final else full)], final
        offset, position = offset + (length if final else full), position + 1
    assert offset == len(sealed)


def digest_of(name: str) -> bytes:
    """Return the digest of a known ciphertext (section 8.4)."""
    sealed, _, _ = known(name)
    parts = [sealed[:74], *(segment for _, segment, _ in segments(sealed))]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def test_all_seventeen_known_answers_are_here() -> None:
    assert len(NAMES) == 17


@pytest.mark.parametrize("name", NAMES)
def test_the_cipher_decrypts_a_known_answer(name: str) -> None:
    sealed, plain, parameters = known(name)
    cipher = Cipher.open(Secret(KEY), AAD, sealed[:74], parameters)
    found = b""
    for position, segment, final in segments(sealed):
        out = bytearray(len(segment) - 32)
        cipher.decrypt(position, memoryview(segment), memoryview(out), final=final)
        found += out
    assert found == plain


def decrypt(name: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Read a known ciphertext as a payload of the format, but for key and associated data."""
    sealed, plain, parameters = known(name)
    monkeypatch.setattr(payload_module, "payload_context", lambda *_: AAD)
    out = bytearray(len(plain))
    payload_module.decrypt_payload(
        seal=tiny_seal([b"", b""]).seal,
        entry=FileEntry(
            number=0, plaintext_length=len(plain), header=sealed[:74], digest=digest_of(name)
        ),
        payload=MemoryPayload(data=sealed),
        keys=lambda: DataKeys(manifest_mac=Secret(bytes(48)), payload=Secret(KEY)),
        out=memoryview(out),
        threads=2,
        parameters=parameters,
    )
    return bytes(out)


@pytest.mark.parametrize("name", CANONICAL)
def test_the_reader_of_payloads_decrypts_a_known_answer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decrypt(name, monkeypatch) == known(name)[1]


def test_the_reader_of_payloads_refuses_an_empty_last_segment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sealed, plain, parameters = known("java_lastSegEmpty")
    assert len(sealed) != parameters.ciphertext_length(len(plain))
    with pytest.raises(SegmentInvalid, match="segment 1: its length field"):
        decrypt("java_lastSegEmpty", monkeypatch)


@pytest.mark.parametrize("name", CANONICAL)
def test_the_writer_makes_a_known_answer_from_its_random_numbers(name: str) -> None:
    sealed, plain, parameters = known(name)
    random = iter([sealed[10:42], *(segment[4:16] for _, segment, _ in segments(sealed))])
    out = bytearray(parameters.ciphertext_length(len(plain)))

    def write(offset: int, data: memoryview) -> None:
        out[offset : offset + len(data)] = data

    written = encrypt_payload(
        Plaintext(name="known", length=len(plain), stream=io.BytesIO(plain)),
        Cipher.start(Secret(KEY), AAD, parameters, lambda _: next(random)),
        write,
        parameters=parameters,
        random=lambda _: next(random),
        threads=1,
    )
    assert bytes(out) == sealed
    assert written.header == sealed[:74]
    assert written.digest == digest_of(name)
    assert list(random) == []


def test_the_cipher_makes_the_known_answer_with_an_empty_last_segment() -> None:
    sealed, plain, parameters = known("java_lastSegEmpty")
    cipher = Cipher.start(Secret(KEY), AAD, parameters, lambda _: sealed[10:42])
    found = cipher.header
    for position, segment, final in segments(sealed):
        part = plain[position * parameters.capacity :][: parameters.capacity]
        out = bytearray(len(part) + 32)
        nonce = segment[4:16]
        cipher.encrypt(position, memoryview(part), memoryview(out), final=final, nonce=nonce)
        found += bytes(out)
    assert found == sealed
