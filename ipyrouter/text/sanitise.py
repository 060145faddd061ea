r"""An answer is text from a stranger: here it becomes Markdown that can neither run nor fetch, in any front end.

Front ends read Markdown differently (JupyterLab and nbconvert take formulas out before they look for code, bare
addresses swallow backticks, a tag that stands alone makes backticks mean nothing), and most of them let HTML through.
So nothing is searched for and cut out. The answer is parsed, and what is known is rewritten, so that it depends on
no reader's rules:

- Outside fences and formulas every character that could mean something is a character reference. Whatever a reader
  takes for code, a link or HTML, there is nothing in it that could run.
- What is written as Markdown is what all readers agree on; elsewhere there is HTML from a short list, without
  attributes but a link's address and what keeps MathJax away.
- Fences stand at the left margin between blank lines, longer than any run of backticks inside.
- Formulas are from an allow-list (tex.py), on one line.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from ipyrouter.text.tex import ENVIRONMENT, formula

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

_LONGEST = 100_000  # characters: a longer Markdown, full of formulas, keeps a browser busy for minutes
_DEEPEST = 20  # blocks in blocks: markdown-it drops what lies deeper, and nested brackets cost it this many times more
_MARKDOWN_DEPTH = 4  # of lists and quotes as Markdown: mistune ends at 6

# C0 and C1 controls but tab and newline (ANSI escapes among them), the marks that reorder text, and halves of
# characters, which no message to a front end can hold.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_NEWLINE = re.compile("\r\n?|[\u2028\u2029]")  # the last two end a line for JavaScript's patterns only

# MathJax works on the finished page, where an escaped $ is a $ again: these classes keep it (3 and 2) away.
MATHS_OFF = "mathjax_ignore tex2jax_ignore"
NO_MATHS = f'class="{MATHS_OFF}"'
_ENTITIES = {ord(character): f"&#{ord(character)};" for character in "\\`*_{}[]#|!$~@^\xa0"}
_ENTITIES |= {ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;"}
_TEX = re.compile(r"([\\$]+)")
# nbconvert draws highlighted code in an output in its place's font, and close to what stands below.
_CODE = '<div style="margin:1em 0; font-family:var(--jp-code-font-family, monospace)">'
# Readers make links of www. and //, and differ in where they end. Either may begin in the piece of text before.
_BARE_LINK = re.compile(r"(?:(?<=ww)|(?<=^w)|^)\.|(?:(?<=/)|^)/", re.IGNORECASE)
_STARTS_BLOCK = re.compile(r"\d{0,9}([-+=:.)])")

# What means something in text without HTML: a tag that is harmless, an address.
_MEANS = re.compile(
    r"<(?P<tag>sub|sup|kbd)>(?P<inside>[^<>]*)</(?P=tag)>|(?P<br><br ?/?>)|(?P<address>https?://[^\s<>\"'`\\^{}|\[\]]+)",
    re.IGNORECASE,
)
_LINK = re.compile(r"https?://|mailto:", re.IGNORECASE)
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MARKS = {"strong": "**", "em": "*"}
_PLAIN = re.compile(r"\w(?:[^*]*\w)?")  # between asterisks
_PLAIN_CODE = re.compile(r"(?! )[\w .,;:=+\-*/()>{}\"'%^#!?~]+(?<! )")

_MATHS = re.compile(
    r"\$\$(?P<display>[^$`]+)\$\$"
    r"|\$(?P<inline>[^\s$`](?:[^$`\n]*[^\s$`\\])?)\$(?!\d)"  # as Pandoc reads it: "from $5 to $10" holds no formula
    r"|\\\((?P<round>(?:[^\\`]|\\[^()])*)\\\)"
    r"|\\\[(?P<square>(?:[^\\`]|\\[^\[\]])*)\\\]"
)
_BREAKS = re.compile(r"^(?:\s|<br>)+|(?:\s|<br>)+$")
_ALIGNED = {"None": "---", "text-align:left": ":---", "text-align:center": ":---:", "text-align:right": "---:"}
_CLOSED = {"$$": "$$", "\\[": "\\]"}
# JupyterLab's search for formulas does not know code from text here and would change it.
_LIKE_MATHS = re.compile(r"\\\\[()\[\]]|\\(?:begin|end)\{|@@\d+@@", re.IGNORECASE)
_LANGUAGE = re.compile(r"\s*([\w+#.-]+)")
# Front ends do not show these as code, they draw them, and Mermaid fetches pictures while at it.
_DIAGRAMS = ("mermaid", "math", "geojson", "topojson", "stl", "plantuml", "vega")


def plain(text: str) -> str:
    """Return the text without terminal escapes, control characters and marks that reorder text."""
    return _CONTROL.sub("", _ANSI.sub("", _NEWLINE.sub("\n", text)))


def inert(text: str) -> str:
    """Return text as one line in which every mark means itself: in Markdown, in a table and in HTML.

    MathJax still finds a formula in it, unless what it stands in has NO_MATHS.
    """
    return _references(" ".join(plain(text).split()))


def fence_for(text: str) -> str:
    """Return the backticks of a fence around a string, more than stand in a row inside it."""
    return "`" * (1 + max([2, *map(len, re.findall("`+", text))]))


def markdown(text: str) -> str:
    """Return an answer, or what has arrived of it, as Markdown that is safe to render.

    One that is very long or deeply nested is shown as it came.
    """
    text = plain(text)
    tokens = parse(text)
    return code(text) if tokens is None else "\n\n".join(part for node in _tree(tokens) for part in _blocks(node))


def parse(text: str) -> list[Token] | None:
    """Return text as tokens of markdown-it, formulas among them; None if it is very long or deeply nested."""
    if len(text) > _LONGEST:
        return None
    tokens = _parser().parse(text)
    return None if any(token.level >= _DEEPEST - 1 for token in tokens) else tokens


def code(text: str, language: str = "") -> str:
    """Return text as a code block, in which every character means itself."""
    lines = plain(text).rstrip("\n")
    language = _language(language)
    if _LIKE_MATHS.search(lines):
        marked = f' class="language-{language}"' if language else ""
        return f"<pre><code{marked}>{_references(lines).replace(chr(10), '&#10;')}</code></pre>"
    mark = fence_for(lines)
    block = f"{mark}{language}\n{lines}\n{mark}"
    return f"{_CODE}\n\n{block}\n\n</div>" if language else block


# --- parsing ---


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # 35 ms, and only answers need it

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": _DEEPEST})
    # Without text_join an escaped mark stays apart from one that means something.
    parser.enable(["table", "strikethrough"]).disable("text_join")
    parser.block.ruler.before(
        "code", "maths", _maths_block, {"alt": ["paragraph", "reference", "blockquote", "list", "table"]}
    )
    parser.inline.ruler.before("escape", "maths", _maths_inline)
    parser.core.ruler.after("inline", "tasks", _tasks)
    return parser


def _tasks(state: StateCore) -> None:
    """Make [ ] and [x] at the beginning of list items boxes: a reader's own would be form elements."""
    for item, inline in zip(state.tokens, state.tokens[2:], strict=False):
        if item.type == "list_item_open" and inline.children and inline.children[0].type == "text":
            first = inline.children[0]
            first.content = re.sub(r"^\[ \](?= )", "☐", re.sub(r"^\[[xX]\](?= )", "☑", first.content))


