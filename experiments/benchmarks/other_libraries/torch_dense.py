"""The main job in PyTorch."""

import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.other_libraries import (
    Job,
    intensities,
    torch_training as training,
)
from experiments.benchmarks.timing import Program


def networks(job: Job) -> nn.ModuleList:
    """Return encoder and decoder."""
    linears = [nn.Linear(*size) for size in job.layers]
    for linear in linears:
        training.lecun_normal(linear, linear.in_features)
    first, second, third, fourth = linears
    return nn.ModuleList(
        [
            nn.Sequential(first, nn.ReLU(), second),
            nn.Sequential(third, nn.ReLU(), fourth),
        ]
    )


def negative_elbo(networks: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    """Return the mean negative ELBO of a batch x, `[batch, pixels]`, in nats."""
    encoder, decoder = networks
    mean, log_variance = encoder(x).chunk(2, dim=1)
    cross_entropy = functional.binary_cross_entropy_with_logits(
        decoder(training.draw(mean, log_variance)), x, reduction="sum"
    )
    kl = training.kl_to_standard_normal(mean, log_variance)
    return (cross_entropy + kl) / len(x)


def torch_dense(job: Job, *, loader: bool = False, compiled: bool = False) -> Program:
    """Return an epoch of the main job, eager or compiled.

    Batches come from a DataLoader or from one tensor.
    """
    torch.manual_seed(0)
    images = torch.from_numpy(intensities(job.images))
    make_batches = training.loader if loader else training.binarized
    return training.training_loop(
        networks(job),
        negative_elbo,
        lambda: iter(make_batches(images, job.batch_size)),
        learning_rate=job.learning_rate,
        num_steps=job.num_steps,
        compiled=compiled,
    )
