"""The panel: figures, filters, paging, export, and that it stays live without filling the memory."""

from __future__ import annotations

import datetime as dt
import io
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from ipyrouter.notebook.panel import charts
from ipyrouter.notebook.panel.figures import Figures, Spent, Sums, as_html, as_text, gather, with_notebooks
from ipyrouter.notebook.panel.log_rows import COLUMNS
from ipyrouter.notebook.panel.panel import Panel
from ipyrouter.notebook.rendering import COLOURS
from ipyrouter.router import Router
from ipyrouter.store.base import LogFilter, Record
from ipyrouter.types import TIERS, Answer, Attempt, Candidate, Classification, Cost, Session, TierName, Usage
from tests.faults.server import FaultServer
from tests.notebook.conftest import Shell
from tests.notebook.kernels import execute_notebook, kernel
from tests.notebook.test_kernel import mid_chain

MakeRouter = Callable[..., Router]
OLD = Session("old session", dt.datetime(2026, 11, 1, tzinfo=dt.UTC))


@pytest.fixture
def panel(shell: Shell, make_router: MakeRouter) -> Iterator[Panel]:
    fresh = Panel(make_router())
    fresh.show()
    yield fresh
    fresh.close()


def answer(number: int, *, tier: TierName = "mid", cost: Decimal | None = Decimal("0.5"), **more: Any) -> Answer:
    usage = Usage(1000, 100)
    attempt = Attempt(tier=tier, candidate=Candidate("o", more.pop("model", "ok")), status=more.pop("status", "ok"),
                      usage=usage, cost=Cost(cost), latency=1.0, finish="stop")  # fmt: skip
    return Answer(
        id=f"{number:04}", text="", tier=tier, provider="o", model=attempt.candidate.model, cost=cost, usage=usage,
        cached=attempt.status == "cached", latency=1.0, finish="stop",
        classification=Classification(tier, 0.5, 0.5, ()), attempts=(attempt,), **more,
    )  # fmt: skip


def fill(router: Router, answers: list[Answer]) -> None:
    router.store.restore([Record(one, "ok", f"prompt {one.id}", None, OLD) for one in answers])


def figures(router: Router, log_filter: LogFilter | None = None) -> Figures:
    return gather(router, Sums(router.store, log_filter or LogFilter()), "all")


def prompts_of(panel: Panel) -> list[str]:
    return re.findall(r"prompt (\d{4})", panel._table.value)


def test_no_row_is_lost_between_pages_while_answers_come(shell: Shell, make_router: MakeRouter) -> None:
    """Each page goes on where the one before it, as it was last shown, has ended."""
    router = make_router()
    day = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    rows = [answer(number, created=day + dt.timedelta(minutes=number)) for number in range(60)]
    fill(router, rows[:45])
    panel = Panel(router)
    panel.show()
    fill(router, rows[45:52])
    panel._redraw()
    seen = prompts_of(panel)
    panel._older.click()
    seen += prompts_of(panel)
    fill(router, rows[52:])  # what comes now belongs before the pages that were read
    panel._older.click()
    seen += prompts_of(panel)
    assert seen == [f"{number:04}" for number in reversed(range(52))]
    panel._newer.click()
    panel._newer.click()
    assert prompts_of(panel)[0] == "0059"
    panel.close()


def test_figures_of_a_log(make_router: MakeRouter) -> None:
    router = make_router()  # the power model's rates: 1 and 10 dollars per million tokens
    day = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
    fill(
        router,
        [
            answer(1, created=day, cost=Decimal("0.000000000001")),
            answer(2, created=day + dt.timedelta(hours=3), tier="fast", cost=Decimal("0.25")),
            answer(3, created=day + dt.timedelta(days=1), status="cached", cost=Decimal(0), cost_saved=Decimal("0.25")),
        ],
    )
    result = figures(router)
    assert result.spent == Decimal("0.250000000001")
    assert (result.calls, result.hits, result.rows, result.saved) == (2, 1, 3, Decimal("0.25"))
    assert result.against_power == 3 * Decimal("0.002") - result.spent
    assert result.tiers == {"fast": Decimal("0.25"), "mid": Decimal("0.000000000001"), "power": 0}
    assert result.totals[-1] == result.spent
    assert dict(result.cards())["spent"] == "$0.25"
    cards = dict(result.cards())
    assert cards["average"] == "$0.13 a call"
    assert cards["saved against all power"] == "−$0.24 (−4067 %)"
    part = figures(router, LogFilter(since=day + dt.timedelta(hours=1), until=day + dt.timedelta(hours=5)))
    assert (part.spent, part.rows) == (Decimal("0.25"), 1)


