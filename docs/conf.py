"""Configuration of the documentation.

Build it from the root of the repository: `python -m sphinx -W -b html docs docs/_build`
"""

import os
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_ext")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Sphinx reads only files under its own folder: the notebooks are copied into it.
(DOCS / "notebooks").mkdir(exist_ok=True)
for notebook in (ROOT / "notebooks").glob("*.ipynb"):
    shutil.copy2(notebook, DOCS / "notebooks")

project = "vaejax"
author = "the vaejax authors"
copyright = "the vaejax authors, Apache License 2.0"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "api",
    "results",
]
exclude_patterns = ["_build", "_ext", "jupyter_execute"]

# Notebooks are shown with their committed outputs.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
smartquotes = False

default_role = "py:obj"
autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False
add_module_names = False
toc_object_entries_show_parents = "hide"

# The build needs no network; a browser fetches MathJax. With VAEJAX_INTERSPHINX=1 links
# to jax, optax and flax are resolved, for which the build fetches their inventories.
if os.environ.get("VAEJAX_INTERSPHINX") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "optax": ("https://optax.readthedocs.io/en/latest", None),
        "flax": ("https://flax.readthedocs.io/en/latest", None),
    }

html_theme = "sphinx_book_theme"
html_title = "vaejax"
html_show_sourcelink = False
html_theme_options = {"show_toc_level": 2, "use_download_button": False}
