"""The convolutional model of experiments.convolutional in PyTorch, channels last."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.other_libraries import (
    Job,
    intensities,
    torch_training as training,
)
from experiments.benchmarks.timing import Program


class ConvolutionalVAE(nn.Module):
    """Convolutions of 4 by 4 and stride 2, and transposed ones as their mirror.

    Each halves height and width, which a power of 2 must divide. Features are flattened
    channels last, as they lie in memory.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int],
        dense_size: int,
        latent_size: int,
    ):
        super().__init__()
        height, width, *rest = image_shape
        sizes = [rest[0] if rest else 1, *channels]
        scale = 2 ** len(channels)
        self.smallest = (height // scale, width // scale, channels[-1])
        features = height // scale * (width // scale) * channels[-1]
        steps = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.down = nn.ModuleList(nn.Conv2d(i, o, 4, 2, 1) for i, o in steps)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(o, i, 4, 2, 1) for i, o in reversed(steps)
        )
        self.encode = nn.Sequential(
            nn.Linear(features, dense_size),
            nn.ReLU(),
            nn.Linear(dense_size, 2 * latent_size),
        )
        self.decode = nn.Sequential(
            nn.Linear(latent_size, dense_size),
            nn.ReLU(),
            nn.Linear(dense_size, features),
            nn.ReLU(),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                training.lecun_normal(module, module.in_features)
            elif isinstance(module, nn.Conv2d):
                training.lecun_normal(module, 16 * module.in_channels)
            elif isinstance(module, nn.ConvTranspose2d):
                # Each pixel has 2 by 2 of the inputs.
                training.lecun_normal(module, 4 * module.in_channels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the logits, and the mean and the log-variance of q(z|x)."""
        for layer in self.down:
            x = functional.relu(layer(x))
        x = x.permute(0, 2, 3, 1).flatten(1)
        mean, log_variance = self.encode(x).chunk(2, dim=1)
        x = self.decode(training.draw(mean, log_variance))
        x = x.unflatten(1, self.smallest).permute(0, 3, 1, 2)
        *inner, last = self.up
        for layer in inner:
            x = functional.relu(layer(x))
        return last(x), mean, log_variance


def negative_elbo(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the mean negative ELBO of a batch of images, in nats."""
    logits, mean, log_variance = model(x)
    cross_entropy = functional.binary_cross_entropy_with_logits(
        logits, x, reduction="sum"
    )
    kl = training.kl_to_standard_normal(mean, log_variance)
    return (cross_entropy + kl) / len(x)


def torch_convolutional(
    job: Job,
    *,
    channels: Sequence[int],
    dense_size: int,
    latent_size: int,
    compiled: bool = False,
) -> Program:
    """Return an epoch of the convolutional model, eager or compiled.

    Raises:
      ValueError: the convolutions cannot halve the images.
    """
    shape = job.images.shape[1:]
    if any(side % 2 ** len(channels) for side in shape[:2]):
        raise ValueError(f"images of {shape} cannot be halved {len(channels)} times.")
    torch.manual_seed(0)
    images = torch.from_numpy(intensities(job.images)).reshape(-1, *shape)
    images = images.reshape(*images.shape[:3], -1).permute(0, 3, 1, 2)
    model = ConvolutionalVAE(shape, channels, dense_size, latent_size)
    return training.training_loop(
        model.to(memory_format=torch.channels_last),
        negative_elbo,
        lambda: training.binarized(images, job.batch_size),
        learning_rate=job.learning_rate,
        num_steps=job.num_steps,
        compiled=compiled,
    )
