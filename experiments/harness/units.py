"""The latents in use, counted by the spread of posterior means and by the KL."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments.harness import keys
from experiments.harness.experiment import ONLY, Trained
from experiments.harness.members import MEMBERS_AT_ONCE, in_pieces
from vaejax.base import Array, PyTree
from vaejax.training import TrainState

# Nats of KL above which a latent counts as carrying some. A variance of 0.01, the
# threshold of active units, may be as little as 0.005 nats.
CARRYING_KL = 0.1


def units(
    trained: Trained, arm: str = ONLY, xs: PyTree | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of latents in use, by their means and by their KL.

    Args:
      trained: what was trained.
      arm: the name of a model.
      xs: the examples over which posterior means vary and the KL is averaged,
        `[examples, ...]`; by default the test set.

    Returns:
      Active units and units whose KL exceeds `CARRYING_KL`, `[members]` each; NaN
      where a member has diverged.
    """
    experiment, members = trained.experiments[arm], trained.members
    xs = experiment.test if xs is None else xs

    def count(state: TrainState, test: PyTree) -> tuple[Array, Array]:
        key = jax.random.fold_in(state.key, keys.FINAL_EVALUATION)
        statistics_key = jax.random.fold_in(state.key, keys.UNITS_BY_KL)
        points = vaejax.embed(
            experiment.vae,
            state.params,
            test,
            key=key,
            latent_point=experiment.latent_point,
        )
        counts = [vaejax.active_units(leaf) for leaf in jax.tree.leaves(points)]
        statistics = vaejax.latent.code_statistics(
            experiment.vae, state.params, statistics_key, test
        )
        return jnp.sum(jnp.stack(counts)), vaejax.estimators.units_by_kl(
            statistics.kl, threshold=CARRYING_KL
        )

    compiled = in_pieces(jax.jit(members.lift(count)), members.num, MEMBERS_AT_ONCE)
    found = members.stack(compiled(trained.states[arm], xs))
    active, by_kl = map(np.asarray, found)
    return active, by_kl


def disagreement(summary: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return why active units and units by KL differ, None where they do not.

    They do where their means, of the seeds that have not diverged, differ by half a
    unit.
    """
    active, carrying = (
        summary[name]["mean"] for name in ("active_units", "units_by_kl")
    )
    if active is None or carrying is None or abs(active - carrying) < 0.5:
        return None
    total = f"{summary['kl']['mean']:.2f} nats"
    if active > carrying:
        return (
            f"{active:.1f} active units but {carrying:.1f} above {CARRYING_KL} nats: "
            "the posterior means of the others vary by more than 0.01 but carry next "
            f"to none of the KL of {total}"
        )
    return (
        f"{carrying:.1f} units above {CARRYING_KL} nats but {active:.1f} active: part "
        f"of the KL of {total} is paid for posteriors that differ from the prior and "
        "not between examples"
    )


def disagreements(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the disagreements of several models, as the end of a sentence.

    It is empty where there are none.
    """
    notes = {name: disagreement(summary) for name, summary in summaries.items()}
    return "".join(f"; {name}: {note}" for name, note in notes.items() if note)