def test_costs_of_each_model_and_notebook(make_router: MakeRouter) -> None:
    router = make_router()
    day = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
    named = replace(OLD, notebook="a.ipynb")
    costs = (("m1", Decimal("0.5"), named), ("m2", Decimal("0.25"), OLD), ("m1", None, named), ("m1", Decimal(1), OLD))
    router.store.restore(
        [Record(answer(n, model=model, cost=cost, created=day), "ok", "x", None, session)
         for n, (model, cost, session) in enumerate(costs)]
    )  # fmt: skip
    sums = Sums(router.store, LogFilter())
    result = with_notebooks(gather(router, sums, "all"), sums)
    assert result.models == {"o/m1": Spent(3, Decimal("1.5"), 1), "o/m2": Spent(1, Decimal("0.25"))}
    assert list(result.models) == ["o/m1", "o/m2"]
    assert result.notebooks == {"(no notebook)": Spent(2, Decimal("1.25")), "a.ipynb": Spent(2, Decimal("0.5"), 1)}
    page, text = as_html(result, b""), as_text(result)
    for name in ("a.ipynb", "(no notebook)", "o/m1"):
        assert name in unescape(page)
        assert name in text
    assert "at least $0.50" in text


def test_small_averages_are_written_for_a_thousand_calls(make_router: MakeRouter) -> None:
    router = make_router()
    fill(router, [answer(1, cost=Decimal("0.002")), answer(2, cost=Decimal("0.003")), answer(3, cost=None)])
    assert dict(figures(router).cards())["average"] == "$2.50 per 1,000 calls"


def test_a_log_of_free_calls_shows_calls(make_router: MakeRouter) -> None:
    router = make_router()
    fill(router, [answer(1, cost=Decimal(0)), answer(2, cost=Decimal(0), tier="fast")])
    result = figures(router)
    assert result.counts[-1] == 2
    page = as_html(result, b"png")
    assert "Nothing was spent" in page
    assert "Calls per tier: fast 1, mid 1, power 0. Calls over time: 2 in all." in unescape(page)


def test_unknown_prices_are_said(make_router: MakeRouter) -> None:
    router = make_router()
    fill(router, [answer(1), answer(2, cost=None)])
    cards = dict(figures(router).cards())
    assert cards["spent"] == "at least $0.50, 1 call unpriced"
    assert cards["saved against all power"] == "at least −$0.50, 1 request unpriced"


def test_what_is_not_known_is_not_nothing(make_router: MakeRouter) -> None:
    router = make_router()
    fill(router, [answer(1, status="cached", cost=Decimal(0)), answer(2, cost=None)])
    cards = dict(figures(router).cards())
    assert cards["spent"] == "unknown, 1 call unpriced"
    assert cards["saved by the cache"] == "unknown, 1 answer unpriced"
    # The cached answer would have cost $0.002; what the unpriced one saved is anybody's guess.
    assert cards["saved against all power"] == "at least $0.0020, 1 request unpriced"
    report = router.report(span="all")
    assert (figures(router).unpriced, figures(router).unsaved) == (report.unpriced, report.unsaved)


def test_a_retired_model_is_no_measure(make_router: MakeRouter) -> None:
    router = make_router(power=["o/gone", "o/ok"], retired={"gone": dt.date(2020, 1, 1)})
    router.configure({"prices": {"o/gone": {"input": 1000, "output": 1000}}})
    fill(router, [answer(1)])
    assert figures(router).against_power == Decimal("0.002") - Decimal("0.5")


