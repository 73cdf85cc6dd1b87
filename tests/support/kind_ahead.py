"""The session's cluster, made while the tests before it run: those mostly wait."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from support import kind, kind_given
from support.images import build_images

NAME: Final = f"modelseal-e2e-{os.getpid()}"
_begun: Final[list[threading.Thread]] = []


@contextlib.contextmanager
def begun() -> Iterator[None]:
    """Build the images and make the cluster while the block runs; it is gone after the block."""
    if kind_given.given() or kind.kept() or kind.missing():
        yield
        return
    thread = threading.Thread(target=_make, name="the cluster, ahead of time")
    thread.start()
    _begun.append(thread)
    try:
        yield
    finally:
        thread.join()
        kind.delete(NAME)


def wait() -> None:
    """Wait until what was begun has come to its end, good or bad."""
    for thread in _begun:
        thread.join()


def _make() -> None:
    # what fails here fails again where it is needed, and says why there
    with contextlib.suppress(Exception), tempfile.TemporaryDirectory() as folder:
        images = build_images()
        kind.create(NAME, Path(folder, "kubeconfig")).load(*images.all())
