"""What follows a layer's sum and is common to binary and real ones: batch normalisation and sub-pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jbnn._batch_norm import fold_batch_norm
from jbnn.convolution import depth_to_space, space_to_depth
from jbnn.mps._descriptor import BatchNormalization, ConvolutionDescriptor
from jbnn.mps._fields import constants


def folded(
    norm: BatchNormalization, scale: jax.Array | None, bias: jax.Array | None, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array]:
    """scale·I and bias·I + J: a layer's affine with the batch normalisation in it, whose numbers are of `dtype`."""
    return fold_batch_norm(
        constants(norm.mean, dtype),
        constants(norm.variance, dtype),
        None if norm.gamma is None else constants(norm.gamma, dtype),
        None if norm.beta is None else constants(norm.beta, dtype),
        epsilon=constants(norm.epsilon, jnp.result_type(float)),
        scale=scale,
        bias=bias,
    )


def to_pixels(y: jax.Array, descriptor: ConvolutionDescriptor) -> jax.Array:
    """What the sub-pixel subclass does to a result: r×r pixels of the channels of one."""
    factor = descriptor.sub_pixel_scale_factor
    return y if factor == 1 else depth_to_space(y, factor)


def from_pixels(g: jax.Array, descriptor: ConvolutionDescriptor) -> jax.Array:
    """The inverse, for a gradient."""
    factor = descriptor.sub_pixel_scale_factor
    return g if factor == 1 else space_to_depth(g, factor)
