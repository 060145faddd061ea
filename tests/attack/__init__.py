"""Attacks on ipyrouter: bounded by default, ATTACK_ROUNDS times as long where that is set."""

import os


def rounds(number: int) -> int:
    """Return how many rounds an attack lasts."""
    return number * int(os.environ.get("ATTACK_ROUNDS", "1"))
