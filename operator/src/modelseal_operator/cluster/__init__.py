"""The cluster, as the rest of the operator sees it; the only room that imports kubernetes."""

from modelseal_operator.cluster.client import Cluster, connect
from modelseal_operator.cluster.election import Election
from modelseal_operator.cluster.errors import (
    ClusterError,
    Conflict,
    Missing,
    NotLeading,
    Refused,
    Throttled,
    Unreachable,
)

__all__ = [
    "Cluster",
    "ClusterError",
    "Conflict",
    "Election",
    "Missing",
    "NotLeading",
    "Refused",
    "Throttled",
    "Unreachable",
    "connect",
]