def _maths_inline(state: StateInline, silent: bool) -> bool:
    """Read a formula within a paragraph."""
    match = _MATHS.match(state.src, state.pos, state.posMax)
    if match is None or (match["square"] is not None and state.linkLevel):
        return False  # in a link, escaped brackets are brackets
    source = formula(match[match.lastindex or 0])
    if source is None:
        return False
    if not silent:
        mark = "$$" if match.lastgroup in ("display", "square") else "$"
        state.push("maths", "", 0).content = f"{mark}{source}{mark}"
    state.pos = match.end()
    return True


def _maths_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a formula that has lines of its own, none of them blank."""
    line = "" if state.is_code_block(start) else _line(state, start)
    environment = ENVIRONMENT.match(line)
    opened = environment.group() if environment else line[:2]
    closed = opened.replace("begin", "end") if environment else _CLOSED.get(opened)
    if closed is None:
        return False
    lines = [line[len(opened) :]]
    number = start
    while not _holds(lines[-1], closed):
        number += 1
        if number >= end or state.isEmpty(number) or state.sCount[number] < state.blkIndent:
            return False
        lines.append(_line(state, number))
        # Many that begin and do not end would take quadratic time.
        if opened != closed and _holds(lines[-1], opened):
            return False
    source = "\n".join(lines)
    if not source.endswith(closed):
        return False
    tex = formula(f"{opened}{source}" if environment else source.removesuffix(closed))
    if tex is None:
        return False
    if not silent:
        state.push("maths_block", "", 0).content = f"$${tex}$$"
        state.line = number + 1
    return True


def _holds(line: str, mark: str) -> bool:
    return mark in line.replace("\\\\", "")  # \\[2pt] begins no formula


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].rstrip()


@dataclass
class _Node:
    """A block with the blocks inside it."""

    token: Token
    children: list[_Node] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.token.type.removesuffix("_open")


def _tree(tokens: list[Token]) -> list[_Node]:
    roots: list[_Node] = []
    path = [roots]
    for token in tokens:
        if token.nesting < 0:
            path.pop()
            continue
        node = _Node(token)
        path[-1].append(node)
        if token.nesting > 0:
            path.append(node.children)
    return roots


# --- writing: blocks ---


def _blocks(node: _Node) -> Iterator[str]:
    """Yield a block as Markdown that stands at the left margin, in pieces that blank lines part."""
    token = node.token
    if node.kind in ("fence", "code_block"):
        yield code(token.content, token.info)
    elif node.kind == "hr":
        yield "***"
    elif node.kind == "table":
        yield "\n".join(_table(node))
    elif _is_simple(node):
        yield "\n".join(_lines(node))
    elif node.kind in ("paragraph", "heading"):
        yield f"<{token.tag}>{_inline(node, as_html=True)}</{token.tag}>"
    else:
        yield from _container(node)


def _container(node: _Node) -> Iterator[str]:
    """Yield a list, an item or a quote as HTML around Markdown: a fence can be in it and yet at the left margin."""
    tag = node.token.tag
    head = f"<{tag}>" if _start(node) == 1 else f'<{tag} start="{_start(node)}">'
    children = node.children
    if children and children[0].token.hidden:  # the text of an item in a tight list
        head += _inline(children[0], as_html=True)
        children = children[1:]
    if not children:
        yield f"{head}</{tag}>"
        return
    yield head
    for child in children:
        yield from _blocks(child)
    yield f"</{tag}>"


def _is_simple(node: _Node, depth: int = 0) -> bool:
    """Tell whether all readers agree on a block as Markdown, because it holds nothing but lines of text."""
    if node.kind in ("paragraph", "heading"):
        return "\\begin{" not in node.children[0].token.content  # nbconvert would break the paragraph there
    if node.kind == "maths_block":
        return True
    if depth == _MARKDOWN_DEPTH or not node.children:
        return False
    if node.kind == "blockquote":
        return all(_is_simple(child, depth + 1) for child in node.children)
    if node.kind == "ordered_list" and _start(node) != 1 and depth:
        return False  # in a tight list it would be a part of the paragraph above it
    return node.kind in ("bullet_list", "ordered_list") and all(
        item.children
        and item.children[0].kind == "paragraph"
        and all(_is_simple(child, depth + 1) for child in item.children)
        for item in node.children
    )


def _start(node: _Node) -> int:
    """Return the number of an ordered list's first item."""
    start = node.token.attrGet("start")
    return 1 if start is None else int(start)


