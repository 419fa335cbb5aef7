"""How Sphinx builds the site: `python -m sphinx -W --keep-going -b html docs docs/_build`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import fanin
from fanin.keras.backend import start

start(None)  # before anything asks fanin.keras for a name, which loads Keras

project = "fanin"
version = release = fanin.__version__
html_title = f"fanin {version}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "fanin_docs"]
exclude_patterns = ["_build", "_ext", "_static"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

default_role = "py:obj"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]  # which keeps names that share a line together
maximum_signature_line_length = 100

html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_copy_source = False
html_show_copyright = False
