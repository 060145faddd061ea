"""An answer is a text from a stranger: Markdown that can neither run nor fetch anything, in any front end.

JupyterLab sanitises Markdown, nbconvert does not, and none keeps remote images from being loaded. So raw HTML is shown
as text, images become links, and links keep only the schemes that are safe. Code blocks stay as they are: their fences
are rewritten to be longer than any run of backticks inside, so that every parser agrees where they end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(`{3,}|~{3,})([^\n]*)$")
_BACKTICKS = re.compile(r"`+")
_HTML = re.compile(r"<(?=[A-Za-z/!?])")
_AUTOLINK = re.compile(r"<(https?://[^\s<>]+)>")
_HARMLESS_TAG = re.compile(r"<(/?(?:br|sub|sup|kbd)\s*/?)>", re.IGNORECASE)
_IMAGE = re.compile(r"(?<!!)!+\[(\s*\])?")
_LINK = re.compile(r"\](?=\()(?!\(<?(?:https?://|mailto:|#))", re.IGNORECASE)
# A label may begin on another line or in a list item, so that its end alone is looked at.
_DEFINITION = re.compile(r"\](?=:)(?!:\s*<?(?:https?://|mailto:|#))", re.IGNORECASE)
_REFERENCE = re.compile(
    r"^((?:\s*(?:>|[-*+]|\d{1,9}[.)]))*\s*)\[(?=[^\]]+\]:)(?![^\]]+\]:\s*<?(?:https?://|mailto:|#))", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?=#|colon;|tab;|newline;|lpar;|lsqb;|lbrack;)", re.IGNORECASE)
_TEX = re.compile(r"\\(?=(?:href|style|class|cssId|require|unicode|includegraphics|url|mmlToken|bbox|data)\b)")
# Front ends do not show these as code, they draw them, and Mermaid fetches pictures while at it.
_DRAWN = ("mermaid", "math", "geojson", "topojson", "stl", "plantuml", "vega", "vega-lite", "vegalite")
# As Pandoc reads it: "from $5 to $10" holds no formula.
_MATH = re.compile(r"\$\$.*?\$\$|\$[^$\s](?:[^$]*[^$\s\\])?\$(?!\d)")
_DOLLAR = re.compile(rf"{_MATH.pattern}|\$\$|\\?\$")
# MathJax works on the finished page, where an escaped $ is a $ again: these classes keep it (3 and 2) away.
NO_MATHS = 'class="mathjax_ignore tex2jax_ignore"'
_MONEY = f"<span {NO_MATHS}>&#36;</span>"
# C0 and C1 controls but tab and newline (ANSI escapes among them), the marks that reorder text, and halves of
# characters, which no message to a front end can hold.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def plain(text: str) -> str:
    """Return the text without terminal escapes, control characters and marks that reorder text."""
    return _CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def markdown(text: str) -> str:
    """Return an answer as Markdown that is safe to render; an unclosed code fence is closed."""
    return "\n".join(_blocks(plain(text).split("\n")))


def _blocks(lines: list[str]) -> Iterator[str]:
    """Yield the lines, each code block under fences that hold it for certain."""
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        opened = _FENCE.match(line)
        if opened is None or ("`" in opened[3] and opened[2][0] == "`"):
            yield _prose(line)
            continue
        indent, fence, info = opened.groups()
        closes = re.compile(rf"^[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
        block: list[str] = []
        while position < len(lines) and not closes.match(lines[position]):
            block.append(_dedent(lines[position], len(indent.expandtabs(4))))
            position += 1
        position += 1
        longest = max((len(run) for code in block for run in _BACKTICKS.findall(code)), default=0)
        mark = "`" * max(3, longest + 1)
        if indent.strip():  # a list item that begins with the fence keeps its bullet
            yield _prose(indent.rstrip())
        # At the left margin: four spaces before a fence would make it a mere indented line to some parsers.
        yield from ("", mark + _language(info), *block, mark)


def _language(info: str) -> str:
    """Return the language that a fence names, nothing for one that a front end would not show as code."""
    word = re.sub(r"[^\w+#.-]", "", info.split(maxsplit=1)[0] if info.split() else "")
    return "" if word.lower() in _DRAWN else word


def _dedent(line: str, width: int) -> str:
    kept = line.expandtabs(4) if "\t" in line[: max(width, 1)] else line
    return kept[min(width, len(kept) - len(kept.lstrip(" "))) :]


def _prose(line: str) -> str:
    """Return a line outside code blocks with all that is active defused; code spans stay."""
    pieces: list[str] = []
    position = 0
    runs = list(_BACKTICKS.finditer(line))
    index = 0
    while index < len(runs):
        run = runs[index]
        before = line[: run.start()]
        escaped = (len(before) - len(before.rstrip("\\"))) % 2 == 1
        partner = next((i for i in range(index + 1, len(runs)) if len(runs[i].group()) == len(run.group())), None)
        pieces.append(_defused(line[position : run.start()]))
        if partner is None or escaped:
            # A lone run could pair with one on another line and turn code into text.
            pieces.append(("`" if escaped else "\\`") + "\\`" * (len(run.group()) - 1))
            position = run.end()
            index += 1
            continue
        span = line[run.start() : runs[partner].end()]
        # In a table a bar ends the cell and with it the span.
        pieces.append(_HTML.sub("&lt;", span) if "|" in span else span)
        position = runs[partner].end()
        index = partner + 1
    pieces.append(_defused(line[position:]))
    return _REFERENCE.sub(r"\1\\[", "".join(pieces))


def _defused(text: str) -> str:
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match.group())
        return f"\x00{len(kept) - 1}\x00"

    text = _ENTITY.sub("&amp;", text)
    text = _AUTOLINK.sub(keep, text)
    text = _HARMLESS_TAG.sub(keep, text)
    text = _MATH.sub(lambda match: _HTML.sub("< ", match.group()), text)  # TeX would choke on &lt;
    text = _HTML.sub("&lt;", text)
    text = _IMAGE.sub(lambda match: "[image]" if match[1] else "[", text)
    text = _LINK.sub(r"]\\", text)
    text = _DEFINITION.sub(r"]\\", text)
    text = _TEX.sub(r"\\ ", text)
    text = _DOLLAR.sub(lambda match: _MONEY if match.group() in ("$", "\\$") else match.group(), text)
    return re.sub("\x00(\\d+)\x00", lambda match: kept[int(match[1])], text)
