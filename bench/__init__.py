"""Benchmarks: one question each, both sides in one run, ratios first.

`python -m bench` asks all of them and writes `docs/performance/results.json`, the plots beside it
and `docs/performance.md`. Nothing here is asserted by a test: machines differ, ratios travel.
"""
