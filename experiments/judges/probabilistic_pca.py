"""Exact probabilistic PCA, which a linear VAE is judged by.

Source: Tipping & Bishop 1999.
"""

import math
from typing import NamedTuple

import numpy as np

LOG_2_PI = math.log(2 * math.pi)


class Spectrum(NamedTuple):
    """A data set as probabilistic PCA sees it, in double precision.

    Attributes:
      mean: `[x]`.
      covariance: `[x, x]`, divided by the number of examples.
      eigenvalues: eigenvalues of the covariance, `[x]`, the largest first.
      eigenvectors: `[x, x]`, in columns of the same order.
    """

    mean: np.ndarray
    covariance: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


class Model(NamedTuple):
    """The density p(x) = N(offset, loadings loadings' + variance I)."""

    loadings: np.ndarray
    offset: np.ndarray
    variance: float


def spectrum(xs: np.ndarray) -> Spectrum:
    """Return mean, covariance and eigenvalues of `[examples, x]`."""
    xs = np.asarray(xs, np.float64)
    mean = xs.mean(axis=0)
    covariance = (xs - mean).T @ (xs - mean) / len(xs)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    return Spectrum(
        mean, covariance, np.maximum(eigenvalues[::-1], 0), eigenvectors[:, ::-1]
    )


def best_model(
    data: Spectrum, latent_size: int, variance: float | None = None
) -> Model:
    """Return the model of largest likelihood.

    With `variance` given, latents whose eigenvalue is below it are left out.

    W = U_k (diag(lambda_k) - s^2 I)^(1/2) and s^2 the mean of the other eigenvalues.

    Source: Tipping & Bishop 1999, equations 7 and 8.
    """
    variance = (
        float(data.eigenvalues[latent_size:].mean()) if variance is None else variance
    )
    scales = np.sqrt(np.maximum(data.eigenvalues[:latent_size] - variance, 0))
    return Model(data.eigenvectors[:, :latent_size] * scales, data.mean, variance)


def mean_log_likelihood(model: Model, data: Spectrum) -> float:
    """Return the mean of log p(x) over the data, in nats per example.

    It is -1/2 [D log 2 pi + log|C| + tr(C^-1 S)].
    """
    covariance = model.loadings @ model.loadings.T + model.variance * np.eye(
        len(data.mean)
    )
    moments = data.covariance + np.outer(
        data.mean - model.offset, data.mean - model.offset
    )
    log_determinant = np.linalg.slogdet(covariance)[1]
    return -0.5 * float(
        len(data.mean) * LOG_2_PI
        + log_determinant
        + np.trace(np.linalg.solve(covariance, moments))
    )
