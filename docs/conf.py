"""How Sphinx builds the documentation: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from rela_bids import __version__

project = "rela_bids"
author = "The rela_bids developers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxarg.ext",
    "docstrings",
    "mathml",
    "workflow_graphs",
]
exclude_patterns = ["_build", "_extensions"]
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = f"rela_bids {version}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
# Nothing is fetched when the pages are read: they open from a disk without internet.
html_math_renderer = "mathml"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Two hyphens are an option, not a dash.
smartquotes = False

# Names in single backquotes, as docstrings have them.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "undoc-members": False}
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Inputs", "params_style"), ("Outputs", "params_style")]
