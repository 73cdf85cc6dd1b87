"""Looking for what must be nowhere: the parts of `modelseal leakcheck`.

`needles` are the strings that are looked for, `canary` a model full of them, `places` where they
are looked for, `plants` how each place is shown to be searchable, `drive` the life of the model.
"""
