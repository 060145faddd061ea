"""What `--with` makes of tables: a summary of each column, rows that represent the rest, and what was left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ipyrouter.errors import UsageError
from ipyrouter.notebook.prompt import attachments
from ipyrouter.notebook.prompt.tables import Choice, spread
from tests.notebook.conftest import Shell

CITIES = ["Oslo", "Rome", "Oslo", None] * 50
SALES = pd.DataFrame({"city": CITIES, "revenue": np.arange(200) / 2, "day": pd.date_range("2026-01-01", periods=200)})
SECRET = "A1b2hunter22"


def described(value: Any, rows: int | None = None, *columns: str) -> attachments.Piece:
    (piece,) = attachments.variables("df", {"df": value}, Choice(rows, columns))
    return piece


@pytest.mark.parametrize(
    ("value", "title"),
    [
        (SALES, "pandas DataFrame"),
        (pl.from_pandas(SALES), "polars DataFrame"),
        (pa.Table.from_pandas(SALES, preserve_index=False), "pyarrow Table"),
        (SALES.style, "pandas DataFrame"),
    ],
    ids=["pandas", "polars", "pyarrow", "Styler"],
)
def test_a_table_is_summed_up_and_represented(value: Any, title: str) -> None:
    piece = described(value)
    lines = piece.body.splitlines()
    assert f"({title}, 200 rows × 3 columns)" in piece.title
    assert lines[0].startswith("city: ")
    assert lines[0].endswith(", 50 missing; 2 different: 'Oslo' 100, 'Rome' 50")
    assert lines[1].endswith("; from 0 to 99.5, quartiles 24.875, 49.75, 74.625, mean 49.75")
    assert "; from 2026-01-01" in lines[2]
    assert lines[4].startswith("rows 1, 2, ")
    assert lines[4].endswith(", 200 of 200:")
    assert len(lines) == 11
    assert "99.5" in lines[-1]
    assert piece.note == "`df`: 5 of 200 rows sent."


def test_the_same_rows_each_time_and_as_many_as_asked() -> None:
    assert described(SALES).body == described(SALES).body
    assert described(SALES, 20).note == "`df`: 20 of 200 rows sent."
    assert described(SALES, 500).note == ""
    assert described(SALES, 500).body.count("\n") == 3 + 1 + 200


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("most", [1, 2, 3, 5, 10, 99])
def test_rows_are_in_order_and_each_once(length: int, most: int) -> None:
    places = spread(length, most)
    assert len(places) == min(length, most)
    assert places == sorted(set(places))
    assert set(places) <= set(range(length))
    assert not places or places[0] == 0
    assert most == 1 or not places or places[-1] == length - 1


def test_columns_are_chosen_by_name() -> None:
    piece = described(SALES, 2, "revenue", "city")
    assert piece.body.startswith("revenue: float64")
    assert "day" not in piece.body
    assert piece.note == "`df`: 2 of 200 rows and 2 of 3 columns sent."
    with pytest.raises(UsageError, match=r"--columns: there is no column 'revenu'\. Did you mean 'revenue'\?"):
        described(SALES, None, "revenu")


def test_wide_and_deep_tables() -> None:
    piece = described(pd.DataFrame(np.zeros((3, 5000))))
    assert "… and 4,960 more columns, up to 4999" in piece.body
    assert piece.note == "`df`: 40 of 5,000 columns sent."
    levels = pd.MultiIndex.from_product([["p", "q"], ["lo", "hi"]])
    piece = described(pd.DataFrame(np.arange(8).reshape(2, 4), columns=levels), None, "q/lo", "p")
    assert [line.partition(":")[0] for line in piece.body.splitlines()[:3]] == ["q/lo", "p/lo", "p/hi"]


def test_a_series_and_values_that_cannot_be_counted() -> None:
    assert "(pandas Series, 3 rows × 1 columns)" in described(pd.Series([1, 2, 3], name="rev")).title
    assert "(polars Series, 3 rows × 1 columns)" in described(pl.Series("rev", [1, 2, 3])).title
    for value in ([{1}, "a", None, [2]], [pd.NA, 1, 2.5], [b"a", b"b"], [1j, 2j], []):
        assert described(pd.DataFrame({"o": pd.Series(value, dtype=object)})).body.startswith("o: object")
    for column in ([[1], [2]], [None, None], [True, False], [float("nan"), 1.0]):
        assert described(pl.DataFrame({"o": column})).body.startswith("o: ")
        assert described(pa.table({"o": column})).body.startswith("o: ")


def test_no_secret_stands_in_a_summary() -> None:
    frame = {"password": [SECRET, SECRET, "x"], "pin_token": [SECRET] * 3}
    for table in (pd.DataFrame(frame), pl.DataFrame(frame), pa.table(frame)):
        assert SECRET not in str(described(table))


def test_a_quoted_secret_in_a_cell_is_removed() -> None:
    table = pd.DataFrame({"note": [f'password="{SECRET}"', f'{{"api_key": "{SECRET}"}}']})
    for value in (table, pl.from_pandas(table), pa.Table.from_pandas(table)):
        assert SECRET not in described(value).body


def test_odd_values_stand_in_their_rows() -> None:
    body = described(pd.DataFrame({"n": [10**5000, 2], "b": [b"x" * 10_000, None]}, dtype=object)).body
    assert "about 1.000e5000" in body
    assert "1,2," in body
    assert len(body) < 2000


class Uncountable:
    """No two of them can be compared, and none can be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError


