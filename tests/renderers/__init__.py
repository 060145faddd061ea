"""Front ends' Markdown renderers, and answers to try them with."""
