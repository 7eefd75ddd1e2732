"""Sphinx's settings. Build with ``tox run -e docs``."""

from importlib.metadata import version as version_of

project = "simplews"
author = "the simplews authors"
copyright = "2026, the simplews authors"
version = release = version_of("simplews")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# --- Markdown

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# --- docstrings

# `Name` in a docstring is a link where there is something to link to.
default_role = "py:obj"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# "Attributes:" of a class as a list, and not as entries beside its properties.
napoleon_use_ivar = True
napoleon_custom_sections = ["Cancellation", "Spec"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# --- HTML

html_theme = "furo"
html_title = f"simplews {release}"
html_static_path = ["_static"]
html_copy_source = False
html_show_sphinx = False
