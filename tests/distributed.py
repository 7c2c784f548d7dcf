"""One training step of one process among several: `distributed.py <address> <processes> <rank> <results>`.

Each process holds its share of the batch and a copy of the parameters; JAX's collectives do the rest.
"""

import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

import jbnn

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.standard_normal((8, 6, 6, 5)).astype(np.float32), RNG.integers(0, 4, 8)
PARAMETERS = {
    "conv": RNG.standard_normal((3, 3, 5, 40)).astype(np.float32),
    "scale": RNG.standard_normal(40).astype(np.float32),
    "dense": RNG.standard_normal((360, 4)).astype(np.float32),
}


def step(parameters, images, labels):
    """Cross entropy of two binary layers, and the parameters after one step down its slope."""

    def loss(p):
        h = jbnn.binary_conv(images, p["conv"], scale=p["scale"], window_strides=2, beta_scaling=True)
        logits = jbnn.binary_dense(h.reshape(h.shape[0], -1), p["dense"], scale=jbnn.alpha(p["dense"]))
        return -jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, 4), axis=1).mean()

    value, slopes = jax.value_and_grad(loss)(parameters)
    return value, jax.tree.map(lambda p, slope: p - 0.1 * slope, parameters, slopes)


if __name__ == "__main__":
    address, count, rank, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # the default from jax 0.5.1 on
    jax.distributed.initialize(address, count, rank, initialization_timeout=60)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    over_batch, whole = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())

    mine = slice(rank * len(IMAGES) // count, (rank + 1) * len(IMAGES) // count)
    images = jax.make_array_from_process_local_data(over_batch, IMAGES[mine])
    labels = jax.make_array_from_process_local_data(over_batch, LABELS[mine])
    parameters = jax.tree.map(lambda p: jax.make_array_from_process_local_data(whole, p), PARAMETERS)

    program = jax.jit(step, out_shardings=whole).lower(parameters, images, labels).compile()
    value, trained = program(parameters, images, labels)
    np.savez(path, loss=value, **trained)
    facts = {
        "process": os.getpid(),
        "processes": jax.process_count(),
        "rank": jax.process_index(),
        "devices": jax.device_count(),
        "devices here": jax.local_device_count(),
        "images here": sum(shard.data.shape[0] for shard in images.addressable_shards),
        "collectives": [op for op in ("all-reduce", "all-gather", "all-to-all") if f"{op}(" in program.as_text()],
    }
    jax.distributed.shutdown()
    print(json.dumps(facts))
