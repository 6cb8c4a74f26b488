"""Checks that README's main command reached the negative ELBO that it promises."""

import json
import sys
from pathlib import Path

LIMIT = 101.0

summary = next(Path("runs").glob("mnist-*/summary.json"))
test = json.loads(summary.read_text())["test"]
elbo, nll = test["negative_elbo"]["mean"], test["nll"]["mean"]
print(f"Python {sys.version.split()[0]}: negative ELBO {elbo:.2f}, NLL {nll:.2f} nats")
sys.exit(f"the negative ELBO is above {LIMIT}" if elbo > LIMIT else 0)
