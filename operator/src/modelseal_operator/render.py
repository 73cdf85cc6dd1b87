"""`modelseal-operator render`: the children of a resource, computed without a cluster."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from modelseal.contract import GROUP
from modelseal.errors import InputUnreadable, SettingsError, shown
from modelseal_operator.children import Context, build_children
from modelseal_operator.children.common import Json
from modelseal_operator.devices import choose_device
from modelseal_operator.provider import Provider, parse_provider
from modelseal_operator.resolve import resolve
from modelseal_operator.resource import EncryptedModel, parse_model
from modelseal_operator.settings import PodSettings

MAX_INPUT = 4 << 20


def render(paths: Iterable[Path], settings: PodSettings) -> list[Json]:
    """Return the children of every EncryptedModel in the files, in the order of application."""
    documents = [document for path in paths for document in _documents(path)]
    providers = [
        parse_provider(kind, document)
        for document in documents
        for kind in ("KeyProvider", "ClusterKeyProvider")
        if _is(document, kind)
    ]
    models = [_parse(document) for document in documents if _is(document, "EncryptedModel")]
    if not models:
        raise SettingsError("there is no EncryptedModel in the files", hint="give it with -f")
    return [item for model in models for item in _children(model, providers, settings)]


def _children(
    model: EncryptedModel, providers: Iterable[Provider], settings: PodSettings
) -> list[Json]:
    provider = next((p for p in providers if _meant(model, p)), None)
    if provider is None:
        raise SettingsError(
            f"there is no {model.provider_kind} {shown(model.provider_name)} in the files",
            hint="give the provider's file with another -f",
        )
    resolved = resolve(model, provider)
    device = choose_device(model.devices, None, settings)
    return build_children(Context(resolved=resolved, settings=settings, device=device))


def _meant(model: EncryptedModel, provider: Provider) -> bool:
    own = provider.kind == "ClusterKeyProvider" or provider.namespace == model.namespace
    return own and (provider.kind, provider.name) == (model.provider_kind, model.provider_name)


def _parse(document: Mapping[str, Any]) -> EncryptedModel:
    # a file has no uid yet; the API server gives one
    unset = {"namespace": "default", "uid": "00000000-0000-0000-0000-000000000000", "generation": 1}
    metadata = {**unset, **dict(document.get("metadata") or {})}
    return parse_model({**document, "metadata": metadata})


def _is(document: object, kind: str) -> bool:
    if not isinstance(document, Mapping) or document.get("kind") != kind:
        return False
    return str(document.get("apiVersion")).startswith(f"{GROUP}/")


def _documents(path: Path) -> list[Any]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_INPUT + 1)
        if len(text) > MAX_INPUT:
            raise InputUnreadable(f"{shown(str(path))} is larger than {MAX_INPUT} characters")
        return list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnreadable(
            f"failed to read {shown(str(path))}: {type(error).__name__}"
        ) from None
    except yaml.YAMLError:
        raise InputUnreadable(f"{shown(str(path))} is not YAML") from None