def test_an_empty_log(panel: Panel) -> None:
    assert "no such row yet" in panel._table.value
    assert figures(panel.router).cards()[0] == ("spent", "$0")


def test_the_panel_follows_what_is_asked(panel: Panel) -> None:
    panel.router.route("Explain closures")
    panel.flush()
    assert "Explain closures" in panel._table.value
    assert panel._place.value == "page 1 of 1 · 1 row"
    panel.router.route("Explain closures")
    panel.flush()
    assert panel._place.value == "page 1 of 1 · 2 rows"
    assert "cached" in panel._table.value


def test_filters_and_pages(panel: Panel) -> None:
    start = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    fill(
        panel.router,
        [
            answer(n, created=start + dt.timedelta(hours=n), tier="fast" if n % 3 else "power", model=f"m{n % 2}")
            for n in range(50)
        ],
    )
    panel.show()
    assert panel._place.value == "page 1 of 3 · 50 rows"
    assert "prompt 0049" in panel._table.value
    assert panel._newer.disabled
    panel._older.click()
    assert "prompt 0029" in panel._table.value
    panel._older.click()
    assert "prompt 0000" in panel._table.value
    assert panel._older.disabled
    panel._newer.click()
    assert panel._place.value == "page 2 of 3 · 50 rows"
    assert list(panel._when.options) == [
        "all", "today", "last 7 days", "last 30 days", "this session", "2026-11-22", "2026-11-21", "2026-11-20",
    ]  # fmt: skip
    panel._when.value = "2026-11-21"
    assert panel._place.value == "page 1 of 2 · 24 rows"
    panel._facets["tier"].value = "power"
    assert panel._place.value == "page 1 of 1 · 8 rows"
    panel._facets["model"].value = "m1"
    assert panel._place.value == "page 1 of 1 · 4 rows"
    panel._facets["status"].value = "error"
    assert panel._place.value == "page 1 of 1 · 0 rows"
    for control in (panel._when, *panel._facets.values()):
        control.value = "all"
    panel._when.value = "this session"
    assert panel._place.value == "page 1 of 1 · 0 rows"


def test_what_there_is_nothing_to_choose_from_is_not_shown(panel: Panel) -> None:
    shown = {name for name, dropdown in panel._facets.items() if dropdown.layout.display != "none"}
    assert shown == {"tier", "status"}
    tagged = Record(answer(1), "ok", "x", None, replace(OLD, notebook="a.ipynb"), tags=("project",))
    panel.router.store.restore([tagged])
    panel.show()
    shown = {name for name, dropdown in panel._facets.items() if dropdown.layout.display != "none"}
    assert shown == {"tier", "model", "status", "notebook", "tag"}  # a file of one's own has no users
    assert list(panel._facets["tag"].options) == ["all", "project"]


def test_what_is_chosen_stays_while_there_is_more_to_choose(panel: Panel) -> None:
    day = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    fill(panel.router, [answer(1, model="m1", created=day), answer(2, model="m0", created=day)])
    panel.show()
    panel._when.value = "2026-11-20"
    panel._facets["model"].value = "m1"
    fill(panel.router, [answer(3, model="a", created=day), answer(4, created=day + dt.timedelta(days=1))])
    panel._redraw()
    assert "a" in panel._facets["model"].options
    assert "2026-11-21" in panel._when.options
    assert (panel._facets["model"].value, panel._when.value) == ("m1", "2026-11-20")
    assert prompts_of(panel) == ["0001"]


def test_ranges_end_with_today(panel: Panel) -> None:
    now = dt.datetime.now(dt.UTC)
    fill(panel.router, [answer(days, created=now - dt.timedelta(days=days)) for days in (0, 6, 8, 29, 31)])
    panel.show()
    numbers = {}
    for span in ("today", "last 7 days", "last 30 days", "all"):
        panel._when.value = span
        numbers[span] = panel._rows
    assert numbers == {"today": 1, "last 7 days": 2, "last 30 days": 4, "all": 5}


