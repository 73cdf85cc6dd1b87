"""What a model may have: its resource against its provider. It may only tighten.

`Refusal.withdrawn` tells apart "the right is gone" (children go) from "the provider cannot be
seen" (children stay, the lease governs).
"""

from dataclasses import dataclass
from string import Formatter

from modelseal.contract import Delivery, Reason
from modelseal.errors import shown
from modelseal_operator.provider import Provider
from modelseal_operator.refusal import Refusal
from modelseal_operator.resource import EncryptedModel


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A model with everything that its provider decides filled in."""

    model: EncryptedModel
    provider: Provider
    signers: tuple[str, ...]
    role: str
    key: str


def resolve(model: EncryptedModel, provider: Provider | None) -> Resolved:
    """Combine a model with its provider, or refuse with a sentence that says what to do."""
    if provider is None:
        raise Refusal(
            Reason.PROVIDER_NOT_FOUND,
            f"there is no {model.provider_kind} named {shown(model.provider_name)}: create it, or"
            " correct spec.keyProviderRef; pods that run keep their lease",
        )
    _check_grant(model, provider)
    _check_delivery(model, provider)
    words = _words(model)
    return Resolved(
        model=model,
        provider=provider,
        signers=_signers(model, provider),
        role=fill(provider.vault.role, words),
        key=fill(provider.vault.key, words),
    )


def fill(template: str, words: dict[str, str]) -> str:
    """Replace `{word}` in a template whose pattern was checked before."""
    parts = Formatter().parse(template)
    return "".join(text + (words[name] if name else "") for text, name, _, _ in parts)


def _words(model: EncryptedModel) -> dict[str, str]:
    owner, name = model.model.split("/", 1)
    account = model.service_account
    return {
        "owner": owner,
        "name": name,
        "namespace": model.namespace,
        "serviceAccount": account,
    }


def _check_grant(model: EncryptedModel, provider: Provider) -> None:
    grant = provider.allows(model.namespace)
    if grant is None:
        raise Refusal(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"{provider.kind} {shown(provider.name)} does not allow namespace"
            f" {shown(model.namespace)}: ask its admin for an entry in spec.allowedNamespaces",
            withdrawn=True,
        )
    if provider.kind == "ClusterKeyProvider" and not grant.covers(model.model):
        raise Refusal(
            Reason.MODEL_NOT_ALLOWED,
            f"ClusterKeyProvider {shown(provider.name)} does not allow model {shown(model.model)}"
            f" in namespace {shown(model.namespace)}: ask its admin to list it",
            withdrawn=True,
        )


def _check_delivery(model: EncryptedModel, provider: Provider) -> None:
    if model.delivery is not Delivery.TMPFS:
        return
    if not provider.allow_tmpfs:
        raise Refusal(
            Reason.DELIVERY_NOT_ALLOWED,
            f"{provider.kind} {shown(provider.name)} does not allow delivery Tmpfs: use Memfd, or"
            " ask its admin for spec.delivery.allowTmpfs",
        )
    if model.server is None or model.server.image not in provider.server_images:
        raise Refusal(
            Reason.SERVER_IMAGE_NOT_ALLOWED,
            f"{provider.kind} {shown(provider.name)} does not list the image of spec.server: ask"
            " its admin to add it, by digest, to spec.delivery.serverImages",
        )


def _signers(model: EncryptedModel, provider: Provider) -> tuple[str, ...]:
    if not model.signers:
        return provider.signers
    if set(model.signers) - set(provider.signers):
        raise Refusal(
            Reason.SIGNERS_NOT_ALLOWED,
            f"spec.model.signers has a key that {provider.kind} {shown(provider.name)} does not"
            " trust: a model may only narrow its provider's signers",
        )
    return model.signers
