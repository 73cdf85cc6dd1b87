"""`modelseal policy`: what to paste into Vault or OpenBao."""

from typing import Final

EXAMPLES: Final = """\
modelseal policy --model me/model --key vault:transit/models
"""
