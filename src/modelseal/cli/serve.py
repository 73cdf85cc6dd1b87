"""`modelseal serve`: the agent and the runtime of a cluster, on this machine."""

from typing import Final

from modelseal import contract
from modelseal.cli import options as opt
from modelseal.cli import serve_options as own
from modelseal.cli import serving

EXAMPLES: Final = """\
modelseal serve model.sealed --model me/model --key file:my.key
modelseal serve model.sealed --model me/model --key vault:transit/models \\
    --signer file:release.pub --device GPU,CPU
curl http://127.0.0.1:8080/v2/models/model
"""


def command(  # noqa: PLR0913 - one argument for each option
    sealed: opt.Sealed,
    *,
    model: opt.Model,
    key: opt.Key,
    signer: opt.Signers = None,
    digest: opt.Digest = None,
    min_sequence: opt.MinSequence = None,
    device: own.Devices = "CPU",
    device_property: own.Properties = None,
    name: own.Name = None,
    host: own.Host = serving.LOCAL,
    http_port: own.HttpPort = contract.REST_PORT,
    grpc_port: own.GrpcPort = contract.GRPC_PORT,
    health_port: own.HealthPort = 0,
    lease_interval: own.LeaseInterval = contract.DEFAULT_LEASE_INTERVAL,
    max_stale: own.MaxStale = contract.DEFAULT_MAX_STALE,
    allow_swap: own.AllowSwap = False,
    log_level: own.LogLevel = None,
    source_ca: opt.SourceCa = None,
    source_token_file: opt.SourceToken = None,
    json: opt.Json = False,
) -> None:
    """Serve a sealed model on this machine, from memory.

    Starts the two programs that a cluster runs: an agent that holds the key, and a runtime that
    never sees it. Ctrl-C ends both. When the right to the key ends, the model is unloaded and the
    command says why.
    """
    serving.serve(serving.Wish(**locals()))
