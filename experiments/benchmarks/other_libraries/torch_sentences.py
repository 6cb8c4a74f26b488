"""The plain VAE of experiments.text in PyTorch, with its own GRU.

It is not compiled: `torch.compile` leaves the modules of recurrent networks as they
are.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.other_libraries import torch_training as training
from experiments.benchmarks.timing import Program

END_TOKEN = 0


class SentenceJob(NamedTuple):
    """A job of training on sentences.

    Attributes:
      tokens: training sentences, `[sentences, length]`, ended by `END_TOKEN`.
      vocabulary_size: the number of tokens.
      hidden_size: width of encoder and decoder; a token's embedding has half of it.
      latent_size: dimensions of z.
      batch_size: sentences per step.
      learning_rate: initial learning rate of Adam; decays to 0 by a cosine.
      num_steps: steps of the cosine.
    """

    tokens: np.ndarray
    vocabulary_size: int
    hidden_size: int
    latent_size: int
    batch_size: int
    learning_rate: float
    num_steps: int


class SentenceVAE(nn.Module):
    """A GRU reads a sentence; another, started and fed by z, writes it."""

    def __init__(self, job: SentenceJob):
        super().__init__()
        embedding_size, size = job.hidden_size // 2, job.hidden_size
        self.read_embedding = nn.Embedding(job.vocabulary_size, embedding_size)
        self.reader = nn.GRU(embedding_size, size, batch_first=True)
        self.posterior = nn.Linear(size, 2 * job.latent_size)
        self.start = nn.Linear(job.latent_size, size)
        self.write_embedding = nn.Embedding(job.vocabulary_size + 1, embedding_size)
        self.writer = nn.GRU(embedding_size + job.latent_size, size, batch_first=True)
        self.logits = nn.Linear(size, job.vocabulary_size)
        for layer in (self.posterior, self.start, self.logits):
            training.lecun_normal(layer, layer.in_features)
        for embedding in (self.read_embedding, self.write_embedding):
            nn.init.normal_(embedding.weight, std=embedding_size**-0.5)
        for gru in (self.reader, self.writer):
            nn.init.normal_(gru.weight_ih_l0, std=gru.input_size**-0.5)
            nn.init.orthogonal_(gru.weight_hh_l0)
            nn.init.zeros_(gru.bias_ih_l0)
            nn.init.zeros_(gru.bias_hh_l0)


def negative_elbo(model: SentenceVAE, tokens: torch.Tensor) -> torch.Tensor:
    """Return the mean negative ELBO of a batch of sentences, in nats."""
    is_end = (tokens == END_TOKEN).long()
    mask = is_end.cumsum(1) - is_end == 0
    states, _ = model.reader(model.read_embedding(tokens))
    last = states[torch.arange(len(tokens)), mask.sum(1) - 1]
    mean, log_variance = model.posterior(last).chunk(2, dim=1)
    z = training.draw(mean, log_variance)
    inputs = functional.pad(tokens[:, :-1], (1, 0), value=END_TOKEN)
    with_z = torch.cat(
        [
            model.write_embedding(inputs),
            z[:, None].expand(-1, tokens.shape[1], -1),
        ],
        dim=2,
    )
    start = torch.tanh(model.start(z))[None]
    logits = model.logits(model.writer(with_z, start)[0])
    # The padding after a sentence is left out of the loss.
    targets = tokens.masked_fill(~mask, -100)
    cross_entropy = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum"
    )
    kl = training.kl_to_standard_normal(mean, log_variance)
    return (cross_entropy + kl) / len(tokens)


def torch_sentences(**fields: Any) -> Program:
    """Return an epoch of the VAE of sentences, eager, from the fields of its job."""
    job = SentenceJob(**fields)
    torch.manual_seed(0)
    tokens = torch.from_numpy(job.tokens.astype(np.int64))
    return training.training_loop(
        SentenceVAE(job),
        negative_elbo,
        lambda: training.shuffled(tokens, job.batch_size),
        learning_rate=job.learning_rate,
        num_steps=job.num_steps,
    )
