"""Prompts with places for values: ``{{name}}``."""

from __future__ import annotations

import re
import unicodedata

PLACE = re.compile(r"\{\{(?!\{)((?:(?!\{\{|\}\}).)+)\}\}", re.DOTALL)
"""A place for a value; what stands between the braces is the first group."""


def name_in(place: re.Match[str]) -> str:
    """Return what stands between the braces, as Python reads a name."""
    return unicodedata.normalize("NFKC", place[1].strip())