def _lines(node: _Node) -> list[str]:
    """Return the lines of a simple block."""
    token = node.token
    if node.kind == "maths_block":
        return [token.content]
    if node.kind == "heading":
        return [f"{token.markup if token.markup[0] == '#' else '#' * int(token.tag[1])} {_inline(node)}"]
    if node.kind == "paragraph":
        line = _inline(node) or "&#160;"
        start = _STARTS_BLOCK.match(line)
        return [line if start is None else f"{line[: start.start(1)]}&#{ord(start[1])};{line[start.end() :]}"]
    if node.kind == "blockquote":
        return [f"> {line}".rstrip() for line in _join(node)]
    lines: list[str] = []
    for number, item in enumerate(node.children, _start(node)):
        mark = f"{number}{token.markup} " if node.kind == "ordered_list" else f"{token.markup} "
        if lines and not item.children[0].token.hidden:
            lines.append("")
        first, *rest = _join(item)
        lines += [f"{mark}{first}", *(f"{' ' * len(mark)}{line}".rstrip() for line in rest)]
    return lines


def _join(node: _Node) -> list[str]:
    lines: list[str] = []
    for before, child in zip([None, *node.children], node.children, strict=False):
        if before is not None and not before.token.hidden:
            lines.append("")
        lines += _lines(child)
    return lines


def _table(node: _Node) -> Iterator[str]:
    head, *rows = (row for part in node.children for row in part.children)
    yield _row(map(_cell, head.children))
    yield _row(_ALIGNED[str(cell.token.attrGet("style"))] for cell in head.children)
    for row in rows:
        yield _row(map(_cell, row.children))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(node: _Node) -> str:
    # What bars there are now are in formulas.
    return _inline(node).replace("\\|", "\\Vert ").replace("|", "\\vert ")


# --- writing: within a paragraph ---


