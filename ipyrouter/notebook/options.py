"""The options of the magics: one table that parsing, help and completion share."""

from __future__ import annotations

import difflib
import keyword
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ipyrouter.config import as_tier
from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.notebook.formats import FORMATS
from ipyrouter.text import tags
from ipyrouter.types import EFFORTS, TIERS, Effort, Status, TierName

_TOKEN = re.compile(r"""\s*((?:[^\s"']+|"(?:\\.|[^"\\])*"|'[^']*')+|["'].*)""")
_NAMES = re.compile(r"""\s*([^\s,"']+(?:\s*,\s*[^\s,"']+)*),?(?=\s|$)""")  # df, d
# As word processors, chats and web pages write them.
_DASHES = "‐‑‒–—―−﹘﹣－"
_PLAIN_DASHES = str.maketrans(dict.fromkeys(_DASHES, "-"))
_QUOTATION = re.compile(r"""\s*(?:“([^”]*)”|„([^“”]*)[“”]|‘([^’]*)’|«([^»]*)»)(?=\s|$)""")
DELIVERIES = ("live", "flex", "batch")
_QUOTES = "“”„‘’«»"


def _positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise UsageError(f"{text!r} is not a valid number of tokens.", "Write a whole number above 0.")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 6 or int(text) == 0:
        raise UsageError(f"{text!r} is not a valid number.", "Write a whole number from 1 to 999,999.")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a valid number.", "Write it as 0.7.") from None


def _tier(text: str) -> str:
    return text if text in ("each", "pilot") else as_tier(text)


def _delivery(text: str) -> str:
    if text not in DELIVERIES:
        raise UsageError(f"Unknown delivery {text!r}.", did_you_mean(text, DELIVERIES))
    return text


def _dollars(text: str) -> str:
    if _number(text) < 0:
        raise UsageError(f"{text!r} is not a valid number of dollars.", "Write it as 2.5.")
    return text


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise UsageError(f"{text!r} is not a valid name for a variable.", "Use letters, digits and underscores.")
    return text


def _format(text: str) -> str:
    if text not in FORMATS:
        raise UsageError(f"Unknown format {text!r}.", did_you_mean(text, FORMATS))
    return text


def _effort(text: str) -> str:
    if text not in EFFORTS:
        raise UsageError(f"Unknown effort {text!r}.", did_you_mean(text, EFFORTS))
    return text


def _tag(text: str) -> str:
    if not tags.is_tag(text):
        raise UsageError(f"{text!r} is not a valid tag.", f"Use {tags.RULE}.")
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
    repeats: bool = False  # given again, the values add up

    @property
    def dest(self) -> str:
        """The field of the parsed line that holds the value: the option's name, with "_" behind Python's own words."""
        name = self.names[-1].lstrip("-").replace("-", "_")
        return f"{name}_" if keyword.iskeyword(name) else name

    @property
    def head(self) -> str:
        """The names, and what follows them."""
        return ", ".join(self.names) + (f" {self.metavar}" if self.metavar else "")


HELP = Option(("-h", "--help"), "show this help")
ROUTE: tuple[Option, ...] = (
    Option(("-t", "--tier"), "use this tier: fast, mid or power (with --map also each or pilot)", "TIER", _tier, TIERS),
    Option(("-m", "--model"), "use this model: provider/model, or a name that tells its provider", "MODEL"),
    Option(("-s", "--system"), "the system prompt; quote it", "TEXT"),
    Option(("-o", "--out"), "put the answer into this variable", "NAME", _variable),
    Option(("-f", "--format"), f"how to show it: {', '.join(FORMATS)}", "FORMAT", _format, tuple(FORMATS)),
    Option(("--schema",), "answer with an object of this class of yours, or of this dict's form", "NAME"),
    Option(("-c", "--continue"), "go on from the previous answer"),
    Option(("--chat",), "go on in the conversation of this name; the first prompt begins it", "NAME", _name),
    Option(("--with",), "send these variables along, bounded: tables, functions, figures, values", "NAMES", many=True),
    Option(("--rows",), "so many rows of each table that is sent along (default: 5)", "N", _count),
    Option(("--columns",), "these columns of each table that is sent along", "NAMES", many=True),
    Option(("--file",), "send this file along, bounded: text, code, table, picture or PDF", "PATH", repeats=True),
    Option(("--cells",), "send these cells along with their text outputs: 3-5, or 1,3-5", "NUMBERS", many=True),
    Option(("--above",), "send the last N cells that ran along", "N", _count),
    Option(("--error",), "send the last traceback along, without keys and home paths"),
    Option(("--map",), "ask this of every row of a list, Series or frame: {{column}} in the prompt", "NAME"),
    Option(("--pilot",), "ask only N rows, and say what all will cost; with -t pilot, compare N rows", "N", _count),
    Option(
        ("--delivery",),
        "of a run over rows: live, or for half the price flex (slower) or batch (within a day)",
        "HOW",
        _delivery,
        DELIVERIES,
    ),
    Option(("--budget",), "dollars that a run over rows may spend", "DOLLARS", _dollars),
    Option(("--max-tokens",), "at most so many output tokens", "N", _positive),
    Option(("--temperature",), "sampling temperature, sent only when given", "T", _number),
    Option(("--effort",), f"how much the model thinks: {', '.join(EFFORTS)}", "EFFORT", _effort, EFFORTS),
    Option(("--show-thinking",), "show a summary of what the model thinks, folded, where its provider has one"),
    Option(("--tag",), "a word in the log under which reports sum up, such as project-x", "TAG", _tag, repeats=True),
    Option(("--refresh",), "call again and replace the cached answer"),
    Option(("--no-cache",), "neither read nor write the cache"),
    Option(("--no-escalate",), "keep a weak answer instead of asking a tier up"),
    Option(("--raw",), "insert no variables: {{name}} means itself"),
    Option(("--yes",), "send a very large prompt, or an expensive run, without asking"),
    Option(("-n", "--dry-run"), "send nothing; show to whom it would go, for how much, and all that would be sent"),
    Option(("-q", "--quiet"), "show nothing; the answer is in _ (and in -o NAME)"),
    HELP,
)


