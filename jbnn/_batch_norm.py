"""A batch norm with fixed statistics, as an affine."""

from __future__ import annotations  # `help` then shows `ArrayLike`, and not the types that it stands for

import jax
import jax.numpy as jnp
from jax import dtypes, lax
from jax.typing import ArrayLike

from jbnn._arguments import given_array
from jbnn._numbers import as_real, common_shape, real_scalar


def fold_batch_norm(
    mean: ArrayLike,
    variance: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    epsilon: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The affine that a batch norm becomes when its statistics are fixed.

        gamma·(y - mean)/√(variance + epsilon) + beta   =   u·(I·scale) + (I·bias + J)

        y = u·scale + bias        I = gamma/√(variance + epsilon)        J = beta - I·mean

    Equal in exact arithmetic. In floats the two sides round differently, so a network that is to give the same signs
    before and after it is deployed evaluates the affine in both.

    Args:
      mean: the running mean; scalar, (O,), or (…, O) of layers that are stacked.
      variance: the running variance; the same.
      gamma: the same; None is 1.
      beta: the same; None is 0.
      epsilon: what was added to the variance in training. Frameworks differ, so it has no default.
      scale: of the layer before; scalar, (O,) or (…, O); None is 1.
      bias: the same; None is 0.

    Returns:
      `(scale, bias)` for `binary_conv` or `sign_threshold`, each (…, O), or scalars if all arguments are; float32, or
      float64 if an array among them is; Python's numbers take the dtype of the others. Integers are rounded once.

    Raises:
      TypeError: an argument is not real.
      ValueError: a shape is not that of the others, nor the end of it; or that of `epsilon` is not ().

    Gradient: that of the formula.

    Example:
      >>> mean, variance = jnp.array([2.0, -1.0]), jnp.array([3.0, 0.0])
      >>> scale, bias = jbnn.fold_batch_norm(mean, variance, gamma=jnp.array([1.0, -1.0]), epsilon=1.0)
      >>> print(scale, bias)
      [ 0.5 -1. ] [-1. -1.]

    References:
      `MPSCNNConvolutionDescriptor.setBatchNormalizationParametersForInference`, whose I and J these are.
      https://developer.apple.com/documentation/metalperformanceshaders/mpscnnconvolutiondescriptor
    """
    given: dict[str, ArrayLike | None]
    given = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta, "scale": scale, "bias": bias}
    present = {name: value for name, value in given.items() if value is not None}
    for name in ("mean", "variance"):
        if name not in present:
            raise TypeError(f"`{name}` must be real, but was None")
    dtype = jnp.float64 if any(_is_wide(name, value) for name, value in present.items()) else jnp.float32
    terms = {name: as_real(name, value, dtype) for name, value in present.items()}
    shape = common_shape({name: term.shape for name, term in terms.items()})
    small = real_scalar("epsilon", epsilon, dtype)
    terms = {name: _spread(term, shape) for name, term in terms.items()}
    root = jnp.sqrt(terms["variance"] + _spread(small, shape))
    inner = terms["gamma"] / root if gamma is not None else _inverse(root)
    outer = -inner * terms["mean"] if beta is None else terms["beta"] - inner * terms["mean"]
    if bias is not None:
        outer = inner * terms["bias"] + outer
    return inner if scale is None else inner * terms["scale"], outer


def _is_wide(name: str, value: ArrayLike) -> bool:
    """Whether it is an array of float64 that JAX keeps. Python's numbers take the dtype of the others."""
    if type(value) in (int, float) or isinstance(value, list | tuple):
        return False
    array = given_array(name, value)
    weak = isinstance(array, jax.Array) and array.weak_type
    return array.dtype == jnp.float64 and not weak and dtypes.canonicalize_dtype(array.dtype) == array.dtype


def _spread(term: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return lax.broadcast(term, shape[: len(shape) - term.ndim])


@jax.jit  # so that the 1 is the program's, and not sent to the device at every call
def _inverse(root: jax.Array) -> jax.Array:
    return 1 / root
