"""The former name of :mod:`ipyrouter.text.sanitise`."""

from ipyrouter.text.sanitise import markdown, plain

__all__ = ["markdown", "plain"]
