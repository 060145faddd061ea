"""The settings' reference: `python -m ipyrouter.config.reference > docs/reference/settings.md`."""

from __future__ import annotations

from typing import Any

from ipyrouter.config.layers import default
from ipyrouter.config.model import Config
from ipyrouter.config.rules import settings

_HEAD = """# Settings

<!-- Generated: python -m ipyrouter.config.reference > docs/reference/settings.md -->

Settings come from these places, later ones win: the preset's chains; the config file for all users of the machine;
your own `config.toml` (`ipyrouter doctor` names it); the project's `ipyrouter.toml`, in the working folder or above it,
up to the root of the git repository or to your home folder; `IPYROUTER_*` variables; arguments of `Router`;
`%config IPyRouter` in a notebook. `%router config` shows each value and where it came from.

- A file counts if it is a regular one of at most 1 MB. A project's file must be your own, unless your `trust.projects`
  names its folder; the one for all users may also belong to root. `%router config` and `ipyrouter doctor` name each
  file that is ignored, and why.
- A variable's name is `IPYROUTER_` and the setting in capitals, with `__` for each dot: `IPYROUTER_BUDGET__DAY=1`.
- `IPYROUTER_HOME` moves your config file and the database into one folder.
- "Project" says what a project's file may set. One whose folder stands in your own `trust.projects` may set everything
  else as well, but for what says "never".
- `<…>` stands for a name of your choice, in quotes where it holds more than letters, digits, `-` and `_`; `<tier>` for
  fast, mid or power. Where no default stands, nothing is set; of tiers, the preset decides.
"""
_PROJECT = {
    "free": "yes: {}",
    "lower": "only a lower value",
    "block": 'only "block"',
    "never": "no: {}",
    "own": "never: {}",
}


def reference(cls: type[Any] = Config) -> str:
    """Return the reference of all settings of a class as Markdown, one table for each table of the TOML."""
    lines = [_HEAD.rstrip()]
    heading = None
    for key, setting in settings(cls):
        table, _, name = key.rpartition(".")
        if table != heading:
            title = f"`[{table}]`" if table else "At the top"
            lines += ["", f"## {title}", "", "| setting | meaning | values | default | project | `%config` |"]
            lines += ["|---|---|---|---|---|---|"]
            heading = table
        cells = (
            f"`{name}`",
            setting.help,
            setting.check.words,
            _default(key),
            _PROJECT[setting.project].format(setting.why),
            f"`IPyRouter.{setting.trait}`" if setting.trait else "",
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])


def _default(key: str) -> str:
    """Return a setting's default as the TOML has it; names of the user's own have none."""
    try:
        value = default(key)
    except KeyError:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


if __name__ == "__main__":
    print(reference(), end="")
