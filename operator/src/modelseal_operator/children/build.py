"""All children of a model in the order in which they are applied."""

from modelseal_operator.children.common import Context, Json
from modelseal_operator.children.config import config_map
from modelseal_operator.children.network import disruption_budget, network_policy, services
from modelseal_operator.children.workload import deployment

__all__ = ["Context", "build_children"]


def build_children(context: Context) -> list[Json]:
    """Return what should exist; the policy comes before the pods that it protects."""
    model = context.model
    return [
        config_map(context),
        *([network_policy(context)] if model.managed_network else []),
        *services(context),
        *([disruption_budget(context)] if model.pods > 1 else []),
        deployment(context),
    ]
