"""Markdown as front ends render it, and what may stand in the HTML that they make of ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

import cmarkgfm
import html5lib
from cmarkgfm.cmark import Options
from markdown_it import MarkdownIt
from nbconvert.filters.markdown import markdown2html

FOLDER = Path(__file__).parent


def vs_code() -> MarkdownIt:
    """Return markdown-it as VS Code has it, which makes links of addresses that begin as such."""
    parser = MarkdownIt("gfm-like", {"html": True, "linkify": True})
    assert parser.linkify is not None
    parser.linkify.set({"fuzzy_link": False})
    return parser


def github(text: str) -> str:
    """Render as cmark-gfm does when it lets all HTML through."""
    extensions = ["table", "autolink", "strikethrough", "tasklist"]
    return str(cmarkgfm.markdown_to_html_with_extensions(text, Options.CMARK_OPT_UNSAFE, extensions))


class JupyterLab:
    """JupyterLab's renderer for outputs that it trusts, in a process of Node. Raises FileNotFoundError without it."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None or not (FOLDER / "node_modules").is_dir():
            raise FileNotFoundError(f"JupyterLab's renderer is missing: npm ci --prefix {FOLDER}")
        self._process = subprocess.Popen(
            [node, FOLDER / "render.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def __call__(self, text: str) -> str:
        """Return the HTML, formulas in their places."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()
        return str(json.loads(self._process.stdout.readline()))

    def __enter__(self) -> JupyterLab:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__(None, None, None)


def readers(jupyterlab: JupyterLab) -> dict[str, Callable[[str], str]]:
    """Return all renderers by name."""
    return {
        "JupyterLab": jupyterlab,
        "nbconvert": markdown2html,
        "markdown-it": MarkdownIt("js-default", {"html": True}).render,
        "VS Code": vs_code().render,
        "GitHub": github,
    }


# --- what may be in the HTML ---

_NAMES = """
p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code table thead tbody tr th td strong em del br hr sub sup kbd a span div
details summary
"""
ELEMENTS = frozenset(_NAMES.split())
_QUIET = "font-size:0.85em; margin-bottom:0.4em; color:var(--jp-ui-font-color2, inherit)"
_CODE = "margin:1em 0; font-family:var(--jp-code-font-family, monospace)"
_CHIP = r"color:#fff; padding:0 0.6em; border-radius:0.8em; white-space:nowrap; background-color:#[0-9a-f]{6}"
_ATTRIBUTES = {
    # The second is GitHub's, which makes links of mail addresses, not all of them well.
    "a href": r"(https?://|mailto:)[^\s<>\"'`\\]*|[\w.+-]*((mailto|xmpp):)?[\w.+-]*@[\w.+@/-]*",
    "a class": "anchor-link",  # nbconvert's, beside a heading
    "ol start": r"\d{1,9}",
    "h id": r"[^\"<>]*",  # of the heading's own words
    "th align": "left|right|center",
    "td align": "left|right|center",
    "th style": "text-align: ?(left|right|center)",
    "td style": "text-align: ?(left|right|center)",
    "code class": r"language-[\w+#.-]+",
    "pre lang": r"[\w+#.-]+",
    "div class": "highlight|mathjax_ignore tex2jax_ignore",
    "span class": r"[a-z]{1,3}\d?|mathjax_ignore tex2jax_ignore",  # Pygments has short ones
    "div style": f"{re.escape(_QUIET)}|{re.escape(_CODE)}",
    "div title": r"[\d,]+ in \+ [\d,]+ out tokens · [\d.]+ m?s",
    "span style": f"{_CHIP}|white-space:nowrap",
    "strong style": "white-space:nowrap",
    "div role": "img",
    "div aria-label": r"[\s\S]*",
}
_ALLOWED = {name: re.compile(pattern) for name, pattern in _ATTRIBUTES.items()}


_INERT = re.compile("&#(" + "|".join(str(ord(character)) for character in "*_[]{}|!$~@^\\`") + ");")


class Page:
    """HTML as a browser reads it. Raises AssertionError where it breaks out of the element that holds it."""

    def __init__(self, html: str) -> None:
        # Of no meaning to HTML, and html5lib is slow at references.
        html = _INERT.sub(lambda match: chr(int(match[1])), html)
        page = html5lib.parse(f"<main>{html}</main><footer></footer>", namespaceHTMLElements=False)
        head, body = page
        assert [element.tag for element in body] == ["main", "footer"], "it ends its own place"
        assert not len(head), "it reaches the page's head"
        self._main: Element = body[0]

    def harm(self) -> list[str]:
        """Return what may not be there, because it runs, fetches, looks like something else, or nobody needs it."""
        return [fault for element in self._main.iter() if element is not self._main for fault in _faults(element)]

    def reading(self) -> list[tuple[str, str]]:
        """Return what a user reads: the text of each element that means something."""
        parts: list[tuple[str, str]] = []
        _read(self._main, parts)
        return sorted(parts)


def _faults(element: Element) -> Iterator[str]:
    tag = str(element.tag)
    if tag not in ELEMENTS:
        yield f"<{tag}>"
    for name, value in element.attrib.items():
        if name == "href" and element.get("class") == "anchor-link" and value.startswith("#"):
            continue
        allowed = _ALLOWED.get(f"{'h' if re.fullmatch('h[1-6]', tag) else tag} {name}")
        if allowed is None or not allowed.fullmatch(value):
            yield f"<{tag} {name}={value!r}>"


_INLINE = frozenset(["a", "code", "strong", "em", "del", "s", "sub", "sup", "kbd", "span"])
_MEANINGLESS = frozenset(["p", "span", "div", "thead", "tbody", "tr", "br", "hr"])  # some write <p> where others do not


def _read(element: Element, parts: list[tuple[str, str]], verbatim: bool = False) -> str:
    """Return the text inside an element, and note it."""
    tag = str(element.tag)
    if element.get("class") == "anchor-link":
        return ""
    inside = verbatim or tag == "pre"
    text = element.text or ""
    for child in element:
        text += (" " if child.tag == "br" else _read(child, parts, inside)) + (child.tail or "")
    # GitHub makes a link of every mail address, and Pygments leaves blank lines at both ends of code out.
    if tag not in _MEANINGLESS and not verbatim and "@" not in element.get("href", ""):
        what = f"link to {unquote(element.get('href', ''))}" if tag == "a" else "del" if tag == "s" else tag
        parts.append((what, text.strip("\n") if tag in ("pre", "code") else " ".join(text.split())))
    return text if tag in _INLINE else f" {text} "
