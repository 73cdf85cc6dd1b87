"""What every tier shares: one real key service for the whole run."""

from collections.abc import Iterator

import pytest

from modelseal.cli.story.openbao import running
from support.openbao import KeyService


@pytest.fixture(scope="session")
def key_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyService]:
    """Start a real OpenBao server behind TLS with a CA of its own."""
    folder = tmp_path_factory.mktemp("openbao")
    with running(folder) as server:
        yield KeyService(server=server, folder=folder)
