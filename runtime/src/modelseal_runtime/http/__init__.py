"""REST, probes and metrics over HTTP."""
