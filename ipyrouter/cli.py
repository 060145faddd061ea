"""The command line: `ipyrouter demo | doctor | key | report | prune | team`."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import os
import platform
import stat
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from ipyrouter.config import NO_KEY, TOY
from ipyrouter.errors import ConfigError, IPyRouterError, UsageError, did_you_mean
from ipyrouter.text import redact
from ipyrouter.text.amounts import count, dollars, seconds
from ipyrouter.types import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipyrouter.config import Provider
    from ipyrouter.router import Router

_PACKAGES = ("ipyrouter", "ipython", "ipywidgets", "openai", "anthropic", "pandas", "matplotlib", "genai-prices")
_SOON = 60  # days before a model's retirement in which the doctor announces it
_QUICKSTART = "notebooks/01_quickstart.ipynb"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 1 where something needs fixing."""
    parser = argparse.ArgumentParser(prog="ipyrouter", description=__doc__)
    parser.add_argument("--version", action="version", version=f"ipyrouter {_version('ipyrouter')}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="show the router at work in a terminal, on a free local model")
    demo.add_argument("--live", action="store_true", help="use your own config and keys; this costs money")
    doctor = commands.add_parser("doctor", help="check versions, config, keys, database, models")
    doctor.add_argument("--ask", action="store_true", help="call each provider's cheapest model once; this costs money")
    key = commands.add_parser("key", help="keys in the operating system's keyring")
    actions = key.add_subparsers(dest="action", required=True)
    for action, meaning in (("set", "ask for a provider's key, without showing it, and store it"),
                            ("delete", "delete a provider's key")):  # fmt: skip
        actions.add_parser(action, help=meaning).add_argument("name", help="a provider, such as openai")
    actions.add_parser("list", help="name the providers whose keys are in the keyring")
    report = commands.add_parser("report", help="what a day, week or month cost, by tier and model")
    report.add_argument("day", nargs="?", help="such as 2026-11-23; default: today, UTC")
    spans = report.add_mutually_exclusive_group()
    for span, meaning in (("week", "the day's week"), ("month", "the day's month"), ("all", "the whole log")):
        spans.add_argument(f"--{span}", dest="span", action="store_const", const=span, default="day", help=meaning)
    report.add_argument("--by", metavar="GROUP", help="also by user, team, notebook or tag")
    prune = commands.add_parser("prune", help="delete old prompts, answers and costs, or only the texts, for good")
    prune.add_argument("--before", required=True, metavar="DATE", help="such as 2026-11-23, UTC")
    prune.add_argument("--content-only", action="store_true", help="models, tokens and costs stay")
    _add_team(commands.add_parser("team", help="the team's store on PostgreSQL, for its owner"))
    options = parser.parse_args(arguments)
    try:
        if options.command == "demo":
            return _demo(live=options.live)
        if options.command == "doctor":
            return _doctor(ask=options.ask)
        if options.command == "key":
            return _key(options.action, getattr(options, "name", ""))
        if options.command == "team":
            return _team(options)
        if options.command == "prune":
            return _prune(options.before, content_only=options.content_only)
        return _report(options.day, options.span, options.by)
    except IPyRouterError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _report(day: str | None, span: str, by: str | None) -> int:
    from ipyrouter.router import Router

    print(Router().report(day, span=span, by=by))
    return 0


def _key(action: str, name: str) -> int:
    """Store, list or delete keys of the keyring; a key is neither shown nor an argument, which a shell would keep."""
    import getpass

    from ipyrouter import config as configuration
    from ipyrouter.config import keys

    config = configuration.load(home=configuration.home_folder())
    folder = configuration.config_file(configuration.home_folder()).parent
    if action == "list":
        names = keys.names(folder)
        print("\n".join(names) if names else "The keyring holds no key of ipyrouter's.")
        return 0
    if name not in config.providers:
        raise UsageError(f"Unknown provider {redact.excerpt(name)}.", did_you_mean(name, config.providers))
    if action == "delete":
        there = keys.delete(folder, name)
        print(f"The key of {name} was deleted." if there else f"The keyring holds no key of {name}.")
        return 0
    keys.store(folder, name, getpass.getpass(f"Key of {name} (it is not shown): ").strip())
    print(f"The key of {name} is in the keyring.")
    variable = config.providers[name].key
    if variable and configuration.read_key(variable):
        print(f"{variable} is set, too, and wins.")
    return 0


def _prune(before: str, *, content_only: bool) -> int:
    from ipyrouter.router import Router

    router = Router()
    number = router.forget(before=before, content=content_only)
    router.close()
    print(f"Deleted {'the texts of ' * content_only}{count(number, 'answer')}.")
    return 0


# --- team ---


def _add_team(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="the database, as its owner; default: the config's [store] url")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("upgrade", help="make the schema, or bring it to this version")
    add = actions.add_parser("add", help="make a role a member of a team")
    add.add_argument("user", help="the role that logs in; it is made where it is missing")
    add.add_argument("--team", required=True)
    add.add_argument("--lead", action="store_true", help="sees the costs of the whole team, never its texts")
    add.add_argument(
        "--content", action=argparse.BooleanOptionalAction, help="log the team's prompts and answers; default: no"
    )
    add.add_argument("--print", action="store_true", help="show the SQL instead of running it")
    budget = actions.add_parser("budget", help="set what a team or its members may spend")
    budget.add_argument("--team", required=True)
    who = budget.add_mutually_exclusive_group()
    who.add_argument("--each", dest="member", action="store_const", const="*", default="", help="each of its members")
    who.add_argument("--member", help="one member; default: the team together")
    for period in ("call", "session", "day", "month"):
        budget.add_argument(f"--{period}", metavar="DOLLARS", help="none takes the budget away")
    for unit in ("requests", "tokens"):
        budget.add_argument(f"--{unit}-per-minute", metavar="N", help="none takes the rate away")
    budget.add_argument("--print", action="store_true", help="show the SQL instead of running it")
    prune = actions.add_parser("prune", help="drop old months and runs; the daily sums stay in the reports")
    prune.add_argument(
        "--keep", required=True, nargs="+", metavar="MONTHS", help="such as 13 months, beside the one that is not over"
    )
    prune.add_argument("--content-only", action="store_true", help="drop only prompts and answers")


def _team(options: argparse.Namespace) -> int:
    try:
        from ipyrouter.store.postgres import owner
    except ImportError:
        raise ConfigError("The team's store needs the package psycopg.", 'Run: pip install "ipyrouter[team]"') from None
    if options.action == "upgrade":
        before, now = owner.upgrade(options.url or _store_url())
        print(f"The team store has version {now}" + (f", was {before or 'none'}." if before != now else "."))
        return 0
    if options.action == "add":
        statements = owner.add_member(options.user, options.team, lead=options.lead, content=options.content)
    elif options.action == "budget":
        given = {period: getattr(options, period) for period in ("call", "session", "day", "month")}
        limits = {period: _dollars(value) for period, value in given.items() if value is not None}
        rates = {unit: getattr(options, f"{unit}_per_minute") for unit in ("requests", "tokens")}
        paces = {unit: _rate(value) for unit, value in rates.items() if value is not None}
        statements = owner.set_budgets(options.team, options.member, limits)
        statements += owner.set_rates(options.team, options.member, paces)
    else:
        today = dt.datetime.now(dt.UTC).date()
        statements = [owner.prune(_months(options.keep), today, content_only=options.content_only)]
    if options.action != "prune" and options.print:
        print("\n".join(f"{statement};" for statement in statements))
        return 0
    rows = owner.run(options.url or _store_url(), statements)
    print(f"Dropped {count(rows[0][0], 'partition')}." if options.action == "prune" else "Done.")
    return 0


def _store_url() -> str:
    from ipyrouter import config

    url = config.load(home=config.home_folder()).store_url
    if url is None:
        raise ConfigError("No database is named.", "Write --url postgresql://OWNER@HOST/DATABASE, or set [store] url.")
    return url


def _months(words: list[str]) -> int:
    if not words[0].isdecimal() or len(words[0]) > 4 or words[1:] not in ([], ["month"], ["months"]):
        raise UsageError(f"{' '.join(words)!r} is not a valid number of months.", "Write --keep 13 months.")
    return int(words[0])


def _rate(value: str) -> int | None:
    if value == "none":
        return None
    if not value.isdecimal() or len(value) > 12:
        raise UsageError(f"{value!r} is not a valid number a minute.", "Write a whole number, or none.")
    return int(value)


def _dollars(value: str) -> Decimal | None:
    if value == "none":
        return None
    try:
        return Decimal(value)
    except ArithmeticError:
        raise UsageError(f"{value!r} is not a valid budget.", "Write dollars, such as 12.50, or none.") from None


# --- demo ---

_CELLS = (
    ("%load_ext ipyrouter", None),
    ("a simple question goes to the tier fast", "%%route\nWhat is the capital of France?"),
    (
        "one that takes several steps goes to mid",
        "%%route --max-tokens 160\nExplain why my pandas merge has more rows than either table.",
    ),
    (
        "a design question goes to power",
        "%%route --max-tokens 160\nDesign a fault-tolerant streaming architecture\n"
        "for fifty tenants with exactly-once delivery.",
    ),
    ("the same question again costs nothing: it comes from the cache", "%%route\nWhat is the capital of France?"),
    (
        "a dry run sends nothing",
        "%%route --dry-run\nProve that the sample mean is consistent, without assuming a finite variance.",
    ),
    ("the cost log", "%router log"),
    ("the day's report", "%router report"),
    ("what other strategies would have cost for the same requests", "%router compare"),
)


def _demo(*, live: bool) -> int:
    """Run the demo's cells in a real IPython shell."""
    if live:
        return _run_cells()
    print(f"# The demo runs on a {TOY}, which is often wrong: your keys are left out, so that nothing is paid.")
    # Nothing of the user's own is touched or paid for: a home of its own, and no key in sight.
    hidden = [name for name in os.environ if name.startswith("IPYROUTER_") or name.endswith("_API_KEY")]
    for name in hidden:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="ipyrouter-demo-") as folder:
        os.environ["IPYROUTER_HOME"] = folder
        os.chdir(folder)
        try:
            return _run_cells()
        finally:
            os.chdir("/")


