"""A batch of convolutions as one: what `vmap` asks, in terms the kernels already know.

Each function takes the batched operands, batch B first, and returns (x, w, geometry, unfold) of a single convolution,
`unfold` turning its result (N, *S', O) into the batch's (B, N, *S', O).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jbnn._geometry import Geometry

Folded = tuple[jax.Array, jax.Array, Geometry, Callable[[jax.Array], jax.Array]]


def fold_images(x: jax.Array, w: jax.Array, g: Geometry) -> Folded:
    """Many batches of images (B, N, *S, G·W), one kernel: more images."""
    batch = x.shape[:2]
    return x.reshape(-1, *x.shape[2:]), w, g, lambda y: y.reshape(*batch, *y.shape[1:])


def fold_kernels(x: jax.Array, w: jax.Array, g: Geometry) -> Folded:
    """One batch of images, many kernels (B, *K, W, O): more output channels within each group."""
    b, per_group = w.shape[0], g.features // g.groups
    w = jnp.moveaxis(w.reshape(*w.shape[:-1], g.groups, per_group), 0, -2)
    w = w.reshape(*w.shape[:-3], b * g.features)

    def unfold(y: jax.Array) -> jax.Array:
        y = y.reshape(*y.shape[:-1], g.groups, b, per_group)
        return jnp.moveaxis(y, -2, 0).reshape(b, *y.shape[:-3], g.features)

    return x, w, dataclasses.replace(g, features=b * g.features), unfold


def fold_pairs(x: jax.Array, w: jax.Array, g: Geometry) -> Folded:
    """Each batch of images with a kernel of its own: more groups."""
    b = w.shape[0]
    x = jnp.moveaxis(x, 0, -2)
    w = jnp.moveaxis(w, 0, -2)
    x = x.reshape(*x.shape[:-2], b * x.shape[-1])
    w = w.reshape(*w.shape[:-2], b * g.features)

    def unfold(y: jax.Array) -> jax.Array:
        return jnp.moveaxis(y.reshape(*y.shape[:-1], b, g.features), -2, 0)

    return x, w, dataclasses.replace(g, channels=b * g.channels, features=b * g.features, groups=b * g.groups), unfold
