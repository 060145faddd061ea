"""Measurements side by side with peers; each script prints a table."""
