"""Looking for what must be nowhere: the parts of `modelseal leakcheck`.

`needles` are the strings that are looked for, `canary` a model full of them, `places` where they
are looked for, `plants` how each place is shown to be searchable, `drive` the life of the model.

On a cluster: `cluster_life` is the life of the model, through `kubectl`; `hunters` are pods that
run `node` as root of each node, with `filesystems`, `processes`, `swap` and `etcd` as places and
`nodeplants` as proof; `cluster` puts it together. What runs on nodes is standard library alone.
"""
