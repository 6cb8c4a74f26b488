"""Parts of `experiments.benchmark`: what is timed, the peers, the report."""
