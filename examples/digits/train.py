"""Training: Adam on the latent kernels, through the straight-through gradient of the sign."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from examples.digits import model
from examples.digits.data import Digits, jitter

EPOCHS = 45
BATCH = 48
LEARNING_RATE = 0.02  # of Adam: steps large enough to carry latent weights across zero, where their bits change
SMOOTHING = 0.2  # of the labels: without it the training images are soon fitted, and the bits stop changing


class Epoch(NamedTuple):
    """A point of the learning curve."""

    loss: float
    train_accuracy: float
    test_accuracy: float


def train(training: Digits, test: Digits, seed: int) -> tuple[model.Params, model.State, list[Epoch]]:
    """Trains from scratch. The test images are only measured for the curve: nothing is chosen by them."""
    init_key, *epoch_keys = jax.random.split(jax.random.key(seed), 1 + EPOCHS)
    params, state = model.init(init_key)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, EPOCHS * (len(training.labels) // BATCH)))
    opt_state = optimizer.init(params)
    step = jax.jit(functools.partial(_step, optimizer))

    curve = []
    with tqdm(epoch_keys, "training", unit="epoch", disable=None) as bar:  # None: no bar outside a terminal
        for key in bar:
            metrics = []
            for batch, step_key in _batches(training, key):
                params, state, opt_state, metric = step(params, state, opt_state, batch, step_key)
                metrics.append(metric)
            loss, train_accuracy = np.mean(jax.device_get(metrics), axis=0)
            test_accuracy = np.mean(predict(params, state, test.images) == test.labels)
            curve.append(Epoch(float(loss), float(train_accuracy), float(test_accuracy)))
            bar.set_postfix(loss=f"{loss:.3f}", test=f"{test_accuracy:.2%}")
            if bar.disable and len(curve) % 5 == 0:  # a log file gets lines instead
                print(f"epoch {len(curve):2} of {EPOCHS}: loss {loss:.3f}, test {test_accuracy:.2%}", flush=True)
    return params, state, curve


@jax.jit
def predict(params: model.Params, state: model.State, images: jax.Array) -> jax.Array:
    return model.apply(params, state, images)[0].argmax(axis=-1)


def _batches(digits: Digits, key: jax.Array) -> Iterator[tuple[Digits, jax.Array]]:
    """The images in random order, as batches of one size, each with its own key; a few are left for another epoch."""
    count = len(digits.labels) // BATCH
    order_key, *batch_keys = jax.random.split(key, 1 + count)
    order = np.asarray(jax.random.permutation(order_key, len(digits.labels)))
    for chosen, batch_key in zip(np.split(order[: count * BATCH], count), batch_keys, strict=True):
        yield Digits(digits.images[chosen], digits.labels[chosen]), batch_key


def _step(optimizer, params, state, opt_state, batch, key):
    images = jitter(key, batch.images)

    def loss_and_rest(params):
        logits, next_state = model.apply(params, state, images, train=True)
        targets = optax.smooth_labels(jax.nn.one_hot(batch.labels, model.CLASSES), SMOOTHING)
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        return loss, (next_state, (logits.argmax(axis=-1) == batch.labels).mean())

    (loss, (state, accuracy)), gradient = jax.value_and_grad(loss_and_rest, has_aux=True)(params)
    updates, opt_state = optimizer.update(gradient, opt_state)
    params = optax.apply_updates(params, updates)
    # Outside [-1, 1] the straight-through gradient is zero: a latent weight that strayed there would be stuck.
    params = model.map_kernels(lambda w: jnp.clip(w, -1, 1), params)
    return params, state, opt_state, (loss, accuracy)
