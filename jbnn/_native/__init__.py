"""The compiled part: one C++ file, a shared library of plain C symbols that is loaded where it is first used.

It is built when jbnn is installed where there is a compiler, and jbnn does without it where there is none.
"""

import ctypes
import functools
import pathlib

import jax
import numpy as np

from jbnn._jax_versions import register_cpu_targets

PATHS = {"portable": 0, "avx2": 1, "avx512": 2, "neon": 3}
"""Ways to do the same sums, by the instructions that they take; the numbers are those of simd.cc."""

FILE = pathlib.Path(__file__).with_name("libjbnn.so")


def why_not() -> str | None:
    """Why the library cannot be used here, and the way out; None if it can."""
    library = _library()
    return library if isinstance(library, str) else None


def paths() -> tuple[str, ...]:
    """The paths that this processor can run, the fastest first; none without the library."""
    library = _library()
    if isinstance(library, str):
        return ()
    return tuple(name for name, number in reversed(PATHS.items()) if library.jbnn_can_run(number))


def prepared(path: str, w: np.ndarray, groups: int, *, most: int) -> np.ndarray:
    """A kernel of words (rows, O) that is known before any call, as a path would like it, in bytes.

    Empty if it needs nothing, or more than `most`: two to five times the words, but many times where groups have few
    outputs.
    """
    library, w = _library(), np.ascontiguousarray(w)
    assert not isinstance(library, str)
    numbers = [ctypes.c_int64(number) for number in (*w.shape, groups)]
    size = library.jbnn_prepared_size(PATHS[path], *numbers)
    out = np.empty(size if size <= most else 0, np.uint8)
    if out.size:
        library.jbnn_prepare(PATHS[path], ctypes.c_void_p(w.ctypes.data), *numbers, ctypes.c_void_p(out.ctypes.data))
    return out


@functools.cache
def _library() -> ctypes.CDLL | str:
    if not FILE.exists():
        return "jbnn was installed without its compiled part: install it again where there is a C++17 compiler"
    try:
        library = ctypes.CDLL(str(FILE))
    except OSError as error:
        return f"its compiled part cannot be loaded: {error}"
    if not register_cpu_targets({name: library[name] for name in ("jbnn_words", "jbnn_reals", "jbnn_pack")}):
        return f"it needs jax 0.5.0 or newer, and this is {jax.__version__}"
    library.jbnn_prepared_size.restype = ctypes.c_int64
    library.jbnn_prepare.restype = None
    return library
