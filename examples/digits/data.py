"""The handwritten digits that scikit-learn bundles: 1797 real images of 8x8 pixels, nothing to download."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Digits(NamedTuple):
    """Images (N, 8, 8, 1) with values in [-1, 1], and labels (N,)."""

    images: np.ndarray
    labels: np.ndarray


def load() -> tuple[Digits, Digits]:
    """The training and the test images: 80 % and 20 % of every digit, the same split always."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 8 - 1).astype(np.float32)  # pixels count ink from 0 to 16
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    return Digits(train_x, train_y), Digits(test_x, test_y)


def jitter(key: jax.Array, images: jax.Array) -> jax.Array:
    """Moves half of the images by -1, 0 or +1 pixel along either axis; paper comes in where ink goes out.

    The scans are centred, so a network that only ever saw moved digits would not know them at their best.
    """
    move_key, corner_key = jax.random.split(key)
    moved = jax.random.bernoulli(move_key, 0.5, (len(images), 1))
    corners = jnp.where(moved, jax.random.randint(corner_key, (len(images), 2), 0, 3), 1)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)
