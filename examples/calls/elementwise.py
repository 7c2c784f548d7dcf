"""Bits, quantizers and activations."""

import types
from functools import partial
from typing import Any

import jbnn
from examples.calls.call import Call, corners, floats, integers, positive, words
from jbnn import activations, quantizers

FLOATS = "float32", "bfloat16", "float16"
ROWS = {dtype: corners(dtype) for dtype in FLOATS} | {d: integers(3, 33, dtype=d) - 50 for d in ("int8", "int32")}
ROWS["bool"] = ROWS["int8"] > 0

BITS = [
    *(
        Call(f"sign: {dtype}", jbnn.sign, (ROWS[dtype],), (0,) if dtype in FLOATS else (), True)
        for dtype in ROWS
        if dtype != "bool"
    ),
    Call("pack: kernel", partial(jbnn.pack, axis=-2), (floats(3, 3, 33, 5),)),
    Call("pack: groups", partial(jbnn.pack, groups=3), (floats(2, 99),)),
    *(Call(f"pack: {dtype}", jbnn.pack, (row,)) for dtype, row in ROWS.items()),
    Call("unpack: kernel", partial(jbnn.unpack, size=33, axis=-2), (words(3, 3, 2, 5),), exact=True),
    Call("unpack: groups", partial(jbnn.unpack, size=99, groups=3), (words(2, 6),), exact=True),
    *(
        Call(f"unpack: {dtype}", partial(jbnn.unpack, size=33, dtype=dtype), (words(3, 2),), exact=True)
        for dtype in (*FLOATS, "int8")
    ),
    *(
        Call(f"population_count: {dtype}", jbnn.population_count, (words(3, 7).astype(dtype),))
        for dtype in ("uint32", "uint8", "uint16")
    ),
]

PARAMETERS = {"linear": {"a": 2.0, "b": 1.0}, "relun": {"a": 0.1}, "power": {"a": 2.0, "b": 3.0, "c": 2.0}}


def of_floats(module: types.ModuleType, name: str, note: str = "", *, dtype: str = "float32", **options: Any) -> Call:
    """A function of each element, whose rows are long enough for words with unused bits."""
    short = module.__name__.removeprefix("jbnn.")
    draw = positive if name == "logarithm" else floats
    function = partial(getattr(module, name), **options)
    return Call(
        f"{short}.{name}{note and f': {note}'}", function, (draw(6, 33).astype(floats(1, dtype=dtype).dtype),), (0,)
    )


QUANTIZERS = [
    *(of_floats(quantizers, name) for name in quantizers.__all__),
    *(of_floats(quantizers, name, "bfloat16", dtype="bfloat16") for name in quantizers.__all__),
    of_floats(quantizers, "ste_sign", "no clip", clip=None),
    of_floats(quantizers, "ste_tern", "ternary weight networks", ternary_weight_networks=True),
    of_floats(quantizers, "dorefa", "weights", mode="weights"),
]

ACTIVATIONS = [
    *(
        of_floats(activations, name, note, dtype=dtype, **PARAMETERS.get(name, {}))
        for name in activations.__all__
        if name != "prelu"
        for note, dtype in (("", "float32"), ("float16", "float16"))
    ),
    Call("activations.prelu", activations.prelu, (floats(6, 33), floats(33)), (0, 1)),
    of_floats(activations, "exponential", "base 2", c=2.0),
    of_floats(activations, "logarithm", "base 10", c=10.0),
]
