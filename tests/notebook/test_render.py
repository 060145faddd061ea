"""What front ends are given, hostile answers included."""

from __future__ import annotations

import dataclasses
import html
import re
from decimal import Decimal
from typing import Any

import pytest

from ipyrouter.config import LOCAL_MODEL, NO_KEY
from ipyrouter.notebook import rendering
from ipyrouter.notebook.display import TerminalDisplay
from ipyrouter.notebook.formats import Body, present
from ipyrouter.text.sanitise import markdown, plain
from ipyrouter.types import Answer, Classification, Usage

BASE = Answer(
    id="1",
    text="Hello",
    tier="fast",
    provider="openai",
    model="gpt-6-luna",
    cost=Decimal("0.000123"),
    usage=Usage(1200, 34),
    cached=False,
    latency=1.234,
    finish="stop",
    classification=Classification("fast", 0.1, 0.9, ()),
)


def bundle_of(text: str, fmt: str) -> rendering.Bundle:
    answer = dataclasses.replace(BASE, text=text)
    return rendering.answer_bundle(answer, present(answer, fmt).body)


def words(**changes: Any) -> str:
    return rendering.badge_text(dataclasses.replace(BASE, **changes))


def test_badge_says_what_happened() -> None:
    assert words() == "[fast] openai/gpt-6-luna · $0.00012 · 1,200 in + 34 out tokens · 1.2 s"
    assert "price unknown" in words(cost=None)
    assert "$0 · saved $0.0021" in words(cached=True, cost=Decimal(0), cost_saved=Decimal("0.0021"))
    reason = "401, check K"
    assert "fell back from a/b: 401, check K" in words(fallback_from="a/b", fallback_reason=reason)
    assert len(words(fallback_from="a/b", fallback_reason="a server's long words " * 20)) < 250
    assert "escalated from fast" in words(tier="mid", escalated_from="fast")
    assert "about 1,200 in" in words(usage=Usage(1200, 34, estimated=True))
    assert "cut off at the token limit" in words(finish="length")
    assert "refused" in words(finish="refusal")
    assert "stopped" in words(finish="interrupted")


def test_the_local_model_is_called_a_toy_once(capsys: pytest.CaptureFixture[str]) -> None:
    answer = dataclasses.replace(
        BASE, provider=LOCAL_MODEL.provider, model=LOCAL_MODEL.model, notes=(NO_KEY, "another note")
    )
    for text in rendering.answer_bundle(answer, Body(answer.text)).values():
        visible = re.sub(r'aria-label="[^"]*"', "", text)
        assert visible.count("no key is set") == visible.count("another note") == 1
    TerminalDisplay("markdown", stream=False).finish(answer, Body(answer.text))
    out = capsys.readouterr().out
    assert out.count("no key is set") == out.count("another note") == 1


def test_a_screen_reader_gets_a_sentence() -> None:
    fallen = dataclasses.replace(BASE, fallback_from="a/b", model='x" onload="y')
    badge = rendering.badge_markdown(fallen)
    label = re.search(r'role="img" aria-label="([^"]*)"', badge)
    assert label is not None
    assert html.unescape(label[1]) == (
        'openai/x" onload="y of the tier fast answered in 1.2 s, for $0.00012, 1,200 tokens in and 34 out, '
        "fell back from a/b."
    )
    assert "price unknown" in rendering.badge_sentence(dataclasses.replace(BASE, cost=None))


def test_the_badge_says_how_much_was_thought() -> None:
    thought = dataclasses.replace(BASE, usage=dataclasses.replace(BASE.usage, output_tokens=600, reasoning_tokens=450))
    assert "600 out tokens, 450 of them thinking · 1.2 s" in rendering.badge_text(thought)
    assert "600 out, 450 of them thinking" in rendering.badge_sentence(thought)
    assert "thinking" not in rendering.badge_text(BASE)


def test_one_bundle_of_markdown_and_text_badge_first() -> None:
    bundle = bundle_of("Hello", "markdown")
    assert set(bundle) == {"text/markdown", "text/plain"}
    badge, _, text = bundle["text/markdown"].partition("\n\n")
    assert badge.startswith("<div ")
    assert "\n" not in badge
    assert text == "Hello"
    assert bundle["text/plain"].endswith("\nHello")


def test_metadata_tells_the_cost_without_the_text() -> None:
    figures = rendering.metadata(BASE)["ipyrouter"]
    assert figures["cost"] == "0.000123"
    assert "Hello" not in str(figures)


