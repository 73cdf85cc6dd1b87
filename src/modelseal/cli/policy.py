"""`modelseal policy`: what to paste into Vault or OpenBao."""
