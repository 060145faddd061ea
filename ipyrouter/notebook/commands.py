"""The subcommands of `%router`: each takes the router and the rest of the line, prints or returns something to show."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.money import age, count, dollars, seconds
from ipyrouter.notebook.options import HELP, Option, help_text, parse
from ipyrouter.store.base import Feedback, Seen
from ipyrouter.types import TIERS, Answer

if TYPE_CHECKING:
    import pandas as pd

    from ipyrouter.report import Report
    from ipyrouter.router import Router


_SPANS = (
    Option(("--week",), "the week of the day, from Monday"),
    Option(("--month",), "the month of the day"),
    Option(("--all",), "the whole log"),
)
_RESET = Option(("--reset",), "forget what was learned")


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: what it runs, its usage and what it is for."""

    run: Callable[[Router, Any], Any]
    usage: str
    help: str
    options: tuple[Option, ...] = ()


def run(router: Callable[[], Router], line: str, namespace: dict[str, Any]) -> Any:
    """Run a subcommand; ``namespace`` holds the person's variables.

    Raises UsageError with the nearest name for an unknown one.
    """
    name, _, rest = line.strip().partition(" ")
    if name in ("", "-h", "--help", "help"):
        print(overview())
        return None
    if name not in COMMANDS:
        raise UsageError(f"Unknown subcommand {name!r}.", did_you_mean(name, COMMANDS))
    command = COMMANDS[name]
    parsed = parse(rest, (*command.options, HELP))
    if parsed.help:
        print(
            help_text(
                f"%router {command.usage}\n{command.help[0].upper()}{command.help[1:]}.", (*command.options, HELP)
            )
        )
        return None
    parsed.values["namespace"] = namespace
    return command.run(router(), parsed)


def overview() -> str:
    """Return the help of `%router`."""
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"  {command.usage:<{width}}  {command.help}" for command in COMMANDS.values()]
    return "\n".join(["%router SUBCOMMAND: costs and state of the router", "", *lines, "", "Each takes --help."])


def _log(router: Router, parsed: Any) -> pd.DataFrame:
    rows = 20
    if parsed.rest:
        if not parsed.rest.isdecimal():
            raise UsageError(f"{parsed.rest!r} is no number of rows.", "Write %router log 50.")
        rows = int(parsed.rest)
    import pandas as pd

    log = router.log().tail(rows).iloc[::-1]
    return pd.DataFrame(
        {
            "at (UTC)": log["time"].dt.strftime("%m-%d %H:%M:%S"),
            "tier": log["tier"].astype(str),
            "model": log["provider"].astype(str) + "/" + log["model"].astype(str),
            "status": log["status"].astype(str),
            "cost": log["cost"].map(dollars),
            "saved": log["saved"].map(dollars).where(log["saved"].notna(), ""),
            "tokens": log["input_tokens"] + log["output_tokens"],
            "took": log["latency"].map(seconds),
            "prompt": log["prompt"].fillna("").str.replace(r"\s+", " ", regex=True).str.slice(0, 40),
        }
    )


def _report(router: Router, parsed: Any) -> Report:
    spans = [option.dest for option in _SPANS if parsed.values.get(option.dest)]
    if len(spans) > 1:
        raise UsageError("A report has one span.", f"Choose one of --{' and --'.join(spans)}.")
    return router.report(parsed.rest or None, span=spans[0] if spans else "day")


def _compare(router: Router, _: Any) -> pd.DataFrame:
    frame = router.compare()
    print(frame.attrs["assumption"])
    return frame


def _models(router: Router, _: Any) -> pd.DataFrame:
    import pandas as pd

    from ipyrouter.plan import today

    left_alone = {name: reason for name, reason, _ in router.status()}
    seen = {f"{last.provider}/{last.model}": last for last in router.store.last_seen()}
    rows = []
    for tier in TIERS:
        for place, candidate in enumerate(router.config.tiers[tier].chain, 1):
            rates = router.pricing.rates(candidate)
            retires = router.config.retired_on(candidate.model)
            state = left_alone.get(str(candidate)) or left_alone.get(candidate.provider)
            if state is None and retires is not None and retires <= today():
                state = "retired: skipped"
            rows.append(
                {
                    "tier": tier,
                    "place": place,
                    "model": str(candidate),
                    "input $/M": _rate(rates.get("input")),
                    "output $/M": _rate(rates.get("output")),
                    "cached $/M": _rate(rates.get("cached_input")),
                    "price from": router.pricing.source(candidate),
                    "context": router.pricing.context_window(candidate),
                    "retires": retires,
                    "state": state or ("ready" if router.ready(candidate) else "no key"),
                    "last seen": _last_seen(seen.get(str(candidate))),
                }
            )
    frame = pd.DataFrame(rows).set_index(["tier", "place"])
    frame["context"] = frame["context"].astype("Int64")
    return frame


