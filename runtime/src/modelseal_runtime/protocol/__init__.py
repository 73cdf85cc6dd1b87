"""The Open Inference Protocol as functions from values to values; no I/O here."""
