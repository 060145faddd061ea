"""Tables in words: shape, types, what is missing, a summary of each column, and rows that represent the rest.

Only methods that every table of its library has are called, and at most a million rows are summed up.
"""

from __future__ import annotations

import csv
import functools
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ipyrouter.errors import UsageError, did_you_mean
from ipyrouter.text import redact as removal

REMOVED = "[removed]"
_ROWS = 5
_COLUMNS = 40
_MOST = 6000  # characters of a table whose rows are not chosen
_MOST_CHOSEN = 60_000  # characters of one with --rows or --columns
_SUMMED = 1_000_000  # rows that are summed up
_COMMON = 3  # values of a column that are counted
_LABEL = 40  # characters of such a value
_SEPARATORS = ",;\t|"  # of a file; the first of those that are equally common
_SEED = 0  # the same table gives the same prompt, which the cache then knows


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user chose of a table: how many rows, and which columns; None and () leave it to the table."""

    rows: int | None = None
    columns: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """The most characters of a table."""
        return _MOST if self.rows is None and not self.columns else _MOST_CHOSEN


@dataclass(frozen=True, slots=True)
class Table:
    """A table in words.

    Attributes:
        title: What it is.
        body: The words.
        cut: What of it is not sent, "" where all of it is.
        has_rows: Whether rows of it are sent, which a user can choose.
    """

    title: str
    body: str
    cut: str = ""
    has_rows: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    """What of a library's table is looked at: its columns' names and types, its length, and how to get at the rest."""

    what: str
    names: Sequence[Any]
    types: Sequence[Any]
    length: int
    summary: Callable[[int], str]  # of a column, by its place
    rows: Callable[[list[int], list[int]], str]  # rows and columns by their places, as CSV
    secret: Callable[[int], bool]
    extra: str = ""


Cell = Callable[[Any], Any]
"""How a value is written that is no string or number."""


def table_of(value: Any, choice: Choice, cell: Cell) -> Table | None:
    """Return a table in words, or None for what is none.

    Args:
        value: Anything.
        choice: Which rows and columns.
        cell: How a value is written.

    Raises:
        UsageError: For a column that is not there.
    """
    module = type(value).__module__.partition(".")[0]
    if module == "pandas" and type(value).__name__ == "Styler":
        return table_of(value.data, choice, cell)
    if module in ("pandas", "geopandas") and hasattr(value, "dtypes"):
        return _describe(_pandas(value, cell), choice)
    if module == "polars" and (hasattr(value, "rows") or hasattr(value, "to_frame")):
        return _describe(_polars(value, cell), choice)
    if module == "pyarrow" and hasattr(value, "take"):
        return _describe(_pyarrow(value, cell), choice)
    if module == "polars" and hasattr(value, "collect_schema"):
        return Table("polars LazyFrame", str(dict(value.collect_schema())), "no row sent, as none is computed yet")
    if module == "xarray" and hasattr(value, "dims"):
        return _xarray(value)
    return None


def of_csv(name: str, text: str, choice: Choice, cell: Cell) -> Table:
    """Return the table of a file whose values are separated as its first line shows.

    Args:
        name: The file's name.
        text: What it holds.
        choice: Which rows and columns.
        cell: How a value is written.

    Raises:
        UsageError: It is not a valid table.
    """
    import pandas as pd

    first = text.lstrip().partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    try:
        frame = pd.read_csv(io.StringIO(text), sep=separator)
    except ValueError as error:  # pandas' ParserError and EmptyDataError are such
        words = str(error).splitlines()[0].rstrip(". ")
        raise UsageError(
            f"--file: {name} is not a valid table: {words}.", "Correct it, or rename it to .txt."
        ) from None
    return _describe(_pandas(frame, cell, "table"), choice)


def _describe(view: _View, choice: Choice) -> Table:
    columns = _columns(view.names, choice.columns)
    rows = spread(view.length, _ROWS if choice.rows is None else choice.rows)
    lines = [view.extra] if view.extra else []
    for place in columns:
        summary = "" if view.secret(place) else view.summary(place)
        lines.append(f"{_name(view.names[place])}: {view.types[place]}{summary}")
    left = len(view.names) - len(columns)
    if left and not choice.columns:
        lines.append(f"… and {left:,} more columns, up to {_name(view.names[-1])}")
    head = "\n".join(lines)
    text = view.rows(rows, columns)
    while len(head) + len(text) > choice.most and len(rows) > 1:
        rows = spread(
            view.length, max(1, len(rows) * (choice.most - min(len(head), choice.most // 2)) // len(text) - 1)
        )
        text = view.rows(rows, columns)
    which = ""
    if len(rows) < view.length:
        numbers = ", ".join(f"{row + 1:,}" for row in rows[:20]) + (", …" if len(rows) > 20 else "")
        which = f"rows {numbers} of {view.length:,}:\n"
    title = f"{view.what}, {view.length:,} rows × {len(view.names):,} columns"
    cut = [
        f"{len(rows):,} of {view.length:,} rows" if len(rows) < view.length else "",
        f"{len(columns):,} of {len(view.names):,} columns" if left else "",
    ]
    rest = " and ".join(filter(None, cut))
    return Table(title, f"{head}\n\n{which}{removal.fields(text.rstrip())}", f"{rest} sent" if rest else "", has_rows=True)


def spread(length: int, most: int) -> list[int]:
    """Return the places of rows that represent all: the first, the last, and some between them, always the same ones.

    Args:
        length: How many rows there are.
        most: How many to choose.
    """
    if length <= most:
        return list(range(length))
    head, tail = -(-most * 2 // 5), most // 5
    if most > 1:
        tail = max(tail, 1)
    between = range(head, length - tail)
    middle = random.Random(_SEED).sample(between, most - head - tail)  # noqa: S311  it keeps no secret
    return [*range(head), *sorted(middle), *range(length - tail, length)]


def _columns(names: Sequence[Any], choice: Sequence[str]) -> list[int]:
    """Return the places of the columns that are sent. Raises UsageError for one that is not there."""
    if not choice:
        return list(range(min(len(names), _COLUMNS)))
    places: list[int] = []
    for name in choice:
        fits = [i for i, known in enumerate(names) if name in (_name(known), *map(str, _levels(known)))]
        if not fits:
            hint = did_you_mean(name, [_name(known) for known in names[:1000]])
            raise UsageError(f"--columns: there is no column {name!r}.", hint)
        places += [place for place in fits if place not in places]
    return places


def _levels(label: Any) -> tuple[Any, ...]:
    return label if isinstance(label, tuple) else (label,)


def _name(label: Any) -> str:
    return "/".join(map(str, label)) if isinstance(label, tuple) else str(label)


def _secret(label: Any) -> bool:
    return any(map(removal.secret_name, _levels(label)))


def _numbers(values: Any) -> str:
    """Return range, quartiles and mean of numbers; those that are not finite are counted apart."""
    import numpy as np

    numbers = np.asarray(values, dtype=float)
    finite = numbers[np.isfinite(numbers)]
    undefined, infinite = int(np.isnan(numbers).sum()), int(np.isinf(numbers).sum())
    words = (f", {undefined:,} NaN" if undefined else "") + (f", {infinite:,} infinite" if infinite else "")
    if not finite.size:
        return words
    with np.errstate(all="ignore"):
        quartiles = ", ".join(f"{quartile:.6g}" for quartile in np.quantile(finite, [0.25, 0.5, 0.75]))
        mean = finite.mean()
    return f"{words}; from {finite.min():.6g} to {finite.max():.6g}, quartiles {quartiles}, mean {mean:.6g}"


def _counts(distinct: int, common: Sequence[tuple[Any, int]], cell: Cell) -> str:
    """Return how many different values a column has, and the most common ones, where values repeat."""
    shown = [f"{str(cell(value))[:_LABEL]!r} {count:,}" for value, count in common if count > 1][:_COMMON]
    if not shown:
        return f"; {distinct:,} different"
    return f"; {distinct:,} different: {', '.join(shown)}" + (", …" if distinct > len(shown) else "")


def _missing(count: int) -> str:
    return f", {count:,} missing" if count else ""


def _summary(length: int, describe: Callable[[], str]) -> str:
    """Return what is said of a column; nothing where its values cannot be compared or counted."""
    try:
        words = describe()
    except Exception:  # noqa: BLE001  values of a stranger's class may raise anything when they are compared
        return ""
    return words + (f" (of the first {_SUMMED:,} rows)" if words and length > _SUMMED else "")


# --- pandas and GeoPandas ---


def _pandas(value: Any, cell: Cell, what: str = "") -> _View:
    frame = value if hasattr(value, "columns") else value.to_frame()
    library = type(value).__module__.partition(".")[0]
    length = len(frame)
    labels = list(frame.columns)

    def summary(place: int) -> str:
        column = frame.iloc[:_SUMMED, place]
        missing = int(frame.iloc[:, place].isna().sum())

        def describe() -> str:
            kind = column.dtype.kind if hasattr(column.dtype, "kind") else "O"
            known = column.dropna()
            if known.empty or type(column.dtype).__name__ == "GeometryDtype":
                return ""
            if kind in "iuf":
                return _numbers(known.to_numpy(dtype=float))
            if kind in "Mm":
                return f"; from {known.min()} to {known.max()}"
            counts = known.value_counts()
            counts = counts[counts > 0]
            return _counts(len(counts), list(zip(counts.index[:_COMMON], counts.iloc[:_COMMON], strict=True)), cell)

        return _missing(missing) + _summary(length, describe)

    def rows(places: list[int], columns: list[int]) -> str:
        return str(_mask(frame.iloc[places, columns], cell).to_csv())

    coordinates = f"coordinates: {value.crs}" if library == "geopandas" and getattr(value, "crs", None) else ""
    kind = "DataFrame" if hasattr(value, "columns") else "Series"
    if library == "geopandas":
        kind = f"Geo{kind}"
    return _View(
        what or f"{library} {kind}",
        list(_mask_labels(frame.columns)),
        list(frame.dtypes),
        length,
        summary,
        rows,
        lambda place: _secret(labels[place]),
        coordinates,
    )


def _mask(head: Any, cell: Cell) -> Any:
    """Return rows without the values of columns, rows and index levels whose names are those of secrets."""
    import pandas as pd

    hidden = [_secret(label) for label in head.columns]
    rows = [_secret(label) for label in head.index]
    masked = pd.DataFrame(head).astype(object)
    for place in range(masked.shape[1]):
        values = enumerate(masked.iloc[:, place].to_list())
        cells = [REMOVED if hidden[place] or rows[row] else cell(value) for row, value in values]
        column: Any = pd.Series(cells, index=masked.index, dtype=object)
        masked.isetitem(place, column)
    masked.index, masked.columns = _mask_labels(masked.index), _mask_labels(masked.columns)
    return masked


def _mask_labels(labels: Any) -> Any:
    """Return an index without the labels of levels whose names are those of secrets."""
    import pandas as pd

    secret = [removal.secret_name(level) for level in labels.names]
    if not any(secret):
        return labels
    levels = [[REMOVED] * len(labels) if hide else labels.get_level_values(i) for i, hide in enumerate(secret)]
    new = pd.MultiIndex.from_arrays(levels, names=labels.names) if len(levels) > 1 else pd.Index(levels[0])
    return new.set_names(labels.names)


# --- polars, pyarrow, xarray ---


def _polars(value: Any, cell: Cell) -> _View:
    frame = value if hasattr(value, "rows") else value.to_frame()

    def summary(place: int) -> str:
        column = frame.to_series(place)

        def describe() -> str:
            known = column.head(_SUMMED).drop_nulls()
            if not len(known) or column.dtype.is_nested():
                return ""
            if column.dtype.is_numeric():
                return _numbers(known.to_numpy())
            if column.dtype.is_temporal():
                return f"; from {known.min()} to {known.max()}"
            return _counts(known.n_unique(), known.value_counts(sort=True).head(_COMMON).rows(), cell)

        return _missing(column.null_count()) + _summary(len(column), describe)

    def rows(places: list[int], columns: list[int]) -> str:
        return _csv(frame.columns, frame[places].rows(), columns, cell)

    names = frame.columns
    return _View(
        f"polars {type(value).__name__}",
        names,
        frame.dtypes,
        frame.height,
        summary,
        rows,
        lambda place: _secret(names[place]),
    )


def _pyarrow(value: Any, cell: Cell) -> _View:
    import pyarrow as pa

    table = value if hasattr(value, "schema") else pa.table([value], names=["values"])
    names = table.schema.names

    def summary(place: int) -> str:
        column = table.column(place)

        def describe() -> str:
            import pyarrow.compute as pc
            from pyarrow import types

            known = column.slice(0, _SUMMED).drop_null()
            if not len(known) or types.is_nested(column.type):
                return ""
            if types.is_integer(column.type) or types.is_floating(column.type):
                return _numbers(known.to_numpy())
            if types.is_temporal(column.type):
                ends = pc.min_max(known)
                return f"; from {ends['min'].as_py()} to {ends['max'].as_py()}"
            counts = sorted(((c["values"], c["counts"]) for c in pc.value_counts(known).to_pylist()), key=_by_count)
            return _counts(len(counts), counts[:_COMMON], cell)

        return _missing(column.null_count) + _summary(len(column), describe)

    def rows(places: list[int], columns: list[int]) -> str:
        picked = [table.column(place).take(places).to_pylist() for place in range(len(names))]
        return _csv(names, list(zip(*picked, strict=True)), columns, cell)

    what = f"pyarrow {type(value).__name__}"
    return _View(what, names, table.schema.types, table.num_rows, summary, rows, lambda place: _secret(names[place]))


def _by_count(counted: tuple[Any, int]) -> int:
    return -counted[1]


def _csv(names: Sequence[str], rows: Sequence[Sequence[Any]], columns: list[int], cell: Cell) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names[place] for place in columns)
    for row in rows:
        writer.writerow(REMOVED if _secret(names[place]) else cell(row[place]) for place in columns)
    return text.getvalue()


def _xarray(value: Any) -> Table:
    """Describe an xarray Dataset or DataArray: dimensions, coordinates, and each variable's range."""
    sizes = ", ".join(f"{name}: {size:,}" for name, size in value.sizes.items())
    variables = value.data_vars.items() if hasattr(value, "data_vars") else [(value.name or "values", value)]
    lines = [f"dimensions: {sizes}"]
    for kind, pairs in (("coordinate", value.coords.items()), ("variable", variables)):
        for name, array in list(pairs)[:_COLUMNS]:
            words = f"{kind} {name} ({', '.join(map(str, array.dims))}): {array.dtype}"
            # What lies on disk or is still to be computed stays there.
            if not _secret(name) and array.chunks is None and 0 < array.size <= _SUMMED:
                words += _summary(array.size, functools.partial(_array_summary, array))
            lines.append(words)
    attributes = {k: v for k, v in list(value.attrs.items())[:_COLUMNS] if not _secret(k)}
    lines += [f"attribute {name}: {str(text)[:200]}" for name, text in attributes.items()]
    return Table(f"xarray {type(value).__name__}, {sizes}", "\n".join(lines))


def _array_summary(array: Any) -> str:
    values = array.values.ravel()
    edge = ", ".join(str(value) for value in values[:3])
    some = f"; {edge}" + (f", …, {values[-1]}" if values.size > 4 else "")
    if values.dtype.kind in "iuf":
        import numpy as np

        missing = np.isnan(values)
        known = values[~missing]
        if known.size:
            words = f"; from {known.min():.6g} to {known.max():.6g}, mean {known.mean():.6g}"
            return f"{_missing(int(missing.sum()))}{words}{some}"
    return some
