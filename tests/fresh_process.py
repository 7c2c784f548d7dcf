"""Calls an exported program in a process that has jax and NumPy, and cannot have jbnn. Run by test_storage.py.

python -I fresh_process.py PROGRAM INPUT OUTPUT
"""

import importlib
import sys

import jax
import numpy as np
from jax import export

for package in "jbnn", "examples":
    sys.modules[package] = None  # where it is installed
    try:
        importlib.import_module(package)
    except ImportError:
        continue
    sys.exit(f"{package} could be imported")

program, inputs, outputs = sys.argv[1:]
with open(program, "rb") as file:
    network = export.deserialize(bytearray(file.read()))
np.save(outputs, jax.jit(network.call)(np.load(inputs)))
