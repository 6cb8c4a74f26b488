"""Streamed training in one of two processes: `python two_processes.py PORT INDEX OUT`.

The data are large beside the model. Each process writes its losses, how many rows it
read and its peak memory to `OUT/INDEX.json`. With PORT 0 one process trains on the
whole data, which lie on its device.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
import optax

import vaejax
from experiments.harness.resources import peak_resident_bytes
from vaejax import training

NUM, SIZE, BATCH, MEMBERS, STEPS = 2560, 10_000, 64, 2, 100
VAE = vaejax.gaussian_vae(
    latent_size=2,
    encoder=vaejax.MLP((4,)),
    decoder=vaejax.MLP((4,), (SIZE,)),
    likelihood=vaejax.Bernoulli,
)
OPTIMIZER = optax.adam(1e-3)


class Source:
    """Rows of a file, read one by one, so that none stays in memory, and counted."""

    def __init__(self, path: Path):
        rows = np.load(path, mmap_mode="r")
        self.path, self.start = path, rows.offset
        self.num_read = 0

    def __len__(self) -> int:
        return NUM

    def __getitems__(self, indices: list[int]) -> np.ndarray:
        self.num_read += len(indices)
        with self.path.open("rb") as file:
            return np.stack([self._row(file, index) for index in indices])

    def _row(self, file: BinaryIO, index: int) -> np.ndarray:
        file.seek(self.start + index * 4 * SIZE)
        return np.fromfile(file, np.float32, SIZE)


def write_data(path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(path, (rng.random((NUM, SIZE), np.float32) < 0.1).astype(np.float32))


def start() -> training.TrainState:
    init = partial(vaejax.init_train_state, VAE, OPTIMIZER)
    keys = jax.vmap(jax.random.key)(np.arange(MEMBERS))
    return jax.jit(jax.vmap(init, in_axes=(0, None)))(keys, np.zeros(SIZE, np.float32))


def step():
    return vaejax.make_train_step(
        vaejax.mean_over_batch(partial(vaejax.negative_elbo, VAE)), OPTIMIZER
    )


def epochs_of(num_steps: int) -> int:
    return -(-num_steps // (NUM // BATCH))


def resident(path: Path) -> np.ndarray:
    """Losses `[members, steps]` of one process, whose data lie on its device."""
    data, state, losses = np.load(path), start(), []
    epoch = jax.jit(
        jax.vmap(vaejax.make_train_epoch(step(), BATCH), in_axes=(0, None)),
        donate_argnums=0,
    )
    for _ in range(epochs_of(STEPS)):
        state, metrics = epoch(state, data)
        losses.append(metrics.loss)
    return np.concatenate(losses, axis=1)[:, :STEPS]


def streamed(path: Path) -> tuple[np.ndarray, int]:
    """Losses as above, and the rows that this process read."""
    mesh = training.make_mesh()
    everywhere = training.replicated_sharding(mesh)
    state = training.place_on_devices(start(), everywhere)
    epoch = training.make_streamed_epoch(
        step(),
        BATCH,
        steps_per_dispatch=4,
        batch_sharding=training.batch_sharding(mesh),
        state_sharding=everywhere,
    )
    source, losses = Source(path), []
    for _ in range(epochs_of(STEPS)):
        state, metrics = epoch(state, source)
        losses.append(metrics.loss)
    return np.concatenate(losses, axis=1)[:, :STEPS], source.num_read


def main(port: int, index: int, out: Path) -> None:
    found: dict[str, Any] = {}
    if port:
        jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
        losses, found["num_read"] = streamed(out / "data.npy")
    else:
        losses = resident(out / "data.npy")
    found["losses"] = losses.tolist()
    found["peak_bytes"] = peak_resident_bytes()
    (out / f"{index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
