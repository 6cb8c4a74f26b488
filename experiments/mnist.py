"""A VAE of one hidden layer on the digits, binarized at each access.

Paper: Kingma & Welling 2014, "Auto-Encoding Variational Bayes"; the binarization is
that of Burda et al. 2016. Command: python -m experiments.mnist
"""

from experiments import harness
from experiments.harness import binary_images, cli

ABOUT = harness.About(
    what="one-hidden-layer VAE on dynamically binarized digits",
    paper="Kingma & Welling 2014",
    cost="3 minutes of training on 2 cores, 3 seeds",
    expected="negative ELBO 98.8 ± 0.1, NLL 94.2 ± 0.1 nats",
)

Config = binary_images.Config


def make_experiment(config: Config) -> harness.Experiment:
    return binary_images.dense_experiment(config)


analyze = harness.analyze_model


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
