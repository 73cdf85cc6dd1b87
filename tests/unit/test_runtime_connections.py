"""How long connections live, and whether there is one."""

import socket

import pytest

from modelseal_runtime.rpc.connections import connected, life


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_port_is_connected_from_the_first_client_to_the_end_of_the_last(
    family: socket.AddressFamily, host: str
) -> None:
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        assert not connected(port)
        with socket.create_connection((host, port)):
            assert connected(port)
            taken, _ = server.accept()
        taken.close()
        assert not connected(port)


@pytest.mark.parametrize("drain", [2.0, 3.0, 30.0, 600.0])
def test_every_connection_ends_within_a_drain(drain: float) -> None:
    assert life(drain) * 1.1 < drain - 0.5


def test_a_connection_lives_for_a_second_and_not_for_hours() -> None:
    assert life(0.001) == 1
    assert life(86400) == 600