def test_objects_of_a_stranger_in_polars() -> None:
    table = pl.DataFrame({"o": pl.Series([Uncountable(), Uncountable()], dtype=pl.Object), "n": [1, 2]})
    assert "n: Int64; from 1 to 2" in described(table).body


@pytest.mark.filterwarnings("error")
def test_numbers_that_are_not_finite_are_counted_apart() -> None:
    numbers = {"x": [1.0, 2.0, 3.0, np.inf, -np.inf], "y": [np.inf] * 5}
    for table in (pd.DataFrame(numbers), pl.DataFrame(numbers), pa.table(numbers)):
        body = described(table).body
        assert ", 2 infinite; from 1 to 3, quartiles 1.5, 2, 2.5, mean 2" in body
        assert ", 5 infinite\n" in body
    assert ", 1 NaN; from 1 to 1" in described(pl.DataFrame({"x": [1.0, float("nan")]})).body


def test_a_long_cell_is_searched_for_keys_only_where_it_is_shown() -> None:
    body = described(pd.DataFrame({"s": [f'password="{SECRET}" ' + "x" * 5_000_000]})).body
    assert SECRET not in body
    assert len(body) < 1000


def test_an_array_of_pyarrow_and_a_lazy_frame() -> None:
    piece = described(pa.array([1, 2, 3]))
    assert "pyarrow Int64Array, 3 rows" in piece.title
    assert piece.body.endswith("values\n1\n2\n3")
    assert described(pl.DataFrame({"a": [1]}).lazy()).note == "`df`: no row sent, as none is computed yet."


def test_a_table_too_large_for_a_prompt_gets_fewer_rows() -> None:
    text = pd.DataFrame({"t": [f"{place} {'x' * 400}" for place in range(1000)]})
    piece = described(text, 900)
    assert len(piece.body) <= 60_000
    rows = int(piece.note.removeprefix("`df`: ").partition(" ")[0])
    assert 100 < rows < 150
    assert "characters left out" not in piece.body


def test_what_was_cut_is_said_at_the_answer(shell: Shell, requests: list[Any]) -> None:
    shell.run("import pandas as pd\na = pd.DataFrame({'x': range(200), 'y': range(200)})\nb = 5")
    ran = shell.run("%%route --with a --rows 3 --with b --columns x\nSum it up")
    assert ran.error is None
    assert "`a`: 3 of 200 rows and 1 of 2 columns sent." in ran.out
    content = requests[0][2]["messages"][-1]["content"]
    assert "`b` (int):\n5" in content
    assert content.count("\n199,199\n") == 1  # its index, and x
    assert shell.run("%%route --rows 3\nHello").error is not None
    for number in ("0", "-1", "1000000", "a"):
        error = str(shell.run(f"%%route --rows {number} --with a\nHello").error)
        assert error == f"{number!r} is not a valid number. Write a whole number from 1 to 999,999."
    assert len(requests) == 1


@pytest.mark.parametrize("names", ["--with a --with b", "--with a,b", "--with a, b", "--with a , b", "--with 'a, b'"])
def test_several_names(shell: Shell, requests: list[Any], names: str) -> None:
    shell.run("a, b = 5, 7")
    assert shell.run(f"%%route -q {names} -t fast\nWhich is larger?").error is None
    content = requests[0][2]["messages"][-1]["content"]
    assert "`a` (int):\n5" in content
    assert "`b` (int):\n7" in content
