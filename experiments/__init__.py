"""Programs: one file an experiment, read like a lab notebook. `python -m experiments`
lists them.
"""
