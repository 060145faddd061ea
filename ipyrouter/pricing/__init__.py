"""Prices, and estimates of tokens."""
