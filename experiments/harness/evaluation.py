"""The numbers of a test set, and their rows in a table.

They are the negative ELBO and its terms, importance-weighted NLL and latents in use;
`trust.py` has the numbers that say how far to trust the NLL. Every test example draws
from its own key, folded from its index, so that the batch size of the evaluation
changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments.harness import keys, trust
from experiments.harness.averages import over_seeds, plain, text
from experiments.harness.experiment import ONLY, Experiment, Trained
from experiments.harness.members import MEMBERS_AT_ONCE, Members, in_pieces
from experiments.harness.parts import in_parts, joined
from experiments.harness.units import CARRYING_KL, disagreement, units
from vaejax.base import Array, Example, Key, PyTree, batch_size_of
from vaejax.training import TrainState

# Posterior samples per test example for the ELBO and its terms; those of the NLL are
# the experiment's.
ELBO_SAMPLES = 10
# Examples mapped together: a thousand where one sample is decoded; few where many are,
# so that about a thousand decodes at a time stay in cache.
BATCH_SIZE, NLL_BATCH_SIZE, NLL_CHUNK_SIZE = 1000, 4, 250

# The numbers of a summary in the order of its table: label and meaning.
MEANINGS = {
    "negative_elbo": ("negative ELBO", "upper bound of -log p(x)"),
    "log_likelihood": ("expected log-likelihood", "E_q[log p(x|z)]"),
    "kl": ("KL", "KL(q(z|x) || p(z)), what the latents carry"),
    "nll": ("NLL bound", "-log p(x), importance-weighted upper bound"),
    "nll_more_samples": (
        "NLL bound, more samples",
        "the same bound, moved by its change on a few examples",
    ),
    "nll_annealed": (
        "NLL, annealed",
        "upper bound of -log p(x) in expectation, of a few examples",
    ),
    "nll_bias": (
        "bias of the NLL bound",
        "NLL bound minus annealed NLL, of the same examples",
    ),
    "nll_corrected": ("NLL, corrected", "NLL bound minus its bias"),
    "active_units": (
        "active units",
        "latents whose posterior mean has a variance above 0.01 over the test set",
    ),
    "units_by_kl": (
        f"units above {CARRYING_KL} nats",
        f"latents whose mean KL over the test set is above {CARRYING_KL} nats",
    ),
}
# Decimals of each number in a table that compares models; the others are in summaries.
DIGITS = {
    "negative_elbo": 2,
    "log_likelihood": 2,
    "kl": 2,
    "nll": 2,
    "nll_corrected": 2,
    "active_units": 1,
    "units_by_kl": 1,
}
COLUMNS = tuple(MEANINGS[name][0] for name in DIGITS)
ELBO_NUMBERS = ("negative_elbo", "log_likelihood", "kl")


def make_mean_elbo(
    experiment: Experiment, examples: PyTree, members: Members, at_once: int
) -> Callable[[TrainState], dict[str, list[float | None]]]:
    """Return a function of states: means of the ELBO and its terms over examples.

    One sample per example, with the same noise at every call; one mean per member.
    """

    def mean_terms(state: TrainState, examples: PyTree) -> vaejax.ElboTerms:
        terms_fn = partial(
            vaejax.elbo_terms, experiment.vae, state.params, kl_fn=experiment.kl_fn
        )
        key = jax.random.fold_in(state.key, keys.EPOCH_EVALUATION)
        return jax.tree.map(
            lambda leaf: jnp.mean(leaf, axis=0),
            _map_examples(terms_fn, key, 0, examples, BATCH_SIZE),
        )

    compiled = in_pieces(jax.jit(members.lift(mean_terms)), members.num, at_once)
    examples = jax.device_put(examples)

    def mean_elbo(states: TrainState) -> dict[str, list[float | None]]:
        means = members.stack(jax.device_get(compiled(states, examples)))
        return {name: plain(values) for name, values in _named(means).items()}

    return mean_elbo


def evaluate(
    trained: Trained, arm: str = ONLY, *, annealed: Sequence[int] | None = None
) -> dict[str, np.ndarray]:
    """Return the numbers of every member of a model, `{name: [members, ...]}`.

    They are in nats per example. `nll_of_each` is the NLL bound of every test example,
    `[members, examples]`. `monte_carlo_error` is the standard error of the NLL
    that its importance samples leave, from the differences between two halves of them;
    the delta method of one example is far too small at the effective sample sizes of
    real models. It is NaN with one sample. `effective_sample_size` is the median over
    examples; `doubtful` is the share of examples whose Pareto k is above the threshold
    of so many samples or NaN; it is NaN itself where the samples are too few to tell,
    or the NLL is not finite. The numbers of a few examples alone are those of
    `trust.of_few_examples`. All numbers of a member that has diverged are NaN.

    Args:
      trained: what was trained.
      arm: the name of a model.
      annealed: numbers of the members to anneal, by default
        `annealing.members_to_anneal`; none where the experiment anneals nothing.
    """
    experiment, members = trained.experiments[arm], trained.members
    states = trained.states[arm]

    def measure(
        state: TrainState, first: Array, examples: PyTree
    ) -> tuple[vaejax.ElboTerms, tuple[Array, ...]]:
        def one(key: Key, x: Example) -> tuple[vaejax.ElboTerms, tuple[Array, ...]]:
            elbo_key, marginal_key = jax.random.split(key)
            options = {"num_samples": ELBO_SAMPLES, "kl_fn": experiment.kl_fn}
            terms = vaejax.elbo_terms(
                experiment.vae, state.params, elbo_key, x, **options
            )
            return terms, log_marginal_in_halves(
                experiment.vae,
                state.params,
                marginal_key,
                x,
                num_samples=experiment.num_samples,
            )

        return _map_examples(
            one,
            jax.random.fold_in(state.key, keys.FINAL_EVALUATION),
            first,
            examples,
            NLL_BATCH_SIZE,
        )

    compiled = in_pieces(jax.jit(members.lift(measure)), members.num, MEMBERS_AT_ONCE)
    test = jax.device_put(experiment.test)
    found = [
        jax.device_get(members.stack(compiled(states, first, part)))
        for first, part in in_parts(
            test,
            BATCH_SIZE,
            f"NLL, {experiment.num_samples} samples",
            trained.check_interrupts,
        )
    ]
    terms, (log_marginal, errors, sizes, ks) = joined(found, axis=1)
    means = jax.tree.map(lambda leaf: leaf.mean(axis=1), terms)
    nll = -log_marginal.mean(axis=1)
    active, by_kl = units(trained, arm, test)
    few = trust.of_few_examples(trained, arm, log_marginal, annealed)
    numbers = (
        _named(means)
        | {
            "nll": nll,
            "nll_of_each": -log_marginal,
            "monte_carlo_error": np.sqrt(np.square(errors).sum(axis=1))
            / errors.shape[1],
            "effective_sample_size": np.median(sizes, axis=1),
            "doubtful": trust.doubtful(ks, nll, experiment.num_samples),
            "active_units": active,
            "units_by_kl": by_kl,
        }
        | few
    )
    # Means may be huge and finite where the loss is not.
    unknown = ~np.isfinite(numbers["negative_elbo"])
    for name in ("active_units", "units_by_kl"):
        numbers[name] = _without(numbers[name], unknown)
    return {
        name: without_diverged(trained, arm, values) for name, values in numbers.items()
    }


def without_diverged(trained: Trained, arm: str, values: Any) -> np.ndarray:
    """Return `[members, ...]` with NaN for the members of a model that diverged."""
    members = np.arange(trained.members.num)
    return _without(values, np.isin(members, trained.diverged.get(arm, ())))


def _without(values: Any, members: np.ndarray) -> np.ndarray:
    """`[members, ...]` with NaN for some members; as it is without any."""
    if not members.any():
        return values
    kept = ~members.reshape(-1, *[1] * (np.ndim(values) - 1))
    return np.where(kept, values, np.nan)


def log_marginal_in_halves(
    vae: vaejax.VAE, params: PyTree, key: Key, x: Example, *, num_samples: int
) -> tuple[Array, Array, Array, Array]:
    """Return log p(x) of one example with its error from two halves of its samples.

    The samples are those of `vaejax.log_marginal` with one key for each half.

    Returns:
      The importance-weighted bound; its error, NaN with one sample; the effective
      sample size; and Pareto k. Both are of all samples.
    """
    counts = [
        count for count in (num_samples - num_samples // 2, num_samples // 2) if count
    ]
    halves = jnp.repeat(
        jax.random.split(key, len(counts)),
        np.array(counts),
        total_repeat_length=num_samples,
    )
    places = jnp.concatenate([jnp.arange(count, dtype=jnp.uint32) for count in counts])
    posterior, prior = vae.encode(params, x), vae.prior(params)

    def draw(sample: tuple[Key, Array]) -> Array:
        half, place = sample
        return vaejax.objectives.log_weight_given_posterior(
            vae, params, jax.random.fold_in(half, place), x, posterior, prior
        )

    log_weights = jax.lax.map(draw, (halves, places), batch_size=NLL_CHUNK_SIZE)
    whole, *halves = (
        vaejax.estimators.marginal_of_weights(part)
        for part in (log_weights, *jnp.split(log_weights, np.cumsum(counts)[:-1]))
    )
    if len(halves) == 1:
        error = jnp.full_like(whole.log_marginal, jnp.nan)
    else:
        # Of a mean of two: the weight of each half in the sum of all.
        means = jnp.stack([half.log_marginal for half in halves])
        shares = jax.nn.softmax(means + jnp.log(jnp.array(counts, means.dtype)))
        error = jnp.abs(means[0] - means[1]) * jnp.sqrt(jnp.sum(jnp.square(shares)) / 2)
    return whole.log_marginal, error, whole.effective_sample_size, whole.pareto_k


def summarize(
    numbers: dict[str, np.ndarray], experiment: Experiment
) -> dict[str, dict[str, Any]]:
    """Return the summary of the seeds of one setting.

    Each number is `{"mean", "std", "num_seeds", "values", ...}`.
    """
    about: dict[str, dict[str, Any]] = {
        name: {"num_samples": ELBO_SAMPLES} for name in ELBO_NUMBERS
    }
    if experiment.kl_fn is vaejax.kl_closed_form:
        about["kl"] = {"closed_form": True}
    finite = numbers["effective_sample_size"][
        np.isfinite(numbers["effective_sample_size"])
    ]
    errors = numbers["monte_carlo_error"][np.isfinite(numbers["monte_carlo_error"])]
    about["nll"] = {
        "num_samples": experiment.num_samples,
        "monte_carlo_error": float(np.max(errors)) if len(errors) else None,
        "effective_sample_size": float(np.median(finite)) if len(finite) else None,
        **trust.pareto_k_summary(numbers["doubtful"], experiment.num_samples),
    }
    summary = {
        name: over_seeds(numbers[name], **about.get(name, {}))
        for name in MEANINGS
        if name in numbers
    } | trust.summarize(numbers, experiment)
    summary["units_by_kl"] |= {"threshold": CARRYING_KL, "note": disagreement(summary)}
    return {name: summary[name] for name in MEANINGS if name in summary}


def paired(
    numbers: Mapping[str, np.ndarray],
    others: Mapping[str, np.ndarray],
    experiment: Experiment,
) -> dict[str, dict[str, Any]]:
    """Return the numbers of one model less those of another, paired by seed.

    Those of the NLL are paired by example too; see `trust.paired`.
    """
    differences = {
        name: over_seeds(numbers[name] - others[name])
        for name in DIGITS
        if name in numbers
    }
    return differences | trust.paired(numbers, others, experiment)


def cells(
    numbers: Mapping[str, dict[str, Any]],
    digits: Mapping[str, int] = DIGITS,
    sign: str = "",
) -> list[str]:
    """Return a row of a table: the numbers in `digits`, with as many decimals.

    A number that is missing is blank.
    """
    return [
        text(numbers[name], decimals, sign) if name in numbers else ""
        for name, decimals in digits.items()
    ]


def compared(
    summaries: Mapping[str, Mapping[str, dict[str, Any]]],
    differences: Mapping[str, Mapping[str, dict[str, Any]]],
    digits: Mapping[str, int] = DIGITS,
) -> list[tuple[str, ...]]:
    """Return the rows of models by name, then those of differences between them."""
    return [(name, *cells(row, digits)) for name, row in summaries.items()] + [
        (name, *cells(row, digits, "+")) for name, row in differences.items()
    ]


def rows(test: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the rows of a summary: name, value with its error bar, and a note."""
    lines = []
    for name, number in test.items():
        label, meaning = MEANINGS[name]
        notes = [meaning]
        if number.get("closed_form"):
            notes.append("closed form")
        if "num_samples" in number:
            notes.append(f"{number['num_samples']} samples per example")
        if number.get("monte_carlo_error") is not None:
            notes.append(f"Monte-Carlo error {number['monte_carlo_error']:.3f}")
            notes.append(
                f"median effective sample size {number['effective_sample_size']:.1f}"
            )
        if number.get("share_above_pareto_k_threshold") is not None:
            notes.append(
                f"Pareto k above {number['pareto_k_threshold']:.2f} for "
                f"{number['share_above_pareto_k_threshold']:.0%} of examples"
            )
        notes += trust.notes(name, number)
        if number.get("note"):
            notes.append(number["note"])
        lines.append((label, text(number, DIGITS.get(name, 2)), "; ".join(notes)))
    return lines


def _named(terms: vaejax.ElboTerms) -> dict[str, Any]:
    elbo = terms.log_likelihood - terms.kl
    return {
        "negative_elbo": -elbo,
        "log_likelihood": terms.log_likelihood,
        "kl": terms.kl,
    }


def _map_examples(
    function: Callable[[Key, Example], PyTree],
    key: Key,
    first: Any,
    examples: PyTree,
    batch_size: int,
) -> PyTree:
    num = batch_size_of(examples)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
        jnp.arange(num, dtype=jnp.uint32) + jnp.uint32(first)
    )
    return jax.lax.map(
        lambda example: function(*example), (keys, examples), batch_size=batch_size
    )
