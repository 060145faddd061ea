"""What days, weeks, months and the whole log came to; in words that are true, as text, Markdown and HTML."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ipyrouter
from ipyrouter import cli
from ipyrouter.errors import StoreError, UsageError
from ipyrouter.router import Router
from ipyrouter.types import Answer, Usage
from tests.faults.server import CACHED, IN, OUT

MakeRouter = Callable[..., Router]
LONG = "what is a list " + "x " * 40


def move(home: Path, answer: Answer, day: str) -> None:
    """Date an answer's rows back."""
    moment = int(dt.datetime.fromisoformat(f"{day}T12:00+00:00").timestamp() * 1e6)
    connection = sqlite3.connect(home / "ipyrouter.db")
    with connection:
        connection.execute("UPDATE attempts SET time = ? WHERE answer_id = ?", (moment, answer.id))
        connection.execute("UPDATE answers SET time = ? WHERE id = ?", (moment, answer.id))
    connection.close()


def test_a_report_of_no_rows(make_router: MakeRouter) -> None:
    report = make_router().report()
    assert (report.total, report.calls, report.cache_hits, report.errors) == (0, 0, 0, 0)
    assert str(report) == f"{dt.datetime.now(dt.UTC).date()}: $0 · 0 calls · 0 from the cache (saved $0)"
    assert report.to_html().count("<p ") == 1
    assert report.to_frame().loc[("total", ""), "calls"] == 0


def test_a_report_of_one_row(make_router: MakeRouter) -> None:
    router = make_router()
    answer = router.route("Explain closures")
    report = router.report()
    assert (report.total, report.calls) == (answer.cost, 1)
    assert list(report.models.index) == ["o/ok"]
    assert list(report.most_expensive["prompt"]) == list(report.slowest["prompt"]) == ["Explain closures"]


def test_a_report_by_tag_and_notebook(make_router: MakeRouter) -> None:
    router = make_router()
    router.configure({"log": {"tags": ["house"]}})
    first = router.route("Explain closures", tags=["b", "a"])
    second = router.route("Explain decorators", session=replace(router.session, notebook="n.ipynb"))
    third = router.route("Explain decorators", tags="a")  # from the cache
    assert third.cached
    report = router.report(by="tag")
    assert report.groups is not None
    figures = {name: (row["calls"], row["cache_hits"], row["cost"]) for name, row in report.groups.iterrows()}
    cost = (first.cost or 0) + (second.cost or 0)
    assert figures == {"a": (1, 1, first.cost), "b": (1, 0, first.cost), "house": (2, 1, cost)}
    assert report.total == cost
    assert "by tag" in str(report)
    assert report.to_frame().loc[("tag", "house"), "calls"] == 2
    assert "<td>house</td>" in report.to_html()
    notebooks = router.report(by="notebook").groups
    assert notebooks is not None
    assert notebooks["calls"].to_dict() == {"(no notebook)": 1, "n.ipynb": 1}
    users = router.report(by="user").groups
    assert users is not None
    assert users["calls"].to_dict() == {"(no user)": 2}
    assert router.report().groups is None
    with pytest.raises(UsageError, match=r"A report by 'tags' is not known\. Did you mean 'tag'\?"):
        router.report(by="tags")


@pytest.mark.parametrize("tags", ["a b", ["a,b"], [""], [3], ["x"] * 21, 5])
def test_tags_that_cannot_be(make_router: MakeRouter, tags: Any) -> None:
    router = make_router()
    with pytest.raises(UsageError, match=r"not a valid tag|21 tags are too many"):
        router.route("Explain closures", tags=tags)
    assert len(router.log()) == 0


