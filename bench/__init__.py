"""Benchmarks: one question each, both sides in one run, ratios first.

    python -m bench             asks everything, then writes the page
    python -m bench opening     asks one question, then writes the page
    python -m bench page        writes the page from the results that are there

A question is a module here with a `TITLE` and a function `measure(effort) -> Findings`, named in
`__main__.QUESTIONS`. Its findings are kept as `docs/performance/<name>.json`, from which the plots
beside it and `docs/performance.md` are drawn. Nothing here is asserted by a test: machines differ,
ratios travel.
"""
