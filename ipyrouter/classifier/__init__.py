"""From a prompt to the tier it needs, on this machine alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ipyrouter.classifier import rules
from ipyrouter.errors import UsageError
from ipyrouter.types import TIERS, Classification, TierName

if TYPE_CHECKING:
    from ipyrouter.config import Config

__all__ = ["Adjust", "classify", "classify_many", "steadied", "warm_up"]

_MARGIN = 0.06  # of the difficulty: so far beyond a boundary the tier before stays

Adjust = Callable[[str, float], float]


def classify(prompt: str, config: Config, adjust: Adjust | None = None) -> Classification:
    """Return the tier of a prompt by the mode of the config.

    "rules": exactly the article's. "learned": the shipped model, moved by what the user's own outcomes have taught
    (``adjust``). "hybrid": the article's signals where one matches, the model elsewhere. A function gets the prompt and
    returns a Classification, a difficulty in [0, 1] or a tier's name.

    Args:
        prompt: The prompt, as it would be sent.
        config: Its mode, signals and thresholds.
        adjust: Maps (prompt, difficulty) to the difficulty that the user's own outcomes have taught.

    Raises:
        UsageError: The user's function returned something else.
    """
    (classification,) = classify_many([prompt], config, adjust)
    return classification


def classify_many(prompts: Sequence[str], config: Config, adjust: Adjust | None = None) -> list[Classification]:
    """Return what :func:`classify` returns for each of many prompts, which the model reads at once.

    Args:
        prompts: The prompts, as they would be sent.
        config: As in :func:`classify`.
        adjust: As in :func:`classify`.

    Raises:
        UsageError: The user's function returned something else.
    """
    decided = [_without_model(prompt, config) for prompt in prompts]
    open_prompts = [prompt for prompt, decision in zip(prompts, decided, strict=True) if decision is None]
    if not open_prompts:
        return [decision for decision in decided if decision is not None]
    from ipyrouter.classifier import model

    estimates = iter(model.classify_many(open_prompts, config.fast_below, config.power_above, adjust))
    return [
        decision or _with_signals(prompt, next(estimates), config)
        for prompt, decision in zip(prompts, decided, strict=True)
    ]


def _without_model(prompt: str, config: Config) -> Classification | None:
    """Return what the article's rules, its signals or the user's function say, where they decide."""
    if config.mode == "rules":
        return rules.classify(prompt, config.signals)
    if callable(config.mode):
        return _own(config.mode(prompt), config)
    return rules.signals_of(prompt, config.signals) if config.mode == "hybrid" else None


def _with_signals(prompt: str, estimate: Classification, config: Config) -> Classification:
    """Return the model's estimate, a tier up where it is unsure and the config wants that, with the signals it fits."""
    if config.unsure == "up" and (above := estimate.runner_up) and TIERS.index(above) > TIERS.index(estimate.tier):
        reason = f"could be {estimate.tier} as well, and unsure is up"
        estimate = replace(estimate, tier=above, runner_up=estimate.tier, reasons=(reason, *estimate.reasons))
    if config.mode == "hybrid":  # which asks the model where there are none
        return estimate
    signals = rules.signals_of(prompt, config.signals)
    if signals is not None and signals.tier == estimate.tier:  # a reason that a user understands at once
        return replace(estimate, reasons=(*signals.reasons, *estimate.reasons))
    return estimate


def steadied(classification: Classification, previous: TierName | None, config: Config) -> Classification:
    """Return a classification with the tier before, where the difficulty lies only a little beyond its boundary.

    Without this the tier would flap in a conversation, or where a cell is run again after a small edit.

    Args:
        classification: Of the prompt by itself.
        previous: The tier of the turn before, or of the prompt before the edit.
        config: Its thresholds.
    """
    if previous is None or previous == classification.tier:
        return classification
    from ipyrouter.classifier import model

    if model.tier_of(classification.difficulty, config.fast_below, config.power_above) != classification.tier:
        return classification  # something else than the difficulty has decided
    down = TIERS.index(previous) < TIERS.index(classification.tier)
    back = classification.difficulty + (-_MARGIN if down else _MARGIN)
    if model.tier_of(back, config.fast_below, config.power_above) != previous:
        return classification
    reason = f"stays {previous}, as before: it is hardly {'more' if down else 'less'} difficult"
    return replace(
        classification, tier=previous, runner_up=classification.tier, reasons=(reason, *classification.reasons)
    )


def warm_up() -> None:
    """Read the model on a thread, so that the first prompt need not wait for numpy and the weights."""
    # No daemon: one that is ended amid the import of a C extension can take the process with it.
    threading.Thread(target=_read, name="ipyrouter-warm-up").start()


def _read() -> None:
    from ipyrouter.classifier import model

    model.shipped().warm_up()


def _own(verdict: object, config: Config) -> Classification:
    from ipyrouter.classifier import model

    reason = ("your own function says so",)
    if isinstance(verdict, Classification):
        return verdict
    if isinstance(verdict, str) and verdict in TIERS:
        middle = {"fast": config.fast_below / 2, "mid": (config.fast_below + config.power_above) / 2}
        return Classification(verdict, middle.get(verdict, (1 + config.power_above) / 2), 1.0, reason)
    if isinstance(verdict, int | float) and 0 <= verdict <= 1:
        return Classification(
            model.tier_of(verdict, config.fast_below, config.power_above), float(verdict), 1.0, reason
        )
    raise UsageError(
        f"Your classifier returned {verdict!r}.",
        "Return a Classification, a difficulty from 0 to 1, or 'fast', 'mid', 'power'.",
    )
