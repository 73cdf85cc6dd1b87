"""The ConfigMap with what a running agent may learn anew: CA, lease, and which seals are allowed.

It is not part of the template, so changing it restarts nothing; the agent re-reads the mounted
files. Nothing in it is secret.
"""

from modelseal import contract
from modelseal_operator.children.common import Context, Json, child
from modelseal_operator.children.volumes import provider_name


def config_map(context: Context) -> Json:
    """Return the ConfigMap of a model."""
    provider, model = context.resolved.provider, context.model
    bound = provider.bound_of(model.model)
    data = {
        contract.PROVIDER_LEASE_INTERVAL: str(provider.lease_interval),
        contract.PROVIDER_MAX_STALE: str(provider.max_stale),
    }
    if provider.vault.ca_bundle:
        data[contract.PROVIDER_CA] = provider.vault.ca_bundle
    if bound and bound.min_sequence is not None:
        data[contract.PROVIDER_MIN_SEQUENCE] = str(bound.min_sequence)
    if bound and bound.digests:
        data[contract.PROVIDER_DIGESTS] = "\n".join(bound.digests)
    return child(model, "ConfigMap", provider_name(model.name), {"data": data})
