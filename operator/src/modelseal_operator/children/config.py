"""The ConfigMap with what a running agent may learn anew: the CA and the lease.

It is not part of the template, so changing it restarts nothing; the agent re-reads the mounted
files. Nothing in it is secret.
"""

from typing import Final

from modelseal_operator.children.common import Context, Json, child
from modelseal_operator.children.volumes import provider_name

CA_NAME: Final = "ca.crt"
INTERVAL_NAME: Final = "lease-interval"
MAX_STALE_NAME: Final = "max-stale"


def config_map(context: Context) -> Json:
    """Return the ConfigMap of a model."""
    provider = context.resolved.provider
    data = {INTERVAL_NAME: str(provider.lease_interval), MAX_STALE_NAME: str(provider.max_stale)}
    if provider.vault.ca_bundle:
        data[CA_NAME] = provider.vault.ca_bundle
    name = provider_name(context.model.name)
    return child(context.model, "ConfigMap", name, {"data": data})
