"""What a user types, in a real IPython shell against the loopback server."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable
from dataclasses import fields
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

import ipyrouter
from ipyrouter.errors import IPyRouterError, NoModelError, RouteError, UsageError
from ipyrouter.notebook import options, rendering
from ipyrouter.notebook.commands import COMMANDS
from ipyrouter.notebook.formats import Body
from ipyrouter.providers import local
from ipyrouter.router import Router
from ipyrouter.types import Answer
from tests.faults.server import TEXT
from tests.notebook.conftest import Shell

MakeRouter = Callable[..., Router]


def prompt_of(request: Any) -> str:
    return str(request[2]["messages"][-1]["content"])


def test_cell_answers_once_and_out_holds_it(shell: Shell) -> None:
    ran = shell.run("%%route\nExplain closures\n")
    assert ran.error is None
    assert ran.out.count(TEXT) == 1
    assert "o/ok · $0.00041 · mid · the provider's cache saved $0.000010 · 120 in + 30 out tokens, 5 of" in ran.out
    assert "Out[" not in ran.out
    assert isinstance(shell.ip.user_ns["_"], Answer)
    assert shell.ip.user_ns["Out"][1].text == TEXT
    assert shell.run("_.cost").value == shell.ip.user_ns["Out"][1].cost


def test_line_magic_returns_the_answer(shell: Shell) -> None:
    ran = shell.run("answer = %route Explain closures")
    assert ran.error is None
    assert shell.ip.user_ns["answer"].text == TEXT
    shown_again = shell.run("answer")
    assert shown_again.out.count(TEXT) == 1
    assert "cached" not in shown_again.out  # it is the same answer, not a new one


@pytest.mark.parametrize(
    "prompt",
    [
        "print({'foo': 'bar'})",
        "{os.environ['HOME']} and {1+1} and $HOME and $x and ${x}",
        "100% of %s and %(name)s, {{u.v}} {{u[0]}} {{1+1}} {{0}} {{ }} {{ not a name }}",
        "'single' \"double\" `tick` \\n \\\\ !ls ?help",
        "%time in the second line\n!echo hi\n  indented",
        "null \x00 byte",
    ],
)
def test_the_cell_goes_out_verbatim(shell: Shell, requests: list[Any], prompt: str) -> None:
    shell.ip.user_ns["x"] = [1]
    ran = shell.run(f"%%route\n{prompt}")
    assert ran.error is None, ran.err
    assert prompt_of(requests[0]) == prompt


def test_line_prompt_goes_out_verbatim(shell: Shell, requests: list[Any]) -> None:
    shell.ip.user_ns["x"] = "SECRET"
    shell.run('%route -t fast What does {x} or $x mean in "it\'s"?')
    assert prompt_of(requests[0]) == 'What does {x} or $x mean in "it\'s"?'


def test_variables_are_inserted_on_request(shell: Shell, requests: list[Any]) -> None:
    shell.ip.user_ns["notes"] = "A and {{B}}"
    shell.run("%%route\nSummarise: {{notes}} / {{ notes }}")
    assert prompt_of(requests[0]) == "Summarise: A and {{B}} / A and {{B}}"
    shell.run("%%route --raw\nSummarise: {{notes}}")
    assert prompt_of(requests[1]) == "Summarise: {{notes}}"


def test_undefined_variable(shell: Shell, requests: list[Any]) -> None:
    shell.ip.user_ns["notes"] = "A"
    ran = shell.run("%%route\nSummarise: {{noets}}")
    assert "there is no variable 'noets'. Did you mean 'notes'?" in str(ran.error)
    assert not requests


def test_options_reach_the_router(shell: Shell, requests: list[Any]) -> None:
    ran = shell.run(
        "%%route -t power -s \"Be brief, 'please'.\" --max-tokens=7 --temperature 0.5 -o mine\nExplain closures"
    )
    assert ran.error is None
    body = requests[0][2]
    assert body["messages"][0] == {"role": "system", "content": "Be brief, 'please'."}
    assert (body["max_tokens"], body["temperature"]) == (7, 0.5)
    assert shell.ip.user_ns["mine"].tier == "power"


@pytest.mark.parametrize(
    "prompt", ["What is a list?", "What's a list?", "a? b?", "why??", "x[0]?", "%route?", "3 > 2 ?"]
)
def test_a_question_mark_is_no_call_for_help(shell: Shell, requests: list[Any], prompt: str) -> None:
    shell.run(f"%route -q {prompt}")
    shell.run(f"if True:\n    answer = %route -q --refresh {prompt}\n")
    assert [prompt_of(request) for request in requests] == [prompt, prompt]
    assert shell.ip.user_ns["answer"].text == TEXT


def test_help_is_complete_however_it_is_asked_for(shell: Shell) -> None:
    table = options.help_text(options.USAGE, options.ROUTE).splitlines()
    for command in ("%route --help", "%%route?", "%route?"):
        output = shell.run(command).out
        assert [line for line in table if line.strip() not in output] == []
        assert "cities = %route -f json" in output


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (options.ROUTE, options.RouteLine),
        (tuple(option for command in COMMANDS.values() for option in command.options), options.RouterLine),
    ],
)
def test_each_option_has_a_field_and_each_field_an_option(table: tuple[options.Option, ...], kind: Any) -> None:
    assert {option.dest for option in table} | {"rest", "help"} == {item.name for item in fields(kind)}
    parsed = options.parse("", table, kind)
    with pytest.raises(AttributeError):
        _ = parsed.teir
    assert parsed == kind(rest="")


def test_help_syntax_still_works(shell: Shell, requests: list[Any]) -> None:
    out = shell.run("%route?").out + shell.run("%%route?").out + shell.run("x = 1\nx?").out
    assert out.count("Send a prompt to the cheapest model") == 2
    assert "int" in out
    assert not requests


def test_cache_options(shell: Shell, requests: list[Any]) -> None:
    shell.run("%%route\nExplain closures")
    assert "cached" in shell.run("%%route\nExplain closures").out
    assert "cached" not in shell.run("%%route --refresh\nExplain closures").out
    assert "cached" not in shell.run("%%route --no-cache\nExplain closures").out
    assert len(requests) == 3


def test_quiet(shell: Shell) -> None:
    ran = shell.run("%%route -q -o mine\nExplain closures")
    assert ran.out == ""
    assert shell.ip.user_ns["mine"].text == TEXT


def test_dry_run_sends_nothing(shell: Shell, requests: list[Any]) -> None:
    ran = shell.run("%%route -n\nDraw up a migration plan")
    for part in ("power", "“migration plan”", "o/ok", "tokens", "miss", "none needed", "$"):
        assert part in ran.out
    assert not requests
    assert ran.value is None


def test_tags_are_in_the_log_and_in_reports(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("%%route --tag project-x --tag b\nExplain closures").error is None
    assert shell.run("%%route\nExplain closures, please").error is None
    router = ipyrouter.default_router()
    assert router.log()["tags"].astype(object).fillna("").tolist() == ["b,project-x", ""]
    assert len(router.log(tag="project-x")) == 1
    ran = shell.run("report = %router report --by tag")
    assert ran.error is None
    groups = shell.ip.user_ns["report"].groups
    assert groups["calls"].to_dict() == {"(no tag)": 1, "b": 1, "project-x": 1}
    path = tmp_path / "tagged.csv"
    assert shell.run(f"%router export {path} --tag b").error is None
    assert path.read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%route\n \n", "The prompt is empty."),
        ("%route -- ", "There is no prompt."),
        ("%%route -t fats\nx", "Unknown tier 'fats'. Did you mean 'fast'?"),
        ("%%route -m gtp-4o\nx", "Unknown model 'gtp-4o'"),
        ("%%route --teir fast\nx", "Unknown option '--teir'. Did you mean '--tier'?"),
        ("%%route -x\nx", "Unknown option '-x'"),
        ("%%route -t\nx", "-t needs a value. Write -t TIER."),
        ("%%route -s 'open\nx", "The quotes after -s do not close."),
        ("%%route -o 1a\nx", "is not a valid name for a variable"),
        ("%%route -o class\nx", "is not a valid name for a variable"),
        ("%%route --chat ''\nx", "A conversation needs a name."),
        ("%router export costs", "costs has no ending that tells the format."),
        ("%router report 2026-11", "'2026-11' is not a valid date."),
        ("%router report 24.11.2026", "'24.11.2026' is not a valid date."),
        ("%%route --max-tokens many\nx", "'many' is not a valid number of tokens."),
        ("%%route --max-tokens " + "9" * 5000 + "\nx", "is not a valid number of tokens."),
        ("%%route --temperature hot\nx", "'hot' is not a valid number."),
        ("%%route --quiet=yes\nx", "--quiet takes no value."),
        ("%%route What is this?\nx", "stands on the %%route line"),
        ("%route", "There is no prompt."),
        ("%route -q", "There is no prompt."),
        ("%router lgo", "Unknown subcommand 'lgo'. Did you mean 'log'?"),
        ("%router log many", "'many' is not a valid number of rows."),
        ("%router log 99999999999999999999", "is not a valid number of rows."),
        ("%router export ~nobody.at.all/log.csv", "there is no such home folder"),
        ("%router rebuild-log ~nobody.at.all/x.ipynb", "there is no such home folder"),
        ("%router report 9999-12-31", "is not a day that the log can hold"),
        ("%router export", "needs a file"),
        ("%router export log.xls", "Unknown format '.xls'. Known: .csv, .json, .parquet."),
        ("%router export nowhere/log.csv", "cannot be written"),
        ("%router report yesterdayy", "'yesterdayy' is not a valid date."),
        ("%%route --tmp 0.5\nx", "Unknown option '--tmp'. Did you mean '--temperature'?"),
        ("%%route --temp 0.5\nx", "Did you mean '--temperature'?"),
        ("%%route --max_tokens 5\nx", "Did you mean '--max-tokens'?"),
        ("%%route --sys 'Be brief.'\nx", "Did you mean '--system'?"),
        ("%%route —no-cahce\nx", "Unknown option '—no-cahce'. Did you mean '--no-cache'?"),
        ("%%route -s “Be brief.\nx", "The quotes after -s do not close. Write plain quotes"),
        ('%%route -s "Be brief.”\nx', "The quotes after -s do not close."),
        ("%%route -m openai/\nx", "Unknown model 'openai/': a name is missing. Write provider/model"),
        ("%%route -m /ok\nx", "Unknown model '/ok': a name is missing."),
        ("%%route -m ''\nx", "Unknown model '': a name is missing."),
        ("%%route --tag 'a b'\nx", "'a b' is not a valid tag. Use 1 to 64 printable characters"),
        ("%%route --tag a,b\nx", "'a,b' is not a valid tag."),
        ("%router report --by users", "A report by 'users' is not known. Did you mean 'user'?"),
        ("%%route --with\nx", "--with needs a value. Write --with NAMES."),
        ("%router status now", "%router status takes no 'now'. Write %router status alone."),
        ("%router panel big", "%router panel takes no 'big'."),
        ("%router compare all", "%router compare takes no 'all'."),
        ("%router models o", "%router models takes no 'o'."),
        ("%router config budget", "%router config takes no 'budget'."),
        ("%router clear-cache now", "%router clear-cache takes no 'now'."),
        ("%router learn all", "%router learn takes no 'all'."),
        ("%router export log.csv --tier fats", "Unknown tier 'fats'."),
        ("%router export log.csv --status okay", "Unknown status 'okay'. Did you mean 'ok'?"),
        ("%router export log.csv --since yesterdayy", "'yesterdayy' is not a valid date."),
        ("%router export log.csv --day 2026-11-23", "Unknown option '--day'."),
        ("%router log 5 6", "'5 6' is not a valid number of rows."),
    ],
)
def test_bad_input_fails_the_cell_in_one_line(shell: Shell, requests: list[Any], cell: str, message: str) -> None:
    ran = shell.run(cell)
    assert isinstance(ran.error, IPyRouterError)
    assert message in str(ran.error)
    output = (ran.out + ran.err).strip()
    assert message in output
    assert "Traceback" not in output
    assert "\n" not in output
    assert not requests


@pytest.mark.parametrize(
    ("line", "system"),
    [
        ("—no-cache -s “Be brief.”", "Be brief."),
        ("––no-cache –s „Be brief.“", "Be brief."),
        ("--no‑cache —system «Be brief.»", "Be brief."),
        ("--no-cache\u00a0-s\u00a0‘Be brief.’", "Be brief."),
        ("--no-cache —system=“Don’t say "+'"hi"'+".”", 'Don’t say "hi".'),
        ("-s “” --no-cache", None),
    ],
)  # fmt: skip
def test_dashes_quotes_and_blanks_as_a_web_page_writes_them(
    shell: Shell, requests: list[Any], line: str, system: str | None
) -> None:
    for cell in (f"%%route {line}\nhello", f"%route {line} hello"):
        ran = shell.run(cell)
        assert ran.error is None, ran.out + ran.err
        *before, prompt = requests[-1][2]["messages"]
        assert (prompt["content"], [turn["content"] for turn in before]) == ("hello", [system] if system else [])


@pytest.mark.parametrize(
    "prompt", ["— what is this dash?", "–5 apples", "—Hola, ¿qué tal?", "“Quoted” words", "−1 < 0"]
)
def test_a_prompt_may_begin_with_any_mark(shell: Shell, requests: list[Any], prompt: str) -> None:
    shell.run(f"%route -q {prompt}")
    assert prompt_of(requests[0]) == prompt


@pytest.mark.parametrize(
    "names", ["--with a --with b", "--with a, b", "--with a ,b", "--with a , b", "--with=a,b", "--with 'a, b'"]
)
def test_names_of_with_add_up(shell: Shell, requests: list[Any], names: str) -> None:
    shell.run("a, b = 'first', 'second'")
    for cell in (f"%%route -q --no-cache {names}\nhello", f"%route -q --no-cache {names} hello"):
        ran = shell.run(cell)
        assert ran.error is None, ran.out + ran.err
        assert re.sub(r"\W+", " ", prompt_of(requests[-1])) == (
            "hello a text of 5 characters first b text of 6 characters second "
        )
    assert shell.run("%%route -q --with a, b,\nhello").error is None


def test_a_prompt_may_begin_with_a_dash(shell: Shell, requests: list[Any]) -> None:
    shell.run("%route -q -- -t is what?")
    assert prompt_of(requests[0]) == "-t is what?"
    shell.run("%route -q - item")
    assert prompt_of(requests[1]) == "- item"


def test_a_failed_chain_fails_the_cell(shell: Shell, make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router(mid=["o/status-429-30", "a/status-401"]))
    ran = shell.run("%%route\nExplain closures")
    assert isinstance(ran.error, RouteError)
    lines = (ran.out + ran.err).strip().splitlines()
    assert lines[0].startswith("RouteError: a/status-401: 401 Incorrect API key provided")
    assert lines[1] == "  o/status-429-30: 429 Rate limit reached"
    assert len(lines) == 2


@pytest.mark.parametrize("mode", ["Plain", "Context", "Verbose"])
def test_no_key_is_ever_shown(
    shell: Shell, make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    router = make_router(mid=["o/status-401"])
    settings = dict(router.config.values)
    own = {"sdk": "openai", "base_url": settings["providers.o.base_url"], "key": "OPENAI_API_KEY"}
    monkeypatch.setenv("IPYROUTER_HOME", "/proc/none")  # the log goes to memory; the error must still be clean
    ipyrouter.use_router(Router({"providers": {"o": own}, "tiers": {"mid": {"chain": ["o/status-401"]}}}))
    shell.run(f"%xmode {mode}")
    ran = shell.run("%%route\nExplain closures")
    assert "check OPENAI_API_KEY" in ran.out + ran.err
    everything = ran.out + ran.err + repr(ran.error) + repr(vars(ipyrouter.default_router()))
    everything += shell.run("%router config").out + shell.run("%tb").out
    assert "sk-very-secret" not in everything


def test_no_model_at_all(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "available", lambda: False)
    ipyrouter.use_router(None)
    ran = shell.run("%%route\nExplain closures")
    assert isinstance(ran.error, NoModelError)
    assert "OPENAI_API_KEY and ANTHROPIC_API_KEY are not set" in ran.out + ran.err


def test_a_broken_config_fails_the_cell_in_one_line(shell: Shell, home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text("[budget\n")
    ipyrouter.use_router(None)
    ran = shell.run("%%route\nExplain closures")
    assert "config.toml: not valid TOML" in ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err


# --- %router ---


def test_router_subcommands(shell: Shell) -> None:
    shell.run("%%route\nExplain closures")
    shell.run("%%route\nExplain closures")
    log = shell.run("log = %router log")
    assert log.error is None
    frame = shell.ip.user_ns["log"]
    assert list(frame["status"]) == ["cached", "ok"]
    assert len(shell.run("%router log 1").value) == 1
    report = shell.run("%router report")
    assert "$0.00041 · 1 call · 1 from the cache (saved $0.00041)" in report.out
    compare = shell.run("%router compare")
    assert list(compare.value.index) == ["all power", "all mid", "router", "router + cache"]
    assert "Assumes the same token counts" in compare.out
    assert compare.value.loc["router", "cost"] == "$0.00082"
    assert compare.value.loc["all mid", "latency"].endswith("ms")
    models = shell.run("%router models").value
    assert set(models["state"]) == {"ready"}
    config = shell.run("%router config").value
    assert config.loc["tiers.fast.chain", "from"] == "arguments"
    assert "all is well" in shell.run("%router status").out
    assert "New session" in shell.run("%router reset").out
    assert "Forgot 1 cached answer." in shell.run("%router clear-cache").out


def test_an_empty_log_says_so(shell: Shell) -> None:
    empty = shell.run("%router log")
    assert empty.out.strip().endswith(": No call is in the log yet: run a %%route cell.")
    assert empty.value._repr_html_() == "<p>No call is in the log yet: run a %%route cell.</p>"


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_the_log_fits_the_terminal_with_cost_and_status(
    shell: Shell, make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    ipyrouter.use_router(make_router(mid=["o/ok", "o/small@a-model-with-a-long-name-2026-11-23"]))
    shell.run("%%route -q\nWhat is the longest river of all rivers in the world and elsewhere?")
    shell.run("%%route -q -m o/small@a-model-with-a-long-name-2026-11-23\nWhat is the longest river of all rivers?")
    monkeypatch.setenv("COLUMNS", str(columns))
    head, first, second, *more = shell.run("%router log").out.strip().splitlines()[-4 + (columns == 200) :]
    assert "status" in head
    assert "cost" in head
    for line in (first, second):
        assert " ok " in line
        assert "$0.00041" in line
        assert len(line) <= columns
        assert columns == 60 or "What is the longest" in line  # not all the room goes to the model's name
    absent = "Not shown: saved, took, tokens. All of the log: ipyrouter.cost_log()"
    assert more == ([absent] if columns < 200 else [])
    assert "a-model-with-a-long-name" in unescape(shell.run("%router log").value._repr_html_())


def test_an_answer_shows_as_one_without_the_extension(make_router: MakeRouter) -> None:
    answer = make_router(mid=["o/echo"]).route("<script>alert(1)</script> \x1b[31m**bold**")
    formatter = InteractiveShell().display_formatter
    bundle, _ = formatter.format(answer)
    assert bundle == rendering.answer_bundle(answer, Body(answer.text))
    assert "<script" not in bundle["text/markdown"]
    assert "**bold**" in bundle["text/markdown"]
    assert bundle["text/plain"].startswith("o/echo · $")
    assert "\x1b" not in bundle["text/plain"]
    assert answer.text in repr(answer) or repr(answer.text) in repr(answer)  # repr() keeps all fields


def test_report_spans(shell: Shell) -> None:
    shell.run("%%route\nExplain closures")
    for span in ("--week", "--month", "--all"):
        assert shell.run(f"report = %router report {span}").error is None
        assert shell.ip.user_ns["report"].calls == 1
    assert "$0 · 0 calls" in shell.run("%router report --month 2020-01-01").out
    ran = shell.run("%router report --week --all")
    assert "Choose one of --week and --all." in ran.out + ran.err


def test_models_tell_prices_windows_and_what_was_last_seen(shell: Shell, make_router: MakeRouter) -> None:
    chains = {"mid": ["o/status-503", "a/ok"], "power": ["gpt-6.1-sol", "gpt-4o", "o/unpriced"]}
    router = make_router(
        **chains, prices={"gpt-4o": {"input": 7, "output": 9}}, retired={"gpt-4o": dt.date(2026, 1, 1)}
    )
    ipyrouter.use_router(router)
    shell.run("%%route\nExplain closures")
    shell.run("%%route\nExplain closures")
    shell.run("%router reset")
    models = shell.run("%router models").value.reset_index().set_index("model")
    assert models.loc["o/status-503", "last seen"] == "503 Unavailable, 0 s ago"
    assert models.loc["a/ok", "last seen"] == "answered, 0 s ago"
    assert models.loc["openai/gpt-6.1-sol", "last seen"] == "never"
    assert models.loc["openai/gpt-6.1-sol", "state"] == "no key"
    assert models.loc["openai/gpt-6.1-sol", "context"] > 10_000
    assert models.loc["openai/gpt-6.1-sol", "price from"].startswith("genai-prices ")
    rates = ["input $/M", "output $/M", "cached $/M"]
    assert models.loc["openai/gpt-4o", rates].tolist() == [7, 9, 7]  # cached tokens cost what fresh ones do
    assert models.loc["openai/gpt-4o", ["price from", "state"]].tolist() == ["config", "retired: skipped"]
    assert models.loc["openai/gpt-4o", "retires"] == dt.date(2026, 1, 1)
    assert models.loc["o/unpriced", "price from"] == "unknown"
    assert models.loc["o/unpriced", rates].isna().all()


def test_models_tell_that_the_toy_answers(shell: Shell) -> None:
    ipyrouter.use_router(Router())  # no key in sight
    assert (
        "toy model (SmolLM2-135M): no key is set; local/smollm2 answers in every tier."
        in shell.run("%router models").out
    )


def test_the_comparison_says_at_least(shell: Shell, make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router(power=["a/ok"], prices={"o/ok": {"input": 1, "output": 10}}))
    shell.run("%%route\nExplain closures")
    shell.run("%%route -t power\nExplain closures")
    table = shell.run("%router compare").value
    assert table["cost"].tolist() == ["unknown", "$0.00084", "at least $0.00042", "at least $0.00042"]
    assert table["unpriced"].tolist() == [2, 0, 1, 1]
    assert list(table.columns) == ["cost", "unpriced", "calls", "latency", "model"]


def test_the_comparison_leads_with_what_was_paid(
    shell: Shell, make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    prices = {"o/ok": {"input": 1, "output": 10}, "a/ok": {"input": 10, "output": 100}}
    ipyrouter.use_router(make_router(power=["a/ok"], prices=prices))
    assert shell.run("%router compare").out.startswith("You paid nothing: no request was answered yet.\n")
    shell.run("%%route -t mid -q\nExplain closures")
    output = shell.run("%router compare").out
    assert output.startswith("You paid $0.00042; all power would have been $0.0042, −90 %.\nAssumes ")
    assert max(map(len, output.splitlines())) <= 80
    table = output.splitlines()[-5:]
    assert table[0].split() == ["strategy", "cost", "calls", "latency", "model"]
    assert [row.split("$")[1].split()[0] for row in table[1:]] == ["0.00420", "0.00042", "0.00042", "0.00042"]
    assert max(map(len, table)) <= 80


def test_the_comparison_admits_what_it_does_not_know(shell: Shell, make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router(power=["a/ok"], prices={"o/ok": {"input": 1, "output": 10}}))
    shell.run("%%route -t mid -q\nExplain closures")
    assert shell.run("%router compare").out.startswith(
        "You paid $0.00042; all power would have been an unknown amount.\n"
    )
    shell.run("%%route -t power -q\nExplain closures")
    assert "You paid at least $0.00042, 1 call unpriced; all power" in shell.run("%router compare").out


def test_config_begins_with_what_differs(shell: Shell, make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router())
    result = shell.run("%router config")
    assert list(result.value.columns) == ["from", "value"]
    origins = result.value["from"].tolist()
    differing = sum(origin != "default" for origin in origins)
    assert differing
    assert set(origins[differing:]) == {"default"}
    assert f"{differing} settings not at the default." in result.out
    ipyrouter.use_router(Router())
    assert "Every setting is at its default." in shell.run("%router config").out


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("command", ["models", "calibrate"])
def test_tables_fit_the_terminal_and_name_what_is_left_out(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shell.run("%%route -q\nExplain closures")
    table = [line for line in shell.run(f"%router {command}").out.splitlines() if "  " in line and line[0] != " "]
    assert len(table) > 3
    assert max(map(len, table)) <= columns
    assert not any("..." in line for line in table)


def test_the_log_table_marks_estimates(shell: Shell, make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router(mid=["o/no-usage"]))
    shell.run("%%route\nExplain closures")
    shell.run("%%route -m o/ok\nExplain closures")
    certain, estimate = shell.run("%router log").value["cost"]
    assert certain.startswith("$")
    assert estimate.startswith("about $")


def test_a_model_that_cooled_down_was_last_seen_before(shell: Shell, make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router(mid=["o/status-401"]))
    for _ in range(2):
        assert isinstance(shell.run("%%route\nExplain closures").error, RouteError)
    models = shell.run("%router models").value.reset_index().set_index("model")
    assert models.loc["o/status-401", "last seen"].startswith("401 Incorrect API key provided")
    assert models.loc["o/status-401", "state"].startswith("401 Incorrect API key")


def test_status_names_what_is_cooling_down(shell: Shell, make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router(mid=["o/status-429-30", "a/ok"]))
    shell.run("%%route\nExplain closures")
    output = shell.run("%router status").out
    assert re.search(r"o/status-429-30: cooling down for (30\.0|2\d\.\d) s: 429 Rate limit reached", output)


def test_status_tells_what_is_left_of_a_budget(shell: Shell, make_router: MakeRouter) -> None:
    ipyrouter.use_router(make_router(budget={"day": 5, "session": 2}))
    shell.run("%%route\nExplain closures")
    out = shell.run("%router status").out
    assert "budget for this session: $2.00 left" in out
    assert "budget for today: $5.00 left" in out


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_export(shell: Shell, suffix: str) -> None:
    shell.run("%%route\nExplain closures")
    assert "Wrote 1 row to" in shell.run(f"%router export 'my log{suffix}'").out
    path = Path(f"my log{suffix}")
    readers: dict[str, Callable[[Path], Any]] = {
        ".csv": pd.read_csv,
        ".json": lambda p: pd.DataFrame(json.loads(p.read_text())),
        ".parquet": pd.read_parquet,
    }
    frame = readers[suffix](path)
    assert list(frame["prompt"]) == ["Explain closures"]
    assert list(frame["cost_pico"]) == [410_000_000]


@pytest.mark.parametrize(
    ("filters", "models"),
    [
        ("", ["ok", "ok", "echo"]),
        ("--tier power", ["echo"]),
        ("--status cached", ["ok"]),
        ("--model ok --status ok", ["ok"]),
        ("--since 2020-01-01 --until 2021-01-01", []),
        ("--since yesterday", ["ok", "ok", "echo"]),
    ],
)
@pytest.mark.parametrize("order", ["{file} {filters}", "{filters} {file}"])
def test_export_of_some_rows(shell: Shell, filters: str, models: list[str], order: str) -> None:
    shell.run("%%route -q\nExplain closures")
    shell.run("%%route -q\nExplain closures")
    shell.run("%%route -q -t power -m o/echo\nExplain closures")
    ran = shell.run(f"%router export {order.format(file='log.json', filters=filters)}")
    assert ran.error is None, ran.out + ran.err
    assert [row["model"] for row in json.loads(Path("log.json").read_text())] == models


def test_help(shell: Shell) -> None:
    text = shell.run("%route --help").out
    for option in ("--tier", "--model", "--system", "--out", "--max-tokens", "--temperature", "--refresh", "--no-cache",
                   "--dry-run", "--quiet"):  # fmt: skip
        assert option in text
    overview = shell.run("%router").out
    for name in ("log", "report", "compare", "models", "config", "status", "reset", "clear-cache", "export"):
        assert f"  {name}" in overview
        assert f"%router {name}" in shell.run(f"%router {name} --help").out


def test_unload_takes_everything_away(shell: Shell) -> None:
    registered = shell.ip.magics_manager.magics
    formatter = shell.ip.display_formatter.ipython_display_formatter
    before = len(shell.ip.events.callbacks["post_run_cell"])
    assert {"route", "router"} <= set(registered["line"])
    shell.ip.run_line_magic("unload_ext", "ipyrouter")
    assert not {"route", "router"} & set(registered["line"])
    assert "route" not in registered["cell"]
    assert ("ipyrouter.types", "Answer") not in formatter.deferred_printers
    assert Answer not in formatter.type_printers
    assert len(shell.ip.events.callbacks["post_run_cell"]) == before - 1
    shell.ip.run_line_magic("load_ext", "ipyrouter")
    assert "route" in registered["cell"]


def test_a_mistake_leaves_no_badge(shell: Shell) -> None:
    for cell in ("%%route --temperature 5\nx", "%%route -m nonsense\nx", "%%route\n "):
        ran = shell.run(cell)
        assert isinstance(ran.error, UsageError)
        assert "failed" not in ran.out


def test_the_dry_run_foresees_what_would_stop_the_call(shell: Shell, requests: list[Any]) -> None:
    shell.run("%config IPyRouter.max_usd = 0.0000001\n")
    shell.run("%config IPyRouter.over_budget = 'block'")
    assert "A budget forbids this call" in shell.run("%%route -n\nExplain closures").out
    shell.run("big = 'word ' * 300_000")
    assert "needs --yes" in shell.run("%%route -n\nSum up {{big}}").out
    assert "power; the prompt by itself: mid" in shell.run("%%route -n -t power\nExplain closures").out
    assert not requests


def test_a_misspelt_config_class_is_told(shell: Shell) -> None:
    assert "Did you mean IPyRouter?" in shell.run("%config IpyRouter.max_usd = 1").err
    assert shell.run("%config IPyRouter.max_usd = 1").err == ""
    assert "IPyRouter has no setting 'nosuch'" in str(shell.run("%config IPyRouter.nosuch").error)
