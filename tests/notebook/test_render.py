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
from ipyrouter.text import tables
from ipyrouter.text.sanitise import MATHS_OFF, code, fence_for, inert, markdown, plain
from ipyrouter.types import Answer, Attempt, Candidate, Classification, Usage

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


def highlighted(fence: str) -> str:
    return f'<div style="margin:1em 0; font-family:var(--jp-code-font-family, monospace)">\n\n{fence}\n\n</div>'


def bundle_of(text: str, fmt: str) -> rendering.Bundle:
    answer = dataclasses.replace(BASE, text=text)
    return rendering.answer_bundle(answer, present(answer, fmt).body)


def words(**changes: Any) -> str:
    return rendering.badge_text(dataclasses.replace(BASE, **changes))


def test_the_heads_of_a_dry_run_stand_above_their_cells() -> None:
    assert "| what | value |\n|:---|:---|\n" in rendering.table_bundle("t", [("a", "b")])["text/markdown"]


def test_badge_says_what_happened() -> None:
    assert words() == "openai/gpt-6-luna · $0.00012 · fast · 1,200 in + 34 out tokens · 1.2 s"
    assert "price unknown" in words(cost=None)
    assert "$0 · saved $0.0021" in words(cached=True, cost=Decimal(0), cost_saved=Decimal("0.0021"))
    reason = "401, check K"
    assert "fell back from a/b: 401, check K" in words(fallback_from="a/b", fallback_reason=reason)
    assert len(words(fallback_from="a/b", fallback_reason="a server's long words " * 20)) < 250
    assert "escalated from fast" in words(tier="mid", escalated_from="fast")
    weak = Attempt("fast", Candidate("a", "b"), "weak", error="12 characters", text="")
    assert "escalated from fast: 12 characters" in words(tier="mid", escalated_from="fast", attempts=(weak,))
    assert "about 1,200 in" in words(usage=Usage(1200, 34, estimated=True))
    assert "cut off at the token limit" in words(finish="length")
    assert "refused" in words(finish="refusal")
    assert "stopped" in words(finish="interrupted")


def bare(badge: str) -> str:
    """Return a badge as it reads where styles and attributes are dropped."""
    return html.unescape(re.sub("<[^>]*>", "", badge))


def test_the_badge_begins_with_model_and_cost_and_keeps_the_rest_for_hovering() -> None:
    badge = rendering.badge_markdown(BASE)
    assert bare(badge) == "openai/gpt-6-luna · $0.00012 · fast"
    title = re.search(r' title="([^"]*)"', badge)
    assert title is not None
    assert html.unescape(title[1]) == "1,200 in + 34 out tokens · 1.2 s"


@pytest.mark.parametrize(
    ("changes", "chip", "text"),
    [
        (
            {"fallback_from": "a/b-c", "fallback_reason": "401, check K"},
            "fell back",
            "fell back from a/b-c: 401, check K",
        ),
        ({"escalated_from": "fast", "tier": "mid"}, "escalated", "escalated from fast"),
        ({"finish": "length"}, "cut off", "cut off at the token limit"),
        ({"finish": "interrupted"}, "stopped", "stopped"),
        (
            {"provider": LOCAL_MODEL.provider, "model": LOCAL_MODEL.model, "notes": (NO_KEY,)},
            "toy model",
            "toy model (SmolLM2-135M): no key is set",
        ),
    ],
)
def test_what_a_user_should_notice_is_amber_with_its_reason(changes: dict[str, Any], chip: str, text: str) -> None:
    amber = 'background-color:#a15c00">'
    badge = rendering.badge_markdown(dataclasses.replace(BASE, **changes))
    assert f"{amber}{chip}</span>" in badge
    assert bare(badge).endswith(f" · {text}")
    assert amber not in rendering.badge_markdown(dataclasses.replace(BASE, cached=True, cost=Decimal(0)))