def _inline(node: _Node, *, as_html: bool = False) -> str:
    """Return a paragraph's text on one line: as Markdown, or as HTML for inside an HTML block."""
    parts: list[str] = []
    outer: list[tuple[Token | None, list[str]]] = []
    links = 0
    for token in node.children[0].token.children or []:
        links += token.nesting * (token.tag == "a")
        if token.nesting > 0:
            deep = len(outer) >= _DEEPEST
            outer.append((None if deep else token, parts))
            parts = parts if deep else []
        elif token.nesting < 0:
            opened, before = outer.pop()
            if opened is not None:
                inside, parts = "".join(parts), before
                parts.append(_emphasis(opened, inside, parts, as_html))
        elif piece := _piece(token, parts, as_html=as_html, linked=links > 0):
            parts.append(piece)  # not the empty text between marks: what comes next looks at the piece before it
    return _BREAKS.sub("", "".join(parts))


def _emphasis(opened: Token, inside: str, before: list[str], as_html: bool) -> str:
    if opened.tag == "a":
        return _link(inside, str(opened.attrGet("href")), as_html)
    mark = _MARKS.get(opened.tag)
    if mark and not as_html and _PLAIN.fullmatch(inside) and not (before and before[-1].endswith("*")):
        return f"{mark}{inside}{mark}"
    tag = "del" if opened.tag == "s" else opened.tag
    return f"<{tag}>{inside}</{tag}>"


def _piece(token: Token, before: list[str], *, as_html: bool, linked: bool) -> str:
    """Return a token that holds no others."""
    previous = before[-1][-1:] if before else ""
    if token.type == "softbreak":
        return " "
    if token.type == "hardbreak":
        return "<br>"
    if token.type == "maths":
        return f" {token.content}" if previous == "$" else token.content
    if token.type == "code_inline":
        if not as_html and _PLAIN_CODE.fullmatch(token.content) and previous != "`":
            return f"`{token.content}`"
        return f"<code>{_references(token.content)}</code>"
    if token.type == "image":
        name = _text(token.content) or "image"
        return name if linked else _link(name, str(token.attrGet("src")), as_html)
    if token.type == "text" and not linked:
        return _words(plain(token.content), as_html)
    return _text(token.content)


def _words(text: str, as_html: bool) -> str:
    """Return text with its bare addresses as links and the few tags that are harmless."""
    parts: list[str] = []
    position = 0
    for match in _MEANS.finditer(text):
        parts.append(_text(text[position : match.start()]))
        position = match.end()
        if match["tag"]:
            tag = match["tag"].lower()
            parts.append(f"<{tag}>{_text(match['inside'])}</{tag}>")
        elif match["br"]:
            parts.append("<br>")
        else:
            address = match["address"].rstrip(".,;:!?'\"*_~")
            while address.endswith(")") and address.count("(") < address.count(")"):
                address = address[:-1]
            position = match.start() + len(address)
            parts.append(_link(_text(address), address, as_html))
    return "".join([*parts, _text(text[position:])])


def _link(inside: str, address: str, as_html: bool) -> str:
    """Return a link, or for an address that is not of the web what stood in the answer."""
    if not _LINK.match(address):
        return f"&#91;{inside}&#93;({_text(address)})"
    href = _LONE_PERCENT.sub("%25", quote(address, safe="/:?#@!+,;=%-._~&")).replace("&", "&amp;")
    inside = inside or _text(address)
    if as_html or "[" in inside or "]" in inside:
        return f'<a href="{href}">{inside}</a>'
    return f"[{inside}]({href})"


def _text(text: str) -> str:
    """Return text in which every mark means itself; MathJax finds no formula in it."""
    parts = _TEX.split(plain(text))  # a reference may have brought a control character along
    parts[::2] = map(_references, parts[::2])
    parts[1::2] = (f"<span {NO_MATHS}>{_references(part)}</span>" for part in parts[1::2])
    return "".join(parts)


def _references(text: str) -> str:
    return _BARE_LINK.sub(lambda match: f"&#{ord(match.group())};", text.translate(_ENTITIES))


def _language(info: str) -> str:
    """Return the language that a fence names, "" for one that not all front ends show as code."""
    match = _LANGUAGE.match(info)
    language = match[1].lower() if match else ""
    return language if language in _languages() and not language.startswith(_DIAGRAMS) else ""


@functools.cache
def _languages() -> frozenset[str]:
    """Return the names that Pygments knows: before code in another language nbconvert puts the language's name."""
    from pygments.lexers import get_all_lexers  # IPython brings it

    return frozenset(alias for _, aliases, _, _ in get_all_lexers(plugins=False) for alias in aliases)