def test_every_figure(make_router: MakeRouter) -> None:
    router = make_router(fast=["o/short"], mid=["o/status-503", "a/ok"], power=["o/stream-reset", "a/ok"])
    escalated = router.route(LONG)
    router.route(LONG)
    broken = router.route("Explain closures", tier="power")
    report = router.report()
    assert report.total == (escalated.cost or 0) + (broken.cost or 0)
    assert (report.calls, report.cache_hits, report.errors) == (5, 1, 2)
    assert report.saved == escalated.cost
    assert (report.fallbacks, report.escalations) == (2, 1)
    weak, *above = escalated.attempts
    assert report.escalation_cost == sum((attempt.cost.amount or Decimal(0) for attempt in above), Decimal(0)) > 0
    assert report.error_cost == broken.attempts[0].cost.amount != 0  # the stream that broke off had cost something
    assert report.tiers.loc["fast", "cost"] == weak.cost.amount
    assert list(report.tiers["calls"]) == [1, 2, 2]
    assert report.models.loc["o/status-503", ["calls", "errors", "cost"]].tolist() == [1, 1, 0]
    assert report.models["cost"].sum() == report.tiers["cost"].sum() == report.total
    assert report.tiers["cache_hits"].to_dict() == {"fast": 0, "mid": 1, "power": 0}
    assert list(report.most_expensive["model"]) == ["a/ok", "a/ok"]
    assert report.most_expensive["cost"].is_monotonic_decreasing
    assert report.slowest["latency"].is_monotonic_decreasing
    text = str(report)
    for part in (
        "5 calls · 1 from the cache",
        "2 failed, at $",
        "2 fallbacks",
        "1 escalation, at $",
        "fast: $",
        "a/ok",
    ):
        assert part in text
    frame = report.to_frame()
    assert frame.loc[("total", ""), "cost"] == report.total
    assert frame.loc[("tier", "mid"), "cache_hits"] == 1
    assert frame.loc["model", "cost"].sum() == report.total


def test_what_was_cooling_down_is_no_call(make_router: MakeRouter) -> None:
    router = make_router(mid=["o/status-401"])
    for _ in range(2):
        with pytest.raises(ipyrouter.IPyRouterError):
            router.route("Explain closures")
    report = router.report()
    assert len(router.log()) == 2
    assert (report.calls, report.errors) == (1, 1)


def test_spans(make_router: MakeRouter, home: Path) -> None:
    router = make_router()
    # 2026-11-23 is a Monday.
    for number, day in enumerate(("2026-10-31", "2026-11-01", "2026-11-22", "2026-11-23", "2026-11-29", "2026-12-01")):
        move(home, router.route(f"Question {number}"), day)
    assert router.report("2026-11-23").calls == 1
    week = router.report("2026-11-25", span="week")
    assert (week.calls, week.title) == (2, "2026-11-23 to 2026-11-29")
    month = router.report(dt.date(2026, 11, 30), span="month")
    assert (month.calls, month.title) == (4, "2026-11")
    assert router.report("2026-12-31", span="month").calls == 1
    assert router.report(span="all").calls == 6
    with pytest.raises(UsageError, match="Did you mean 'week'"):
        router.report(span="weak")
    assert router.report("2026-11-23T23:30-05:00").title == "2026-11-24"  # days are those of UTC
    for bad in ("soon", "NaT", "2026-13-01"):
        with pytest.raises(UsageError, match="is not a valid date"):
            router.report(bad)
    for far in ("9999-12-31", "1850-01-01"):
        with pytest.raises(UsageError, match="not a day that the log can hold"):
            router.report(far, span="week")
    with pytest.raises(UsageError, match="no day"):
        router.report("2026-11-23", span="all")


def test_unknown_prices_are_never_zero(make_router: MakeRouter) -> None:
    router = make_router(power=["a/ok"], prices={"o/ok": {"input": 1, "output": 10}})
    router.route("Explain closures", tier="power")
    router.route("Explain closures", tier="power")
    report = router.report()
    assert report.spent == "unknown, 1 call unpriced"
    assert "1 from the cache (saved unknown, 1 answer unpriced)" in str(report)
    assert report.models.loc["a/ok", ["unpriced", "unsaved"]].tolist() == [1, 1]
    assert "power: unknown, 1 call unpriced in 1 call" in str(report)
    router.route("Explain closures")
    report = router.report()
    assert report.spent == "at least $0.00042, 1 call unpriced"
    assert list(report.most_expensive["model"]) == ["o/ok"]  # an unknown cost has no rank
    assert len(report.slowest) == 2
    assert re.search(r"^ +\d +unknown ", str(report), re.MULTILINE)
    compared = router.compare()
    assert compared["cost"].isna().tolist() == [True, False, False, False]  # the model of the tier power has no price
    assert compared["unpriced"].tolist() == [3, 0, 2, 1]
    assert compared.loc["router + cache", "cost"] == pytest.approx(float(report.total))


