"""Joining the key service's audit log, the agents' logs and the cluster's objects; all pure.

The audit log is the base: the key service writes it before it answers, so every use of a key is in
it. The agents' logs say what an opening was for; the cluster's objects say whose pod it was.
"""
