"""Front ends' Markdown renderers, and texts to try them with."""
