"""Speed of training on data that stay on disk, beside arrays on the device.

The data are streamed from a memory map. Both run in one process, in turn, round after
round, since a shared machine's speed drifts; the ratio of each round is what counts.
Same model (784-400-20, ReLU, Bernoulli), Adam, binarization at each access. The memory
map holds the bundled digits again and again, shifted and darkened at random; it is
written once. A streamed round is the end of an epoch, and the drawing of its order is
in its time. Recently written data may come from the page cache.
A set prepared by tensorflow-datasets, where that is installed, stands beside them.
Command: python -m experiments.throughput --directory DIR
"""

import dataclasses
import importlib.util
import json
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import vaejax
from experiments import harness
from experiments.benchmarks.timing import Program, measure
from experiments.harness import UsageError, cli
from experiments.harness.config import check_positive
from vaejax import datasets
from vaejax.base import Array, PyTree
from vaejax.checkpoints import write_atomically
from vaejax.training import make_streamed_epoch

ABOUT = harness.About(
    what="images per second streamed from disk beside an epoch on the device",
    paper="",
    cost="4 minutes on 2 cores, 1.6 GB of disk",
    expected="",
)

CHUNK = 50_000  # images written at a time


@dataclasses.dataclass(frozen=True)
class Config:
    directory: Path
    """Folder of the data, where train.npy is written if it is missing."""
    examples: int = 2_000_000
    """Images in train.npy, 784 bytes each."""
    rounds: int = 5
    """Rounds, after one that is not counted."""
    steps: int = 2_000
    """Steps of a streamed round, the last ones of an epoch."""
    batch_size: int = 128
    """Examples per step."""
    steps_per_dispatch: int = 16
    """Steps per compiled program in a streamed epoch."""
    prepared_examples: int = 60_000
    """Images of the set that tensorflow-datasets prepares; 0 leaves it out."""
    json: Path | None = None
    """File for every measured time."""


def write_images(path: Path, num_examples: int) -> None:
    """Write `uint8 [num_examples, 28, 28]`, the same each time, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digits = datasets.load("mnist").images
    shape = (num_examples, 28, 28)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    starts = range(0, num_examples, CHUNK)

    def write(file: BinaryIO) -> None:
        np.lib.format.write_array_header_1_0(file, header)
        for start in tqdm(starts, unit="chunk", desc=path.name, dynamic_ncols=True):
            chosen = np.arange(start, min(start + CHUNK, num_examples))
            rng = np.random.default_rng(start)
            file.write(altered(digits[chosen % len(digits)], rng).tobytes())

    write_atomically(path, write)


def altered(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift each image by up to two pixels, and darken pixels by up to an eighth."""
    shifts = rng.integers(-2, 3, (len(images), 2))
    shifted = np.empty_like(images)
    for shift in np.unique(shifts, axis=0):
        those = np.all(shifts == shift, axis=1)
        shifted[those] = np.roll(images[those], shift, axis=(1, 2))
    return shifted - shifted // 8 * rng.integers(0, 2, images.shape, np.uint8)


def memory_mapped(config: Config) -> np.memmap:
    """Return the images in the folder, which are written if there are none.

    Raises:
      UsageError: there are others.
    """
    path = config.directory / "train.npy"
    if not path.exists():
        write_images(path, config.examples)
    images = np.load(path, mmap_mode="r")
    if images.shape != (config.examples, 28, 28) or images.dtype != np.uint8:
        raise UsageError(
            f"{path} is {images.dtype} {list(images.shape)}; give --examples "
            f"{len(images)} or remove it."
        )
    return images


def prepared_source(config: Config) -> Any:
    """Return a data source of tensorflow-datasets over the bundled digits.

    It is prepared in the folder if it is not there.
    """
    import tensorflow_datasets as tfds

    class StreamedDigits(tfds.core.GeneratorBasedBuilder):
        """The first digits, as they are."""

        VERSION = tfds.core.Version(f"1.0.{config.prepared_examples}")

        def _info(self) -> tfds.core.DatasetInfo:
            features = tfds.features.FeaturesDict(
                {"image": tfds.features.Tensor(shape=(28, 28), dtype=np.uint8)}
            )
            return tfds.core.DatasetInfo(
                builder=self, features=features, disable_shuffling=True
            )

        def _split_generators(
            self, dl_manager: tfds.download.DownloadManager
        ) -> dict[str, Iterator]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict]]:
            images = datasets.load("mnist").images[: config.prepared_examples]
            return ((index, {"image": image}) for index, image in enumerate(images))

    builder = StreamedDigits(data_dir=config.directory / "prepared")
    builder.download_and_prepare(file_format="array_record")
    return builder.as_data_source(split="train")


