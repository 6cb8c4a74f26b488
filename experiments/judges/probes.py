"""Probes and clusters of codes, and maps of them onto the plane.

Linear probes and nearest neighbors need labels; clusters need none. All are functions
of arrays on the host, over scikit-learn; codes are `[num, dimensions]` and labels
`[num]`, integers.
"""

import importlib.util
from typing import NamedTuple

import numpy as np
import scipy.optimize

from experiments.harness.errors import UsageError
from vaejax.datasets import Dataset

NEIGHBORS = 5
RESTARTS = 3


def check_installed() -> None:
    """Raise UsageError where scikit-learn is missing, before anything is trained."""
    if importlib.util.find_spec("sklearn") is None:
        raise UsageError(
            "probes and clusters need scikit-learn; install the extra: pip install "
            "'vaejax[analysis]'."
        )


def check_classes(data: str, train: Dataset, test: Dataset) -> None:
    """Raise UsageError where the images of --data have no classes to tell apart."""
    if (
        train.labels is None
        or test.labels is None
        or train.labels.ndim != 1
        or len(np.unique(test.labels)) < 2
    ):
        raise UsageError(f"--data {data} has no classes, which this experiment needs.")


def _centered(codes: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Return codes, and others, less the mean of the codes, in float32 at least.

    Offsets cost digits in single precision, which scikit-learn keeps; integers and half
    precision it would compute with as they are.
    """
    mean = np.mean(codes, axis=0, dtype=np.float64)
    given = np.asarray(codes).dtype
    single = given == np.float32 or given.itemsize < 4
    dtype = np.float32 if single else np.float64
    moved = []
    for each in (codes, *others):
        out = np.empty(np.shape(each), dtype)
        # Row by row in float64, without a copy of all in it.
        np.subtract(each, mean, out=out, casting="unsafe", dtype=np.float64)
        moved.append(out)
    return moved


def linear_accuracy(
    codes: np.ndarray,
    labels: np.ndarray,
    test_codes: np.ndarray,
    test_labels: np.ndarray,
) -> float:
    """Return the test accuracy of multinomial logistic regression.

    Codes are brought to mean 0 and variance 1. The penalty is scikit-learn's default,
    1/2 |w|^2 beside the summed cross-entropy, the same for every code.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, test_codes = _centered(codes, test_codes)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
    return float(probe.fit(codes, labels).score(test_codes, test_labels))


def network_accuracy(
    seed: int,
    codes: np.ndarray,
    labels: np.ndarray,
    test_codes: np.ndarray,
    test_labels: np.ndarray,
    hidden_size: int,
) -> float:
    """Return the test accuracy of a network with one hidden layer, trained by Adam.

    The penalty of its weights is scikit-learn's default.
    """
    from sklearn.neural_network import MLPClassifier

    codes, test_codes = _centered(codes, test_codes)
    network = MLPClassifier((hidden_size,), max_iter=500, random_state=seed)
    return float(network.fit(codes, labels).score(test_codes, test_labels))


def neighbor_accuracy(
    codes: np.ndarray,
    labels: np.ndarray,
    test_codes: np.ndarray,
    test_labels: np.ndarray,
) -> float:
    """Return the test accuracy of the majority among the five nearest labeled codes.

    Distances are Euclidean.
    """
    from sklearn.neighbors import KNeighborsClassifier

    codes, test_codes = _centered(codes, test_codes)
    probe = KNeighborsClassifier(min(NEIGHBORS, len(codes)), algorithm="brute")
    return float(probe.fit(codes, labels).score(test_codes, test_labels))


class Clustering(NamedTuple):
    """Agreement of clusters with classes.

    Attributes:
      accuracy: accuracy of the best one-to-one naming of clusters by classes.
      nmi: normalized mutual information (arithmetic mean of the entropies).
      ari: adjusted Rand index: 0 expected by chance, 1 for agreement.
    """

    accuracy: float
    nmi: float
    ari: float


def k_means(
    seed: int, codes: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray
) -> Clustering:
    """Cluster codes by k-means, with as many clusters as classes.

    The best of three starts by their own loss is scored on test codes.
    """
    from sklearn.cluster import KMeans

    codes, test_codes = _centered(codes, test_codes)
    num = len(np.unique(test_labels))
    return agreement(
        KMeans(num, n_init=RESTARTS, random_state=seed).fit(codes).predict(test_codes),
        test_labels,
    )


def gaussian_mixture(
    seed: int, codes: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray
) -> Clustering:
    """Cluster codes by a Gaussian mixture with full covariances.

    It starts at the clusters of k-means; the best of three by likelihood is scored on
    test codes.
    """
    from sklearn.mixture import GaussianMixture

    codes, test_codes = _centered(codes, test_codes)
    num = len(np.unique(test_labels))
    # A floor under the variances, relative to the codes' own, so that a dimension
    # without spread does no harm.
    floor = 1e-3 * max(float(np.mean(np.var(codes, axis=0))), np.finfo(np.float64).tiny)
    mixture = GaussianMixture(num, n_init=RESTARTS, random_state=seed, reg_covar=floor)
    return agreement(
        mixture.fit(codes.astype(np.float64)).predict(test_codes.astype(np.float64)),
        test_labels,
    )


def agreement(clusters: np.ndarray, labels: np.ndarray) -> Clustering:
    """Return the agreement of clusters with classes, whatever their names."""
    from sklearn import metrics

    table = metrics.cluster.contingency_matrix(labels, clusters)
    rows, columns = scipy.optimize.linear_sum_assignment(table, maximize=True)
    return Clustering(
        float(table[rows, columns].sum() / len(labels)),
        float(metrics.normalized_mutual_info_score(labels, clusters)),
        float(metrics.adjusted_rand_score(labels, clusters)),
    )


def stratified(seed: int, labels: np.ndarray, num: int) -> np.ndarray:
    """Return indices of `num` examples, `[num]`, evenly over the classes.

    For one seed, the smaller set is a subset of the larger one.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    # The rank of each within its class, by which classes take turns.
    rank = np.empty(len(labels), int)
    for value in np.unique(labels):
        members = np.flatnonzero(labels[order] == value)
        rank[members] = np.arange(len(members))
    return order[np.argsort(rank, kind="stable")][:num]


def principal_components(
    images: np.ndarray, test_images: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `num` principal components of both sets.

    The directions are those of the first set.
    """
    from sklearn.decomposition import PCA

    images, test_images = _centered(images, test_images)
    components = PCA(num, svd_solver="covariance_eigh").fit(images)
    return components.transform(images), components.transform(test_images)


def planar(seed: int, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Return maps of codes onto the plane, `[num, 2]` by method.

    The methods are PCA, t-SNE, and UMAP where it is installed.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    maps = {
        "PCA": PCA(2).fit_transform(codes)
        if codes.shape[1] > 1
        else np.stack([codes[:, 0], 0 * codes[:, 0]], axis=1),
        "t-SNE": TSNE(2, random_state=seed, init="random").fit_transform(codes),
    }
    if importlib.util.find_spec("umap") is not None:
        import umap

        maps["UMAP"] = umap.UMAP(random_state=seed).fit_transform(codes)
    return maps
