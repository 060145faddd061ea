"""The former name of :mod:`ipyrouter.text.blocks`."""

from ipyrouter.text.blocks import find_json

__all__ = ["find_json"]
