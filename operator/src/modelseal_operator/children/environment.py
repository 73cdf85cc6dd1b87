"""The environment of the two containers, in the names of `contract.Env`. It holds no secret."""

from collections.abc import Mapping, Sequence
from typing import Final

from modelseal.contract import (
    AGENT_UID,
    DELIVERY_DIRECTORY,
    PROVIDER_DIRECTORY,
    RUNTIME_UID,
    SOCKET_DIRECTORY,
    SOCKET_NAME,
    TERMINATION_LOG,
    TOKEN_PATH,
    Delivery,
    Env,
)
from modelseal_operator.children.common import Context, Json
from modelseal_operator.children.volumes import (
    SOURCE_CA_DIRECTORY,
    SOURCE_TOKEN_DIRECTORY,
    source_address,
)
from modelseal_operator.resource import Rollout, Serving, Web

_LAST_SECONDS: Final = 2
"""What an orderly end takes beyond draining."""


def agent_environment(context: Context) -> list[Json]:
    """Return what the agent is told."""
    model, resolved = context.model, context.resolved
    vault = resolved.provider.vault
    sequence = model.min_sequence
    found = {
        Env.MODEL: model.model,
        Env.SOURCE: source_address(context),
        Env.KEY: resolved.key,
        Env.SIGNERS: ",".join(resolved.signers) or None,
        Env.ALLOW_UNSIGNED: "true" if resolved.provider.allow_unsigned else None,
        Env.DIGEST: model.digest,
        Env.MIN_SEQUENCE: None if sequence is None else str(sequence),
        Env.POSTURE: ",".join(resolved.provider.demands) or None,
        Env.MODEL_SIZE: str(model.model_size),
        Env.DELIVERY: model.delivery.value,
        Env.PROVIDER_DIRECTORY: PROVIDER_DIRECTORY,
        Env.VAULT_ADDRESS: vault.address,
        Env.VAULT_NAMESPACE: vault.namespace,
        Env.VAULT_AUTH: vault.auth,
        Env.VAULT_AUTH_MOUNT: vault.auth_mount,
        Env.VAULT_ROLE: resolved.role,
        Env.VAULT_TOKEN_FILE: TOKEN_PATH,
        **_delivery(context),
        **_web(model.source if isinstance(model.source, Web) else None),
        **_both(context),
    }
    return _listed(found)


def runtime_environment(context: Context) -> list[Json]:
    """Return what our runtime is told."""
    serving = context.model.serving
    found = {
        Env.SOCKET: f"{SOCKET_DIRECTORY}/{SOCKET_NAME}",
        Env.PEER_UID: str(AGENT_UID),
        Env.MODEL_NAME: serving.model_name,
        Env.DEVICES: _devices(context.device.usable, context.model.combine),
        Env.DEVICE_PROPERTIES: " ".join(context.model.device_properties) or None,
        Env.PERFORMANCE_HINT: serving.hint,
        Env.MAX_BODY_BYTES: str(serving.max_body),
        Env.QUEUE_SIZE: str(serving.queue),
        Env.REQUEST_TIMEOUT: str(serving.timeout),
        Env.DRAIN_SECONDS: str(_drain(context.model.rollout)),
        **_batching(serving),
        **_both(context),
    }
    return _listed(found)


def _devices(usable: Sequence[str], combine: str) -> str:
    names = ",".join(usable)
    return f"{combine}:{names}" if combine and len(usable) > 1 else names


def _batching(serving: Serving) -> Mapping[Env, str]:
    if serving.batch_rows == 1:
        return {}
    return {
        Env.BATCH_ROWS: str(serving.batch_rows),
        Env.BATCH_WAIT: str(serving.batch_delay / 1000),
    }


def _drain(rollout: Rollout) -> int:
    """Return how long requests in flight may still take once the preStop sleep is over."""
    return max(rollout.grace - rollout.drain - _LAST_SECONDS, 1)


def _delivery(context: Context) -> Mapping[Env, str | None]:
    if context.model.delivery is Delivery.TMPFS:
        return {Env.DELIVERY_DIRECTORY: DELIVERY_DIRECTORY}
    return {
        Env.SOCKET: f"{SOCKET_DIRECTORY}/{SOCKET_NAME}",
        Env.PEER_UID: str(RUNTIME_UID),
    }


def _web(web: Web | None) -> Mapping[Env, str | None]:
    if web is None:
        return {}
    return {
        Env.SOURCE_CA_FILE: f"{SOURCE_CA_DIRECTORY}/ca.crt" if web.ca else None,
        Env.SOURCE_TOKEN_FILE: f"{SOURCE_TOKEN_DIRECTORY}/token" if web.token else None,
        Env.SOURCE_PROXY: web.proxy,
    }


def _both(context: Context) -> Mapping[Env, str | None]:
    return {
        Env.TERMINATION_LOG: TERMINATION_LOG,
        Env.ALLOW_SWAP: "true" if context.resolved.provider.allow_swap else None,
        Env.LOG_LEVEL: context.settings.log_level,
    }


def _listed(values: Mapping[Env, str | None]) -> list[Json]:
    return [{"name": k.value, "value": v} for k, v in sorted(values.items()) if v is not None]
