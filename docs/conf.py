"""Sphinx reads this; `make docs` builds everything from it."""

import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for the extension `docstrings`, which lies beside this file

# What the executed pages run in: `examples` can be imported, and a build is the same with and without a GPU.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
os.environ["JAX_PLATFORMS"] = "cpu"

# An IPython of our own: no start-up files of the user's, and no notices of the kernel's between Sphinx's messages.
profile = HERE / "_build" / "ipython" / "profile_default"
profile.mkdir(parents=True, exist_ok=True)
(profile / "ipython_kernel_config.py").write_text('get_config().IPKernelApp.log_level = "ERROR"\n')
os.environ["IPYTHONDIR"] = str(profile.parent)
logging.getLogger("traitlets").setLevel(logging.WARNING)

project = "jbnn"
author = "The jbnn authors"
project_copyright = "2026, the jbnn authors"
extensions = ["docstrings", "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

smartquotes_action = "D"  # dashes only: quotes are code here

highlight_options = {"default": {"stripnl": True}}  # blank lines at the end of an included piece of code

html_theme = "furo"
html_title = "jbnn"
html_static_path = ["_static"]
html_css_files = ["jbnn.css"]
html_show_sourcelink = False
html_copy_source = False

# Pages with code cells run at every build; an error or anything on stderr fails it.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove-warn"
nb_merge_streams = True
myst_heading_anchors = 3

# Every reference must resolve, apart from the names of Python's own exceptions.
nitpicky = True
nitpick_ignore_regex = [("py:exc", r"\w+Error")]

default_role = "code"
autodoc_typehints = "none"  # shapes and dtypes are in the text
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Gradient"]
