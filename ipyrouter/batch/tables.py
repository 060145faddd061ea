"""Data in, frame out: lists, pandas, polars and pyarrow, none of which is imported unless the data are of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipyrouter.errors import UsageError

NAMELESS = ""
"""The name of a column that has none, as that of a list."""

Columns = Mapping[str, Any]
"""Values by the name of their column: a list, a Series or an array each."""
Dtypes = Mapping[str, Any]
"""What a column of the result holds: int, float, bool, str, or a tuple of the strings that there may be."""

_REMEDY = "Give a list, a Series or a DataFrame of pandas or polars, or a table of pyarrow."


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by column, and how a result of as many rows is made into a frame of the same library and index."""

    columns: Columns
    count: int
    frame: Callable[[Columns, Dtypes], Any]
    single: bool = False  # one column, whose name need not be known
    twice: frozenset[str] = frozenset()
    in_pandas: bool = True


def read_table(data: Any) -> Table:
    """Return data as columns.

    Args:
        data: A list or another iterable of values or of dicts, a Series or a DataFrame of pandas or polars, or a table
            or an array of pyarrow.

    Raises:
        UsageError: It is none of these.
    """
    kinds = {kind.__module__.partition(".")[0]: kind.__name__ for kind in reversed(type(data).__mro__)}
    for library, read in (("pandas", _pandas), ("polars", _polars), ("pyarrow", _pyarrow)):
        if library in kinds:
            return read(data)
    if isinstance(data, str | bytes):
        raise UsageError("The data are one string, not a column.", "Give a list of strings: [text].")
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise UsageError(f"The data are of type {type(data).__name__}, which has no rows.", _REMEDY)
    return _rows(list(data))


def _rows(rows: list[Any]) -> Table:
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        return Table({NAMELESS: rows}, len(rows), _to_pandas(None), single=True)
    names = dict.fromkeys(str(name) for row in rows for name in row)
    return Table({name: [row.get(name) for row in rows] for name in names}, len(rows), _to_pandas(None))


def _pandas(data: Any) -> Table:
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        names = [str(name) for name in data.columns]
        twice = frozenset(name for name in names if names.count(name) > 1)
        columns = {name: data.iloc[:, place] for place, name in enumerate(names)}
        return Table(columns, len(data), _to_pandas(data.index), twice=twice)
    if isinstance(data, pd.Series):
        name = NAMELESS if data.name is None else str(data.name)
        return Table({name: data}, len(data), _to_pandas(data.index), single=True)
    if isinstance(data, pd.Index | pd.api.extensions.ExtensionArray):
        return Table({NAMELESS: data.tolist()}, len(data), _to_pandas(None), single=True)
    raise UsageError(f"The data are of pandas' type {type(data).__name__}, which has no rows.", _REMEDY)


def _to_pandas(index: Any) -> Callable[[Columns, Dtypes], Any]:
    def frame(columns: Columns, dtypes: Dtypes) -> Any:
        import pandas as pd

        names: dict[Any, str] = {int: "Int64", float: "float64", bool: "boolean"}
        series = {}
        for name, values in columns.items():
            kind = dtypes.get(name)
            dtype = pd.CategoricalDtype(list(kind)) if isinstance(kind, tuple) else names.get(kind, "object")
            series[name] = pd.Series(list(values), index=index, dtype=dtype)
        return pd.DataFrame(series, index=index)

    return frame


def _polars(data: Any) -> Table:
    import polars as pl

    if isinstance(data, pl.DataFrame):
        return Table({name: data[name] for name in data.columns}, data.height, _to_polars, in_pandas=False)
    if isinstance(data, pl.Series):
        return Table({data.name: data}, len(data), _to_polars, single=True, in_pandas=False)
    if isinstance(data, pl.LazyFrame):
        raise UsageError("The data are a LazyFrame, which has no rows yet.", "Give data.collect().")
    raise UsageError(f"The data are of polars' type {type(data).__name__}, which has no rows.", _REMEDY)


def _to_polars(columns: Columns, dtypes: Dtypes) -> Any:
    import polars as pl

    kinds: dict[Any, Any] = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String}
    series = []
    for name, values in columns.items():
        kind = dtypes.get(name)
        dtype = pl.Enum(list(kind)) if isinstance(kind, tuple) else kinds.get(kind)
        series.append(pl.Series(name, list(values), dtype=dtype, strict=False))
    return pl.DataFrame(series)


def _pyarrow(data: Any) -> Table:
    import pyarrow as pa

    if isinstance(data, pa.Table | pa.RecordBatch):
        names = list(data.schema.names)
        twice = frozenset(name for name in names if names.count(name) > 1)
        columns = {name: data.column(place).to_pylist() for place, name in enumerate(names)}
        return Table(columns, data.num_rows, _to_pyarrow, twice=twice, in_pandas=False)
    if isinstance(data, pa.Array | pa.ChunkedArray):
        return Table({NAMELESS: data.to_pylist()}, len(data), _to_pyarrow, single=True, in_pandas=False)
    raise UsageError(f"The data are of pyarrow's type {type(data).__name__}, which has no rows.", _REMEDY)


def _to_pyarrow(columns: Columns, dtypes: Dtypes) -> Any:
    import pyarrow as pa

    kinds: dict[Any, Any] = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}

    def array(name: str, values: Sequence[Any]) -> Any:
        kind = dtypes.get(name)
        return pa.array(list(values), kinds.get(str if isinstance(kind, tuple) else kind))

    return pa.table({name: array(name, values) for name, values in columns.items()})