USAGE = "%%route [options], the prompt below    %route [options] PROMPT"
_ABOUT = """Send a prompt to the cheapest model that can answer it.

The prompt goes out as it is typed, but for {{name}}, which inserts a variable. `_` holds the Answer; with
--schema and with --format json, the Python object."""
EXAMPLES = """%%route
What is the difference between a list and a tuple?

%%route -t power -s "You are a statistician." -o review
Review this analysis: {{notes}}

%%route --continue
Say it in one sentence.

%%route --with sales --format code
Plot revenue by month.

%%route --schema Review -o review
Is this a good or a bad review? {{text}}

%%route --map reviews --schema Review -o labels
Is this a good or a bad review? {{text}}

%%route --with fig
What stands out in this plot?

%%route --error
What went wrong, and how do I fix it?

cities = %route -f json The three largest cities of France as a JSON list
%route -n Draw up a migration plan from pandas 1 to pandas 3"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedLine:
    """A magic's line: its options, each in a field of its own name, and the rest, verbatim."""

    rest: str
    help: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLine(ParsedLine):
    """A line of `%route` or `%%route`: a field for each option of ROUTE."""

    tier: TierName | Literal["each", "pilot"] | None = None
    model: str | None = None
    system: str | None = None
    out: str | None = None
    format: str | None = None
    schema: str | None = None
    continue_: bool = False
    chat: str | None = None
    with_: str | None = None
    rows: int | None = None
    columns: str | None = None
    file: tuple[str, ...] = ()
    cells: str | None = None
    above: int | None = None
    error: bool = False
    map: str | None = None
    pilot: int | None = None
    delivery: Literal["live", "flex", "batch"] = "live"
    budget: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    effort: Effort | None = None
    show_thinking: bool = False
    tag: tuple[str, ...] = ()
    refresh: bool = False
    no_cache: bool = False
    no_escalate: bool = False
    raw: bool = False
    yes: bool = False
    dry_run: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterLine(ParsedLine):
    """A line of `%router`, behind the subcommand: a field for each option that any subcommand has."""

    week: bool = False
    month: bool = False
    all: bool = False
    since: str | None = None
    until: str | None = None
    tier: TierName | None = None
    model: str | None = None
    status: Status | None = None
    user: str | None = None
    team: str | None = None
    tag: str | None = None
    by: str | None = None
    before: str | None = None
    content: bool = False
    no_content: bool = False
    reset: bool = False


P = TypeVar("P", bound=ParsedLine)


def parse(line: str, options: Sequence[Option], kind: type[P]) -> P:
    """Read a line whose options stand in front.

    Args:
        line: What follows the magic's name.
        options: Those that may stand there.
        kind: The class of the parsed line.

    Returns:
        The options' values; what follows them, or "--", is the rest, untouched.

    Raises:
        UsageError: For an unknown option, a missing value or one of the wrong type.
    """
    values, rest = _read(line, options)
    return kind(rest=rest, **values)


def parse_around(line: str, options: Sequence[Option], kind: type[P]) -> P:
    """Read a line whose options stand in front of the words or behind them; a file's name may stand in quotes.

    Args:
        line: What follows the magic's name and subcommand.
        options: Those that may stand there.
        kind: The class of the parsed line.

    Raises:
        UsageError: As :func:`parse` does.
    """
    values, rest = _read(line, options)
    words, dash, tail = rest.partition(" -")
    if not dash or words.startswith(("'", '"')):
        return kind(rest=rest, **values)
    behind, rest = _read(f"-{tail}", options)
    return kind(rest=f"{words.strip()} {rest}".strip(), **{**values, **behind})


def _read(line: str, options: Sequence[Option]) -> tuple[dict[str, Any], str]:
    """Return the values by the fields that hold them, and the rest of the line."""
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
        if option.repeats:
            value = (*values.get(option.dest, ()), value)
        values[option.dest] = f"{values[option.dest]},{value}" if option.many and option.dest in values else value
    return values, line[position:].strip()


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
    if quoted := _QUOTATION.match(line, position):
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
    width = max((len(option.head) for option in options), default=0)
    return "\n".join([usage, "", *(f"  {option.head:<{width}}  {option.help}" for option in options)])


def route_help() -> str:
    """Return the help of `%route` and `%%route`."""
    examples = textwrap.indent(EXAMPLES, "  ")
    return f"{_ABOUT}\n\n{help_text(USAGE, ROUTE)}\n\nExamples:\n{examples}"
