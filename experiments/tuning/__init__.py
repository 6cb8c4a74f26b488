"""Parts of `experiments.tune`: searched options, trials, their training, the report.

Read `trials.py` first.
"""
