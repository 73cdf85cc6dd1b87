"""What the tests of key providers share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fault_proxy import FaultProxy, proxying
from support.fleet import Fleet
from support.openbao import KeyService


@pytest.fixture
def proxy(key_service: KeyService) -> Iterator[FaultProxy]:
    """Stand in front of the key service with a proxy that can misbehave."""
    with proxying(key_service) as proxy:
        yield proxy


@pytest.fixture
def fleet(key_service: KeyService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Return four sealed models with a transit key each."""
    return Fleet(key_service, tmp_path, monkeypatch)
