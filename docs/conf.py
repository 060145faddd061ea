"""Sphinx's settings: `nox -s docs` builds the site, with warnings as errors and without the network."""

from __future__ import annotations

import ipyrouter

project = "ipyrouter"
author = "The ipyrouter authors"
version = release = ipyrouter.__version__

exclude_patterns = ["_build"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"ipyrouter {version}"
html_copy_source = False
html_show_copyright = False
highlight_language = "none"  # most blocks are prompts, which are not Python

napoleon_use_ivar = True  # fields of dataclasses as one list
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
python_use_unqualified_type_names = True
