"""The former name of :mod:`ipyrouter.notebook.prompt.attachments`."""

from ipyrouter.notebook.prompt.attachments import variables

__all__ = ["variables"]
