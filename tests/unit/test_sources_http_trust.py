"""Whom an HTTP source believes, how long it waits, and what it takes for the same object."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from urllib3.util import Timeout

from modelseal.errors import (
    NotSealed,
    SettingsError,
    SourceChanged,
    SourceDenied,
    SourceError,
    SourceUnavailable,
)
from modelseal.sources.http import TRIES, HttpSource
from support import certificates
from support.certificates import Certificates
from support.http_origin import Handler, Misbehave, Origin, serving

DATA = os.urandom(50_000)
NAME = "p/0.floe"
SHORT = Timeout(connect=2.0, read=0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "public"
    (place / "m" / "p").mkdir(parents=True)
    (place / "m" / "seal.json").write_bytes(b"{}")
    (place / "m" / NAME).write_bytes(DATA)
    return place


@pytest.fixture
def origin(folder: Path) -> Iterator[Origin]:
    with serving(folder) as origin:
        yield origin


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("tls"))


def read(source: HttpSource, length: int = 100) -> bytes:
    buffer = bytearray(length)
    source.open_payload(NAME, len(DATA)).read_into(0, memoryview(buffer))
    return bytes(buffer)


def test_a_server_of_the_given_ca_is_believed(folder: Path, tls: Certificates) -> None:
    with serving(folder, tls) as origin:
        source = HttpSource(f"{origin.address}/m", ca_file=tls.ca)
        assert read(source) == DATA[:100]
        source.close()


def test_the_keys_of_a_connection_are_written_nowhere_whatever_the_environment_says(
    folder: Path, tls: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With them, whoever recorded the network traffic reads the source's bearer token in it."""
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    with serving(folder, tls) as origin:
        straight = HttpSource(f"{origin.address}/m", ca_file=tls.ca)
        assert read(straight) == DATA[:100]
        straight.close()
        through = HttpSource("https://127.0.0.1:1/m", proxy=origin.address, timeout=SHORT)
        with pytest.raises(SourceUnavailable):
            through.read_seal()
        through.close()
    assert not log.exists()


@pytest.mark.parametrize("trust", ["another CA", "the system"])
def test_a_server_of_another_ca_is_not_asked_anything(
    folder: Path, tls: Certificates, tmp_path: Path, trust: str
) -> None:
    ca = certificates.make(tmp_path / "other").ca if trust == "another CA" else None
    with serving(folder, tls) as origin:
        source = HttpSource(f"{origin.address}/m", ca_file=ca, timeout=SHORT)
        with pytest.raises(SourceUnavailable, match="not trusted"):
            source.read_seal()
        assert origin.asked == []
        source.close()


@pytest.mark.parametrize(("address", "days"), [("127.0.0.9", 2), ("127.0.0.1", -1)])
def test_a_certificate_for_another_host_or_of_yesterday_is_refused(
    folder: Path, tmp_path: Path, address: str, days: int
) -> None:
    made = certificates.make(tmp_path / "made", address, days=days)
    with serving(folder, made) as origin:
        source = HttpSource(f"{origin.address}/m", ca_file=made.ca, timeout=SHORT)
        with pytest.raises(SourceUnavailable, match="not trusted"):
            source.read_seal()
        source.close()


def test_a_ca_file_that_is_none_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "none.pem"):
        with pytest.raises(SettingsError):
            HttpSource("https://127.0.0.1/m", ca_file=tmp_path / name)


def hanging(handler: Handler) -> bool:
    """Say nothing for longer than anybody waits."""
    threading.Event().wait(0.6)
    handler.close_connection = True
    return True


def hanging_in_the_body(handler: Handler) -> bool:
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 0-99/{len(DATA)}")
    handler.send_header("ETag", str(handler.headers["If-Range"]))
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(DATA[:10])
    return hanging(handler)


@pytest.mark.parametrize("fault", [hanging, hanging_in_the_body], ids=["hang", "in the body"])
def test_a_server_that_hangs_once_is_asked_again(origin: Origin, fault: Misbehave) -> None:
    source = HttpSource(f"{origin.address}/m", timeout=SHORT)
    payload = source.open_payload(NAME, len(DATA))
    origin.faults.append(fault)
    buffer = bytearray(100)
    payload.read_into(0, memoryview(buffer))
    assert bytes(buffer) == DATA[:100]
    source.close()


def test_a_server_that_hangs_is_given_up_after_bounded_tries(origin: Origin) -> None:
    source = HttpSource(f"{origin.address}/m", timeout=SHORT)
    payload = source.open_payload(NAME, len(DATA))
    origin.asked.clear()
    origin.faults += [hanging] * 50
    with pytest.raises(SourceUnavailable):
        payload.read_into(0, memoryview(bytearray(100)))
    assert len(origin.asked) == TRIES
    source.close()