def test_sorted_pages_hold_every_row_once(panel: Panel) -> None:
    fill(panel.router, [answer(n, cost=Decimal(n % 7)) for n in range(50)])
    panel.show()
    panel._sort.value = "cost, descending"
    assert 'aria-sort="descending"' in panel._table.value
    seen = []
    for _ in range(3):
        seen += prompts_of(panel)
        panel._older.click()
    assert sorted(seen) == [f"{n:04}" for n in range(50)]
    costs = [int(name) % 7 for name in seen]
    assert costs == sorted(costs, reverse=True)
    panel._sort.value = "newest first"
    assert panel._place.value == "page 1 of 3 · 50 rows"


def test_a_row_opens_its_request(panel: Panel) -> None:
    router = panel.router
    router.route("Why <b>this</b>\nand $that$?", tier="mid")
    router.route("Something else", tier="mid")
    panel.show()
    assert [name.partition(" · ")[2] for name, _ in panel._row.options[1:]] == [
        "Something else", "Why <b>this</b> and $that$?",
    ]  # fmt: skip
    panel._row.value = panel._row.options[2][1]
    page = panel._request.value
    assert "Why &lt;b&gt;this&lt;/b&gt;\nand $that$?" in page
    assert "mathjax_ignore" in page
    assert "classified as" in page
    for head in ("attempt", "cost", "status", "model", "error"):
        assert f">{head}</th>" in page
    router.route("A third", tier="mid")
    panel.flush()
    assert panel._request.value == page  # it stays open while answers come
    panel._row.value = ""
    assert panel._request.value == ""


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_export_writes_the_rows_that_are_shown(panel: Panel, kind: str) -> None:
    fill(panel.router, [answer(1, tier="fast"), answer(2, tier="mid")])
    panel.show()
    panel._facets["tier"].value = "fast"
    panel._kind.value = kind
    panel._export.click()
    (path,) = Path().glob(f"*.{kind}")
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[kind]
    assert list(read(path)["tier"]) == ["fast"]
    assert f"Wrote 1 row to {path.absolute()}" in unescape(panel._message.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_when", "2026-11-21"), ("_when", "this session"), ("_when", "today"), ("tier", "power"), ("model", "m1"),
        ("status", "cached"), ("notebook", "a.ipynb"), ("tag", "x"), ("_text", "PROMPT 000"),
    ],
)  # fmt: skip
def test_each_filter_holds_for_the_export(panel: Panel, name: str, value: str) -> None:
    start = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    rows = [
        answer(n, created=start + dt.timedelta(hours=n), tier="fast" if n % 3 else "power", model=f"m{n % 2}",
               status="ok" if n % 5 else "cached")
        for n in range(50)
    ]  # fmt: skip
    fill(panel.router, rows)
    noted = Record(answer(99, created=start), "ok", "a prompt", None, replace(OLD, notebook="a.ipynb"), tags=("x",))
    panel.router.store.restore([noted])
    panel.router.route("Explain closures")
    panel.show()
    (panel._facets[name] if name in panel._facets else getattr(panel, name)).value = value
    number = panel._rows
    assert 0 < number < 52
    panel._export.click()
    (path,) = Path().glob("*.csv")
    assert len(pd.read_csv(path)) == number


def test_headers_stand_above_their_columns_whatever_else_is_shown(panel: Panel) -> None:
    """Rules of a page, such as those that pandas brings along, do not win over what stands at the cell itself."""
    panel.router.route("Explain closures")
    panel.flush()
    table = panel._table.value
    assert "dataframe" not in table
    assert "<style" not in table
    heads, cells = (re.findall(f'<{tag} [^>]*style="([^"]*)"', table) for tag in ("th", "td"))
    assert heads == cells
    sides = dict(zip(COLUMNS, (style.partition(";")[0] for style in cells), strict=True))
    assert {name for name, side in sides.items() if side == "text-align:right"} == {"cost", "tokens", "took", "saved"}
    assert "tabular-nums" in table[: table.index("<thead>")]


