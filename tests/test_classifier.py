"""The article's signals, without the article's faults."""

from __future__ import annotations

import pytest

from ipyrouter import config
from ipyrouter.classifier.rules import classify

SIGNALS = config.load().signals


@pytest.mark.parametrize(
    ("prompt", "tier"),
    [
        ("Convert this to JSON", "fast"),
        ("what is a monad", "fast"),
        ("fix typo in the README", "fast"),
        ("Please do a security audit of this list", "power"),  # power before fast
        ("Draw up a MIGRATION\n  PLAN", "power"),
        ("Explain closures", "mid"),
        ("How do I listen to events?", "mid"),  # "list" is no part of "listen"
        ("Give me information on accounts", "mid"),  # nor "format" of "information", nor "count" of "accounts"
        ("architecture of the system", "mid"),  # nor "architect" of "architecture"
        ("word " * 501, "power"),
        ("word " * 500, "mid"),
    ],
)
def test_tiers(prompt: str, tier: str) -> None:
    assert classify(prompt, SIGNALS).tier == tier


def test_reasons_name_the_words() -> None:
    assert classify("Rename and convert it", SIGNALS).reasons == ("says “rename”", "says “convert”")
    assert "501 words" in classify("word " * 501, SIGNALS).reasons[0]
    assert classify("hm", SIGNALS).reasons == ("no signal recognised",)


@pytest.mark.parametrize("prompt", ["\x00", "\ud800", "列表", "🧮" * 10, "list\u200b"])
def test_any_text_is_classified(prompt: str) -> None:
    result = classify(prompt, SIGNALS)
    assert 0 <= result.difficulty <= 1
    assert 0 <= result.confidence <= 1
