"""Tracebacks that are safe to show: places and types, and only messages of our own errors.

A foreign exception's text may hold a header, a body or a path that carries a secret, so it is left
out; our own messages hold none (errors.py).
"""

import traceback
from collections.abc import Iterator, Mapping
from typing import Final

from modelseal.errors import ModelsealError

VARIABLE: Final = "MODELSEAL_DEBUG"


def debugging(environ: Mapping[str, str]) -> bool:
    """Whether the user asked for tracebacks."""
    return environ.get(VARIABLE, "") not in ("", "0")


def debug_text(error: BaseException) -> str:
    """Return the chain of errors, oldest first, each with the places it came through."""
    blocks = ["".join(_block(link)) for link in reversed(list(_chain(error)))]
    return "\nwhich led to\n\n".join(blocks)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _block(error: BaseException) -> Iterator[str]:
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}\n"
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    yield f"{kind}: {error.message}\n" if isinstance(error, ModelsealError) else f"{kind}\n"
