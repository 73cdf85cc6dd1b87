"""What every tier shares: one real key service for the whole run."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from modelseal.cli.story.openbao import running
from support.openbao import KeyService

# A time limit for an example measures the machine, not the code.
settings.register_profile("timeless", deadline=None)
settings.load_profile("timeless")


def pytest_configure() -> None:
    """Let programs that tests start be interrupted, wherever the tests themselves were started.

    What `nohup` or a shell runs in the background ignores signals, and so would all its children;
    what is handled, they do not inherit.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the two tiers with clusters last: one that waits costs all others processor time."""
    last = ("cluster", "e2e_kind")
    folders = Path(__file__).parent
    items.sort(
        key=lambda item: next(
            (at for at, name in enumerate(last) if item.path.is_relative_to(folders / name)), -1
        )
    )


@pytest.fixture(scope="session")
def key_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyService]:
    """Start a real OpenBao server behind TLS with a CA of its own."""
    folder = tmp_path_factory.mktemp("openbao")
    with running(folder) as server:
        yield KeyService(server=server, folder=folder)