def test_what_unpriced_faults_and_escalations_cost_is_unknown(make_router: MakeRouter) -> None:
    router = make_router(
        fast=["o/short"], mid=["o/stream-reset", "a/ok"], prices={"o/short": {"input": 1, "output": 1}}
    )
    router.route(LONG)
    report = router.report()
    assert (report.error_cost, report.error_unpriced) == (0, 1)
    assert (report.escalation_cost, report.escalation_unpriced) == (0, 2)
    line = "1 failed, at unknown, 1 call unpriced · 1 fallback · 1 escalation, at unknown, 2 calls unpriced"
    assert line in str(report)


def test_a_model_that_no_longer_exists(make_router: MakeRouter) -> None:
    make_router(mid=["a/ok"], prices={"a/ok": {"input": 2, "output": 2}}).route("Explain closures")
    router = Router({"retired": {"gpt-6.1-terra": dt.date(2026, 1, 1)}})  # knows no provider "a"
    assert list(router.report().models.index) == ["a/ok"]
    assert list(router.log()["model"]) == ["ok"]
    compared = router.compare()
    # A retired model is not a strategy any more: the next of its tier stands for it.
    assert compared.loc["all mid", "model"] == "anthropic/claude-sonnet-5-5"
    assert compared.loc["router", "cost"] == pytest.approx(2 * (IN + OUT) / 1e6)