def _last_seen(last: Seen | None) -> str:
    from ipyrouter.tables import line

    if last is None:
        return "never"
    said = {"error": last.error or "failed", "partial": f"broke off: {last.error}", "interrupted": "stopped"}
    ago = (dt.datetime.now(dt.UTC) - last.time).total_seconds()
    return f"{line(said.get(last.status, 'answered'), 80)}, {age(ago)} ago"


def _rate(rate: Any) -> float | None:
    return None if rate is None else float(rate)


def _config(router: Router, _: Any) -> pd.DataFrame:
    import pandas as pd

    config = router.config
    for line in (*config.warnings, *router.pricing.unpriced()):
        print(line)
    rows = [(key, _shown(value), config.origins.get(key, "default")) for key, value in sorted(config.values.items())]
    return pd.DataFrame(rows, columns=["setting", "value", "from"]).set_index("setting")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _status(router: Router, _: Any) -> None:
    print(f"session {router.session}; database {router.store.health().path}")
    for span, rest in router.guard().left().items():
        print(f"  budget for {span}: {dollars(rest)} left")
    entries = router.status()
    for name, reason, left in entries:
        print(f"  {name}: left alone {'for the session' if left is None else 'for ' + seconds(left)}: {reason}")
    if not entries:
        print("  no candidate is left alone; all is well")


def _reset(router: Router, _: Any) -> None:
    router.reset()
    print(f"New session {router.session}: faults forgotten, connections closed. Log and cache stay.")


def _clear_cache(router: Router, _: Any) -> None:
    print(f"Forgot {count(router.store.clear_cache(), 'cached answer')}. The log stays.")


def _feedback(router: Router, parsed: Any, verdict: Feedback) -> None:
    answer = None
    if parsed.rest:
        answer = parsed.namespace.get(parsed.rest)
        if not isinstance(answer, Answer):
            raise UsageError(
                f"{parsed.rest!r} is no variable with an answer.", "Use -o NAME or answer = %route … first."
            )
    if not router.feedback(verdict, answer):
        raise UsageError("That answer is not in the log.", "Was it given before the log was deleted?")
    print(f"Noted: {verdict}.")


def _good(router: Router, parsed: Any) -> None:
    _feedback(router, parsed, "good")


def _bad(router: Router, parsed: Any) -> None:
    _feedback(router, parsed, "bad")


def _learn(router: Router, parsed: Any) -> None:
    router.learn(reset=bool(parsed.reset))


def _export(router: Router, parsed: Any) -> None:
    if not parsed.rest:
        raise UsageError("%router export needs a file.", "Write %router export costs.csv (or .json, .parquet).")
    path = Path(parsed.rest.strip("\"'")).expanduser()
    print(f"Wrote {count(export(router.log(), path), 'row')} to {path}")


def export(frame: pd.DataFrame, path: Path) -> int:
    """Write the log to a .csv, .json or .parquet file and return the number of rows. Raises UsageError."""
    writers: dict[str, Callable[[], Any]] = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".json": lambda: path.write_text(
            json.dumps(json.loads(frame.to_json(orient="records", date_format="iso")), indent=1), "utf-8"
        ),
        ".parquet": lambda: frame.to_parquet(path, index=False),
    }
    if path.suffix.lower() not in writers:
        raise UsageError(f"Unknown format {path.suffix!r}.", f"Known: {', '.join(writers)}.")
    try:
        writers[path.suffix.lower()]()
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow.", "Install it: pip install pyarrow. Or export to .csv or .json."
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Choose another place.") from None
    return len(frame)


COMMANDS: dict[str, Command] = {
    "log": Command(_log, "log [N]", "the newest N rows of the cost log (20); all of it: ipyrouter.cost_log()"),
    "report": Command(_report, "report [DAY]", "what a day (default: today, UTC), week or month cost, by tier", _SPANS),
    "compare": Command(_compare, "compare", "what other strategies would have cost for the same log"),
    "models": Command(_models, "models", "tiers, chains, prices, limits and state"),
    "config": Command(_config, "config", "every setting and where it came from"),
    "status": Command(_status, "status", "what is left alone after faults, for how long and why"),
    "reset": Command(_reset, "reset", "begin a new session: forget faults, close connections"),
    "clear-cache": Command(_clear_cache, "clear-cache", "forget all cached answers"),
    "good": Command(_good, "good [ANSWER]", "mark the last answer (or that variable's) as good; %router learn uses it"),
    "bad": Command(_bad, "bad [ANSWER]", "mark the last answer (or that variable's) as bad"),
    "learn": Command(_learn, "learn", "fit the classifier to your own log, on top of the shipped weights", (_RESET,)),
    "export": Command(_export, "export FILE", "write the whole log to a .csv, .json or .parquet file"),
}
