"""The one error of the pure middle: an object asks for what it cannot have."""

from typing import Final

from modelseal.contract import Reason
from modelseal.errors import SettingsError


class Refusal(SettingsError):
    """An API object is inconsistent or asks for more than it may.

    `why` becomes the reason of `Accepted=False`. With `withdrawn` the right itself is gone, so
    existing children go too; otherwise they stay as they are and the lease governs.
    """

    def __init__(self, why: Reason, message: str, *, withdrawn: bool = False) -> None:
        super().__init__(message)
        self.why: Final = why
        self.withdrawn: Final = withdrawn
