"""The runtime: serves a model that the agent delivered into memory; holds neither key nor token.

`agent` talks to the agent, `delivery` checks what it hands over, `serving` is the one state that
everything reads, `scheduler` runs requests, `ending` ends the process within its bound. `protocol`
is the Open Inference Protocol as pure functions, `http` and `rpc` are the two ways to it.
"""
