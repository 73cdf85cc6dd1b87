"""The Open Inference Protocol, health and reflection over gRPC."""