def test_a_newer_schema_is_refused_and_not_touched(
    make_router: MakeRouter, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    router = make_router()
    router.route("Explain closures")
    router.close()
    connection = sqlite3.connect(home / "ipyrouter.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = {file.name: file.read_bytes() for file in home.iterdir()}
    router = make_router()
    looks: list[Callable[[], Any]] = [router.log, router.report, router.compare, lambda: router.report(span="all")]
    for look in looks:
        with pytest.raises(StoreError, match=r"newer ipyrouter \(schema 99, .* Upgrade ipyrouter"):
            look()
    assert cli.main(["report", "--month"]) == 1
    assert "Upgrade ipyrouter" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in home.iterdir()} == before


class Tags(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert attrs in ([], [("align", "right")], [("class", "mathjax_ignore tex2jax_ignore")]), (tag, attrs)
        self.names.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


HOSTILE = "<script>alert(1)</script> <img src=x onerror=y> | **b** [l](javascript:x) $x$ \x1b[31m &lt;b&gt; `c`\nnext"


def test_nothing_in_a_prompt_is_markup(make_router: MakeRouter) -> None:
    router = make_router()
    router.route(HOSTILE)
    report = router.report()
    page = Tags(report.to_html())
    assert page.names <= {"p", "table", "caption", "tr", "th", "td"}
    assert "<script>alert(1)</script> <img src=x onerror=y> | **b**" in page.words
    assert "$x" not in report.to_html()  # front ends take it for maths
    markdown = report._repr_markdown_()
    for active in ("<script", "<img", "**b**", "](javascript", "$x$", "`c`", "\x1b"):
        assert active not in markdown, active
    columns = {line.count("|") for line in markdown.splitlines() if line.startswith("| ") and "script" in line}
    assert columns == {8}
    assert "\x1b" not in str(report)
    assert "<script>" in str(report)


def test_no_request_stands_twice_and_numbers_stand_below_each_other(make_router: MakeRouter) -> None:
    router = make_router()
    for number in range(7):
        router.route(f"Question {number} {'and why ' * number}", tier="mid")
    report = router.report()
    assert set(report.most_expensive.index) & set(report.slowest.index)
    text, page, markdown = str(report), report.to_html(), report._repr_markdown_()
    for number in range(7):
        assert max(shown.count(f"Question {number} ") for shown in (text, page, markdown)) <= 1
    head, *rows = text[text.index("    by cost") :].splitlines()
    ends = {re.search(r"\$\d\.\d+", row).end() for row in rows}  # type: ignore[union-attr]
    assert len(rows) == len(set(report.most_expensive.index) | set(report.slowest.index))
    assert ends == {re.search("  cost( per 1,000)?", head).end()}  # type: ignore[union-attr]
    assert '<td align="right">' in page
    assert re.search(r"^\| :--- \| ---: \|", markdown, re.MULTILINE)
    assert not re.search("<span[^>]*></span>\n", markdown)  # no line of nothing


def test_a_notebook_gets_markdown_and_no_html(make_router: MakeRouter) -> None:
    report = make_router().report()
    assert not hasattr(report, "_repr_html_")  # JupyterLab would show it alone


def test_the_daily_report_prints_the_articles_lines(
    make_router: MakeRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    ipyrouter.use_router(make_router())
    ipyrouter.route("Explain closures")
    ipyrouter.route("Explain closures")
    report = ipyrouter.daily_report()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": $0.00041 · 1 call · 1 from the cache (saved $0.00041)")
    assert lines[1:] == ["  mid: $0.00041 in 1 call, 1 from the cache"]
    assert report.calls == 1


def test_the_command_line(make_router: MakeRouter, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    router = make_router()
    move(home, router.route("Explain closures"), "2026-11-01")
    router.close()
    for arguments, beginning in (
        (["2026-11-01"], "2026-11-01: $0.00041 · 1 call"),
        (["2026-11-01", "--week"], "2026-10-26 to 2026-11-01: $0.00041"),
        (["--month", "2026-11-30"], "2026-11: $0.00041"),
        (["--all"], "All time: $0.00041"),
    ):
        assert cli.main(["report", *arguments]) == 0
        assert capsys.readouterr().out.startswith(beginning)
    with pytest.raises(SystemExit):
        cli.main(["report", "--week", "--all"])


# --- the comparison ---


def test_the_comparison_counts_each_answered_request_once(make_router: MakeRouter) -> None:
    prices = {
        "o/short": {"input": 1, "output": 1},
        "a/ok": {"input": 4, "output": 8, "cached_input": 2},
        "o/ok": {"input": 10, "output": 20},
        "o/status-503": {"input": 100, "output": 100},
    }
    router = make_router(fast=["o/short"], mid=["a/ok"], power=["o/ok"], prices=prices)
    escalated = router.route(LONG)
    router.route(LONG)
    plain = router.route("Explain closures")
    with pytest.raises(ipyrouter.IPyRouterError):
        router.route("Explain generators", model="o/status-503")
    frame = router.compare()
    fresh = IN - CACHED
    assert frame.loc["all power", "cost"] == pytest.approx(3 * (IN * 10 + OUT * 20) / 1e6)  # no rate for cached tokens
    assert frame.loc["all mid", "cost"] == pytest.approx(3 * (fresh * 4 + CACHED * 2 + OUT * 8) / 1e6)
    assert escalated.cost is not None
    assert plain.cost is not None
    assert frame.loc["router + cache", "cost"] == pytest.approx(float(escalated.cost + plain.cost))
    assert frame.loc["router", "cost"] == pytest.approx(float(2 * escalated.cost + plain.cost))
    assert frame["calls"].tolist() == [3, 3, 4, 3]
    assert pd.isna(frame.loc["all power", "latency"])  # it never answered here
    log = router.log()
    ours = log[log["model"] == "ok"]
    assert frame.loc["all mid", "latency"] == pytest.approx(ours.loc[ours["status"] == "ok", "latency"].mean())
    sums = log[log["status"].isin(["ok", "weak"])].groupby("answer_id")["latency"].sum()
    # The repeated request would have taken what its model's requests took on average: here the mean of the two.
    assert frame.loc["router", "latency"] == pytest.approx(sums.mean())
    assert frame.loc["router + cache", "latency"] < frame.loc["router", "latency"]
    assert "Left out: 1 request without an answer, which cost $0." in frame.attrs["assumption"]


def test_the_comparison_prices_each_length_at_its_rate(make_router: MakeRouter, home: Path) -> None:
    """Band by band comes to the same as call by call, at genai-prices' own rates."""
    router = make_router()
    inputs = [100, 271_999, 272_000, 272_001, 500_000]
    for number, count in enumerate(inputs):
        answer = router.route(f"Question {number}")
        connection = sqlite3.connect(home / "ipyrouter.db")
        with connection:
            connection.execute("UPDATE attempts SET input_tokens = ? WHERE answer_id = ?", (count, answer.id))
        connection.close()
    other = Router()
    power = other.config.tiers["power"].chain[0]
    steps = other.pricing.thresholds(power)
    assert steps == (272_000,)
    each = [other.pricing.cost(power, Usage(count, OUT, CACHED)).amount or Decimal("NaN") for count in inputs]
    assert other.compare().loc["all power", "cost"] == float(sum(each))
