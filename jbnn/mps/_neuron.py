"""`MPSNNNeuronDescriptor`: which function of `jbnn.activations` a layer ends with, as a frozen, hashable value."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from jbnn import activations
from jbnn.mps._enums import NeuronType, as_member
from jbnn.mps._fields import constants, python_float, python_floats, set_field


def _prelu(x: jax.Array, slopes: tuple[float, ...]) -> jax.Array:
    return activations.prelu(x, constants(slopes, x.dtype))


# The function of each neuron, and how MPS's parameters a, b and c are called there: by the same names.
_NEURONS: dict[NeuronType, tuple[Callable[..., jax.Array], str]] = {
    NeuronType.NONE: (activations.none, ""),
    NeuronType.RELU: (activations.relu, "a"),
    NeuronType.LINEAR: (activations.linear, "ab"),
    NeuronType.SIGMOID: (activations.sigmoid, ""),
    NeuronType.HARD_SIGMOID: (activations.hard_sigmoid, "ab"),
    NeuronType.TANH: (activations.tanh, "ab"),
    NeuronType.ABSOLUTE: (activations.absolute, ""),
    NeuronType.SOFT_PLUS: (activations.soft_plus, "ab"),
    NeuronType.SOFT_SIGN: (activations.soft_sign, ""),
    NeuronType.ELU: (activations.elu, "a"),
    NeuronType.PRELU: (_prelu, ""),
    NeuronType.RELUN: (activations.relun, "ab"),
    NeuronType.POWER: (activations.power, "abc"),
    NeuronType.EXPONENTIAL: (activations.exponential, "abc"),
    NeuronType.LOGARITHM: (activations.logarithm, "abc"),
    NeuronType.GELU: (activations.gelu, ""),
}
_REQUIRED = {NeuronType.LINEAR: "ab", NeuronType.RELUN: "a", NeuronType.POWER: "abc"}
_WITH_A_BASE = NeuronType.EXPONENTIAL, NeuronType.LOGARITHM


@dataclasses.dataclass(frozen=True, eq=False)
class NeuronDescriptor:
    """`MPSNNNeuronDescriptor`: a neuron and its parameters.

    A parameter that is left out has the default of the function in `jbnn.activations`; where that has none (LINEAR,
    POWER, a of RELUN), it must be given. A parameter that the neuron does not have is refused.

    Args:
      type: the neuron, or its raw value.
      a: the first parameter.
      b: the second parameter.
      c: the third parameter.
      prelu: PReLU's slopes, one for each output channel of the convolution; kept as a tuple.

    Raises:
      TypeError: a parameter is not a number.
      ValueError: unknown neuron; a parameter is missing, or is none of this neuron's; c of EXPONENTIAL or LOGARITHM is
        neither positive nor -1.

    Example:
      >>> relu6 = jbnn.mps.NeuronDescriptor(jbnn.mps.NeuronType.RELUN, a=0.0, b=6.0)
      >>> print(relu6.activation(jnp.array([-1.0, 3.0, 8.0])))
      [0. 3. 6.]
    """

    type: NeuronType = NeuronType.NONE
    a: float | None = None
    b: float | None = None
    c: float | None = None
    prelu: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        kind = as_member("type", self.type, NeuronType)
        _, parameters = _NEURONS[kind]
        for name in "abc":
            value = getattr(self, name)
            if value is not None and name not in parameters:
                raise ValueError(f"`{name}` must be None for a {kind.name} neuron, which has none, but was {value!r}")
            if value is None and name in _REQUIRED.get(kind, ""):
                raise ValueError(f"`{name}` must be given for a {kind.name} neuron, but was None")
            if value is not None:
                set_field(self, name, python_float(name, value))
        if (self.prelu is None) == (kind == NeuronType.PRELU):
            what = "given for a PRELU neuron" if self.prelu is None else f"None for a {kind.name} neuron"
            raise ValueError(f"`prelu` must be {what}, but was {self.prelu!r}")
        if self.prelu is not None:
            set_field(self, "prelu", python_floats("prelu", self.prelu))
        if kind in _WITH_A_BASE and self.c is not None and not (self.c > 0 or self.c == -1):
            raise ValueError(f"`c` of a {kind.name} neuron must be a positive base, or -1 for e, but was {self.c!r}")
        set_field(self, "type", kind)

    # A dataclass would compare its fields one by one on newer versions of Python, and there NaN is not equal to itself.
    # Tuples compare identity first, on every version.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NeuronDescriptor):
            return NotImplemented
        return dataclasses.astuple(self) == dataclasses.astuple(other)

    def __hash__(self) -> int:
        return hash(dataclasses.astuple(self))

    @property
    def activation(self) -> Callable[[jax.Array], jax.Array]:
        """The function, of `jbnn.activations`."""
        if self.type == NeuronType.RELU and not self.a:
            return activations.relu  # known to the operator, which fuses it
        function, parameters = _NEURONS[self.type]
        given = {name: getattr(self, name) for name in parameters if getattr(self, name) is not None}
        if self.prelu is not None:
            given["slopes"] = self.prelu
        return functools.partial(function, **given) if given else function


NO_NEURON = NeuronDescriptor()
