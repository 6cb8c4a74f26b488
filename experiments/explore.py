"""An interactive page of a trained model of images.

It has a slider for each latent, a map of the test set, and paths between its images.
The page is one file that needs no network and no server: it holds the decoder as a list
of array operations, which its own script evaluates. A model with an operation that the
script does not know, such as a loop, or with too many parameters is served from this
machine with --serve, to browsers on it alone.

Command: python -m experiments.explore runs/mnist-0001
"""

import dataclasses
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.flatten_util import ravel_pytree

import vaejax
from experiments.explorer import in_page, serving
from experiments.harness import About, UsageError, cli, keys, load_run, one_line
from vaejax import latent
from vaejax.base import VAE, Array, Key, Params
from vaejax.checkpoints import write_atomically
from vaejax.distributions import MaskedEvent

ABOUT = About(
    what="an interactive page of any run on images",
    paper="Kingma & Welling 2014",
    cost="half a minute",
    expected="a slider answers within milliseconds",
)

USED = 0.01  # nats; a latent that carries less has no slider
PRIOR_DRAWS, STATISTICS_EXAMPLES = 200, 5000
MOST_BYTES = 30 * 2**20  # of constants in a page
MASSES = jnp.array([0.005, 0.995])


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run."""
    arm: str | None = None
    """Name of one of the models that the run compares; by default the first."""
    member: int = 0
    """Number of one of its seeds (and settings, setting after setting), from 0."""
    out: Path | None = None
    """File of the page; by default RUN/explore.html."""
    num_examples: int = 1000
    """Test examples on the map."""
    serve: bool = False
    """Serve the page and decode here, instead of writing a page that decodes itself."""
    port: int = 0
    """Port of the server, on 127.0.0.1; 0 takes a free one."""


def flat_decoder(vae: VAE, params: Params, like: Any) -> Callable[[Array], Array]:
    """Return a function from z as a vector to the mean of p(x|z) as a vector.

    `like` is any latent of the model.
    """
    _, unravel = ravel_pytree(latent.values(like))

    def decode(z: Array) -> Array:
        return jnp.ravel(
            latent.mean(
                None, vae.decode(params, latent.complete(vae, params, like, unravel(z)))
            )
        )

    return decode


def page_data(
    vae: VAE,
    params: Params,
    key: Key,
    xs: Array,
    *,
    labels: np.ndarray | None = None,
    num_examples: int = 1000,
    latent_point: latent.PointEstimator = latent.mean,
    title: str = "A VAE",
) -> tuple[dict[str, Any], Callable[[Array], Array]]:
    """Return the content of the page, and the decoder `[dimensions] -> [pixels]`.

    Args:
      vae: a model of images.
      params: its parameters.
      key: key of the prior's draws, and of posteriors that are no Normal.
      xs: test images as the model sees them, `[num, height, width]`, or with one or
        three channels.
      labels: classes, `[num]`.
      num_examples: how many of `xs` are on the map, evenly spaced.
      latent_point: the latent that stands for a posterior.
      title: title of the page.
    """
    statistics_key, prior_key, code_key = jax.random.split(key, 3)
    some = np.linspace(0, len(xs) - 1, min(num_examples, len(xs))).astype(int)
    many = xs[
        np.linspace(0, len(xs) - 1, min(STATISTICS_EXAMPLES, len(xs))).astype(int)
    ]
    statistics = jax.jit(partial(vaejax.latent.code_statistics, vae, quantiles=MASSES))(
        params, statistics_key, many
    )
    keys = jax.random.split(prior_key, PRIOR_DRAWS)
    latents = jax.jit(jax.vmap(lambda key: latent.draw(key, vae.prior(params))))(keys)
    prior = _flat(jax.vmap(latent.values)(latents))
    codes = _flat(
        jax.jit(partial(vaejax.embed, vae, latent_point=latent_point))(
            params, xs[some], key=code_key
        )
    )
    order, kl = np.asarray(statistics.order), np.asarray(statistics.kl)
    image = (*xs.shape[1:], 1)[:3]
    data = {
        "title": title,
        "image": image,
        "latents": [
            {
                "index": int(j),
                # Infinite of a code without noise, which JSON cannot say.
                "kl": float(kl[j]) if np.isfinite(kl[j]) else None,
                # Codes and samples lie within, so that no slider jumps.
                "low": float(
                    min(
                        statistics.quantiles[j, 0], codes[:, j].min(), prior[:, j].min()
                    )
                ),
                "high": float(
                    max(
                        statistics.quantiles[j, 1], codes[:, j].max(), prior[:, j].max()
                    )
                ),
            }
            for j in order
            # One that is no number too, so that it is seen.
            if not kl[j] < USED or j == order[0]
        ],
        "unused": sorted(int(j) for j in order[1:] if kl[j] < USED),
        "codes": in_page.encode_array(codes),
        "prior": in_page.encode_array(prior),
        "originals": in_page.encode_array(
            np.rint(255 * np.clip(np.asarray(xs[some], np.float32), 0, 1)), "u1"
        ),
        "indices": some.tolist(),
        "labels": None if labels is None else np.asarray(labels)[some].tolist(),
    }
    like = jax.tree.map(lambda leaf: leaf[0], latents)
    return data, flat_decoder(vae, params, like)


def page(data: dict[str, Any], program: dict[str, Any] | None) -> str:
    """Return the HTML; without a program the page asks its server to decode."""
    here = Path(__file__).parent / "explorer"
    text = (here / "explore.html").read_text()
    # No text in the data ends the element that holds them.
    written = json.dumps(data | {"program": program}, allow_nan=False).replace(
        "<", "\\u003c"
    )
    escaped = one_line(data["title"]).replace("&", "&amp;").replace("<", "&lt;")
    parts = {
        "TITLE": escaped,
        "DATA": written,
        "INTERPRETER": (here / "explore.js").read_text(),
        "PAGE": (here / "explore_page.js").read_text(),
    }
    # In one pass, so that nothing is looked for in what is put in.
    return re.sub("|".join(parts), lambda found: parts[found.group()], text)


def program_of(decode: Callable[[Array], Array], dimensions: int) -> dict[str, Any]:
    """Return the decoder for the page.

    Raises:
      NotInPage: the page cannot hold it.
    """
    program = in_page.program_of(decode, jnp.zeros(dimensions))
    size = sum(len(constant["data"]) for constant in program["constants"])
    if size > MOST_BYTES:
        raise in_page.NotInPage(
            f"the decoder has {size / 2**20:.0f} MiB of constants and a page holds "
            f"{MOST_BYTES / 2**20:.0f}."
        )
    return program


def explore(config: Config) -> Path | None:
    """Write the page of a run and return its path, or serve it until interrupted."""
    if config.serve and config.out is not None:
        raise UsageError(
            "--out is of a page in a file, and --serve writes none; leave one of them "
            "out."
        )
    if config.port and not config.serve:
        raise UsageError("--port is of the server; give --serve too.")
    if not 0 <= config.port <= 65535:
        raise UsageError(f"--port is {config.port}; give one from 0 to 65535.")
    model = load_run.load_run(config.run, arm=config.arm, member=config.member)
    experiment = model.require_data()
    if isinstance(experiment.test, MaskedEvent):
        raise UsageError(
            f"{config.run}: the page shows images, and this is a run on a table; see "
            "its figures/profiles.png, or experiments.gallery."
        )
    xs = jnp.asarray(experiment.test)
    if xs.ndim not in (3, 4) or (xs.ndim == 4 and xs.shape[-1] not in (1, 3)):
        raise UsageError(
            f"{config.run}: the page shows gray or RGB images; examples have shape "
            f"{xs.shape[1:]}."
        )
    if not (config.num_examples >= 2 and len(xs) >= 2):
        raise UsageError(
            f"--num-examples is {config.num_examples} and there are {len(xs)} test "
            "images; the map needs 2 or more."
        )
    data, decode = page_data(
        experiment.vae,
        model.state.params,
        jax.random.fold_in(model.state.key, keys.PAGE),
        xs,
        labels=model.labels,
        num_examples=config.num_examples,
        latent_point=experiment.latent_point,
        title=model.description,
    )
    if not all(np.isfinite([one["low"], one["high"]]).all() for one in data["latents"]):
        raise UsageError(
            f"{config.run}: the model's codes are not finite: it has diverged; choose "
            "another --member."
        )
    dimensions = len(data["latents"]) + len(data["unused"])
    if config.serve:
        _serve(page(data, None), jax.jit(decode), dimensions, config.port)
        return None
    try:
        program = program_of(decode, dimensions)
    except in_page.NotInPage as error:
        raise UsageError(f"{error} Serve it from here with --serve.") from error
    out = config.out or config.run / "explore.html"
    write_atomically(out, page(data, program))
    print(
        f"{model.description}: open {out.resolve().as_uri()} "
        f"({out.stat().st_size / 2**20:.1f} MiB)"
    )
    return out


def _serve(
    text: str, decode: Callable[[Array], Array], dimensions: int, port: int
) -> None:
    try:
        server = serving.server(text, decode, dimensions, port)
    except OSError as error:
        raise UsageError(
            f"--port {port} cannot be used ({error.strerror}); give another, or leave "
            "it out."
        ) from error
    print(
        f"open http://127.0.0.1:{server.server_address[1]}/ ; Ctrl-C ends it",
        flush=True,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


def _flat(tree: Any) -> np.ndarray:
    """A pytree whose leaves lead with `[num]` as `[num, dimensions]`.

    Dimensions are in the order of `ravel_pytree`.
    """
    return np.asarray(jax.vmap(lambda one: ravel_pytree(one)[0])(tree))


if __name__ == "__main__":
    cli.look(Config, explore)