def test_badge_escapes_model_names() -> None:
    badge = rendering.badge_markdown(dataclasses.replace(BASE, model="<img src=x onerror=alert(1)>\n\n# hi"))
    assert "<img" not in badge
    assert "\n" not in badge


def test_text_format_shows_every_character() -> None:
    bundle = bundle_of("# no ``` heading <b>", "text")["text/markdown"]
    assert "````\n# no ``` heading <b>\n````" in bundle


@pytest.mark.parametrize(
    ("text", "payload", "remainder"),
    [
        ("<script>alert(1)</script>", "<script", "&lt;script"),
        ("<img src=x onerror=alert(1)>", "<img", "&lt;img"),
        ("<!-- swallow", "<!--", "&lt;&#33;--"),
        ("![cat](https://evil/x.png)", "![", "[cat](https://evil/x.png)"),
        ("!![cat](https://evil/x.png)", "![", "[cat](https://evil/x.png)"),
        ("![](https://evil/x.png)", "![", "[image](https://evil/x.png)"),
        ("[x](javascript:alert(1))", "](javascript", "javascript"),
        ("[x](&#106;avascript:alert(1))", "](&#", "avascript"),
        ("[x](data:text/html,x)", "](data", "data"),
        ("[x]: javascript:alert(1)", "\n[x]:", "javascript"),
        ("- [x]: javascript:alert(1)", "[x]:", "javascript"),
        ("1. > [x]: data:text/html,x", "[x]:", "data"),
        ("[x\ny]: javascript:alert(1)", "]:", "javascript"),
        ("```mermaid\nA@{ img: 'https://evil/x.png' }\n```", "```mermaid", "A@{ img"),
        ("~~~ Mermaid {x}\nA\n~~~", "ermaid", "```\nA\n```"),
        ("$\\mmlToken{mi}[href='javascript:alert(1)']{x}$", "\\mmlToken", "mmlToken"),
        ("half a character \ud83d", "\ud83d", "half a character"),
        ("$\\href{javascript:alert(1)}{x}$", "\\href", "href"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07", "\x1b", "red"),
        ("left\u202eright", "\u202e", "leftright"),
        ("a ` b\n` <img src=x> `", "<img", "a `b` &lt;img"),
        ("| ` | <img> ` |", "<img", "&lt;img"),
    ],
)
def test_hostile_text_is_defused(text: str, payload: str, remainder: str) -> None:
    safe = "\n" + markdown(text) + "\n"
    assert payload not in safe
    assert remainder in safe


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("```python\nx = a[0](javascript) < b  # <b>\n```", "x = a[0](javascript) < b  # <b>"),
        ("`<b>` stays", "<code>&lt;b&gt;</code> stays"),
        ("`x = 1` stays", "`x = 1` stays"),
        ("a < b and 1<2", "a &lt; b and 1&lt;2"),
        (
            "[docs](https://pandas.pydata.org) and <https://x.org>",
            "[docs](https://pandas.pydata.org) and [https:/&#47;x.org](https://x.org)",
        ),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "| 1 | 2 |"),
        ("line<br>break", "line<br>break"),
        ("# Title\n\n- **bold** _it_ ~~no~~", "# Title\n\n- **bold** *it* <del>no</del>"),
        ("$E = mc^2$", "$E = mc^2$"),
    ],
)
def test_honest_markdown_stays(text: str, same: str) -> None:
    assert same in markdown(text)


def test_fences_hold_and_close() -> None:
    assert markdown("```py\nx = 1").endswith("```py\nx = 1\n```")
    assert markdown("~~~\n```\n<script>\n~~~").count("````") == 2
    nested = markdown("1. one\n\n       ```html\n       <b>\n       ```\n2. two")
    assert "\n```html\n<b>\n```" in nested


@pytest.mark.slow
def test_a_megabyte_of_text() -> None:
    assert len(markdown("`<b> " * 200_000)) >= 1_000_000
    bundle = bundle_of("$x$ " * 50_000, "markdown")["text/markdown"]
    assert "\n\n```\n$x$ $x$ " in bundle  # as Markdown it would keep a browser busy for minutes


@pytest.mark.slow
@pytest.mark.parametrize("text", ["!", "[a", "$a ", "\\`a", "- ", "1. ", "> ", "\x1b[0", "](", "]:", "<http://"])
def test_no_text_grows_beyond_bounds(text: str) -> None:
    long = text * (100_000 // len(text))
    assert 0 < len(markdown(long).strip("\n")) <= 60 * len(long)


def test_plain_keeps_newlines_and_tabs() -> None:
    assert plain("a\tb\r\nc\rd\x07") == "a\tb\nc\nd"
