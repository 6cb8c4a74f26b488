"""Checks a stock builder of tensorflow-datasets against the catalogue's own reader."""

import os

from vaejax import datasets

directory = os.environ["VAEJAX_FASHION_MNIST"]
stock = datasets.load("fashion_mnist:3.0.1", split="test", directory=directory)
ours = datasets.load("fashion_mnist", split="test", directory=directory)


def rows(data):
    images = map(bytes, data.images)
    return sorted(zip(images, data.labels.tolist(), strict=True))


assert rows(stock) == rows(ours)
print(f"{len(stock.images):,} test images, the same as those built without TensorFlow")
