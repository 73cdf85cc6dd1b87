"""Ciphertext over HTTP: ranges of one object, bounded tries, nobody followed elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelseal.contract import MAX_SEAL_BYTES
from modelseal.errors import (
    LimitExceeded,
    NotSealed,
    SettingsError,
    SourceChanged,
    SourceDenied,
    SourceNotFound,
    SourceUnavailable,
    TrailingData,
    TruncatedError,
)
from modelseal.sources.http import HttpSource
from support.http_origin import Handler, Origin, cut, serving, status

DATA = os.urandom(300_000)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    (tmp_path / "m" / "p").mkdir(parents=True)
    (tmp_path / "m" / "seal.json").write_bytes(b"{}")
    (tmp_path / "m" / "p" / "0.floe").write_bytes(DATA)
    with serving(tmp_path) as origin:
        yield origin


@pytest.fixture
def source(origin: Origin) -> Iterator[HttpSource]:
    source = HttpSource(f"{origin.address}/m")
    yield source
    source.close()


def read(source: HttpSource, offset: int, length: int) -> bytes:
    payload = source.open_payload("p/0.floe", len(DATA))
    buffer = bytearray(length)
    payload.read_into(offset, memoryview(buffer))
    payload.close()
    return bytes(buffer)


def test_a_range_is_the_objects_own_bytes(source: HttpSource) -> None:
    assert read(source, 1000, 4096) == DATA[1000:5096]
    assert read(source, len(DATA) - 1, 1) == DATA[-1:]


def test_seal_json_is_read_whole(source: HttpSource) -> None:
    assert source.read_seal() == b"{}"


def test_a_seal_json_that_does_not_end_is_not_read_to_its_end(
    origin: Origin, source: HttpSource
) -> None:
    (origin.folder / "m" / "seal.json").write_bytes(bytes(MAX_SEAL_BYTES + 1))
    with pytest.raises(LimitExceeded):
        source.read_seal()


def test_a_place_without_seal_json_is_not_sealed(origin: Origin) -> None:
    with pytest.raises(NotSealed):
        HttpSource(f"{origin.address}/elsewhere").read_seal()


def test_a_missing_payload_is_named(source: HttpSource) -> None:
    with pytest.raises(SourceNotFound, match=r"9\.floe"):
        source.open_payload("p/9.floe", 100)


@pytest.mark.negative(28)
@pytest.mark.parametrize(
    ("signed", "error"), [(len(DATA) + 1, TruncatedError), (len(DATA) - 1, TrailingData)]
)
def test_an_object_of_another_length_is_refused(
    source: HttpSource, signed: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        source.open_payload("p/0.floe", signed)


@pytest.mark.negative(28)
def test_an_object_that_changes_between_ranges_is_refused(
    origin: Origin, source: HttpSource
) -> None:
    payload = source.open_payload("p/0.floe", len(DATA))
    (origin.folder / "m" / "p" / "0.floe").write_bytes(os.urandom(len(DATA)))
    with pytest.raises(SourceChanged):
        payload.read_into(0, memoryview(bytearray(10)))


@pytest.mark.negative(28)
def test_a_range_of_another_place_is_refused(origin: Origin, source: HttpSource) -> None:
    payload = source.open_payload("p/0.floe", len(DATA))

    def shifted(handler: Handler) -> bool:
        handler.answer(206, DATA[1:11], Content_Range=f"bytes 1-10/{len(DATA)}")
        return True

    origin.faults.append(shifted)
    with pytest.raises(SourceChanged):
        payload.read_into(0, memoryview(bytearray(10)))


def test_a_broken_connection_is_tried_again(origin: Origin, source: HttpSource) -> None:
    payload = source.open_payload("p/0.floe", len(DATA))

    def broken(handler: Handler) -> bool:
        etag = origin_etag(handler)
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-99/{len(DATA)}")
        handler.send_header("ETag", etag)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(DATA[:40])
        handler.close_connection = True
        return True

    origin.faults.append(broken)
    buffer = bytearray(100)
    payload.read_into(0, memoryview(buffer))
    assert bytes(buffer) == DATA[:100]


def whole(handler: Handler) -> bool:
    handler.answer(200, DATA)
    return True


def origin_etag(handler: Handler) -> str:
    return str(handler.headers["If-Range"])


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_a_server_that_stumbles_is_asked_again(
    origin: Origin, source: HttpSource, code: int
) -> None:
    origin.faults.append(status(code, Retry_After="0"))
    assert source.read_seal() == b"{}"


def test_a_server_that_stays_down_is_unavailable_after_bounded_tries(
    origin: Origin, source: HttpSource
) -> None:
    origin.faults += [status(503, Retry_After="0")] * 50
    with pytest.raises(SourceUnavailable, match="503"):
        source.read_seal()
    assert len(origin.asked) == 4


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_is_a_refusal_and_shows_no_body(
    origin: Origin, source: HttpSource, code: int
) -> None:
    origin.faults.append(status(code))
    with pytest.raises(SourceDenied) as caught:
        source.read_seal()
    assert "secret body" not in str(caught.value)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(
    origin: Origin, source: HttpSource, tmp_path: Path, code: int
) -> None:
    with serving(tmp_path) as other:
        origin.faults.append(status(code, Location=f"{other.address}/m/seal.json"))
        with pytest.raises(SourceUnavailable, match=str(code)):
            source.read_seal()
        assert other.asked == []


def test_a_server_without_ranges_is_refused_with_the_reason(
    origin: Origin, source: HttpSource
) -> None:
    origin.faults.append(whole)
    with pytest.raises(SourceUnavailable, match="ranges"):
        source.open_payload("p/0.floe", len(DATA))


def test_the_bearer_token_is_read_anew_and_never_shown(origin: Origin, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first-token\n")
    source = HttpSource(f"{origin.address}/m", token_file=token)
    source.read_seal()
    token.write_text("second-token\n")
    origin.faults.append(status(403))
    with pytest.raises(SourceDenied) as caught:
        source.read_seal()
    sent = [headers["Authorization"] for _, headers in origin.asked]
    assert sent == ["Bearer first-token", "Bearer second-token"]
    assert "second-token" not in repr(caught.value)
    source.close()


def test_proxies_of_the_environment_are_not_used(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    source = HttpSource(f"{origin.address}/m")
    assert source.read_seal() == b"{}"
    source.close()


@pytest.mark.parametrize(
    "address", ["ftp://host/x", "http://", "https://user:pw@host/x", "http://host:99999/", "x"]
)
def test_an_address_that_makes_no_sense_is_refused_without_repeating_credentials(
    address: str,
) -> None:
    with pytest.raises(SettingsError) as caught:
        HttpSource(address)
    assert "pw@" not in str(caught.value)


def test_a_cut_answer_is_not_taken_for_the_whole(origin: Origin, source: HttpSource) -> None:
    origin.faults += [cut] * 10
    with pytest.raises((SourceUnavailable, TruncatedError, SourceChanged)):
        source.open_payload("p/0.floe", len(DATA)).read_into(0, memoryview(bytearray(100)))
