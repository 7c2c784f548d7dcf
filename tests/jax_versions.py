"""What the tests expect of one JAX version and not of another; nowhere else is a version asked for."""

import jax

HAS_EXPLICIT_MESHES = hasattr(jax, "set_mesh")
"""Whether there are meshes of explicit axes, where a sharding is part of an array's type."""

KEEPS_RESULTS_OF_RULES = jax.__version_info__ < (0, 7)
"""Whether the closure of a gradient may also hold the result of every custom rule in it."""

MOVES_SHARES = jax.__version_info__ <= (0, 5, 0)
"""Whether XLA's partitioner knows no rule of shares, but asks where results lie, and gathers some that need not be."""

HOLDS_BITS = jax.__version_info__ >= (0, 10) and jax.default_backend() == "cpu"
"""Whether XLA, on the CPU, keeps little besides the bits of a training step; before, it makes ±1 kernels early."""

METAL_RUNS_HERE = jax.__version_info__ <= (0, 5, 0)
MPS_RUNS_HERE = jax.__version_info__ >= (0, 10, 0)
"""Whether Apple's plugins run with this JAX."""

ORBAX_RUNS_HERE = jax.__version_info__ != (0, 5, 0)
"""Whether the Orbax that pip installs beside this JAX works with it."""


def shard_map(function, **options):
    """`jax.shard_map`, or what it was before."""
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, **options)
    from jax.experimental.shard_map import shard_map

    # There every primitive needs a rule of its own to be checked, and the gradient rules of JAX itself lack one.
    return shard_map(function, check_rep=False, **options)