def test_a_server_that_hangs_in_each_body_is_given_up_after_bounded_tries(origin: Origin) -> None:
    source = HttpSource(f"{origin.address}/m", timeout=SHORT)
    payload = source.open_payload(NAME, len(DATA))
    origin.asked.clear()
    origin.faults += [hanging_in_the_body] * 50
    with pytest.raises(SourceError):
        payload.read_into(0, memoryview(bytearray(100)))
    assert len(origin.asked) <= TRIES
    source.close()


def test_a_server_that_is_not_there_is_unavailable(folder: Path) -> None:
    with serving(folder) as gone:
        address = gone.address
    source = HttpSource(f"{address}/m", timeout=SHORT)
    with pytest.raises(SourceUnavailable):
        source.read_seal()
    source.close()


def ranged(content_range: str, body: bytes = DATA[:100], **headers: str) -> Misbehave:
    def fault(handler: Handler) -> bool:
        sent = {"ETag": str(handler.headers.get("If-Range", '"x"')), **headers}
        handler.answer(206, body, Content_Range=content_range, **sent)
        return True

    return fault


TOTAL = len(DATA)


@pytest.mark.negative(28)
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (ranged(f"bytes 0-99/{TOTAL + 1}"), SourceChanged),
        (ranged(f"bytes 0-98/{TOTAL}"), SourceChanged),
        (ranged(f"bytes 1-100/{TOTAL}"), SourceChanged),
        (ranged("bytes 0-99/*"), SourceUnavailable),
        (ranged("items 0-99/50000"), SourceUnavailable),
        (ranged(""), SourceUnavailable),
        (ranged(f"bytes 0-99/{TOTAL}", ETag='"another"'), SourceChanged),
        (ranged(f"bytes 0-99/{TOTAL}", ETag='W/"weak"'), SourceChanged),
        (ranged(f"bytes 0-99/{TOTAL}", Content_Encoding="gzip"), SourceUnavailable),
    ],
)
def test_a_range_that_is_not_the_one_of_the_pinned_object_is_refused(
    origin: Origin, fault: Misbehave, kind: type[SourceError]
) -> None:
    source = HttpSource(f"{origin.address}/m")
    payload = source.open_payload(NAME, len(DATA))
    origin.faults.append(fault)
    buffer = bytearray(100)
    with pytest.raises(kind):
        payload.read_into(0, memoryview(buffer))
    assert bytes(buffer) == bytes(100)
    source.close()


@pytest.mark.negative(28)
def test_each_range_asks_for_the_object_that_was_pinned(origin: Origin) -> None:
    source = HttpSource(f"{origin.address}/m")
    read(source)
    headers = origin.asked[-1][1]
    assert headers["Range"] == "bytes=0-99"
    assert headers["If-Range"].startswith('"')
    assert headers["Accept-Encoding"] == "identity"
    source.close()


@pytest.mark.negative(28)
def test_an_object_that_went_away_meanwhile_is_refused(origin: Origin) -> None:
    source = HttpSource(f"{origin.address}/m")
    payload = source.open_payload(NAME, len(DATA))
    (origin.folder / "m" / NAME).unlink()
    with pytest.raises(SourceError):
        payload.read_into(0, memoryview(bytearray(100)))
    source.close()


def test_readers_of_one_object_work_side_by_side(origin: Origin) -> None:
    source = HttpSource(f"{origin.address}/m")
    payload = source.open_payload(NAME, len(DATA))
    parts = [bytearray(5_000) for _ in range(10)]

    def fill(number: int) -> None:
        payload.read_into(number * 5_000, memoryview(parts[number]))

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"".join(parts) == DATA
    source.close()


def test_a_netrc_is_not_read(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrc-password\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    source = HttpSource(f"{origin.address}/m")
    source.read_seal()
    assert "Authorization" not in origin.asked[0][1]
    source.close()


def test_a_token_file_that_cannot_be_used_stops_the_request(origin: Origin, tmp_path: Path) -> None:
    for content in (b"", b"two\nlines", b"\xff"):
        (tmp_path / "token").write_bytes(content)
        source = HttpSource(f"{origin.address}/m", token_file=tmp_path / "token")
        with pytest.raises(SourceDenied):
            source.read_seal()
        source.close()
    assert origin.asked == []


def test_the_configured_proxy_is_used_and_no_other(origin: Origin) -> None:
    source = HttpSource("http://models.example/m", proxy=origin.address)
    with pytest.raises(NotSealed):
        source.read_seal()
    assert origin.asked[0][0].startswith("http://models.example/m/")
    source.close()