def _luminance(colour: str) -> float:
    """Return a colour's relative luminance, as WCAG defines it."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colour", [*rendering.COLOURS.values(), rendering._AMBER, rendering._ERROR])
def test_chips_can_be_read_and_stand_out_in_any_theme(colour: str) -> None:
    white, dark, own = _luminance("#ffffff") + 0.05, _luminance("#111111") + 0.05, _luminance(colour) + 0.05
    assert white / own >= 4.5
    assert own / dark >= 3


def test_no_line_ends_inside_a_name() -> None:
    fallen = dataclasses.replace(BASE, fallback_from="some-provider/some-model-5-5", fallback_reason="no gpt-x here")
    whole = re.findall(r"white-space:nowrap[^>]*>([^<]*)<", rendering.badge_markdown(fallen))
    assert html.unescape(" ".join(whole)).split() == [
        "openai/gpt-6-luna", "fast", "fell", "back", "some-provider/some-model-5-5:", "gpt-x",
    ]  # fmt: skip


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
    label = re.search(r'role="img" aria-label="([^"]*)" title="1', badge)
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


def test_table_cells_keep_times_and_amounts_on_one_line_and_maths_away() -> None:
    table = tables.Table("by time", ("at", "prompt"), [("11-30 09:15:00", "What do $x$ and $y$ have in common?")])
    assert tables.markdown(table).splitlines()[-1] == (
        "| 11-30&#160;09:15:00 |"
        f' <span class="{MATHS_OFF}">What do &#36;x&#36; and &#36;y&#36; have in common?</span> |'
    )


def test_fences_hold_and_close() -> None:
    assert markdown("```py\nx = 1") == highlighted("```py\nx = 1\n```")
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


OFF = f'<span class="{MATHS_OFF}">'


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (
            "a  \nb\nc\\\nd",
            "a<br>b c<br>d",
        ),
        (
            "***both*** **a `b` c** *x **y** z* ~~s~~ **a**b *a**b*",
            "<em>**both**</em> **a `b` c** <em>x **y** z</em> <del>s</del> **a**b *a&#42;&#42;b*",
        ),
        (
            "**(x)**y and *`c`*",
            "&#42;&#42;(x)&#42;&#42;y and <em>`c`</em>",
        ),
        (
            "# One\n\nTwo `x`\n===\n\nThree\n---\n\n#### Four",
            "# One\n\n# Two `x`\n\n## Three\n\n#### Four",
        ),
        (
            "1986. was",
            "1986. was",
        ),
        (
            "- ",
            "<ul>\n\n<li></li>\n\n</ul>",
        ),
        (
            "\\- no\n\n\\+ nor\n\n: x\n\n12) y\n\n=",
            "&#45; no\n\n&#43; nor\n\n&#58; x\n\n12) y\n\n&#61;",
        ),
        (
            "3. g\n4. h\n\n   i",
            "3. g\n\n4. h\n\n   i",
        ),
        (
            "- a\n- b\n  - c\n    1. d\n    2. e\n- f",
            "- a\n- b\n  - c\n    1. d\n    2. e\n- f",
        ),
        (
            "- a\n\n  - b\n\n    2. c",
            "<ul>\n\n<li>\n\na\n\n<ul>\n\n<li>\n\nb\n\n2. c\n\n</li>\n\n</ul>\n\n</li>\n\n</ul>",
        ),
        (
            "* loose\n\n* items\n\n  two\n\n  > q",
            "* loose\n\n* items\n\n  two\n\n  > q",
        ),
        (
            "- a\n  2. b",
            "- a 2. b",
        ),
        (
            "> a\n> b\n>\n> - c\n> - d\n>\n>   e",
            "> a b\n>\n> - c\n>\n> - d\n>\n>   e",
        ),
        (
            "> a\n>\n> ```py\n> x\n> ```",
            "<blockquote>\n\na\n\n" + highlighted("```py\nx\n```") + "\n\n</blockquote>",
        ),
        (
            "- a\n  - b\n    - c\n      - d\n        - e",
            "<ul>\n\n<li>a\n\n- b\n  - c\n    - d\n      - e\n\n</li>\n\n</ul>",
        ),
        (
            "> > > > a",
            "> > > > a",
        ),
        (
            "> > > > > a",
            "<blockquote>\n\n> > > > a\n\n</blockquote>",
        ),
        (
            "5. x\n\n   ```py\n   y\n   ```\n6. z",
            '<ol start="5">\n\n<li>\n\nx\n\n'
            + highlighted("```py\ny\n```")
            + "\n\n</li>\n\n<li>\n\nz\n\n</li>\n\n</ol>",
        ),
        (
            "- ```\n  a\n  ```\n- b",
            "<ul>\n\n<li>\n\n```\na\n```\n\n</li>\n\n<li>b</li>\n\n</ul>",
        ),
        (
            "- a\n\n  ```\n  b\n  ```\n\n  c",
            "<ul>\n\n<li>\n\na\n\n```\nb\n```\n\nc\n\n</li>\n\n</ul>",
        ),
        (
            "1. a\n   # h\n   ***",
            "<ol>\n\n<li>a\n\n# h\n\n***\n\n</li>\n\n</ol>",
        ),
        (
            "| a | b | c | d |\n|:--|:-:|--:|---|\n| 1 | `x\\|y` | **y** | $\\|x\\| \\| y$ |",
            (
                "| a | b | c | d |\n| :--- | :---: | ---: | --- |\n| 1 | <code>x&#124;y</code> | **y** "
                "| $\\vert x\\vert  \\vert  y$ |"
            ),
        ),
        (
            "a\n\n---\n\nb",
            "a\n\n***\n\nb",
        ),
        (
            "    indented\n    code",
            "```\nindented\ncode\n```",
        ),
        (
            "```nonsense\nx\n```",
            "```\nx\n```",
        ),
        (
            "``` python title=x\nx\n```",
            highlighted("```python\nx\n```"),
        ),
        (
            "```\n\\begin{a} & <b>\nc\n```",
            "<pre><code>&#92;begin&#123;a&#125; &amp; &lt;b&gt;&#10;c</code></pre>",
        ),
        (
            "```python\nre.compile('\\\\(a') # @@0@@\n```",
            "<pre><code class=\"language-python\">re.compile('&#92;&#92;(a') &#35; &#64;&#64;0&#64;&#64;</code></pre>",
        ),
        (
            "~~~\n```\n````\n~~~",
            "`````\n```\n````\n`````",
        ),
        (
            (
                '[x](https://a.b/?c=d&e=f "t") [**b**](http://x.y) [](https://e.f) [r][1] '
                "[q](https://x.y/%zz%20(a)c)\n\n[1]: mailto:a@b.c"
            ),
            (
                "[x](https://a.b/?c=d&amp;e=f) [**b**](http://x.y) [https:/&#47;e.f](https://e.f) "
                "[r](mailto:a@b.c) [q](https://x.y/%25zz%20%28a%29c)"
            ),
        ),
        (
            "[a \\[b\\]](https://x.y)",
            "[a &#91;b&#93;](https://x.y)",
        ),
        (
            "[x](javascript:a) [y](ftp://z) [z](#top) [](file:///x)",
            "&#91;x&#93;(javascript:a) &#91;y&#93;(ftp:/&#47;z) &#91;z&#93;(&#35;top) &#91;&#93;(file:/&#47;&#47;x)",
        ),
        (
            "![cat *a*](https://x.y/z.png) ![](https://x.y) [![c](https://p.q/r.png)](https://x.y) ![l](data:x)",
            "[cat &#42;a&#42;](https://x.y/z.png) [image](https://x.y) [c](https://x.y) &#33;&#91;l&#93;(data:x)",
        ),
        (
            (
                "[a https://n.o b](https://x.y) https://x.y/a_(b). (https://y.z). https://x.y/(a)) "
                "https://x.y?! www.x.y //z https://x.y/`a`"
            ),
            (
                "[a https:/&#47;n.o b](https://x.y) "
                "[https:/&#47;x.y/a&#95;(b)](https://x.y/a_%28b%29)&#46; "
                "([https:/&#47;y.z](https://y.z)). [https:/&#47;x.y/(a)](https://x.y/%28a%29)) "
                "[https:/&#47;x.y](https://x.y)?&#33; www&#46;x.y /&#47;z "
                "[https:/&#47;x.y/](https://x.y/)`a`"
            ),
        ),
        (
            "H<sub>2</sub>O x<SUP>a*b</SUP> <kbd>C</kbd><br>a<BR/>b<br />c <sub>open",
            "H<sub>2</sub>O x<sup>a&#42;b</sup> <kbd>C</kbd><br>a<br>b<br>c &lt;sub&gt;open",
        ),
        (
            "<br>\n<br> a <br>",
            "a",
        ),
        (
            "- [ ] open\n- [x] done\n- [X] too\n- [ ]no\n- a [ ] b\n\n[ ] none",
            "- ☐ open\n- ☑ done\n- ☑ too\n- &#91; &#93;no\n- a &#91; &#93; b\n\n&#91; &#93; none",
        ),
        (
            "from $5 to $10, \\$x\\\\ y",
            "from <span OFF>&#36;</span>5 to <span OFF>&#36;</span>10, <span OFF>&#36;</span>x<span OFF>&#92;</span> y",
        ),
        (
            "$a$$b$ and $x$, \\(y\\) \\[z\\] $$w$$",
            "$a$ $b$ and $x$, $y$ $$z$$ $$w$$",
        ),
        (
            "cost $x$ $\\href{a}{b}$ \\(c",
            (
                "cost $x$ <span OFF>&#36;</span><span "
                "OFF>&#92;</span>href&#123;a&#125;&#123;b&#125;<span OFF>&#36;</span> (c"
            ),
        ),
        (
            "$$\na\n= b\n$$",
            "$$a = b$$",
        ),
        (
            "\\[\na\n\\]",
            "$$a$$",
        ),
        (
            "\\begin{align}\na &= b\n\\end{align}",
            "$$\\begin{align} a & = b \\end{align}$$",
        ),
        (
            "text\n$$\na\n$$\nmore",
            "text\n\n$$a$$\n\nmore",
        ),
        (
            "$$\na\n\nb\n$$",
            "<span OFF>&#36;&#36;</span> a\n\nb <span OFF>&#36;&#36;</span>",
        ),
        (
            "$$ a $$ b",
            "$$a$$ b",
        ),
        (
            "- x\n  $$\n  a\n  $$\n- y",
            "- x\n  $$a$$\n- y",
        ),
        (
            "> $$\n> a\n> $$\nlazy",
            "> $$a$$\n\nlazy",
        ),
        (
            "- $$\n  a\n $$",
            "- $$a$$",
        ),
        (
            "$$\n$$ a",
            "<span OFF>&#36;&#36;</span> <span OFF>&#36;&#36;</span> a",
        ),
        (
            "\\[\na \\[\nb\n\\]",
            "&#91; a $$b$$",
        ),
        (
            "\\[\na \\\\[2pt]\nb\n\\]",
            "$$a \\\\ b$$",
        ),
        (
            "text\n\\[\na \\\\[2pt]\nb\n\\]\nmore",
            "text\n\n$$a \\\\ b$$\n\nmore",
        ),
        (
            "text\n$$  \na\n$$  \nmore",
            "text\n\n$$a$$\n\nmore",
        ),
        (
            "    $$\n    a\n    $$",
            "```\n$$\na\n$$\n```",
        ),
        (
            "a \\begin{align} b",
            "<p>a <span OFF>&#92;</span>begin&#123;align&#125; b</p>",
        ),
        (
            "$$a$$\n$$b$$",
            "$$a$$\n\n$$b$$",
        ),
        (
            "$$\n\\href{x}{y}\n$$",
            (
                "<span OFF>&#36;&#36;</span> <span OFF>&#92;</span>href&#123;x&#125;&#123;y&#125; "
                "<span OFF>&#36;&#36;</span>"
            ),
        ),
        (
            "\\begin{align}\na\n\\[\nb\\end{align}",
            "<p><span OFF>&#92;</span>begin&#123;align&#125; a &#91; b<span OFF>&#92;</span>end&#123;align&#125;</p>",
        ),
        (
            "`a` `b|c` `` d`e `` `<b>` ` f ` `x``y`",
            "`a` <code>b&#124;c</code> <code>d&#96;e</code> <code>&lt;b&gt;</code> `f` <code>x&#96;&#96;y</code>",
        ),
        (
            "``a```b`",
            "&#96;&#96;a&#96;&#96;&#96;b&#96;",
        ),
        (
            "\\`x`y`",
            "&#96;x`y`",
        ),
        (
            "&lt;b&gt; &copy; &#x202e;c &#8296;d &amp;lt; &nbsp;e",
            "&lt;b&gt; © c d &amp;lt; &#160;e",
        ),
        (
            "a*b _c_ {d} [e] #f |g !h ~i @j ^k\xa0l",
            "a&#42;b *c* &#123;d&#125; &#91;e&#93; &#35;f &#124;g &#33;h &#126;i &#64;j &#94;k&#160;l",
        ),
        (
            "w.w www.a.b //a WWW.b a//b",
            "w&#46;w www&#46;a.b /&#47;a WWW&#46;b a/&#47;b",
        ),
        (
            "\\/\\/a ww\\.b http:\\//c",
            "&#47;&#47;a ww&#46;b http:&#47;&#47;c",
        ),
        (
            "**a $x$ b** [l $y$](https://x.y)",
            "**a $x$ b** [l $y$](https://x.y)",
        ),
        (
            "$\n$",
            "<span OFF>&#36;</span> <span OFF>&#36;</span>",
        ),
        (
            "**a\\*b** *a*\\**b*",
            "**a&#42;b** *a*&#42;*b*",
        ),
        (
            "**a**\\***b**",
            "**a**&#42;**b**",
        ),
        (
            "*a****b***",
            "*a*<em>**b**</em>",
        ),
        (
            "**a**__b__ *a*_b_ __a__*b*",
            "**a**<strong>b</strong> *a*<em>b</em> **a**<em>b</em>",
        ),
        (
            "[^1]\n\n[^1]: note",
            "&#91;&#94;1&#93;(note)",
        ),
        (
            "[x]: https://a.b\n\n[x] [y]",
            "[x](https://a.b) &#91;y&#93;",
        ),
        (
            "x\n: def",
            "x : def",
        ),
        (
            "a<b@c.d> <https://x.y/`> <mailto:a@b.c>",
            "a[b&#64;c.d](mailto:b@c.d) [https:/&#47;x.y/&#96;](https://x.y/%60) [mailto:a&#64;b.c](mailto:a@b.c)",
        ),
        (
            "1. a\n\n\n2. b",
            "1. a\n\n2. b",
        ),
        (
            "1) a\n2) b",
            "1) a\n2) b",
        ),
        (
            "+ a\n+ b",
            "+ a\n+ b",
        ),
        (
            "10. a\n    b\n\n    c\n11. d",
            "10. a b\n\n    c\n\n11. d",
        ),
        (
            "- > a\n  > b\n- # h",
            "<ul>\n\n<li>\n\n> a b\n\n</li>\n\n<li>\n\n# h\n\n</li>\n\n</ul>",
        ),
        (
            "0. zero",
            "0. zero",
        ),
        (
            "> 2. a\n> 3. b",
            "<blockquote>\n\n2. a\n3. b\n\n</blockquote>",
        ),
        (
            "- a\n\n  2. b\n\n     ```\n     c\n     ```",
            '<ul>\n\n<li>\n\na\n\n<ol start="2">\n\n<li>\n\nb\n\n```\nc\n```\n\n</li>\n\n</ol>\n\n</li>\n\n</ul>',
        ),
        (
            "- \n- a",
            "<ul>\n\n<li></li>\n\n<li>a</li>\n\n</ul>",
        ),
        (
            "-\n  ```\n  x\n  ```",
            "<ul>\n\n<li>\n\n```\nx\n```\n\n</li>\n\n</ul>",
        ),
        (
            "setext `a`\nb\n---",
            "## setext `a` b",
        ),
        (
            "| a |\n|---|\n| |",
            "| a |\n| --- |\n|  |",
        ),
        (
            "- | a |\n  |---|\n  | 1 |",
            "<ul>\n\n<li>\n\n| a |\n| --- |\n| 1 |\n\n</li>\n\n</ul>",
        ),
        (
            "******a******",
            "<strong><strong>**a**</strong></strong>",
        ),
        (
            "**a** `b` [c](https://x.y) \\begin{d}",  # inside HTML no reader looks for Markdown
            (
                '<p><strong>a</strong> <code>b</code> <a href="https://x.y">c</a> '
                "<span OFF>&#92;</span>begin&#123;d&#125;</p>"
            ),
        ),
        (
            "## **a** \\begin{d}",
            "<h2><strong>a</strong> <span OFF>&#92;</span>begin&#123;d&#125;</h2>",
        ),
        (
            "- **a** `b` [c](https://x.y)\n  ```\n  d\n  ```",
            (
                '<ul>\n\n<li><strong>a</strong> <code>b</code> <a href="https://x.y">c</a>\n\n```\nd\n```'
                "\n\n</li>\n\n</ul>"
            ),
        ),
        (
            "a\n\n<br>\n\nb",
            "a\n\n&#160;\n\nb",
        ),
        (
            "\\[\na\nb\nc \\[\nd\n\\]",
            "&#91; a b c $$d$$",
        ),
        (
            "[a $[$ b](https://x.y) [a $]$ b](https://x.y)",  # readers would look for the label's end in a formula
            '<a href="https://x.y">a $[$ b</a> <a href="https://x.y">a $]$ b</a>',
        ),
        (
            "https://x.y/X and https://x.y/xX.",
            "[https:/&#47;x.y/X](https://x.y/X) and [https:/&#47;x.y/xX](https://x.y/xX)&#46;",
        ),
        (
            "a  \x1b[31mb\x1b[0m\r\nc",
            "a  b c",
        ),
    ],
)
def test_each_kind_of_markdown_is_written_in_the_one_way_that_all_readers_share(text: str, written: str) -> None:
    assert markdown(text) == written.replace("<span OFF>", OFF)


@pytest.mark.parametrize(("deep", "begins"), [(17, "<blockquote>\n\n<blockquote>"), (18, "```\n> >")])
def test_what_is_too_deep_is_shown_as_it_came(deep: int, begins: str) -> None:
    assert markdown("> " * deep + "a").startswith(begins)


@pytest.mark.parametrize("deep", [19, 20, 21, 40])
def test_emphasis_within_emphasis_has_twenty_levels(deep: int) -> None:
    written = markdown("*a " * deep + "b" + "*" * deep)
    opened = min(deep, 20) - 1  # the innermost is Markdown
    assert written == "<em>a " * opened + "*" + "a " * (deep - opened) + "b*" + "</em>" * opened


@pytest.mark.parametrize(("length", "written"), [(100_000, "{}"), (100_001, "```\n{}\n```")])
def test_what_is_too_long_is_shown_as_it_came(length: int, written: str) -> None:
    assert markdown("a" * length) == written.format("a" * length)


@pytest.mark.parametrize(
    ("text", "language", "written"),
    [
        ("a\n\n", "", "```\na\n```"),
        ("MAX\n", "", "```\nMAX\n```"),
        ("MAX  \n", "", "```\nMAX  \n```"),
        ("\n a", "PY t", highlighted("```py\n\n a\n```")),
        ("x", "mermaid", "```\nx\n```"),
        ("x", " { py", "```\nx\n```"),
        ("``` `````", "", "``````\n``` `````\n``````"),
        ("@@1@@", "Latex", '<pre><code class="language-latex">&#64;&#64;1&#64;&#64;</code></pre>'),
        ("\\begin{a}\n", "", "<pre><code>&#92;begin&#123;a&#125;</code></pre>"),
        ("@@1@@", "nonsense", "<pre><code>&#64;&#64;1&#64;&#64;</code></pre>"),
    ],
)
def test_code_is_written_so_that_every_character_means_itself(text: str, language: str, written: str) -> None:
    assert code(text, language) == written


def test_inert_text_is_one_line() -> None:
    assert inert(" a\n b|<c> $x$ www.d\x1b[1m") == "a b&#124;&lt;c&gt; &#36;x&#36; www&#46;d"
    assert [fence_for(text) for text in ("a", "`", "```", "`` `````")] == ["```", "```", "````", "``````"]
