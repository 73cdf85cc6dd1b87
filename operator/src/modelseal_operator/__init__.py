"""The operator: keeps pods for EncryptedModels and says in their status what stands in the way.

    resource, provider, resolve     what the API objects say             (values to values)
    children, memory, render        what should exist                    (values to values)
    pods, conditions, status        what the cluster shows               (values to values)
    waves, queue, store             what is to do next                   (no I/O)
    reconcile, reports, events      read, decide, apply                  (through `cluster`)
    cluster, handlers               the only modules that know kubernetes, respectively kopf

It holds no key, no token, no ciphertext and no plaintext.
"""
