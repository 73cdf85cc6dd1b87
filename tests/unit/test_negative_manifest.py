"""Attacks on the form of `seal.json` (docs/format.md, section 3): numbers 1, 2, 3, 5 and 32."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelseal.envelope import parse_seal
from modelseal.errors import HeaderError, LimitExceeded, NotSealed, UnsupportedVersion
from support.mutation import Json
from support.seals import edited, manifest_of, seal_folder, with_manifest, with_payload


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("sealed") / "out"
    return seal_folder(folder, {"model.xml": b"<net/>", "model.bin": b"weights"}).text


@pytest.mark.negative(1)
def test_no_truncation_of_a_seal_is_accepted(text: bytes) -> None:
    for length in range(len(text.rstrip())):
        with pytest.raises(HeaderError):
            parse_seal(text[:length])


@pytest.mark.negative(2)
def test_a_seal_beyond_one_mebibyte_is_refused_unread(text: bytes) -> None:
    assert parse_seal(text.ljust(1 << 20))
    with pytest.raises(LimitExceeded, match="longer than 1048576 bytes"):
        parse_seal(text.ljust((1 << 20) + 1))


def recipient(number: int) -> Json:
    return {"type": "file", "key": f"{number}", "wrapped": "AAAA"}


TOP: dict[str, tuple[Callable[[Json], object], type[HeaderError]]] = {
    "nine recipients": (
        lambda top: top.update(recipients=[recipient(number) for number in range(9)]),
        LimitExceeded,
    ),
    "no recipient": (lambda top: top.update(recipients=[]), HeaderError),
    "two recipients of one key": (
        lambda top: top.update(recipients=[recipient(1), recipient(1)]),
        HeaderError,
    ),
    "recipients that are an object": (lambda top: top.update(recipients={}), HeaderError),
    "a recipient that is a string": (lambda top: top.update(recipients=["file"]), HeaderError),
    "a recipient with an address": (
        lambda top: top["recipients"][0].update(address="https://evil"),
        HeaderError,
    ),
    "a recipient without a key": (lambda top: top["recipients"][0].pop("key"), HeaderError),
    "a recipient with an empty key": (
        lambda top: top["recipients"][0].update(key=""),
        HeaderError,
    ),
    "a recipient whose key is too long": (
        lambda top: top["recipients"][0].update(key="k" * 513),
        LimitExceeded,
    ),
    "a recipient whose key has a line end": (
        lambda top: top["recipients"][0].update(key="a\nb"),
        HeaderError,
    ),
    "a recipient whose key is not ASCII": (
        lambda top: top["recipients"][0].update(key="ключ"),
        HeaderError,
    ),
    "a recipient that is too long": (
        lambda top: top["recipients"][0].update(wrapped="w" * 4097),
        LimitExceeded,
    ),
    "a recipient of a strange type": (
        lambda top: top["recipients"][0].update(type="../file"),
        HeaderError,
    ),
    "an unknown field": (lambda top: top.update(alg="none"), HeaderError),
    "no MAC": (lambda top: top.pop("mac"), HeaderError),
    "a short MAC": (lambda top: top.update(mac=top["mac"][:-4]), HeaderError),
    "a payload with spare bits": (
        lambda top: top["envelope"].update(payload="AB=="),
        HeaderError,
    ),
    "a MAC in the other alphabet": (lambda top: top.update(mac="-_" * 32), HeaderError),
    "a MAC with white space": (lambda top: top.update(mac=top["mac"] + "\n"), HeaderError),
    "a MAC that is a number": (lambda top: top.update(mac=1), HeaderError),
    "a MAC that is not ASCII": (lambda top: top.update(mac="é" * 64), HeaderError),
    "an envelope with an unknown field": (
        lambda top: top["envelope"].update(alg="none"),
        HeaderError,
    ),
    "an empty payload": (lambda top: top["envelope"].update(payload=""), LimitExceeded),
    "nine signatures": (
        lambda top: top["envelope"].update(signatures=[{"keyid": "", "sig": "AAAA"}] * 9),
        LimitExceeded,
    ),
    "a signature that is too long": (
        lambda top: top["envelope"].update(signatures=[{"keyid": "", "sig": "AAAA" * 86}]),
        LimitExceeded,
    ),
    "an empty signature": (
        lambda top: top["envelope"].update(signatures=[{"keyid": "", "sig": ""}]),
        LimitExceeded,
    ),
    "a key id that is too long": (
        lambda top: top["envelope"].update(signatures=[{"keyid": "k" * 129, "sig": "AAAA"}]),
        LimitExceeded,
    ),
    "a format that is a number": (lambda top: top.update(format=1), HeaderError),
    "no format": (lambda top: top.pop("format"), HeaderError),
}


@pytest.mark.negative(2)
@pytest.mark.parametrize("name", TOP)
def test_a_malformed_seal_is_refused(name: str, text: bytes) -> None:
    change, kind = TOP[name]
    assert parse_seal(edited(text, lambda top: None))
    with pytest.raises(HeaderError) as caught:
        parse_seal(edited(text, change))
    assert type(caught.value) is kind
    assert caught.value.message.startswith("failed to read seal.json: ")


def entry(manifest: Json) -> Json:
    found: Json = manifest["files"][1]
    return found


def header_with(position: int, value: int, manifest: Json) -> None:
    header = bytearray(base64.b64decode(entry(manifest)["header"]))
    header[position] = value
    entry(manifest)["header"] = base64.b64encode(header).decode()


MANIFEST: dict[str, tuple[Callable[[Json], object], type[HeaderError]]] = {
    "a file of 1 PiB": (lambda manifest: entry(manifest).update(length=1 << 50), LimitExceeded),
    "a file of 1 TiB and a byte": (
        lambda manifest: entry(manifest).update(length=(1 << 40) + 1),
        LimitExceeded,
    ),
    "a length of 400 digits": (
        lambda manifest: entry(manifest).update(length=10**400),
        LimitExceeded,
    ),
    "an index of more than 4 MiB": (
        lambda manifest: manifest["files"][0].update(length=(4 << 20) + 1),
        LimitExceeded,
    ),
    "a negative length": (lambda manifest: entry(manifest).update(length=-1), HeaderError),
    "a length of minus zero and five": (
        lambda manifest: entry(manifest).update(length=-5),
        HeaderError,
    ),
    "a fraction": (lambda manifest: entry(manifest).update(length=1.5), HeaderError),
    "a float that is whole": (lambda manifest: entry(manifest).update(length=7.0), HeaderError),
    "a length that is true": (lambda manifest: entry(manifest).update(length=True), HeaderError),
    "a length in quotes": (lambda manifest: entry(manifest).update(length="7"), HeaderError),
    "NaN": (lambda manifest: entry(manifest).update(length=float("nan")), HeaderError),
    "infinity": (lambda manifest: entry(manifest).update(length=float("inf")), HeaderError),
    "a redundant ciphertext length": (
        lambda manifest: entry(manifest).update(ct_len=113),
        HeaderError,
    ),
    "a redundant number": (lambda manifest: entry(manifest).update(i=1), HeaderError),
    "a redundant count of files": (lambda manifest: manifest.update(n_files=3), HeaderError),
    "a short header": (
        lambda manifest: entry(manifest).update(header=entry(manifest)["header"][:96]),
        HeaderError,
    ),
    "a long digest": (
        lambda manifest: entry(manifest).update(digest="A" * 48),
        HeaderError,
    ),
    "other segment lengths": (lambda manifest: header_with(3, 0x20, manifest), UnsupportedVersion),
    "another cipher": (lambda manifest: header_with(0, 1, manifest), UnsupportedVersion),
    "no file but the index": (
        lambda manifest: manifest.update(files=manifest["files"][:1]),
        HeaderError,
    ),
    "4,097 files": (
        lambda manifest: manifest.update(files=[{}] * 4097),
        LimitExceeded,
    ),
    "files that are an object": (lambda manifest: manifest.update(files={}), HeaderError),
    "a name with an upper-case letter": (
        lambda manifest: manifest.update(model="Vision/filetype"),
        HeaderError,
    ),
    "a name that climbs": (lambda manifest: manifest.update(model="vision/.."), HeaderError),
    "a name of one part": (lambda manifest: manifest.update(model="vision"), HeaderError),
    "a name of three parts": (lambda manifest: manifest.update(model="a/b/c"), HeaderError),
    "a name with a zero byte": (lambda manifest: manifest.update(model="a/b\x00c"), HeaderError),
    "a name with a line end": (lambda manifest: manifest.update(model="a/b\n"), HeaderError),
    "a part of 64 characters": (
        lambda manifest: manifest.update(model="a/" + "b" * 64),
        HeaderError,
    ),
    "a version with a slash": (lambda manifest: manifest.update(version="1/2"), HeaderError),
    "an empty version": (lambda manifest: manifest.update(version=""), HeaderError),
    "a long version": (lambda manifest: manifest.update(version="1" * 129), LimitExceeded),
    "a sequence beyond 2^53": (
        lambda manifest: manifest.update(sequence=1 << 53),
        LimitExceeded,
    ),
    "an expiry with an offset": (
        lambda manifest: manifest.update(notAfter="2027-01-01T00:00:00+00:00"),
        HeaderError,
    ),
    "an expiry with fractions": (
        lambda manifest: manifest.update(notAfter="2027-01-01T00:00:00.0Z"),
        HeaderError,
    ),
    "an expiry on no day": (
        lambda manifest: manifest.update(notAfter="2027-02-30T00:00:00Z"),
        HeaderError,
    ),
    "an expiry of other digits": (
        lambda manifest: manifest.update(notAfter="٢027-01-01T00:00:00Z"),
        HeaderError,
    ),
    "an expiry of null": (lambda manifest: manifest.update(notAfter=None), HeaderError),
    "an unknown field": (lambda manifest: manifest.update(payload="floe"), HeaderError),
    "a short seal_id": (lambda manifest: manifest.update(seal_id="AAAA"), HeaderError),
    "a format that is null": (lambda manifest: manifest.update(format=None), HeaderError),
    "another format": (
        lambda manifest: manifest.update(format="modelseal/2"),
        UnsupportedVersion,
    ),
}


@pytest.mark.negative(5)
@pytest.mark.parametrize("name", MANIFEST)
def test_a_malformed_manifest_is_refused(name: str, text: bytes) -> None:
    change, kind = MANIFEST[name]
    assert parse_seal(with_manifest(text, lambda manifest: None))
    with pytest.raises(HeaderError) as caught:
        parse_seal(with_manifest(text, change))
    assert type(caught.value) is kind
    assert len(caught.value.message) < 250


@pytest.mark.negative(32)
def test_absurd_lengths_are_refused_by_the_parser(text: bytes) -> None:
    with pytest.raises(LimitExceeded, match=r"files\[1\]\.length is more than 1099511627776"):
        parse_seal(with_manifest(text, lambda manifest: entry(manifest).update(length=1 << 50)))


def doubled(data: bytes, field: bytes) -> bytes:
    """Give a field of an object twice, with equal values."""
    start = data.index(b'"%b"' % field)
    end = data.index(b",", start) + 1
    return data[:end] + data[start:end] + data[end:]


RAW: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "white space": lambda data: b" \n",
    "trailing bytes": lambda data: data + b"x",
    "a trailing zero byte": lambda data: data + b"\x00",
    "a second value": lambda data: data + b"{}",
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-32": lambda data: data.decode().encode("utf-32"),
    "a byte that is no UTF-8": lambda data: data.replace(b"/1", b"/\xff", 1),
    "an array": lambda data: b"[" + data + b"]",
    "a string": lambda data: json.dumps(data.decode()).encode(),
    "null": lambda data: b"null",
    "a field given twice": lambda data: doubled(data, b"format"),
    "a comment": lambda data: data.replace(b"{", b"{/**/", 1),
    "a trailing comma": lambda data: data.rstrip()[:-1] + b",}",
    "deep nesting": lambda data: b'{"format":' + b"[" * 200_000,
    "deep objects": lambda data: b'{"format":' * 100_000,
}


@pytest.mark.negative(2)
@pytest.mark.parametrize("name", RAW)
def test_other_json_is_refused_in_the_seal_and_in_the_manifest(name: str, text: bytes) -> None:
    change = RAW[name]
    manifest = json.dumps(manifest_of(text)).encode()
    with pytest.raises(HeaderError):
        parse_seal(change(text))
    with pytest.raises(HeaderError):
        parse_seal(with_payload(text, change(manifest)))


@pytest.mark.negative(2)
def test_a_field_given_twice_is_refused_at_every_depth(text: bytes) -> None:
    manifest = json.dumps(manifest_of(text)).encode()
    for field in (b"payloadType", b"type", b"mac"):
        with pytest.raises(HeaderError, match="given twice"):
            parse_seal(doubled(text, field))
    for field in (b"length", b"header", b"sequence"):
        with pytest.raises(HeaderError, match="given twice"):
            parse_seal(with_payload(text, doubled(manifest, field)))


@pytest.mark.negative(3)
@pytest.mark.parametrize("value", ["modelseal/2", "modelseal/1.0", "Modelseal/1", "", "x" * 9999])
def test_another_format_is_refused_whatever_else_it_has(value: str, text: bytes) -> None:
    for data in (
        edited(text, lambda top: top.update(format=value)),
        edited(text, lambda top: top.update(format=value, future=[1, {}])),
        json.dumps({"format": value}).encode(),
    ):
        with pytest.raises(UnsupportedVersion) as caught:
            parse_seal(data)
        assert len(caught.value.message) < 250


@pytest.mark.negative(3)
def test_another_type_of_payload_is_not_even_parsed(text: bytes) -> None:
    kind = "application/vnd.in-toto+json"
    with pytest.raises(UnsupportedVersion, match="of type"):
        parse_seal(edited(text, lambda top: top["envelope"].update(payloadType=kind)))


@pytest.mark.parametrize(
    "data",
    [
        b"<?xml version='1.0'?><net/>",
        b"  <net name='x'>",
        b"\x08\x07\x12\x07pytorch",
        b"GGUF\x03",
        b"PK\x03\x04",
        b"\x1c\x00\x00\x00TFL3",
        b'\x40\x00\x00\x00\x00\x00\x00\x00{"weight":',
    ],
)
def test_a_plaintext_model_in_the_place_of_a_seal_is_named(data: bytes) -> None:
    with pytest.raises(NotSealed, match="plaintext model"):
        parse_seal(data)


def test_a_message_never_carries_raw_text_from_a_file(text: bytes) -> None:
    nasty = "\x1b[31m\n" + "é" * 500
    with pytest.raises(HeaderError) as caught:
        parse_seal(edited(text, lambda top: top.update({nasty: 1})))
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 250
