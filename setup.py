"""Builds the compiled part where that is possible, and else installs without it. All else is in pyproject.toml."""

import importlib.util
import pathlib

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = pathlib.Path("jbnn/_native")
LIBRARY = NATIVE / "libjbnn.so"


def libraries() -> list[Extension]:
    """The shared library, if the headers of XLA's foreign function interface are here: jaxlib has them."""
    jaxlib = importlib.util.find_spec("jaxlib")
    if jaxlib is None or jaxlib.origin is None:
        return []
    headers = pathlib.Path(jaxlib.origin).parent / "include"
    flags = [
        "-std=c++17",
        "-O3",
        "-g0",
        "-ffp-contract=off",  # a product and a sum are two roundings
        "-fno-math-errno",
        f"-isystem{headers}",
    ]
    return [
        Extension(
            "jbnn._native.libjbnn",
            [str(NATIVE / "simd.cc")],
            depends=sorted(map(str, NATIVE.glob("*.h"))),
            extra_compile_args=flags,
            language="c++",
            optional=True,  # without a compiler that is a warning
        )
    ]


class BuildLibrary(build_ext):
    """It has no entry for Python, so its name says nothing of a version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', '/')}.so"


class Wheel(bdist_wheel):
    """One wheel for every Python: for this platform, or for any if nothing was compiled."""

    def get_tag(self) -> tuple[str, str, str]:
        built = (pathlib.Path(self.bdist_dir) / LIBRARY).exists()
        return "py3", "none", super().get_tag()[2] if built else "any"


setup(ext_modules=libraries(), cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel})
