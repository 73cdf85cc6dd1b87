"""Sealed models: encrypted files that only their rightful users can load, and only into memory.

    modelseal.open        a sealed model in this process (in-process use)
    modelseal.contract    names that all programs share
    modelseal.errors      the one tree of errors
    modelseal.envelope    the sealed format
    modelseal.keys        key providers
    modelseal.sources     places of ciphertext
    modelseal.opening     the verification order
    modelseal.engine      OpenVINO from memory

Importing this package imports nothing else: a program that needs the names only gets them only.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelseal.inprocess import CompiledModel, SealedModel, open  # noqa: A004 - as `gzip.open`

__all__ = ["CompiledModel", "SealedModel", "open"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from modelseal import inprocess  # noqa: PLC0415 - only when in-process use is wanted

        return getattr(inprocess, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