def make_step(
    pixels_of: Callable[[PyTree], Array] = lambda x: x,
) -> tuple[PyTree, Callable]:
    """Return a state and the step of the main job's model.

    `pixels_of` takes the pixels out of an example.
    """
    vae = vaejax.gaussian_vae(
        latent_size=20, encoder=vaejax.MLP((400,)), decoder=vaejax.MLP((400,), (28, 28))
    )
    objective = vaejax.with_transform(
        partial(vaejax.negative_elbo, vae),
        lambda key, x: vaejax.binarize(key, pixels_of(x)),
    )
    optimizer = optax.adam(1e-3)
    step = vaejax.make_train_step(vaejax.mean_over_batch(objective), optimizer)
    return vaejax.init_train_state(
        vae, optimizer, jax.random.key(0), jnp.zeros((28, 28))
    ), step


def make_rows(config: Config) -> tuple[dict[str, Program], dict[str, int]]:
    """Return the program of each row, and the images of a round."""
    state, step = make_step()
    size = config.batch_size
    resident, images = (
        jax.device_put(datasets.load("mnist").images),
        memory_mapped(config),
    )
    streamed = make_streamed_epoch(
        step, size, steps_per_dispatch=config.steps_per_dispatch
    )
    num_steps = min(config.steps, len(images) // size)
    first = len(images) // size - num_steps

    def end_of_epoch(state: PyTree, source: np.ndarray) -> tuple[PyTree, PyTree]:
        # From the end of one epoch into the next: every round has other images.
        return streamed(state._replace(step=state.step + jnp.int32(first)), source)

    epoch = jax.jit(vaejax.make_train_epoch(step, size), donate_argnums=0)
    rows = {
        "resident": Program(state, lambda state: epoch(state, resident)),
        "memory map": Program(
            make_step()[0], lambda state: end_of_epoch(state, images)
        ),
    }
    counts = {"resident": len(resident) // size * size, "memory map": num_steps * size}
    if (
        config.prepared_examples
        and importlib.util.find_spec("tensorflow_datasets") is not None
    ):
        state, step = make_step(lambda x: x["image"])
        prepared = make_streamed_epoch(
            step, size, steps_per_dispatch=config.steps_per_dispatch
        )
        source = prepared_source(config)
        rows["TFDS"] = Program(state, lambda state: prepared(state, source))
        counts["TFDS"] = config.prepared_examples // size * size
    return rows, counts


@contextmanager
def peak_anonymous_memory() -> Iterator[Callable[[], int | None]]:
    """Yield `peak()`, the most bytes of RssAnon seen so far, or None if unknown."""
    status, done, seen = Path("/proc/self/status"), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.02):
            sizes = [
                line.split()[1]
                for line in status.read_text().splitlines()
                if line.startswith("RssAnon:")
            ]
            seen[0] = max(seen[0], *(int(size) * 1024 for size in sizes), 0)

    thread = threading.Thread(target=watch, daemon=True)
    if status.exists():
        thread.start()
    try:
        yield lambda: seen[0] or None
    finally:
        done.set()


def measure_throughput(config: Config) -> dict[str, Any]:
    """Measure, print and write; return the content of the JSON file."""
    check_positive(
        config, "examples", "rounds", "steps", "batch_size", "steps_per_dispatch"
    )
    with peak_anonymous_memory() as peak:
        rows, counts = make_rows(config)
        seconds = measure(rows, config.rounds).seconds
        memory = peak()
    speeds = {
        name: [counts[name] / value for value in values]
        for name, values in seconds.items()
    }
    print(
        f"784-400-20 Bernoulli VAE, batch {config.batch_size}, {config.rounds} rounds; "
        "images per second, and ratio"
    )
    resident = speeds["resident"]
    ratios = {
        name: [a / b for a, b in zip(values, resident, strict=True)]
        for name, values in speeds.items()
    }
    for name, values in speeds.items():
        print(f"  {name:12s}{spread(values, ',.0f'):32s}{spread(ratios[name], '.2f')}")
    print(
        "  peak anonymous memory: "
        f"{'not measured' if memory is None else f'{memory / 2**30:.2f} GiB'}"
    )
    result = {
        "images_per_second": speeds,
        "ratios": ratios,
        "peak_anonymous_bytes": memory,
        "examples": config.examples,
    }
    if config.json:
        config.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


def spread(values: list[float], form: str) -> str:
    """Return median and range, as text."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    cli.look(Config, measure_throughput)
