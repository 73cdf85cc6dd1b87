"""`modelseal demo`: the whole story with a real model and a real key service.

`story` tells it; `filetype` and `samples` are the model and what it is asked; `openbao` is the key
service; `asking` holds the two clients; `noise` looks at ciphertext.
"""

from modelseal.cli.demo.story import EXAMPLES, command

__all__ = ["EXAMPLES", "command"]
