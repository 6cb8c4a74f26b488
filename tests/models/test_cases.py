"""The awkward models of cases.py are what they say: each shows one thing."""

import jax
import jax.numpy as jnp
import numpy as np
from support.case_setup import assert_close, example, row, setup
from support.cases import images_and_contexts
from support.prototypes import MAX_LENGTH, VOCABULARY, Sentence

import vaejax
from vaejax.base import END_TOKEN, Latents


def test_the_hierarchy_reports_a_term_a_level_and_its_path_follows_an_edit():
    case = row("hierarchical")
    params, batch = setup(case)
    _, terms = case.loss(params, jax.random.key(0), example(batch, 0))
    assert terms.kl_terms.shape == (2,) and np.isclose(terms.kl, terms.kl_terms.sum())
    prior = case.vae.prior(params)
    z = prior.sample(jax.random.key(1))
    edited = prior.complete((z.values[0], z.values[1] + 1))
    assert isinstance(edited, Latents) and not np.allclose(
        edited.path.mean, z.path.mean
    )
    # The path is what a decode needs: an edit that forgot it would change nothing.
    stale = Latents(edited.values, z.path)
    assert_close(
        case.vae.decode(params, stale).logits, case.vae.decode(params, z).logits
    )
    assert not np.allclose(
        case.vae.decode(params, edited).logits, case.vae.decode(params, z).logits
    )


def test_the_terms_of_the_hierarchy_are_its_kl_within_five_standard_errors():
    case = row("hierarchical")
    params, batch = setup(case)

    @jax.jit
    @jax.vmap
    def both(key):
        posterior, prior = (
            case.vae.encode(params, example(batch, 0)),
            case.vae.prior(params),
        )
        z, log_posterior = posterior.sample_and_log_prob(key)
        estimate = vaejax.kl_monte_carlo(posterior, prior, z, log_posterior)
        return case.kl_fn(posterior, prior, z, log_posterior).sum() - estimate.sum()

    differences = np.asarray(both(jax.random.split(jax.random.key(12), 10_000)))
    assert abs(differences.mean()) < 5 * differences.std() / np.sqrt(len(differences))


def test_the_flow_is_a_density():
    """log q(z) from the determinant against the change of volume, measured by the
    Jacobian of z0 -> z.
    """
    case = row("flow_posterior")
    params, batch = setup(case)
    posterior = case.vae.encode(params, example(batch, 0))

    def map_of(noise):
        z0 = posterior.base.mean + jnp.exp(posterior.base.log_variance / 2) * noise
        step = jax.nn.softplus(posterior.scale) * posterior.direction
        return z0 + step * jnp.tanh(posterior.direction @ z0 + posterior.bias)

    z, log_posterior = posterior.sample_and_log_prob(jax.random.key(8))
    noise = jax.random.normal(jax.random.key(8), (3,))
    assert_close(z, map_of(noise))
    _, log_determinant = jnp.linalg.slogdet(jax.jacobian(map_of)(noise))
    log_noise = vaejax.Normal(jnp.zeros(3), jnp.zeros(3)).log_prob(noise)
    assert_close(log_posterior, log_noise - log_determinant)


def test_sentences_are_a_distribution_and_padding_does_not_count():
    case = row("sequence")
    params, batch = setup(case)
    likelihood = case.vae.decode(params, jnp.array([0.5, -1.0, 2.0]))
    sentence = Sentence(
        jnp.array([3, 1, 0, 0, 0, 0], jnp.int32), jnp.asarray(3, jnp.int32)
    )
    padded = sentence._replace(tokens=sentence.tokens.at[4].set(2))
    assert likelihood.log_prob(sentence) == likelihood.log_prob(padded)
    assert_close(
        *(case.loss(params, jax.random.key(1), x)[0] for x in (sentence, padded)),
        rtol=0,
        atol=0,
    )
    # Sentences that end within two tokens, and everything else, have probabilities that
    # sum to one.
    short = [
        Sentence(
            jnp.zeros(MAX_LENGTH, jnp.int32).at[0].set(t),
            jnp.asarray(1 if t == 0 else 2),
        )
        for t in range(5)
    ]
    log_probs = jnp.stack(
        [
            likelihood.log_prob(x._replace(length=x.length.astype(jnp.int32)))
            for x in short
        ]
    )
    draws = jax.jit(jax.vmap(likelihood.sample))(
        jax.random.split(jax.random.key(9), 20_000)
    )
    frequency = np.mean(np.asarray(draws.length) <= 2)
    probability = float(jnp.sum(jnp.exp(log_probs)))
    assert abs(frequency - probability) < 5 * np.sqrt(
        probability * (1 - probability) / 20_000
    )


def test_the_mode_of_a_sentence_is_the_likeliest_token_at_each_step():
    case = row("sequence")
    params, _ = setup(case)
    likelihood = case.vae.decode(params, jnp.array([0.5, -1.0, 2.0]))
    greedy = likelihood.mode
    log_probs = jax.jit(jax.vmap(likelihood.log_prob))
    for t in range(int(greedy.length)):
        # A sentence cut after token t has the probability of its first t + 1 tokens.
        tokens = (
            jnp.tile(greedy.tokens, (VOCABULARY, 1))
            .at[:, t]
            .set(jnp.arange(VOCABULARY, dtype=jnp.int32))
        )
        prefixes = Sentence(tokens, jnp.full(VOCABULARY, t + 1, jnp.int32))
        assert np.argmax(log_probs(prefixes)) == greedy.tokens[t]
    assert greedy.length == MAX_LENGTH or greedy.tokens[greedy.length - 1] == END_TOKEN


def test_the_conditional_model_uses_its_condition():
    case = row("conditional")
    params, _ = setup(case)
    one = example(images_and_contexts(jax.random.key(0), 1), 0)
    other = one._replace(condition=1 - one.condition)
    losses = [case.loss(params, jax.random.key(1), x)[0] for x in (one, other)]
    assert abs(losses[0] - losses[1]) > 1e-3
