"""Tab: options, tiers, models, subcommands, conversations, and variables after `{{`.

IPython's own completion of `--<TAB>` in a magic's line is of no use, so a matcher of ours comes first and, where it
knows something, alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from ipyrouter.errors import IPyRouterError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ipyrouter.notebook.options import Option

_PLACE = re.compile(r"\{\{\s*(\w*)$")
_LINE = re.compile(r"(?:^|[=;:])\s*%(route|router)\s(.*)$")
_CELL = re.compile(r"^%%route(\s|$)")


@dataclass(frozen=True)
class Vocabulary:
    """Where the names come from that are not fixed; asked only when needed."""

    variables: Callable[[], Iterable[str]]
    models: Callable[[], Iterable[str]]
    chats: Callable[[], Iterable[str]]


def suggest(before: str, first_line: str, *, in_body: bool, vocabulary: Vocabulary) -> tuple[str, list[str]]:
    """Return the fragment that is being typed and what it may become.

    ``before`` is the cursor's line up to the cursor, ``first_line`` the cell's first line; ``in_body`` tells whether
    the cursor stands below it.
    """
    cell = _CELL.match(first_line)
    line = _LINE.search(before)
    if (cell or line) and (place := _PLACE.search(before)):
        return place[1], _starting(place[1], vocabulary.variables())
    if cell and not in_body:
        return _route(before[len("%%route") :], vocabulary)
    if line and line[1] == "route":
        return _route(line[2], vocabulary)
    if line:
        return _router(line[2], vocabulary)
    return "", []


def _route(text: str, vocabulary: Vocabulary) -> tuple[str, list[str]]:
    from ipyrouter.notebook.options import ROUTE

    return _options(text, ROUTE, vocabulary)


def _router(text: str, vocabulary: Vocabulary) -> tuple[str, list[str]]:
    from ipyrouter.notebook.commands import COMMANDS

    name, space, rest = text.lstrip().partition(" ")
    if not space:
        return name, _starting(name, COMMANDS)
    if name not in COMMANDS:
        return "", []
    if not rest.lstrip().startswith("-"):
        names = {"reset": vocabulary.chats, "good": vocabulary.variables, "bad": vocabulary.variables}.get(name)
        return rest.lstrip(), _starting(rest.lstrip(), names()) if names else []
    return _options(rest, COMMANDS[name].options, vocabulary)


def _options(text: str, options: Sequence[Option], vocabulary: Vocabulary) -> tuple[str, list[str]]:
    """Return what may follow the options that stand there already; nothing once the prompt has begun."""
    table = {name: option for option in options for name in option.names}
    words = text.split()
    fragment = "" if not words or text[-1].isspace() else words.pop()
    awaited: Option | None = None
    for word in words:
        if awaited is not None:
            awaited = None
            continue
        name, equals, _ = word.partition("=")
        if name not in table:
            return "", []
        awaited = table[name] if table[name].metavar and not equals else None
    if awaited is None and fragment.startswith("--") and "=" in fragment:
        name, _, fragment = fragment.partition("=")
        awaited = table.get(name)
    if awaited is None:
        return fragment, _starting(fragment, table) if fragment.startswith("-") or not fragment else []
    if awaited.dest == "with_":
        fragment = fragment.rpartition(",")[2]
    return fragment, _starting(fragment, _values(awaited, vocabulary))


def _values(option: Option, vocabulary: Vocabulary) -> Iterable[str]:
    if option.choices:
        return option.choices
    sources = {
        "model": vocabulary.models,
        "chat": vocabulary.chats,
        "with_": vocabulary.variables,
        "out": vocabulary.variables,
        "schema": vocabulary.variables,
    }
    source = sources.get(option.dest)
    return source() if source else ()


def _starting(fragment: str, names: Iterable[str]) -> list[str]:
    """Return the names that begin with the fragment, in front of or behind the slash of provider/model."""
    return [name for name in dict.fromkeys(names) if name.startswith(fragment) or (f"/{fragment}" in name and fragment)]


def install(shell: InteractiveShell, chats: Callable[[], Iterable[str]]) -> Any:
    """Put the matcher before IPython's own and return it, for :func:`remove`."""

    def variables() -> list[str]:
        hidden = shell.user_ns_hidden
        names = (name for name in shell.user_ns if isinstance(name, str))  # globals() takes anything
        return sorted(name for name in names if not name.startswith("_") and name not in hidden)

    def models() -> list[str]:
        import ipyrouter
        from ipyrouter.config import LOCAL_MODEL

        config = ipyrouter.default_router().config
        chains = {str(candidate) for tier in config.tiers.values() for candidate in tier.chain}
        services = {f"{name}/" for name, provider in config.providers.items() if provider.key and provider.has_key()}
        return sorted(chains | services | {str(LOCAL_MODEL)})

    vocabulary = Vocabulary(variables, models, chats)

    @context_matcher(identifier="ipyrouter", priority=100)  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        try:
            fragment, names = suggest(
                context.text_until_cursor,
                context.full_text.partition("\n")[0],
                in_body=context.cursor_line > 0,
                vocabulary=vocabulary,
            )
        except IPyRouterError:  # a config that is broken: the next cell says so, Tab prints no traceback
            fragment, names = "", []
        return SimpleMatcherResult(
            completions=[SimpleCompletion(name, type="magic") for name in names],
            matched_fragment=fragment,
            suppress=bool(names),
            ordered=True,
        )

    shell.Completer.custom_matchers.append(matcher)
    return matcher


def remove(shell: InteractiveShell, matcher: Any) -> None:
    """Take the matcher away again."""
    matchers = shell.Completer.custom_matchers
    if matcher in matchers:
        matchers.remove(matcher)