def _run_cells() -> int:
    from IPython.terminal.interactiveshell import TerminalInteractiveShell

    import ipyrouter

    shell = TerminalInteractiveShell.instance()
    shell.colors = "nocolor" if not sys.stdout.isatty() else shell.colors
    for title, source in _CELLS:
        cell = source or title
        if source:
            print(f"\n# {title}")
        for number, line in enumerate(cell.split("\n")):
            prompt = f"In [{shell.execution_count}]: "
            print((prompt if number == 0 else " " * (len(prompt) - 5) + "...: ") + line)
        result = shell.run_cell(cell, store_history=True)  # type: ignore[no-untyped-call]
        if result.error_in_exec is not None or result.error_before_exec is not None:
            return 1
    ipyrouter.use_router(None)
    print(f"\nThe same in Jupyter: pip install jupyterlab && jupyter lab {_QUICKSTART}")
    print("With your own keys: export OPENAI_API_KEY=… (or ANTHROPIC_API_KEY), then %load_ext ipyrouter anywhere.")
    return 0


# --- doctor ---


Finding = tuple[bool | None, str]
"""A line of the doctor: True is well, False needs fixing, None is worth a look and no fault."""


def _doctor(*, ask: bool) -> int:
    """Print what is well and what is not; 1 if something needs fixing."""
    from ipyrouter.router import Router

    print(f"Python {platform.python_version()} on {platform.system()}")
    print("packages: " + ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    router = Router()
    findings = []
    try:
        for good, line in (*_findings(router), *(_answers(router) if ask else ())):
            findings.append((good, router.hide(line)))
            print(f"{'ok  ' if good else 'WARN'}  {findings[-1][1]}")
    finally:
        router.close()
    issues = count(sum(not good for good, _ in findings), "issue")
    if any(good is False for good, _ in findings):
        print(f"{issues} found.")
        return 1
    print("All is well." if all(good for good, _ in findings) else f"Nothing is broken; {issues} to check.")
    return 0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _findings(router: Router) -> Iterator[Finding]:
    from ipyrouter import config as configuration

    yield from _config_findings(router)
    yield from _key_findings(router)
    yield from _network_findings(router)
    folder = configuration.data_folder(router.home)
    yield from _folder_findings(folder)
    health = router.store.health()
    line = f"database {health.path}: {health.detail}"
    if health.ok:
        held = f"{health.answers:,} answers, {health.cached:,} cached ({health.cached_bytes / 1e6:.1f} MB)"
        line = f"{line}; {held}"
    yield health.ok, line
    if health.ok:
        yield from ((True, line) for line in router.guard().standing())
    yield from _model_findings(router)


def _config_findings(router: Router) -> Iterator[Finding]:
    from ipyrouter import config as configuration

    user_file = configuration.config_file(router.home)
    there = "" if user_file.exists() else " (not there: the defaults hold)"
    yield True, f"your config file: {user_file}{there}"
    config = router.config
    for key, origin in sorted(config.origins.items()):
        if origin != "default":
            yield True, f"{key} = {config.values[key]!r}, from {origin}"
    yield from ((None, line) for line in config.ignored_files)
    for line in (*config.warnings, *router.pricing.unpriced()):
        yield False, line


def _key_findings(router: Router) -> Iterator[Finding]:
    from ipyrouter.config import keys
    from ipyrouter.providers import local
    from ipyrouter.routing.planner import without_retired

    tiers = router.config.tiers.values()
    if fault := keys.env_fault(router.config.folder):
        yield False, fault
    findings = (_key_finding(router, provider) for provider in router.config.providers.values())
    yield from (finding for finding in findings if finding is not None)
    others = [name for name in router.config.providers if name not in router.config.data["providers"]]
    yield True, f"known without config, as service/model, once its key is set or it runs here: {', '.join(others)}"
    if not local.available():
        state = f"not installed: {local.INSTALL}"
    elif not local.weights_path().exists():
        state = "installed; its weights (93 MB) are fetched when first needed"
    else:
        state = f"ready, weights in {local.weights_path()}"
    yield True, f"local model: {state}"
    unserved = [tier.name for tier in tiers if not any(map(router.ready, without_retired(router.config, tier)[0]))]
    no_key = not any(router.ready(candidate) for tier in tiers for candidate in tier.chain)
    if len(unserved) < len(TIERS):
        yield from ((None, f"tier {name}: no model can be called; the nearest tier answers") for name in unserved)
    elif no_key and local.available() and router.config.chains_are_ours:
        yield None, f"{NO_KEY}; the local model answers in every tier"
    else:
        yield False, "no chain has a usable model; set a key, or put local/smollm2 into a chain"


def _key_finding(router: Router, provider: Provider) -> Finding | None:
    """Return where a provider's key is, or its login; None for a service that nobody has set up."""
    from ipyrouter import config as configuration
    from ipyrouter.config import keys

    configured = provider.name in router.config.data["providers"]
    label, lack = f"provider {provider.name}", provider.lack()
    if provider.credentials != "key":
        words = lack or f"its calls are signed with {provider.credentials}'s login"
        return (not lack, f"{label}: {words}") if configured or not lack else None
    if (provider.key is None and not provider.key_command) or not (configured or provider.has_key()):
        return None
    if fault := provider.key_fault():
        return False, f"{label}: {fault}"
    if provider.has_key():
        in_environment = provider.key is not None and configuration.read_key(provider.key)
        if not in_environment and (fault := keys.command_fault(provider)):
            return False, f"{label}: {fault}"
        present = f"{provider.key} is present" if in_environment else keys.source(provider)
        return not lack, f"{label}: {present}{f', but {lack}' if lack else ''}"
    tiers = router.config.tiers.values()
    chains = ", ".join(tier.name for tier in tiers if any(c.provider == provider.name for c in tier.chain))
    if chains:  # one key of several is enough: its absence is not a fault, yet worth a look
        return None, f"{label}: {provider.key} is not set; its models are skipped in {chains}"
    return True, f"{label}: {provider.key} is not set, and no chain names it"


def _network_findings(router: Router) -> Iterator[Finding]:
    """Yield each address in force and what decides it, then what is wrong with proxies and certificates."""
    from ipyrouter.providers.discovery import local_servers, network_faults
    from ipyrouter.providers.network import plain_address
    from ipyrouter.providers.transport import proxy_of

    config = router.config
    addresses = []
    for provider in config.providers.values():
        configured = provider.name in config.data["providers"]
        if provider.embedded or not (configured or (provider.key is not None and provider.has_key())):
            continue
        address = provider.address()
        addresses.append(address)
        reason = f" (from {provider.variable})" if provider.official and provider.moved_to() else ""
        proxy = proxy_of(address)
        through = f", through {proxy}" if proxy else ""
        yield True, f"provider {provider.name}: calls go to {plain_address(address)}{reason}{through}"
    yield from ((False, line) for line in network_faults(addresses))
    yield from ((True, str(server)) for server in local_servers(config.providers.values()))


# A call that is as small as one can be.
_QUESTION = "Answer with the word yes."
_MOST_TOKENS = 16


def _answers(router: Router) -> Iterator[Finding]:
    """Yield what one call to each provider's cheapest model answers; what the calls may cost is printed first."""
    cheapest = _cheapest(router)
    for provider in router.config.providers.values():
        if provider.name not in cheapest and not provider.embedded and provider.key and not provider.lack():
            yield None, f"provider {provider.name} was not asked: no chain names a model of it"
    if not cheapest:
        yield None, "no provider of a chain has a key, so there is nobody to ask"
        return
    costs = {}
    for model in cheapest.values():
        try:
            preview = router.preview(_QUESTION, model=model, max_output_tokens=_MOST_TOKENS, effort="none")
        except IPyRouterError as error:
            yield False, f"{model}: {error}"
        else:
            costs[model] = preview.cost_high
    most = ", ".join(f"{model} {dollars(cost)}" for model, cost in costs.items())
    print(router.hide(f"One call to each of these, at most: {most}"))
    for model in costs:
        try:
            answer = router.route(
                _QUESTION, model=model, max_output_tokens=_MOST_TOKENS, effort="none", cache="off", escalate=False
            )
        except IPyRouterError as error:
            yield False, f"{model}: {error}"
        else:
            yield True, f"{model} answered after {seconds(answer.latency)} for {dollars(answer.cost)}"


def _cheapest(router: Router) -> dict[str, str]:
    """Return the model with the lowest price of each provider that chains name and that can be called, by provider."""
    from ipyrouter.routing.planner import today

    found: dict[str, tuple[float, str]] = {}
    for tier in router.config.tiers.values():
        for candidate in tier.chain:
            day = router.config.retired_on(candidate)
            embedded = router.config.providers[candidate.provider].embedded
            if embedded or not router.ready(candidate) or (day is not None and day <= today()):
                continue
            rate = router.pricing.rates(candidate).get("output")
            price = float("inf") if rate is None else float(rate)
            found.setdefault(candidate.provider, (price, str(candidate)))
            found[candidate.provider] = min(found[candidate.provider], (price, str(candidate)))
    return {provider: model for provider, (_, model) in found.items()}


def _folder_findings(folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        yield True, f"home folder {folder}: not there yet; it is made with the first answer"
        return
    rights = stat.S_IMODE(folder.stat().st_mode)
    yield (
        rights & 0o077 == 0,
        f"home folder {folder}: rights {rights:04o}"
        + ("" if rights & 0o077 == 0 else f"; others may read it: chmod 700 {folder}"),
    )
    if not os.access(folder, os.W_OK):
        yield False, f"home folder {folder}: cannot be written; set IPYROUTER_HOME to one that can"


def _model_findings(router: Router) -> Iterator[Finding]:
    from ipyrouter.routing.planner import retirement_of, today

    for tier in router.config.tiers.values():
        for candidate in tier.chain:
            day = router.config.retired_on(candidate)
            if day is None or (left := (day - today()).days) > _SOON:
                continue
            successor = router.config.successor(candidate)
            hint = f"; its successor is {successor}" if successor else ""
            soon = f"retires on {day}, in {left} days{hint}"
            yield False, f"tier {tier.name}: {candidate} {retirement_of(router.config, candidate) or soon}"


if __name__ == "__main__":
    sys.exit(main())
