"""Parts of `own_data`: tables with columns of different kinds, and what a run leaves.

Read `tables` first: from a file to an experiment. `files` writes the CSV files and the
exported model, `figures` draws columns and profiles.
"""
