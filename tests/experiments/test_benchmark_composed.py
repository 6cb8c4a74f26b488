"""Rows of the section `models` of the benchmark do the work that they say."""

import json
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import users_settings

import vaejax
from experiments.benchmarks import composed, repeated
from experiments.benchmarks.operations import operations_of
from vaejax import networks, posteriors

FLOWS = {
    "IAF": (
        networks.inverse_autoregressive_layers,
        partial(composed.moved_normal_head, composed.Autoregressive(5)),
    ),
    "RealNVP": (
        networks.coupling_layers,
        partial(composed.moved_normal_head, composed.Coupling(5), by_halves=True),
    ),
}


def products(jaxpr) -> list[tuple]:
    """The shapes of all matrix products of a program, inner programs included."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = [
                sorted(v.aval.shape) for v in (*equation.invars, *equation.outvars)
            ]
            found.append((sorted(shapes[:2]), shapes[2]))
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    found += products(part)
    return sorted(found)


@pytest.mark.parametrize("name", FLOWS)
def test_a_diagonal_posterior_has_the_matrix_products_of_the_flow(name):
    layers, diagonal = FLOWS[name]
    layers = layers(4, hidden_sizes=(5,), num_context=1)
    sizes, xs = composed.Sizes(hidden=7, latent=4), jnp.zeros((3, 11))

    def products_of(head) -> list[tuple]:
        vae = composed.flat_vae(sizes, xs, head)
        params = jax.eval_shape(vae.init, jax.random.key(0), xs[0])
        loss_fn = vaejax.mean_over_batch(
            partial(vaejax.negative_elbo, vae, kl_fn=vaejax.kl_monte_carlo)
        )
        gradient = jax.grad(loss_fn, has_aux=True)
        return products(jax.make_jaxpr(gradient)(params, jax.random.key(0), xs).jaxpr)

    plain = products_of(diagonal(4))
    assert plain == products_of(posteriors.flow_head(layers))
    assert len(plain) > len(products_of(None))


@pytest.mark.parametrize(
    ("of", "median", "is_within"),
    [("time", 1.2, True), ("time", 1.4, False), ("operations", 1.4, True)],
)
def test_a_limit_is_of_time_or_of_operations(of, median, is_within):
    record = {"ratio": {"median": median}, "operations_ratio": 1.0}
    limited = composed.with_limit(record, composed.Limit(of, 1.3, "a reason"))
    assert limited["is_within_limit"] is is_within
    assert limited["limit"] == {"of": of, "most": 1.3, "why": "a reason"}
    assert composed.with_limit(record, None) == record


def test_a_step_passes_its_state_on(monkeypatch):
    monkeypatch.setattr(repeated, "SECONDS_A_ROUND", 1e6)

    def step(state, x):
        return state + x, state

    one = repeated.prepare(step, jnp.zeros(2), jnp.ones(2), is_step=True)
    program, calls = repeated.repeat_within_round(one.program)
    state, last = program.run(program.state)
    assert calls == 100
    # Three calls are timed before.
    assert state.tolist() == [3 + calls] * 2 and last.tolist() == [2 + calls] * 2


@pytest.fixture
def counted_only(monkeypatch):
    """Rows that are traced and not compiled, whose operations are those as written."""

    def prepare(function, state, *args, is_step=False):
        del is_step
        lowered = jax.jit(function).lower(state, *args)
        return repeated.Prepared(
            None, operations_of(function, lowered, state, *args), None
        )

    monkeypatch.setattr(composed, "prepare", prepare)


@pytest.mark.slow
@pytest.mark.usefixtures("counted_only")
def test_rows_take_the_operations_that_they_should():
    sizes = composed.Sizes(400, 20)
    with users_settings():
        rows = composed.rows_of(sizes, jnp.zeros((128, 784)))
    ratios = {}
    for name, row in rows.items():
        reference = rows[row.reference].prepared.operations
        ratios[name] = row.prepared.operations / reference
        if row.limit and row.limit.of == "operations":
            assert 0.97 * row.limit.most < ratios[name] <= row.limit.most
        elif row.limit and "VampPrior" not in name:
            assert 1 <= ratios[name] < 1.01
    # Encoding 500 pseudo-inputs with 128 images, and their gradient.
    encoder, decoder = 784 * 400 + 400 * 40, 20 * 400 + 400 * 784
    plain = 128 * (3 * (encoder + decoder) - 784 * 400)
    expected = 1 + 500 * 3 * encoder / plain
    assert expected < ratios["step, VampPrior of 500"] < 1.1 * expected


@pytest.mark.slow
def test_the_section_prints_every_row_with_its_limit(capsys, monkeypatch):
    monkeypatch.setattr(repeated, "SECONDS_A_ROUND", 0)
    bench = SimpleNamespace(
        config=SimpleNamespace(rounds=1),
        model=SimpleNamespace(hidden_size=8, latent_size=4),
        experiment=SimpleNamespace(
            train=np.full((5, 4, 4), 100, np.uint8), batch_size=5
        ),
    )
    with users_settings():
        section = composed.models_section(bench)
    printed = capsys.readouterr().out
    assert json.loads(json.dumps(section))["batch_size"] == 5
    assert len(section["rows"]) == 14
    for name, row in section["rows"].items():
        assert f"  {name}  " in printed
        if row["reference"] == name:
            assert row["ratios"] == [1.0] and "limit" not in row
        else:
            assert row["limit"]["why"] in printed
