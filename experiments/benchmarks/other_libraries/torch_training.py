"""Training in PyTorch: the loop, its batches, and the loss that every model shares."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from experiments.benchmarks.timing import Program


def training_loop(
    model: torch.nn.Module,
    loss_fn: Callable[..., torch.Tensor],
    batches: Callable[[], Iterator[torch.Tensor]],
    *,
    learning_rate: float,
    num_steps: int,
    compiled: bool = False,
) -> Program:
    """Return the usual loop of an epoch, with as many threads as PyTorch takes.

    Its state is updated in place.

    Args:
      model: the model.
      loss_fn: `(model, batch) -> loss`.
      batches: returns an iterator over the batches of one epoch.
      learning_rate: initial learning rate of Adam; decays to 0 by a cosine.
      num_steps: steps of the cosine.
      compiled: whether `torch.compile` compiles the loss and its gradient.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    compute_loss = torch.compile(loss_fn) if compiled else loss_fn

    def run_epoch(state: Mapping[str, Any]) -> tuple[Mapping[str, Any], np.ndarray]:
        losses = []
        for x in batches():
            loss = compute_loss(model, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        return state, torch.stack(losses).numpy()

    return Program({"model": model, "optimizer": optimizer}, run_epoch)


def shuffled(examples: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield batches cut out of one tensor in a new order."""
    order = torch.randperm(len(examples))
    for first in range(0, len(examples) - batch_size + 1, batch_size):
        yield examples[order[first : first + batch_size]]


def binarized(probabilities: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield batches of pixels drawn with their probabilities, in a new order."""
    for batch in shuffled(probabilities, batch_size):
        yield bernoulli(batch)


def bernoulli(probabilities: torch.Tensor) -> torch.Tensor:
    """Draw zeros and ones; `torch.bernoulli` takes four times as long on CPU."""
    return (torch.rand_like(probabilities) < probabilities).float()


def loader(probabilities: torch.Tensor, batch_size: int) -> DataLoader:
    """Return a DataLoader in this process that draws an image at each access."""

    class Binarized(Dataset):
        def __len__(self) -> int:
            return len(probabilities)

        def __getitem__(self, index: int) -> torch.Tensor:
            return bernoulli(probabilities[index])

    return DataLoader(Binarized(), batch_size=batch_size, shuffle=True, drop_last=True)


def lecun_normal(layer: torch.nn.Module, fan_in: int) -> None:
    """Set the weights of a layer to N(0, 1 / fan_in) and its bias to zero."""
    torch.nn.init.normal_(layer.weight, std=fan_in**-0.5)
    torch.nn.init.zeros_(layer.bias)


def draw(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Draw z by its mean and log-variance."""
    return mean + torch.exp(log_variance / 2) * torch.randn_like(mean)


def kl_to_standard_normal(
    mean: torch.Tensor, log_variance: torch.Tensor
) -> torch.Tensor:
    """Return the KL to N(0, I), summed over the batch."""
    return 0.5 * torch.sum(mean**2 + log_variance.exp() - log_variance - 1)
