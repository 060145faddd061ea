"""The subcommands of `%router`: each takes the router and the rest of the line, prints or returns something to show."""

from __future__ import annotations

import datetime as dt
import shutil
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipyrouter.config import LOCAL_MODEL, NO_KEY, as_tier
from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.notebook.options import HELP, Option, RouterLine, help_text, parse_around
from ipyrouter.store.base import Feedback, LastCall, LogFilter
from ipyrouter.text.amounts import age, count, seconds, unit_of
from ipyrouter.types import STATUSES, TIERS, Answer

if TYPE_CHECKING:
    import pandas as pd

    from ipyrouter.notebook.prompt.chats import Chats
    from ipyrouter.reporting.report import Report
    from ipyrouter.router import Router


def _status_name(text: str) -> str:
    if text not in STATUSES:
        raise UsageError(f"Unknown status {text!r}.", did_you_mean(text, STATUSES))
    return text


_SPANS = (
    Option(("--week",), "the week of the day, from Monday"),
    Option(("--month",), "the month of the day"),
    Option(("--all",), "the whole log"),
    Option(("--by",), "also by user, team, notebook or tag", "GROUP", choices=("user", "team", "notebook", "tag")),
)
_NO_CONTENT = Option(("--no-content",), "leave prompts and answers out")
_FORGET = (
    Option(("--before",), "all answers before this date (UTC), such as 2026-11-23", "DATE"),
    Option(("--content",), "only prompts and answers, of the whole log by default; costs stay"),
)
_FILTERS = (
    Option(("--since",), "rows from this day or time (UTC) on", "DATE"),
    Option(("--until",), "rows before this day or time", "DATE"),
    Option(("--tier",), "rows of this tier", "TIER", as_tier, TIERS),
    Option(("--model",), "rows of this model, without its provider", "NAME"),
    Option(("--status",), f"rows of this status: {', '.join(STATUSES)}", "STATUS", _status_name, STATUSES),
    Option(("--user",), "rows of this login at the team's store", "NAME"),
    Option(("--team",), "rows of this team's", "NAME"),
    Option(("--tag",), "rows with this tag", "TAG"),
)
_RESET = Option(("--reset",), "forget what was learned")


