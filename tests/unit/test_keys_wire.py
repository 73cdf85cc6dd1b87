"""Where a connection to a key service goes."""

import http.client

import pytest

from modelseal import tls
from modelseal.keys.wire import Patience, Wire, WireError


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("https://vault.example.org:8200", "vault.example.org", 8200),
        ("https://vault.example.org", "vault.example.org", 443),
        ("https://[2001:db8::1]", "2001:db8::1", 443),
        ("https://[2001:db8::1]:8200/prefix", "2001:db8::1", 8200),
        ("http://localhost", "localhost", 80),
    ],
)
def test_a_connection_goes_to_the_host_and_port_of_the_address(
    monkeypatch: pytest.MonkeyPatch, address: str, host: str, port: int
) -> None:
    gone: list[tuple[str, int]] = []

    def connect(connection: http.client.HTTPConnection) -> None:
        gone.append((connection.host, connection.port))
        raise ConnectionRefusedError

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
    monkeypatch.setattr(http.client.HTTPSConnection, "connect", connect)
    wire = Wire(
        address,
        context=tls.client_context(),
        patience=Patience(connect=1.0, read=1.0, answer=1.0),
    )
    with pytest.raises(WireError):
        wire.ask("GET", "/v1/sys/health", {}, None)
    assert gone == [(host, port)]
