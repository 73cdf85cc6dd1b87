"""What both ways of delivery do for the agent's main thread (design section 8)."""

from dataclasses import dataclass
from typing import Protocol

from modelseal import handover
from modelseal.contract import Reason
from modelseal.errors import ModelsealError
from modelseal.memory import PlaintextMemory


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A decrypted model: its memory, its name, and where each file lies in the memory."""

    memory: PlaintextMemory
    model: handover.Model
    files: tuple[handover.File, ...]


class Delivery(Protocol):
    """One way to give plaintext to a server, and to take it back."""

    @property
    def memory_name(self) -> str | None:
        """The name of the memfd that the model is decrypted into; `None` for private memory."""

    @property
    def again(self) -> bool:
        """Whether another server can come after the one that a model was withdrawn from."""

    def start(self) -> None:
        """Begin: listen, or clear the directory.

        Raises:
            ModelsealError: it cannot be done here at all.

        """

    def has_room(self) -> bool:
        """Whether memory may be allocated: nobody may still hold what an earlier agent gave."""

    def deliver(self, parcel: Parcel, valid_for: float) -> None:
        """Take over the parcel and give it to the server, now or when one comes.

        Raises:
            DeliveryError: it could not be delivered; nothing is left of it, the parcel is released.

        """

    def extend(self, valid_for: float) -> None:
        """Tell the server that it may go on for `valid_for` seconds from now."""

    def lost(self) -> ModelsealError | None:
        """Say why nobody will ever take the model, where that is so."""

    def withdraw(self, reason: Reason) -> None:
        """Take the model back in the stated order; afterwards its memory is wiped and free."""

    def released(self) -> bool:
        """Whether the server that held the withdrawn model has ended."""

    def close(self) -> None:
        """End everything, wiping what is left; idempotent."""
