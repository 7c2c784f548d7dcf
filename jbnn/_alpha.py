"""XNOR-Net's scale of a kernel."""

from __future__ import annotations  # `help` then shows `ArrayLike`, and not the types that it stands for

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jbnn._arguments import FLOATS, as_array, as_index
from jbnn._jax_versions import known_now


def alpha(w: ArrayLike, *, stacked: int = 0) -> jax.Array:
    """XNOR-Net's kernel scale: the mean |w| of each output channel, to pass as `scale`.

    Args:
      w: a latent kernel (*K, C/G, O) or (C, O), with `stacked` axes in front; float32, bfloat16, float16 or float64.
      stacked: how many axes in front stack kernels, of an ensemble or of layers to scan. They are kept. The shape does
        not tell: five axes may be a kernel of three spatial axes, or a stack of kernels of two.

    Returns:
      (O,), or with stacked axes (…, O), in the dtype of w.

    Raises:
      TypeError: w is of another dtype. Of words it cannot be computed: take it before packing.
      ValueError: w has no axis but the stacked ones.

    Gradient: flows to w, unless the caller stops it with `jax.lax.stop_gradient`.

    Example:
      >>> print(jbnn.alpha(jnp.array([[1.0, -2.0], [-3.0, 0.0]])))
      [2. 1.]
      >>> print(jbnn.alpha(jnp.array([[[1.0], [2.0]], [[10.0], [20.0]]]), stacked=1))
      [[ 1.5]
       [15. ]]

    References:
      Rastegari et al., XNOR-Net, 2016, equation 6. https://arxiv.org/abs/1603.05279
    """
    way_out = "; compute it before packing, of float32, bfloat16, float16 or float64"
    w = as_array("w", w, lambda dtype: dtype in FLOATS, "be a floating latent kernel", way_out)
    stacked = as_index("stacked", stacked)
    if w.ndim == 0:
        raise ValueError("`w` must have at least one axis, its last the output channels, but has shape ()")
    if not 0 <= stacked < w.ndim:
        raise ValueError(
            f"`stacked` must be at least 0 and leave an axis of `w`, of shape {w.shape}, but was {stacked}"
        )
    if isinstance(w, jax.core.Tracer):
        return _mean_magnitude(w, stacked)
    # Of a kernel that a jitted function closes over it is computed now: XLA would do it while it compiles, for seconds.
    with known_now():
        return _mean_magnitude(w, stacked)


@functools.partial(jax.jit, static_argnums=1)
def _mean_magnitude(w: jax.Array, stacked: int) -> jax.Array:
    return jnp.mean(jnp.abs(w), axis=range(stacked, w.ndim - 1))
