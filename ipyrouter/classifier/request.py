"""What of a prompt is the request, and what is material: code, tracebacks, tables and quotes that were pasted along."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LONGEST = 4000  # characters of the request that are read: its beginning and its end
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})")
_TRACEBACK = re.compile(
    r'^(\s*Traceback \(most recent call last\)|\s*File ".*", line \d+|-{20,}$|[A-Za-z_.]*(Error|Exception)\b.*:)'
)
_CODE = re.compile(
    r"^\s*(def |class \w+[:(]|import \w|from \w+ import|return\b|for .+ in .+:|while .+:|if .+:$|elif |else:|try:"
    r"|except\b|with .+:$|@\w|print\(|[\w.\[\]'\"]+\s*[-+*/]?=\s*\S|[\w.]+\(.*\)\s*;?$|[})\]]+[,;]?$"
    r"|(SELECT|FROM|WHERE|GROUP BY|ORDER BY|JOIN|LEFT JOIN)\b|>>> |\.\.\. |In \[\d+\]:|#\s|//|[{}]$)"
)
_TABLE = re.compile(r"^\s*\|.*\|\s*$|^\s*\S+(\s{2,}\S+){2,}\s*$|^[^,;\t]*([,;\t][^,;\t]*){3,}$|^[-+|=\s]{5,}$")
_CHOICE = re.compile(r"^\s*\(?[A-D][.):]\s", re.MULTILINE)
_QUOTE = re.compile(r"^\s*>")
# Politeness, which says nothing of a request: greetings, preambles and thanks.
_BEFORE = re.compile(
    r"""(?:
      (?:hi|hello|hey|greetings|dear\s\w+|good\s(?:morning|afternoon|evening|day))
        (?:[,.!:]+|\s(?:there|all|everyone|again|team|assistant)\b[,.!:]*)\s+
    | i\shope\s(?:you|this|all|everything)[^.!?\n]{0,60}[.!]\s+
    | (?:please|pls|kindly|bitte|por\sfavor|per\sfavore|s'il\s(?:vous|te)\splaît)[\s,:]+
    | (?:sorry\sto\s(?:bother|disturb)\syou)[\s,.!:]+(?:but\s)?
    | (?:if\syou\s(?:have|get)\sa\s(?:moment|minute|second))[\s,.:]+
    | (?:can|could|would|will)\syou\s(?:please\s|kindly\s|maybe\s|perhaps\s)*
        (?:help\sme\s(?:out\s)?(?:with\s)?(?:this|the\sfollowing|something|it)\b[^.:?!\n]{0,30}[.:?!]+\s+)?
    | would\syou\smind\shelping(?:\sme)?\b[^.:?!\n]{0,30}[.:?!]+\s+
    | i(?:\swould|'d)\s(?:really\s)?(?:be\s(?:so\s|very\s)?grateful|appreciate)\b
        [^.:?!\n]{0,60}(?:[.:?!]+\s+|\sif\syou\scould\s)
    | i\s(?:have|had|ve\sgot)\sa\s(?:quick\s|small\s|short\s)?question\b[^.:?!\n]{0,30}[.:?!]+\s+
    | i\s(?:need|want|would\slike)\s(?:some\s|your\s)?help\b[^.:?!\n]{0,40}[.:?!]+\s+
    | (?:just\s(?:a\s)?)?(?:quick|one)\s(?:question|one|thing)[\s,.:]+
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_END = " \t\r\n.!…。！"  # signs at the end of a request that say nothing of it; a question mark does
_AFTER = re.compile(
    r"""(?:^|[\s,.!?]+)
    (?:please(?:\sand\sthank\syou)?|(?:many\s)?thanks|thank\syou|thx|cheers|danke|vielen\sdank|merci|gracias|grazie
    |obrigad[oa])
    (?:\s(?:a\slot|so\smuch|very\smuch|in\sadvance|again|for\s(?:your|the|any)\shelp|im\svoraus))*[\s.!:)]*$""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class RequestText:
    """The request's own words, and the lines of material by kind."""

    text: str
    code: int = 0
    traceback: int = 0
    table: int = 0
    quote: int = 0

    @property
    def lines(self) -> tuple[int, int, int, int]:
        """The lines of code, tracebacks, tables and quotes."""
        return self.code, self.traceback, self.table, self.quote


def bare(prompt: str) -> str:
    """Return a prompt without greetings, polite preambles, thanks and final stops.

    Where no two words would be left, all of it is returned.
    """
    start = 0
    while match := _BEFORE.match(prompt, start):
        start = match.end()
    rest = prompt[start:]
    # Only the end can match: a long prompt is not searched.
    tail = rest[-80:]
    if match := _AFTER.search(tail):
        rest = rest[: len(rest) - len(tail) + match.start()] + ("?" if "?" in match[0] else "")
    rest = rest.rstrip(_END)
    return rest if len(rest.split()) > 1 else prompt


def request_of(prompt: str) -> RequestText:
    """Split a prompt. Where nothing but material is found, all of it is the request."""
    prompt = prompt.strip()
    if "\n" not in prompt:
        return RequestText(shorten(prompt))
    counts = {"code": 0, "traceback": 0, "table": 0, "quote": 0}
    request: list[str] = []
    fence = ""
    for line in shorten(prompt, _LONGEST * 4).split("\n"):
        kind = _kind(line, fence)
        if mark := _FENCE.match(line):
            fence = "" if fence else mark[1]
        if kind:
            counts[kind] += 1
        else:
            request.append(line)
    text = "\n".join(request).strip()
    return RequestText(shorten(text or prompt), **counts)


def _kind(line: str, fence: str) -> str:
    if fence or _FENCE.match(line):
        return "code"
    if _TRACEBACK.match(line):
        return "traceback"
    if _QUOTE.match(line):
        return "quote"
    if line.startswith(("    ", "\t")) or _CODE.match(line):
        return "code"
    # A sentence with commas is not a table: those end like sentences.
    if _TABLE.match(line) and not line.rstrip().endswith((".", "?", "!", ":")):
        return "table"
    return ""


def has_choices(prompt: str) -> bool:
    """Tell whether a prompt is a multiple-choice question: three lines or more begin with a letter from A to D."""
    return len(_CHOICE.findall(shorten(prompt))) > 2


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Return a string's beginning and end where it is too long to be read whole."""
    return text if len(text) <= longest else f"{text[: longest // 2]}\n{text[-longest // 2 :]}"
