"""The options of the magics: one table that parsing, help and completion share."""

from __future__ import annotations

import difflib
import keyword
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipyrouter.config import as_tier
from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.notebook.formats import FORMATS
from ipyrouter.types import TIERS

_TOKEN = re.compile(r"""\s*((?:[^\s"']+|"(?:\\.|[^"\\])*"|'[^']*')+|["'].*)""")
_NAMES = re.compile(r"""\s*([^\s,"']+(?:\s*,\s*[^\s,"']+)*),?(?=\s|$)""")  # df, d
# As word processors, chats and web pages write them.
_DASHES = "‐‑‒–—―−﹘﹣－"
_PLAIN_DASHES = str.maketrans(dict.fromkeys(_DASHES, "-"))
_QUOTED = re.compile(r"""\s*(?:“([^”]*)”|„([^“”]*)[“”]|‘([^’]*)’|«([^»]*)»)(?=\s|$)""")
_QUOTES = "“”„‘’«»"


def _positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise UsageError(f"{text!r} is no number of tokens.", "Write a whole number above 0.")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is no number.", "Write it as 0.7.") from None


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise UsageError(f"{text!r} is no name for a variable.", "Use letters, digits and underscores.")
    return text


def _format(text: str) -> str:
    if text not in FORMATS:
        raise UsageError(f"Unknown format {text!r}.", did_you_mean(text, FORMATS))
    return text


def _name(text: str) -> str:
    if not text.strip():
        raise UsageError("A conversation needs a name.", "Write --chat NAME, or --continue for the latest one.")
    return text


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a magic. Without ``metavar`` it is a switch."""

    names: tuple[str, ...]
    help: str
    metavar: str = ""
    convert: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    many: bool = False  # names with commas between them; given again, they add up

    @property
    def dest(self) -> str:
        """The name under which the parsed value is found."""
        return self.names[-1].lstrip("-").replace("-", "_")


HELP = Option(("-h", "--help"), "show this help")
ROUTE: tuple[Option, ...] = (
    Option(("-t", "--tier"), "use this tier: fast, mid or power", "TIER", as_tier, TIERS),
    Option(("-m", "--model"), "use this model: provider/model, or a name that tells its provider", "MODEL"),
    Option(("-s", "--system"), "the system prompt; quote it", "TEXT"),
    Option(("-o", "--out"), "put the answer into this variable", "NAME", _variable),
    Option(("-f", "--format"), f"how to show it: {', '.join(FORMATS)}", "FORMAT", _format, FORMATS),
    Option(("-c", "--continue"), "go on from the previous answer"),
    Option(("--chat",), "go on in the conversation of this name; the first prompt begins it", "NAME", _name),
    Option(("--with",), "send these variables along, bounded: tables, functions, figures, values", "NAMES", many=True),
    Option(("--error",), "send the last traceback along, without keys and home paths"),
    Option(("--max-tokens",), "at most so many output tokens", "N", _positive),
    Option(("--temperature",), "sampling temperature, sent only when given", "T", _number),
    Option(("--refresh",), "ask anew and replace what is cached"),
    Option(("--no-cache",), "neither read nor write the cache"),
    Option(("--no-escalate",), "keep a weak answer instead of asking a tier up"),
    Option(("--raw",), "insert no variables: {{name}} means itself"),
    Option(("--yes",), "send a very large prompt without asking"),
    Option(("-n", "--dry-run"), "send nothing; show tier, reasons, model, cost range, cache and key"),
    Option(("-q", "--quiet"), "show nothing; the answer is in _ (and in -o NAME)"),
    HELP,
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The values by option, and the rest of the line, verbatim."""

    values: dict[str, Any]
    rest: str

    def __getattr__(self, name: str) -> Any:
        return self.values.get(name)


def parse(line: str, options: Sequence[Option]) -> Parsed:
    """Read the options in front of a line; what follows them, or "--", is the rest, untouched.

    Raises:
        UsageError: For an unknown option, a missing value or one of the wrong type.
    """
    table = {name: option for option in options for name in option.names}
    values: dict[str, Any] = {}
    position = 0
    while match := re.compile(rf"\s*([-{_DASHES}]\S*)").match(line, position):
        word = _plain(match[1], table)
        if word == "--":
            position = match.end()
            break
        if word in ("-", None):
            break
        name, equals, attached = word.partition("=")
        option = table.get(name)
        if option is None and not name.startswith("--") and table.get(name[:2]):  # -tfast
            option, equals, attached = table[name[:2]], "=", word[2:]
            name = name[:2]
            if not option.metavar:
                option = None
        if option is None:
            raise UsageError(
                f"Unknown option {match[1]!r}.", f"{_nearest(name, table)} Put -- before a prompt that begins with -."
            )
        if not option.metavar:
            if equals:
                raise UsageError(f"{name} takes no value.", f"Write {name} alone.")
            values[option.dest] = True
            position = match.end()
            continue
        position = match.end() - len(attached) if equals else match.end()
        text, position = _value(line, position, name, option)
        value = option.convert(text)
        values[option.dest] = f"{values[option.dest]},{value}" if option.many and option.dest in values else value
    return Parsed(values, line[position:].strip())


def _plain(word: str, table: Mapping[str, Option]) -> str | None:
    """Return an option with the dashes of a keyboard; None for words that only begin with a dash of another kind."""
    name, equals, attached = word.partition("=")
    letters = name.lstrip(f"-{_DASHES}").translate(_PLAIN_DASHES)
    dashes = name[: len(name) - len(letters)]
    if not any(dash in _DASHES for dash in dashes):
        return f"{dashes}{letters}{equals}{attached}"
    plain = f"{'--' if len(letters) > 1 else '-'}{letters}"
    # A prompt may begin with such a dash, as dialogues do, so that only what is all but an option is one.
    meant = difflib.get_close_matches(plain, table, n=1, cutoff=0.8)
    return f"{plain}{equals}{attached}" if meant else None


def _nearest(name: str, table: Mapping[str, Option]) -> str:
    """Return "Did you mean '--x'?": the option that begins so, or that is shortened so, comes before look-alikes."""
    word = name.strip("-").replace("_", "-").lower()
    shortened = re.compile(".*".join(map(re.escape, word)))
    if len(word) > 1:
        for fits in (lambda long: long.startswith(word), shortened.match):
            near = [known for known in table if known.startswith("--") and fits(known[2:])]
            if near:
                return f"Did you mean {near[0]!r}?"
    return did_you_mean(name, table)


def _value(line: str, position: int, name: str, option: Option) -> tuple[str, int]:
    if option.many and (names := _NAMES.match(line, position)):
        return names[1], names.end()
    if quoted := _QUOTED.match(line, position):
        return next(text for text in quoted.groups() if text is not None), quoted.end()
    match = _TOKEN.match(line, position)
    if match is None:
        raise UsageError(f"{name} needs a value.", f"Write {name} {option.metavar}.")
    if match[1][0] in _QUOTES:
        raise UsageError(f"The quotes after {name} do not close.", 'Write plain quotes: "…".')
    try:
        return shlex.split(match[1])[0], match.end()
    except ValueError:
        raise UsageError(f"The quotes after {name} do not close.", "Add the closing quote.") from None


def help_text(usage: str, options: Sequence[Option]) -> str:
    """Return the help of a magic."""
    heads = [", ".join(option.names) + (f" {option.metavar}" if option.metavar else "") for option in options]
    width = max(map(len, heads), default=0)
    lines = [f"  {head:<{width}}  {option.help}" for head, option in zip(heads, options, strict=True)]
    return "\n".join([usage, "", *lines])