def test_two_panels_have_filters_pages_and_figures_of_their_own(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        first = running.run("%router panel", cell="first").displays[0]["transient"]["display_id"]
        second = running.run("%router panel", cell="second").displays[0]["transient"]["display_id"]
        assert first != second
        reply = running.run("%%route -t mid\nExplain closures")
        assert {update["transient"]["display_id"] for update in reply.others} == {first, second}
        panels = 'panels = get_ipython().magics_manager.registry["RouterMagics"].panels'
        chosen = running.run(f"{panels}\npanels['first']._facets['tier'].value = 'fast'")
        assert [update["transient"]["display_id"] for update in chosen.others] == [first]
        assert "calls: 0" in chosen.others[0]["data"]["text/plain"]
        output = running.run("print(panels['second']._facets['tier'].value, panels['second']._place.value)").out
        assert output == "all page 1 of 1 · 1 row\n"
        again = running.run("%router panel", cell="first")  # run again, it is as it was
        assert "all of the log · fast" in again.displays[0]["data"]["text/plain"]
        assert running.run("print(len(panels))").out == "2\n"
        running.run("%unload_ext ipyrouter")
        assert running.run("import ipyrouter\nprint(ipyrouter.default_router().listeners)").out == "[]\n"


def test_hostile_names_and_prompts_stay_text(make_router: MakeRouter) -> None:
    router = make_router()
    hostile = answer(1, model="<img src=x onerror=alert(1)>\u202e\x1b[31m")
    router.store.restore(
        [Record(hostile, "ok", "<script>alert(1)</script> $x$ | `", None, replace(OLD, id="</table>"))]
    )
    panel = Panel(router)
    panel.show()
    panel._facets["model"].value = hostile.model
    for html in (panel._table.value, as_html(panel._figures(), b"")):
        assert "<img" not in html
        assert "<script" not in html
        assert "\u202e" not in html
        assert "mathjax_ignore" in html
    assert "&lt;script&gt;" in panel._table.value
    panel.close()


def test_a_listener_that_fails_does_not_cost_the_answer(make_router: MakeRouter) -> None:
    router = make_router()
    router.listeners.append(lambda _: 1 / 0)
    assert "A listener raised ZeroDivisionError" in router.route("Explain closures").notes[0]
    assert not router.route("Explain closures").notes


def test_a_panel_that_failed_lives_again_when_shown(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "_fill", lambda: 1 / 0)
    panel._last_draw = 0.0
    assert "A listener raised ZeroDivisionError" in panel.router.route("Explain closures").notes[0]
    assert panel.router.listeners == []
    monkeypatch.undo()
    panel.show()
    panel.show()
    assert len(panel.router.listeners) == 1
    panel.router.route("Explain generators")
    panel.flush()
    assert "Explain generators" in panel._table.value


def test_a_newer_database_costs_no_cell_and_prints_no_traceback(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter\n%router panel")
        running.run("%%route\nExplain closures")
        running.run("import ipyrouter, sqlite3\nrouter = ipyrouter.default_router()\nrouter.store.close()")
        running.run("with sqlite3.connect(router.store.health().path) as c: c.execute('PRAGMA user_version = 99')")
        running.run("router.store.close()")
        reply = running.run("%%route\nExplain generators")
        assert (reply.status, reply.out, reply.error) == ("ok", "", "")
        assert "written by a newer ipyrouter" in reply.markdown
        assert "written by a newer ipyrouter" in running.run("%router panel").error


def test_a_closed_panel_leaves_no_control(make_router: MakeRouter, shell: Shell) -> None:
    panel = Panel(make_router())
    panel.show()
    panel.close()
    assert [w for w in (panel.controls, panel._when, panel._older, panel._table, panel._message) if w.comm] == []


def test_the_log_holds_no_maths(shell: Shell) -> None:
    shell.run("%%route -q\nWhat is $x$?")
    log = shell.run("%router log").value
    assert "mathjax_ignore" in log._repr_html_()
    assert "What is $x$?" in unescape(log._repr_html_())


def test_in_a_terminal_the_panel_is_text(shell: Shell) -> None:
    shell.run("%%route -q\nExplain closures")
    output = shell.run("%router panel").out
    assert "ipyrouter · all of the log" in output
    assert "calls: 1" in output
    assert "mid: $" in output


def test_a_live_panel_in_a_kernel(home: Path, server: FaultServer) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        panel = running.run("%router panel")
        assert panel.status == "ok", panel.error
        figures, controls = panel.displays
        assert set(figures["data"]) == {"text/html", "text/plain"}
        assert "application/vnd.jupyter.widget-view+json" in controls["data"]
        reply = running.run("%%route\nExplain closures")
        assert reply.others[-1]["transient"] == figures["transient"]
        assert "calls: 1" in reply.others[-1]["data"]["text/plain"]
        loop = running.run(
            "import ipyrouter\nfor _ in range(300):\n    ipyrouter.route('Explain closures')"
        )  # 300 answers from the cache
        assert "cache hits: 300" in loop.others[-1]["data"]["text/plain"]
        assert len(loop.others) < 100
        assert running.run("import sys; print('matplotlib.pyplot' in sys.modules)").out == "False\n"
        running.run("%unload_ext ipyrouter")
        assert running.run("print(ipyrouter.default_router().listeners)").out == "[]\n"


def test_a_saved_notebook_keeps_the_figures(home: Path, server: FaultServer, tmp_path: Path) -> None:
    import nbformat  # late: four seconds
    from nbconvert import HTMLExporter, MarkdownExporter

    mid_chain(home, server, '["o/ok"]')
    cells = ["%load_ext ipyrouter", "%router panel", "%%route\nExplain closures"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    execute_notebook(notebook, store_widget_state=False)
    nbformat.write(notebook, tmp_path / "saved.ipynb")
    again = nbformat.read(tmp_path / "saved.ipynb", as_version=4)
    nbformat.validate(again)
    data = again.cells[1].outputs[0]["data"]
    assert "calls: 1" in data["text/plain"]
    assert len(data["text/html"]) < 40_000
    assert "<svg" not in data["text/html"]  # a JupyterLab that does not trust the notebook leaves its words behind
    assert re.search(
        r'<img src="data:image/png;base64,[\w+/=]{1000,}" alt="Cost per tier: fast &#36;0, mid', data["text/html"]
    )
    assert "widgets" not in again.metadata
    page, _ = HTMLExporter().from_notebook_node(again)
    text, _ = MarkdownExporter().from_notebook_node(again)
    assert "saved against all power" in page
    assert "saved against all power" in text


@pytest.mark.parametrize("times", [1, 2])
def test_what_one_moment_has_cost_is_seen_in_the_chart(times: int) -> None:
    moments = [dt.datetime(2026, 11, 29, 9, minute, tzinfo=dt.UTC) for minute in range(times)]
    series = charts.Series("cost", "over time", {"power": 0.5}, moments, [0.5] * times, str)
    picture = Image.open(io.BytesIO(charts.draw(series))).convert("RGB")
    line = picture.crop((picture.width // 2, 0, *picture.size))
    blue = sum(count for count, (red, _, blue) in line.getcolors(1_000_000) if blue > red + 100)
    assert blue > line.width / 4  # pixels


@pytest.mark.parametrize("large", TIERS)
def test_a_small_bar_has_the_colour_of_its_tier(large: TierName) -> None:
    moments = [dt.datetime(2026, 11, 29, 9, minute, tzinfo=dt.UTC) for minute in range(30)]
    tiers = {tier: 1.0 if tier == large else 0.02 for tier in TIERS}
    series = charts.Series("cost", "over time", tiers, moments, [0.01 * n for n in range(30)], str)
    picture = Image.open(io.BytesIO(charts.draw(series))).convert("RGB")
    drawn = [colour for _, colour in picture.getcolors(1_000_000)]
    for tier in TIERS:
        wanted = bytes.fromhex(COLOURS[tier][1:])
        assert min(max(map(abs, map(operator.sub, colour, wanted))) for colour in drawn) <= 8, tier
