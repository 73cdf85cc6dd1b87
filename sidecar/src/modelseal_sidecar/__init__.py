"""The agent: logs in, verifies, decrypts into memory, hands over, keeps the lease (design: README).

Read `loop.py` first: it is the program's whole life in a few functions. No user traffic ever
reaches this process, and no key or plaintext ever leaves it but through `memfd.py` and `tmpfs.py`.
"""
