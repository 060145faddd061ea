"""Tokens of pictures and PDF documents, by the formulas that the makers of the models publish (2026-11)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from ipyrouter.pricing.tokens import estimate as estimate_text
from ipyrouter.types import ImagePart, Message, Part, PdfPart

_PAGE = 1500, 3500  # tokens of a PDF's page: Anthropic says 1,500 to 3,000 of text, to which its picture comes


class _Tiles(NamedTuple):
    """OpenAI's older models: tokens for every picture, and for each tile of 512 pixels."""

    base: int
    tile: int


class _Patches(NamedTuple):
    """OpenAI's newer models: tokens for each patch of 32 pixels, and the most patches that are looked at."""

    factor: float
    most: int


_OPENAI: dict[str, _Tiles | _Patches] = {
    "gpt-4o-mini": _Tiles(2833, 5667),
    "gpt-4o": _Tiles(85, 170),
    "gpt-4.1-mini": _Patches(1.62, 1536),
    "gpt-4.1-nano": _Patches(2.46, 1536),
    "gpt-4.1": _Tiles(85, 170),
    "gpt-4": _Tiles(85, 170),
    "o1": _Tiles(75, 150),
    "o3": _Tiles(75, 150),
    "o4-mini": _Patches(1.72, 1536),
    "gpt-5-mini": _Patches(1.62, 1536),
    "gpt-5-nano": _Patches(2.46, 1536),
    "gpt-5.4-mini": _Patches(1.62, 2500),
    "gpt-5.4-nano": _Patches(2.46, 2500),
    "gpt-5.2": _Patches(1.2, 1536),
    "gpt-5.3": _Patches(1.2, 1536),
    "gpt-5.4": _Patches(1.2, 2500),
    "gpt-5": _Tiles(70, 140),
}
"""How the names of OpenAI's models begin, and how they count; the longest name that fits holds."""

_LATER = _Patches(1.2, 2500)  # OpenAI's models that the table does not know: as its newest that it knows
_STRANGER = _Patches(2.46, 2500)  # what nobody knows, at its worst


def estimate(messages: Iterable[Message], model: str) -> int:
    """Estimate the tokens of all pictures and documents in a request.

    Args:
        messages: The turns, the prompt's included; their text is not counted.
        model: Who reads them, by its name at any provider.
    """
    return sum(_of_part(part, model) for message in messages for part in message.content.parts)


def bound(messages: Iterable[Message], model: str) -> int:
    """Return a number of tokens that the pictures and documents of a request do not exceed.

    A formula is the maker's word for its own models; what stands behind another name is counted by the worst of them.
    Half as much again is added, because services round and resize in their own ways.
    """
    return sum(_most_of_part(part, model) for message in messages for part in message.content.parts)


def image_tokens(model: str, width: int, height: int) -> int:
    """Return the tokens of a picture of that many pixels.

    - Anthropic, "Images and vision" (platform.claude.com/docs/en/build-with-claude/vision): patches of 28 pixels, which
      is nearly the older width · height / 750, after the picture was made to fit into 1,568 pixels and about 1,600
      tokens; from Opus 4.7 on 2,576 pixels and 4,784 tokens.
    - Google, "Understand and count tokens" (ai.google.dev/gemini-api/docs/tokens): 258 up to 384 pixels, else 258 for
      each tile of at most 768 pixels; Gemini 3 and later 1,120 whatever the size ("Media resolution").
    - OpenAI, "Images and vision" (platform.openai.com/docs/guides/images-vision): tiles of 512 pixels after fitting
      into 2,048 with the short side at 768, or patches of 32 pixels up to a most, times a model's own factor.

    Args:
        model: The model's name at any provider.
        width: In pixels.
        height: In pixels.
    """
    name = _bare(model)
    if "claude" in name:
        return _anthropic(name, width, height)
    if name.startswith(("gemini", "gemma")):
        return _google(name, width, height)
    rule = _rule(name)
    return _tiles(rule, width, height) if isinstance(rule, _Tiles) else _patches(rule, width, height)


def _of_part(part: Part, model: str) -> int:
    if isinstance(part, ImagePart):
        return image_tokens(model, part.width, part.height)
    if isinstance(part, PdfPart):
        return part.pages * _PAGE[0] + estimate_text(part.words)
    return 0


def _most_of_part(part: Part, model: str) -> int:
    if isinstance(part, ImagePart):
        return math.ceil(1.5 * image_tokens(model, part.width, part.height))
    if isinstance(part, PdfPart):
        return part.pages * _PAGE[1] + len(part.words.encode("utf-8", "replace"))
    return 0


def _bare(model: str) -> str:
    """Return a model's name without who serves it: "openai/gpt-4o" is gpt-4o."""
    return model.lower().rpartition("/")[2]


def _rule(name: str) -> _Tiles | _Patches:
    known = [begin for begin in _OPENAI if name.startswith(begin)]
    if known:
        return _OPENAI[max(known, key=len)]
    return _LATER if re.match(r"(chat)?gpt-|o\d", name) else _STRANGER


def _anthropic(name: str, width: int, height: int) -> int:
    older = any(word in name for word in ("claude-3", "-4-0", "-4-1", "-4-5", "-4-6", "-4-2025"))
    side, most = (1568, 1600) if older else (2576, 4784)
    shrink = min(1.0, side / max(width, height))
    return min(most, math.ceil(width * shrink / 28) * math.ceil(height * shrink / 28))


def _google(name: str, width: int, height: int) -> int:
    if not name.startswith(("gemini-1", "gemini-2", "gemma")):
        return 1120
    if max(width, height) <= 384:
        return 258
    tile = min(768, max(256, int(min(width, height) / 1.5)))
    return 258 * math.ceil(width / tile) * math.ceil(height / tile)


def _tiles(rule: _Tiles, width: int, height: int) -> int:
    shrink = min(1.0, 2048 / max(width, height))
    shrink *= min(1.0, 768 / (min(width, height) * shrink))
    across, down = (math.ceil(round(side * shrink, 3) / 512) for side in (width, height))
    return rule.base + rule.tile * across * down


def _patches(rule: _Patches, width: int, height: int) -> int:
    return math.ceil(rule.factor * min(rule.most, math.ceil(width / 32) * math.ceil(height / 32)))
