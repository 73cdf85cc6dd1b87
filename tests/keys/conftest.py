"""What the tests of key providers share."""

from collections.abc import Iterator

import pytest

from support.fault_proxy import FaultProxy, proxying
from support.openbao import KeyService


@pytest.fixture
def proxy(key_service: KeyService) -> Iterator[FaultProxy]:
    """Stand in front of the key service with a proxy that can misbehave."""
    with proxying(key_service) as proxy:
        yield proxy
