"""Hostile answers, prompts and model names in a real browser: nothing runs, nothing is fetched, nothing breaks.

The fixture ``lab`` fails every test here in which a request left this machine or a dialog opened.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from tests.browser.lab import Cell, Lab, Notebook, expect

pytestmark = pytest.mark.attack
EVIL = "https://evil.example/x"
RUN = "window.pwned=1"
HOSTILE = {
    "script": f"<script>{RUN}</script><script src='{EVIL}.js'></script>",
    "handler": f"<img src=x onerror={RUN}> <b onmouseover={RUN} onclick={RUN}>bold</b> <details open ontoggle={RUN}>",
    "svg": f"<svg onload={RUN}><script>{RUN}</script><image href='{EVIL}.png'/></svg>",
    "iframe": f"<iframe src='{EVIL}'></iframe><iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "style": f"<style>@import '{EVIL}.css'; * {{display: none}}</style><div style='background:url({EVIL}.png)'>x</div>",
    "form": f"<form action='{EVIL}'><input autofocus onfocus={RUN}></form><base href='{EVIL}'><object data='{EVIL}'>",
    "link": f"[a](javascript:{RUN}) [b](java&#115;cript:{RUN}) <a href='javascript:{RUN}'>c</a> <javascript:{RUN}>",
    "reference": f"[a][1] ![b][2]\n\n[1]: javascript:{RUN}\n[2]: {EVIL}.png",
    "image": f"![a]({EVIL}.png) ![b](//evil.example/x)\n\n[![c]({EVIL}.png)]({EVIL})\n\n<img srcset='{EVIL}.png 2x'>",
    "maths": f"$\\href{{javascript:{RUN}}}{{x}}$ \\(\\style{{background:url({EVIL}.png)}}{{y}}\\) $$\\require{{ab}}$$",
    "mermaid": f'```mermaid\nflowchart TD\n  A@{{ img: "{EVIL}.png", label: "x", pos: "t", w: 60, h: 60 }}\n```',
    "maths in code": f"$a `\\href{{javascript:{RUN}}}{{x}}` b$ and $$\\mmlToken{{mi}}[href='javascript:{RUN}']{{x}}$$",
    "maths in bbox": f"$\\bbox[background:url({EVIL}.png)]{{y}}$ $c `\\style{{background:url({EVIL}.png)}}{{z}}` d$",
    "reference in a list": f"- [1]: javascript:{RUN}\n- [a][1] [b][x y]\n\n[x\ny]: javascript:{RUN}",
    "fence": f"```html\n<img src=x onerror={RUN}>\n~~~\n<script>{RUN}</script>",
    "quote": f"> - ```\n>   <img src={EVIL}.png onerror={RUN}>\n\n<img src={EVIL}.png>",
    "comment": f"<!-- <img src='--><img src={EVIL}.png onerror={RUN}//'>",
    "ansi": "\x1b[31mred\x1b[0m \x1b]8;;https://evil.example\x07link\x1b]8;;\x07 \x1b[2J\x00\x08",
    "bidi": "evil \u202egnp.exe\u202c \u2067right to left\u2069 \u200f!",
    "heading": "# a\n\n<div hidden>\n\n</div></div></div></div><textarea>",
}
# Elements that act of themselves, and attributes and addresses that run; our own answers have none of them.
LIVE = """element => [...element.querySelectorAll('*')].filter(node =>
    /^(script|iframe|object|embed|form|input|textarea|style|link|meta|base|img|image|video)$/i.test(node.localName)
    || [...node.attributes].some(({name, value}) =>
        /^on/i.test(name) || /^\\s*(javascript|vbscript|data):/i.test(value) || name === 'style' && /url/i.test(value))
).map(node => node.outerHTML)"""


@pytest.fixture(scope="module")
def shared(tab: Lab) -> Iterator[Notebook]:
    """One notebook for all of them."""
    yield tab.notebook()
    tab.shut_kernels_down()


def echo(notebook: Notebook, text: str, options: str = "-m o/echo") -> Cell:
    return notebook.run(f"text = {text!r}\n%route {options} {{{{text}}}}").wait()


def named(text: str) -> str:
    """Return a model's name for the magic's line: the fault server looks only at what stands before the @."""
    return shlex.quote(f"o/ok@{' '.join(text.split())}")


def assert_harmless(cell: Cell) -> None:
    expect(cell.badge).to_be_visible()
    assert cell.outputs.first.evaluate(LIVE) == []
    assert cell.element.page.evaluate("window.pwned") is None


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_answer(lab: Lab, shared: Notebook, text: str) -> None:
    cell = echo(shared, text)
    expect(cell.badge).to_have_text(re.compile(r"^o/echo · price unknown · \w+$"))
    expect(cell.outputs).to_have_count(1)
    assert_harmless(cell)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_model_name(lab: Lab, shared: Notebook, text: str) -> None:
    assert_harmless(shared.run(f"%route -m {named(text)} Hello?").wait())


def test_hostile_texts_in_the_log(lab: Lab, shared: Notebook) -> None:
    texts = f"for text in {list(HOSTILE.values())!r}:\n    %route -q -m o/echo {{{{text}}}}\n"
    names = "\n".join(f"%route -q -m {named(text)} Hello?" for text in HOSTILE.values())
    shared.run(texts + names).wait()
    cell = shared.run(f"%router log {2 * len(HOSTILE)}").wait()
    expect(cell.output.get_by_role("row")).to_have_count(2 * len(HOSTILE) + 1)
    assert cell.output.locator("table").evaluate(LIVE) == []  # beside it stands a <style> of pandas


def test_a_megabyte(lab: Lab, shared: Notebook) -> None:
    cell = shared.run("text = '`<b> $x$ [a](b) ' * 65_536\n%route --yes -m o/echo {{text}}").wait()
    assert_harmless(cell)
    expect(shared.run("1 + 1").wait().output).to_contain_text("2")


def test_these_tests_would_notice(lab: Lab, shared: Notebook) -> None:
    shared.run(f"from IPython.display import HTML\nHTML('<img src={EVIL}.png onerror={RUN}><b onclick={RUN}>')").wait()
    lab.page.wait_for_function("window.pwned === 1")
    assert set(lab.fetched) == {f"{EVIL}.png"}  # once more each time that JupyterLab renders the cell anew
    lab.fetched.clear()
