"""The widget panel: figures, charts and the table of the log."""
