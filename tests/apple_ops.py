"""What Apple's two JAX plugins compile, as data, and the audit of a program against it.

Neither plugin runs on Linux, but JAX lowers for any platform by its name, so the program that a plugin would be given
can be read: every operation in it must be one that the plugin converts, on operands that it takes. That says nothing
about results or speed.

Sources. jax-metal 0.1.1 (2024-10, closed): the converters in the library of its wheel, by disassembly, and the refusals
that they print, such as "Not implemented ReduceWindowOp: expected NCHW/NHWC style pooling op". jax-mps 0.10.11
(2026-07): the handlers in its source, src/pjrt_plugin/ops/*.cc, and MLX at the commit that it pins; the wheel of 0.11.1
names the same operations. Neither was executed.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from apple_programs import OLDEST, Operation, element, operations, serialises
from jax_versions import MPS_RUNS_HERE

FORBIDDEN_TYPES = "i64", "ui64", "f64", "complex"


class Plugin(NamedTuple):
    name: str
    platform: str  # as JAX spells it
    ops: frozenset
    rules: dict[str, tuple[Callable[[Operation], str | None], ...]]  # by operation: what it is refused for, or None


def audit(module, plugin):
    """What in a program the plugin does not compile: a sorted list, empty if nothing."""
    offences = set()
    for op in operations(module):
        if op.name not in plugin.ops:
            offences.add(op.name)
        for type_ in op.operands + op.results:
            offences.update(t for t in FORBIDDEN_TYPES if element(type_).startswith(t))
        for rule in plugin.rules.get(op.name, ()):
            if reason := rule(op):
                offences.add(f"{op.name} {reason}")
    if plugin.platform == "METAL" and not serialises(module):
        offences.add(f"does not serialise to StableHLO {OLDEST}")
    return sorted(offences)


def of_integers(op):
    return f"of {op.element}" if re.fullmatch(r"u?i\d+", op.element) else None


def by_no_known_reduction(op):
    """Known: one sum, product, maximum or minimum, and of bool one and, or."""
    known = {"stablehlo.add", "stablehlo.multiply", "stablehlo.maximum", "stablehlo.minimum"}
    if op.name == "stablehlo.reduce" and op.element == "i1":
        known |= {"stablehlo.and", "stablehlo.or"}
    if len(op.results) == len(op.body) == 1 and op.body[0] in known:
        return None
    return f"of {op.element} by {', '.join(op.body)}"


def of_a_narrow_sum(op):
    """MLX sums integers of fewer than 32 bits in 32, and jax-mps goes on as if it had not."""
    widened = re.fullmatch(r"u?i(8|16)", op.element) and op.body[0] in ("stablehlo.add", "stablehlo.multiply")
    return f"of {op.element} by {op.body[0]}" if widened else None


def not_a_pooling(op):
    """jax-metal has pooling layers of four axes, and nothing else."""
    if len(op.shape) != 4:
        return f"of {len(op.shape)} axes"
    return None if set(op.numbers("base_dilations", [1] * 4)) == {1} else "with base dilation"


def like_a_running_sum(op):
    """jax-mps takes a window that is one whole axis for a cumulative sum, and then refuses its padding."""
    ones = [1] * len(op.shape)
    if any(op.numbers(name, ones) != ones for name in ("window_strides", "base_dilations", "window_dilations")):
        return None
    window, padding = op.numbers("window_dimensions", ones), op.numbers("padding", [0, 0] * len(ones))
    wide = [axis for axis, size in enumerate(window) if size > 1]
    if len(wide) != 1 or window[wide[0]] != op.shape[wide[0]]:
        return None
    (axis,) = wide
    whole = window[axis] - 1
    return None if padding[2 * axis : 2 * axis + 2] in ([whole, 0], [0, whole]) else "over one whole axis"


def over_two_axes(op):
    contracted = re.search(r"lhs_contracting_dimensions = \[(.*?)\]", op.attributes["dot_dimension_numbers"])
    return "over two axes" if contracted and "," in contracted[1] else None


def with_groups_in_3d(op):
    groups = op.numbers("feature_group_count", [1]) + op.numbers("batch_group_count", [1])
    return "in 3-D with groups" if len(op.shape) == 5 and groups != [1, 1] else None


def cropping_too_much(op):
    """jax-mps crops before it pads, so it cannot crop what the other side's padding brought."""
    sizes, zeros = op.shape, [0] * len(op.shape)
    low, high = (op.numbers(f"edge_padding_{side}", zeros) for side in ("low", "high"))
    if op.name == "stablehlo.convolution":  # dimension_numbers: [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]
        axes = re.search(r"\[(.*?)\]", op.attributes["dimension_numbers"])[1].split(", ")
        rank = len(axes) - 2
        dilation, padding = op.numbers("lhs_dilation", [1] * rank), op.numbers("padding", [0, 0] * rank)
        sizes = [(op.shape[axes.index(str(i))] - 1) * dilation[i] + 1 for i in range(rank)]
        low, high = padding[::2], padding[1::2]
    short = any(n + min(lo, 0) + min(hi, 0) < 0 for n, lo, hi in zip(sizes, low, high, strict=True))
    return "that crops more than there is" if short else None


def _named(stablehlo, chlo):
    ours = {f"{dialect}.{op}" for dialect, ops in (("stablehlo", stablehlo), ("chlo", chlo)) for op in ops.split()}
    return frozenset({"builtin.module", "func.func", "func.call", "func.return"} | ours)


_BOTH = """
    abs add all_reduce and atan2 bitcast_convert broadcast_in_dim case ceil clamp compare concatenate constant convert
    convolution cosine divide dot_general dynamic_slice dynamic_update_slice exponential exponential_minus_one floor
    gather iota is_finite log log_plus_one maximum minimum multiply negate not optimization_barrier or pad power reduce
    reduce_window remainder reshape return reverse rng_bit_generator round_nearest_afz round_nearest_even rsqrt scatter
    select select_and_scatter shift_left shift_right_arithmetic shift_right_logical sign sine slice sort sqrt subtract
    tan tanh transpose while xor
"""
# custom_call is left out of both: each plugin has a few targets of its own, none of which is ours.
METAL = Plugin(
    "jax-metal",
    "METAL",
    _named(
        f"{_BOTH} dot if",
        "acos acosh asin asinh atan atanh cosh constant_like erf erf_inv is_inf lgamma next_after polygamma sinh tan "
        "top_k zeta",
    ),
    {
        "stablehlo.convolution": (of_integers,),
        "stablehlo.dot": (of_integers,),
        "stablehlo.dot_general": (of_integers, over_two_axes),
        "stablehlo.reduce": (by_no_known_reduction,),
        "stablehlo.reduce_window": (by_no_known_reduction, not_a_pooling),
    },
)
MPS = Plugin(
    "jax-mps",
    "mps",
    _named(
        f"{_BOTH} after_all cbrt cholesky complex composite count_leading_zeros create_token fft imag logistic "
        "partition_id popcnt real reduce_precision triangular_solve",
        "top_k",
    ),
    {
        "stablehlo.convolution": (of_integers, with_groups_in_3d, cropping_too_much),
        "stablehlo.dot_general": (of_integers,),  # which it does, but in float32
        "stablehlo.pad": (cropping_too_much,),
        "stablehlo.reduce": (by_no_known_reduction, of_a_narrow_sum),
        "stablehlo.reduce_window": (by_no_known_reduction, like_a_running_sum),
    },
)
# Each under the JAX that it runs with.
PLUGINS = (MPS,) if MPS_RUNS_HERE else (METAL,)
