"""The parts of `modelseal demo`.

`first_half` and `second_half` are its chapters; `filetype` and `samples` are the model and what it
is asked; `openbao` is the key service and `vault` its administrator; `asking` holds the two
clients, `plain` the comparison, and `noise` looks at ciphertext.
"""
