"""From a prompt to the tier it needs, on this machine alone."""

from ipyrouter.classifier.rules import classify

__all__ = ["classify"]
