"""The magics' reference: `python -m ipyrouter.notebook.reference > docs/reference/magics.md`."""

from __future__ import annotations

from collections.abc import Sequence

from ipyrouter.notebook.commands import COMMANDS
from ipyrouter.notebook.formats import FORMATS
from ipyrouter.notebook.options import EXAMPLES, HELP, ROUTE, USAGE, Option

_HEAD = """# Magics

<!-- Generated: python -m ipyrouter.notebook.reference > docs/reference/magics.md -->

`%load_ext ipyrouter` brings `%%route`, `%route` and `%router`. Tab completes options, tiers, models, subcommands and
variables; `%route --help`, `%router --help` and `%router SUBCOMMAND --help` print what stands here.
"""
_INSERTION = """The prompt goes out exactly as it is typed, braces, dollars and percent signs included; only `{{name}}`,
a plain variable name, is replaced. `{{df.head()}}` is an error that says what to do instead. Inside a function its own
variables come first, as in Python."""


def reference() -> str:
    """Return the reference of all magics, their options and subcommands as Markdown."""
    lines = [_HEAD, "## `%%route` and `%route`", "", "```text", USAGE, "```", "", _INSERTION, ""]
    lines += [*_options(ROUTE), "", "### Formats", "", "| `-f` | how an answer is shown |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in FORMATS.items()]
    lines += ["", "### Examples", "", "```text", EXAMPLES, "```", "", "## `%router`"]
    for command in COMMANDS.values():
        lines += ["", f"### `%router {command.usage}`", "", f"{command.help[0].upper()}{command.help[1:]}."]
        if command.options:
            lines += ["", *_options(command.options)]
    return "\n".join([*lines, ""])


def _options(options: Sequence[Option]) -> list[str]:
    rows = [f"| `{option.head}` | {option.help} |" for option in options if option is not HELP]
    return ["| option | meaning |", "|---|---|", *rows]


if __name__ == "__main__":
    print(reference(), end="")
