"""Wrapping a data key for several providers at once, and the rules for a set of recipients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from modelseal import opening
from modelseal.envelope import DataKeys, Seal, kek_context, verify_mac
from modelseal.envelope.recipients import Recipient
from modelseal.errors import KeyAccessDenied, SettingsError, shown
from modelseal.keys import KeyProvider
from modelseal.secret import Secret

WEAKEST: Final = "passphrase"
Wrap = Callable[[Secret, bytes], Sequence[Recipient]]


def wrap_for(providers: Sequence[KeyProvider]) -> Wrap:
    """Return a function that wraps a data key once for each provider."""

    def wrap(dek: Secret, context: bytes) -> list[Recipient]:
        recipients = [provider.wrap(dek, context) for provider in providers]
        refuse_duplicates(recipients)
        return recipients

    return wrap


def refuse_weakest(kinds: Sequence[str], *, allowed: bool) -> None:
    """Refuse a passphrase beside another recipient, unless it is wanted.

    Raises:
        SettingsError: the seal would be as weak as its passphrase.

    """
    if WEAKEST in kinds and len(kinds) > 1 and not allowed:
        raise SettingsError(
            "failed to combine a passphrase with another key: "
            "the seal would be as weak as the passphrase",
            hint="seal twice, or say --allow-weakest",
        )


def refuse_duplicates(recipients: Sequence[Recipient]) -> None:
    """Refuse two recipients of one kind and key: a reader would only ever use the first.

    Raises:
        SettingsError: a key was named twice, or opens the seal already.

    """
    seen = {(recipient.kind, recipient.key) for recipient in recipients}
    if len(seen) < len(recipients):
        raise SettingsError(
            "failed to wrap the data key: two recipients would have the same key",
            hint="`modelseal inspect` lists the recipients",
        )


@dataclass(kw_only=True)
class Rights:
    """What a run has learnt of its rights to unwrap, so that it asks in vain only once.

    A key that may only rewrap would have two refusals in the audit log for each model, as if
    somebody tried doors. One refusal proves nothing for another model, because policies pin the
    context; that the path is closed for every context is what the key service itself says.
    """

    refused: bool = False
    """Whether an unwrap was refused before."""
    _allowed: dict[tuple[str, str], bool] = field(default_factory=dict)

    def may_unwrap(self, provider: KeyProvider, recipient: Recipient) -> bool:
        """Whether an unwrap is worth trying."""
        if not self.refused:
            return True
        key = (recipient.kind, recipient.key)
        if key not in self._allowed:
            self._allowed[key] = provider.may_unwrap()
        return self._allowed[key]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a seal's recipients: renewed under their keys, or some added and some removed."""

    seal: Seal
    model: str
    keys: Sequence[KeyProvider]
    added: Sequence[KeyProvider]
    removed: Sequence[KeyProvider]
    rights: Rights

    @property
    def context(self) -> bytes:
        """What binds a wrapped key to this model and seal."""
        return kek_context(self.model, self.seal.manifest.seal_id)

    def recipients(self, *, renew_all: bool) -> list[Recipient]:
        """Return the new recipients.

        Raises:
            NoRecipient: a key of the change opens nothing here.
            SettingsError: the result would make no sense.

        """
        if renew_all:
            self._require_all()
        found = self._exchanged() if self.added or self.removed else self._renewed()
        refuse_duplicates(found)
        return found

    def prove(self, candidate: Seal) -> list[Recipient]:
        """Open the seal with its new recipients before it replaces the old one.

        Returns those that must not be opened here, whose copies the key service itself confirmed.

        Raises:
            SettingsError: none of the keys at hand opens it.
            ModelsealError: one of them should, and does not.

        """
        able = [
            provider
            for provider in (*self.keys, *self.added)
            if any(provider.matches(recipient) for recipient in candidate.recipients)
        ]
        if not able:
            raise SettingsError(
                "failed to try the new recipients: none of the keys at hand opens them",
                hint="give a --key that stays",
            )
        return [
            opening.choose_recipient(candidate, provider)
            for provider in able
            if not _opens(candidate, provider, self.model, self.rights)
        ]

    def _renewed(self) -> list[Recipient]:
        recipients = list(self.seal.recipients)
        for provider in self.keys:
            found = opening.choose_recipient(self.seal, provider)
            index = self.seal.recipients.index(found)
            recipients[index] = provider.rewrap(found, self.context)
        return recipients

    def _exchanged(self) -> list[Recipient]:
        provider = self.keys[0]
        found = opening.choose_recipient(self.seal, provider)
        kept = self._kept()
        with provider.unwrap(found, self.context) as dek:
            with DataKeys.from_dek(dek, self.seal.manifest.seal_id) as keys:
                verify_mac(self.seal, keys)
            return [*kept, *(added.wrap(dek, self.context) for added in self.added)]

    def _kept(self) -> list[Recipient]:
        for provider in self.removed:
            opening.choose_recipient(self.seal, provider)
        kept = [one for one in self.seal.recipients if not _matches(self.removed, one)]
        if not kept and not self.added:
            raise SettingsError(
                "failed to remove the key: nobody could open the model any more",
                hint="add another key in the same command with --add",
            )
        return kept

    def _require_all(self) -> None:
        left = [one for one in self.seal.recipients if not _matches(self.keys, one)]
        if left:
            kinds = ", ".join(shown(f"{one.kind} {one.key}".strip()) for one in left)
            raise SettingsError(
                f"failed to renew every recipient: no --key for {kinds}",
                hint="name each of them with --key, or leave out --all",
            )


def _matches(providers: Sequence[KeyProvider], recipient: Recipient) -> bool:
    return any(provider.matches(recipient) for provider in providers)


def _opens(seal: Seal, provider: KeyProvider, model: str, rights: Rights) -> bool:
    """Unwrap and compare the manifest's MAC; where that is refused, have the copy renewed."""
    recipient = opening.choose_recipient(seal, provider)
    try:
        if rights.may_unwrap(provider, recipient):
            with opening.unwrap_keys(seal, provider, model):
                return True
    except KeyAccessDenied:
        rights.refused = True
    provider.rewrap(recipient, kek_context(model, seal.manifest.seal_id))
    return False