@dataclass(frozen=True, slots=True)
class Line:
    """One `%router` line: the router, what follows the subcommand, and what it may touch of the notebook."""

    router: Router
    parsed: RouterLine
    namespace: dict[str, Any]
    chats: Chats
    panel: Callable[[], None]

    @property
    def rest(self) -> str:
        """What follows the options."""
        return self.parsed.rest


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: what it runs, its usage and what it is for."""

    run: Callable[[Line], Any]
    usage: str
    help: str
    options: tuple[Option, ...] = ()


def run(
    text: str, router: Callable[[], Router], namespace: dict[str, Any], chats: Chats, panel: Callable[[], None]
) -> Any:
    """Run what stands behind `%router`; ``namespace`` holds the user's variables, ``panel`` shows the panel.

    Raises UsageError with the nearest name for an unknown subcommand.
    """
    name, rest = (*text.split(maxsplit=1), "", "")[:2]
    if name in ("", "-h", "--help", "help"):
        print(overview())
        return None
    if name not in COMMANDS:
        raise UsageError(f"Unknown subcommand {name!r}.", did_you_mean(name, COMMANDS))
    command = COMMANDS[name]
    parsed = parse_around(rest, (*command.options, HELP), RouterLine)
    if parsed.help:
        print(
            help_text(
                f"%router {command.usage}\n{command.help[0].upper()}{command.help[1:]}.", (*command.options, HELP)
            )
        )
        return None
    if parsed.rest and " " not in command.usage:
        raise UsageError(f"%router {name} takes no {parsed.rest[:60]!r}.", f"Write %router {name} alone.")
    return command.run(Line(router(), parsed, namespace, chats, panel))


def overview() -> str:
    """Return the help of `%router`."""
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"  {command.usage:<{width}}  {command.help}" for command in COMMANDS.values()]
    return "\n".join(["%router SUBCOMMAND: costs and state of the router", "", *lines, "", "Each takes --help."])


def _log(line: Line) -> pd.DataFrame:
    rows = 20
    if line.rest:
        if not line.rest.isdecimal() or len(line.rest) > 9:
            raise UsageError(f"{line.rest!r} is not a valid number of rows.", "Write %router log 50.")
        rows = int(line.rest)
    from ipyrouter.notebook.panel.log_table import newest

    return newest(line.router.store, LogFilter(), rows)


def _panel(line: Line) -> None:
    line.panel()


def _report(line: Line) -> Report:
    options = {"week": line.parsed.week, "month": line.parsed.month, "all": line.parsed.all}
    spans = [span for span, is_set in options.items() if is_set]
    if len(spans) > 1:
        raise UsageError("A report has one span.", f"Choose one of --{' and --'.join(spans)}.")
    return line.router.report(line.rest or None, span=spans[0] if spans else "day", by=line.parsed.by)


def _compare(line: Line) -> pd.DataFrame:
    from ipyrouter.notebook.panel.log_table import readable

    frame = line.router.compare()
    print(frame.attrs["sentence"])
    print(_paragraph(frame.attrs["assumption"]))
    costs = list(zip(frame["cost"].fillna(0.0), frame["unpriced"], strict=True))
    unit = unit_of(frame["cost"])
    words = frame.assign(
        cost=[unit.sum(Decimal(str(cost)), unpriced) for cost, unpriced in costs],
        latency=frame["latency"].map(lambda s: seconds(s) if s == s else ""),  # noqa: PLR0124  NaN
    )
    columns = ["cost", *(["unpriced"] if frame["unpriced"].any() else []), "calls", "latency", "model"]
    return readable(
        words[columns], frozenset(("strategy", "model")), dispensable=("latency",), shorten=(("model", 12),)
    )


def _paragraph(text: str) -> str:
    """Return a long text in lines, which front ends would break within words."""
    return textwrap.fill(text, shutil.get_terminal_size().columns)


def _calibrate(line: Line) -> pd.DataFrame:
    frame = line.router.calibrate()
    print(_paragraph(frame.attrs["assumption"]))
    from ipyrouter.notebook.panel.log_table import readable

    shares = {name: frame[name].map("{:.0%}".format) for name in (*TIERS, "of_power", "quality")}
    costs = list(map(unit_of(frame["cost"]).words, frame["cost"]))
    return readable(frame.assign(cost=costs, **shares), frozenset(("dial",)), dispensable=("of_power",))


def _models(line: Line) -> pd.DataFrame:
    import pandas as pd

    from ipyrouter.providers.discovery import local_servers
    from ipyrouter.routing.planner import today

    config, pricing = line.router.config, line.router.pricing
    cooling = {name: reason for name, reason, _ in line.router.status()}
    calls = {f"{last.provider}/{last.model}": last for last in line.router.store.last_calls()}
    rows = []
    for tier in TIERS:
        for place, candidate in enumerate(config.tiers[tier].chain, 1):
            rates = pricing.rates(candidate)
            retires = config.retired_on(candidate)
            state = cooling.get(str(candidate)) or cooling.get(candidate.provider)
            if state is None and retires is not None and retires <= today():
                state = "retired: skipped"
            rows.append(
                {
                    "tier": tier,
                    "place": place,
                    "model": str(candidate),
                    "state": state or ("ready" if line.router.ready(candidate) else "no key"),
                    "input $/M": _rate(rates.get("input")),
                    "output $/M": _rate(rates.get("output")),
                    "cached $/M": _rate(rates.get("cached_input")),
                    "price from": pricing.source(candidate),
                    "context": pricing.context_window(candidate),
                    "retires": retires or "",
                    "last seen": _last_call(calls.get(str(candidate))),
                }
            )
    none_ready = config.chains_are_ours and not any(row["state"] == "ready" for row in rows)
    if none_ready and line.router.ready(LOCAL_MODEL):
        print(f"{NO_KEY}; {LOCAL_MODEL} answers in every tier.")
    for server in local_servers(config.providers.values()):
        print(line.router.hide(str(server)))
    from ipyrouter.notebook.panel.log_table import readable

    frame = pd.DataFrame(rows).set_index(["tier", "place"])
    return readable(
        frame,
        frozenset(("tier", "model", "price from", "state", "last seen", "retires")),
        dispensable=("price from", "cached $/M", "context", "retires", "last seen"),
        shorten=(("model", 16), ("state", 12)),
        more="A wider terminal shows all of it.",
    )


def _last_call(last: LastCall | None) -> str:
    from ipyrouter.text.tables import line

    if last is None:
        return "never"
    outcomes = {"error": last.error or "failed", "partial": f"broke off: {last.error}", "interrupted": "stopped"}
    ago = (dt.datetime.now(dt.UTC) - last.time).total_seconds()
    return f"{line(outcomes.get(last.status, 'answered'), 80)}, {age(ago)} ago"


def _rate(rate: Any) -> float | None:
    return None if rate is None else float(rate)


def _config(line: Line) -> pd.DataFrame:
    import pandas as pd

    config = line.router.config
    for warning in (*config.warnings, *config.ignored_files, *line.router.pricing.unpriced()):
        print(line.router.hide(warning))
    from ipyrouter.notebook.panel.log_table import readable

    origins = {key: config.origins.get(key, "default") for key in config.values}
    differing = sum(origin != "default" for origin in origins.values())
    print(f"{count(differing, 'setting')} not at the default." if differing else "Every setting is at its default.")
    rows = []
    for key in sorted(config.values, key=lambda key: (origins[key] == "default", key)):
        text = _text_of(config.values[key])
        # A default holds no secret, and looking for some takes a millisecond or two.
        rows.append((key, origins[key], text if origins[key] == "default" else line.router.hide(text)))
    # A value may be longer than its place is wide: it comes last.
    frame = pd.DataFrame(rows, columns=["setting", "from", "value"]).set_index("setting")
    return readable(frame, frozenset(("setting", "value", "from")), shorten=(("value", 20),))


def _text_of(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _status(line: Line) -> None:
    health = line.router.store.health()
    print(f"session {line.router.session.id}; database {health.path}{'' if health.ok else f': {health.detail}'}")
    for entry in line.router.guard().standing():
        print(f"  {entry}")
    entries = line.router.status()
    for name, reason, left in entries:
        print(f"  {name}: {'off for the session' if left is None else f'cooling down for {seconds(left)}'}: {reason}")
    if not entries:
        print("  no model is cooling down; all is well")


def _reset(line: Line) -> None:
    if line.rest:
        print(f"Forgot {count(line.chats.forget(line.rest), 'turn')} of the chat {line.rest}. The log stays.")
        return
    line.chats.forget()
    line.router.reset()
    print(f"New session {line.router.session.id}: faults and conversations are forgotten. Log and cache stay.")


def _clear_cache(line: Line) -> None:
    print(f"Forgot {count(line.router.store.clear_cache(), 'cached answer')}. The log stays.")


def _feedback(line: Line, verdict: Feedback) -> None:
    answer = None
    if line.rest:
        answer = line.namespace.get(line.rest)
        if not isinstance(answer, Answer):
            raise UsageError(
                f"{line.rest!r} is not a variable that holds an answer.", "Use -o NAME or answer = %route … first."
            )
    if not line.router.feedback(verdict, answer):
        raise UsageError("That answer is not in the log.", "Was it given before the log was deleted?")
    print(noted(line.router, verdict))


def noted(router: Router, verdict: Feedback) -> str:
    """Return what is said of a verdict that is in the log."""
    useless = "" if router.config.log_content else " The log keeps no prompts, so %router learn cannot use it."
    return f"Noted: {verdict}.{useless}"


def _good(line: Line) -> None:
    _feedback(line, "good")


def _bad(line: Line) -> None:
    _feedback(line, "bad")


def _learn(line: Line) -> None:
    line.router.learn(reset=line.parsed.reset)


def _export(line: Line) -> None:
    if not line.rest:
        raise UsageError("%router export needs a file.", "Write %router export costs.csv (or .json, .parquet).")
    path = _path(line)
    from ipyrouter.reporting.log import frames, moment

    options = line.parsed
    log_filter = LogFilter(
        moment(options.since), moment(options.until), tier=options.tier, model=options.model, status=options.status,
        user=options.user, team=options.team, tag=options.tag,
    )  # fmt: skip
    parts = frames(line.router.store, log_filter, content=not options.no_content)
    print(f"Wrote {count(export(parts, path), 'row')} to {path}")


def _forget(line: Line) -> None:
    before, content = line.parsed.before, line.parsed.content
    if not line.rest and before is None and not content:
        raise UsageError(
            "%router forget needs to know what.", "Write %router forget ANSWER, --before 2026-11-23 or --content."
        )
    if len(line.rest.split()) > 1:
        raise UsageError("%router forget takes one answer.", "Write %router forget --content ANSWER.")
    answer = line.namespace.get(line.rest)
    target = answer if isinstance(answer, Answer) else line.rest or None
    number = line.router.forget(target, before=before, content=content)
    what = f"the texts of {count(number, 'answer')}; their costs stay" if content else count(number, "answer")
    if line.router.config.store_url is not None:
        print(f"Forgot {what}. The server's files lose the bytes with its next vacuum.")
        return
    print(f"Forgot {what}. Log, cache and their files hold no byte of it.")
    path = Path(line.router.store.health().path)
    copies = sorted(file.name for file in path.parent.glob(f"{path.name}.corrupt-*"))
    if copies:
        print(f"Damaged copies of the database may still hold it: delete {', '.join(copies)} in {path.parent}.")


def _path(line: Line) -> Path:
    try:
        return Path(line.rest.strip("\"'")).expanduser()
    except RuntimeError:
        raise UsageError(f"{line.rest}: there is no such home folder.", "Write the whole path.") from None


def _rebuild_log(line: Line) -> None:
    from ipyrouter.reporting.rebuild import records

    if not line.rest:
        raise UsageError("%router rebuild-log needs a notebook.", "Write %router rebuild-log FILE.ipynb.")
    path = _path(line)
    rows = records(path, line.router.session)
    added = line.router.store.restore(rows)
    print(f"{count(len(rows), 'answer')} in {path}, {added:,} of them new to the log (costs only, no texts).")


def export(log: pd.DataFrame | Iterable[pd.DataFrame], path: Path) -> int:
    """Write the log to a file.

    Args:
        log: The log, whole or in parts.
        path: The file; its ending is .csv, .json or .parquet.

    Returns:
        The number of rows.

    Raises:
        UsageError: The format is unknown, or the file cannot be written.
    """
    import pandas as pd

    from ipyrouter.reporting.export import WRITERS, write

    if path.suffix.lower() not in WRITERS:
        what = f"Unknown format {path.suffix!r}." if path.suffix else f"{path} has no ending that tells the format."
        raise UsageError(what, f"Known: {', '.join(WRITERS)}.")
    try:
        return write([log] if isinstance(log, pd.DataFrame) else log, path)
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow.", "Install it: pip install pyarrow. Or export to .csv or .json."
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.", "Choose another place.") from None


COMMANDS: dict[str, Command] = {
    "panel": Command(_panel, "panel", "live costs: totals, charts, the log to filter, sort, look into and export"),
    "log": Command(_log, "log [N]", "the newest N rows of the cost log (20); all of it: ipyrouter.cost_log()"),
    "report": Command(_report, "report [DAY]", "what a day (default: today, UTC), week or month cost, by tier", _SPANS),
    "compare": Command(
        _compare, "compare", "what you paid against what other strategies would have cost for the same log"
    ),
    "calibrate": Command(
        _calibrate, "calibrate", "shares, cost and expected quality of your own prompts at other settings of the dial"
    ),
    "models": Command(_models, "models", "tiers, chains, prices, limits and state"),
    "config": Command(_config, "config", "every setting and where it came from; what differs from the defaults first"),
    "status": Command(_status, "status", "which models are cooling down after faults, for how long and why"),
    "reset": Command(_reset, "reset [CHAT]", "begin a new session, or forget one conversation"),
    "clear-cache": Command(_clear_cache, "clear-cache", "forget all cached answers"),
    "good": Command(_good, "good [ANSWER]", "mark the last answer (or that variable's) as good; %router learn uses it"),
    "bad": Command(_bad, "bad [ANSWER]", "mark the last answer (or that variable's) as bad"),
    "learn": Command(_learn, "learn", "fit the classifier to your own log, on top of the shipped weights", (_RESET,)),
    "export": Command(
        _export,
        "export FILE",
        "write the log, or some of its rows, to a .csv, .json or .parquet file",
        (*_FILTERS, _NO_CONTENT),
    ),
    "forget": Command(_forget, "forget [ANSWER]", "delete answers from log and cache, or only their texts", _FORGET),
    "rebuild-log": Command(
        _rebuild_log, "rebuild-log FILE.ipynb", "put the costs that a saved notebook keeps back into the log"
    ),
}
