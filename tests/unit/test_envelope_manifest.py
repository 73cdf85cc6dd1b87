"""`seal.json` is read as it was written, and everything that is read can be written again."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelseal import contract
from modelseal.envelope import (
    Envelope,
    FileEntry,
    Manifest,
    Recipient,
    Seal,
    Signature,
    encode_seal,
    parse_seal,
    replace_recipients,
    valid_model_name,
)
from modelseal.envelope.floe import GCM256_IV256_1M
from modelseal.envelope.manifest import encode_manifest
from modelseal.errors import HeaderError, LimitExceeded
from support.mutation import mutated
from support.seals import manifest_of, seal_folder, with_payload

NAME = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", fullmatch=True)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=512)


def binary(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    lengths = draw(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=4))
    return Manifest(
        model=f"{draw(NAME)}/{draw(NAME)}",
        version=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", fullmatch=True)),
        sequence=draw(st.integers(0, (1 << 53) - 1)),
        not_after=draw(
            st.none()
            | st.datetimes(
                min_value=datetime(1970, 1, 1),
                timezones=st.just(UTC),
            ).map(lambda moment: moment.replace(microsecond=0))
        ),
        seal_id=draw(binary(32)),
        files=tuple(
            FileEntry(
                number=number,
                plaintext_length=length,
                header=GCM256_IV256_1M.encoded + draw(binary(64)),
                digest=draw(binary(32)),
            )
            for number, length in enumerate([draw(st.integers(0, 4 << 20)), *lengths])
        ),
    )


@st.composite
def seals(draw: st.DrawFn) -> Seal:
    manifest = draw(manifests())
    signature = st.builds(
        Signature,
        keyid=PRINTABLE.map(lambda text: text[:128]),
        sig=st.binary(min_size=1, max_size=256),
    )
    recipient = st.builds(
        Recipient,
        kind=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True),
        key=PRINTABLE,
        wrapped=PRINTABLE,
    )
    return Seal(
        manifest=manifest,
        envelope=Envelope(
            payload_type=contract.MANIFEST_TYPE,
            payload=encode_manifest(manifest),
            signatures=tuple(draw(st.lists(signature, max_size=8))),
        ),
        mac=draw(binary(48)),
        recipients=tuple(
            draw(
                st.lists(
                    recipient, min_size=1, max_size=8, unique_by=lambda one: (one.kind, one.key)
                )
            )
        ),
    )


@given(seals())
def test_what_is_encoded_is_parsed_back(seal: Seal) -> None:
    assert parse_seal(encode_seal(seal)) == seal


def normal(data: bytes) -> tuple[bytes, Seal] | None:
    """Return the normal form of a seal and its value, or nothing where it is refused."""
    try:
        seal = parse_seal(data)
    except HeaderError:
        return None
    return encode_seal(seal), seal


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("sealed") / "out"
    return seal_folder(folder, {"model.xml": b"<net/>"}).text


@given(data=st.data())
@settings(max_examples=300)
def test_whatever_a_seal_is_changed_to_is_refused_or_has_one_meaning(
    data: st.DataObject, text: bytes
) -> None:
    changed = json.dumps(data.draw(mutated(json.loads(text))), ensure_ascii=False)
    found = normal(changed.encode("utf-8", "surrogatepass"))
    if found is not None:
        assert parse_seal(found[0]) == found[1]
        assert encode_seal(found[1]) == found[0]


@given(data=st.data())
@settings(max_examples=300)
def test_whatever_a_manifest_is_changed_to_is_refused_or_has_one_meaning(
    data: st.DataObject, text: bytes
) -> None:
    changed = json.dumps(data.draw(mutated(manifest_of(text)))).encode()
    found = normal(with_payload(text, changed))
    if found is not None:
        assert found[1].envelope.payload == changed
        manifest = found[1].manifest
        again = with_payload(text, encode_manifest(manifest))
        assert parse_seal(again).manifest == manifest


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda one: one.encode("utf-8", "replace"))
)
def test_noise_is_refused_by_name(noise: bytes) -> None:
    with pytest.raises(HeaderError):
        parse_seal(noise)


@given(data=st.data())
@settings(max_examples=300)
def test_a_seal_with_bytes_cut_out_or_put_in_is_refused_or_has_one_meaning(
    data: st.DataObject, text: bytes
) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    changed = text[:start] + data.draw(st.binary(max_size=8)) + text[end:]
    found = normal(changed)
    if found is not None:
        assert parse_seal(found[0]) == found[1]


def test_white_space_and_order_carry_no_meaning(text: bytes) -> None:
    top = json.loads(text)
    turned = json.dumps(dict(reversed(top.items())), indent=4).encode()
    assert parse_seal(turned) == parse_seal(text)


def test_other_recipients_leave_what_was_signed_byte_for_byte(text: bytes) -> None:
    other = [
        Recipient(kind="vault-transit", key="transit/models", wrapped="vault:v1:AAAA"),
        Recipient(kind="future-kind", key="x", wrapped="y"),
    ]
    changed, read = replace_recipients(parse_seal(text), other)
    before, after = json.loads(text), json.loads(changed)
    assert after["recipients"] == [
        {"type": "vault-transit", "key": "transit/models", "wrapped": "vault:v1:AAAA"},
        {"type": "future-kind", "key": "x", "wrapped": "y"},
    ]
    del before["recipients"], after["recipients"]
    assert after == before
    assert read == parse_seal(changed)


@pytest.mark.parametrize("count", [0, 9])
def test_recipients_that_nobody_could_read_are_not_written(count: int, text: bytes) -> None:
    many = [Recipient(kind="file", key=f"{number}", wrapped="w") for number in range(count)]
    with pytest.raises(HeaderError):
        replace_recipients(parse_seal(text), many)


def test_a_seal_that_would_be_too_long_is_not_written(text: bytes) -> None:
    seal = parse_seal(text)
    envelope = replace(seal.envelope, payload=bytes(800_000))
    with pytest.raises(LimitExceeded, match="longer than 1048576"):
        encode_seal(replace(seal, envelope=envelope))


def test_as_many_files_as_the_format_allows_fit_where_they_are_of_ordinary_length(
    text: bytes,
) -> None:
    seal = parse_seal(text)
    entry = replace(seal.manifest.files[1], plaintext_length=999_999_999)
    files = tuple(replace(entry, number=number) for number in range(1, contract.MAX_FILES))
    manifest = replace(seal.manifest, files=(seal.manifest.files[0], *files))
    envelope = replace(seal.envelope, payload=encode_manifest(manifest))
    many = replace(seal, manifest=manifest, envelope=envelope)
    assert parse_seal(encode_seal(many)) == many


def test_sizes_are_those_of_the_files_without_the_index(tmp_path: Path) -> None:
    files = {"a": b"x" * 5, "b": b"", "c": bytes((1 << 20) - 32 + 1)}
    made = seal_folder(tmp_path / "out", files)
    assert made.seal.plaintext_size == sum(len(content) for content in files.values())
    objects = [path.stat().st_size for path in (tmp_path / "out" / "p").iterdir()]
    assert made.seal.ciphertext_size == sum(objects)


def test_the_digest_is_that_of_the_signed_bytes(text: bytes) -> None:
    seal = parse_seal(text)
    assert seal.digest.startswith("sha256:")
    reordered = json.dumps(dict(reversed(manifest_of(text).items()))).encode()
    assert parse_seal(with_payload(text, reordered)).manifest == seal.manifest
    assert parse_seal(with_payload(text, reordered)).digest != seal.digest


def test_an_expiry_is_written_in_utc(text: bytes) -> None:
    zone = timezone(timedelta(hours=2))
    moment = datetime(2027, 1, 1, 1, 30, tzinfo=zone)
    manifest = replace(parse_seal(text).manifest, not_after=moment)
    written: Any = json.loads(encode_manifest(manifest))
    assert written["notAfter"] == "2026-12-31T23:30:00Z"


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("a/b", True),
        ("vision/file-type.v2", True),
        (f"{'a' * 63}/{'b' * 63}", True),
        ("a", False),
        ("a/", False),
        ("/b", False),
        ("a/b/c", False),
        ("A/b", False),
        ("a/-b", False),
        ("a/b.", False),
        ("a/..", False),
        (f"{'a' * 64}/b", False),
        ("a/b\n", False),
        ("a/é", False),
    ],
)
def test_a_model_name_has_two_plain_parts(name: str, valid: bool) -> None:
    assert valid_model_name(name) is valid
