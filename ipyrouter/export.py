"""The log written to a file, part by part: however long it is, memory holds some thousand rows of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def to_csv(frames: Iterable[pd.DataFrame], path: Path) -> int:
    """Write frames of the same columns as one CSV file, strings in quotes, and return the number of rows.

    The csv module looks at every character of a text; this takes a sixth of its time.
    """
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for frame in frames:
            if not rows:
                file.write(",".join(map(_quoted, frame.columns)) + "\n")
            file.write("".join([f"{','.join(row)}\n" for row in zip(*_cells(frame), strict=True)]))
            rows += len(frame)
    return rows


def _cells(frame: pd.DataFrame) -> Iterator[list[str]]:
    """Yield each column as the cells of a CSV file; what is not known is an empty one."""
    for name, kind in frame.dtypes.items():
        values = frame[name]
        if isinstance(kind, pd.CategoricalDtype):
            cells = np.array([*map(_quoted, values.cat.categories), ""], np.object_)
            yield cells[values.cat.codes.to_numpy()].tolist()
        elif kind.kind == "M":
            moments = np.datetime_as_string(values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(), unit="us")
            yield [f'"{moment[:10]} {moment[11:]}+00:00"' for moment in moments.tolist()]
        elif kind.kind == "f":
            yield ["" if value != value else repr(value) for value in values.tolist()]  # noqa: PLR0124  NaN
        elif isinstance(kind, pd.Int64Dtype):
            yield ["" if value is None else str(value) for value in values.to_numpy(object, na_value=None).tolist()]
        elif kind.kind in "biu":
            yield list(map(str, values.tolist()))
        else:
            yield ["" if value is None else _quoted(value) for value in values.tolist()]


def _quoted(value: Any) -> str:
    return f'"{value.replace(chr(34), chr(34) * 2)}"'


def to_json(frames: Iterable[pd.DataFrame], path: Path) -> int:
    """Write frames as one JSON list of objects, and return the number of rows."""
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for frame in frames:
            if len(frame):
                records = json.loads(frame.to_json(orient="records", date_format="iso"))
                file.write("[\n" if not rows else ",\n")
                file.write(json.dumps(records, indent=1)[2:-2])
            rows += len(frame)
        file.write("\n]" if rows else "[]")
    return rows


def to_parquet(frames: Iterable[pd.DataFrame], path: Path) -> int:
    """Write frames of the same columns as one Parquet file, and return the number of rows. Raises ImportError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, writer = 0, None
    try:
        for frame in frames:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                names = pa.dictionary(pa.int32(), pa.string())
                fields = [
                    field.with_type(names) if pa.types.is_dictionary(field.type) else
                    field.with_type(pa.string()) if pa.types.is_null(field.type) else field
                    for field in table.schema
                ]  # fmt: skip
                writer = pq.ParquetWriter(path, pa.schema(fields, table.schema.metadata))
            writer.write_table(table.cast(writer.schema))
            rows += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return rows


WRITERS: dict[str, Callable[[Iterable[pd.DataFrame], Path], int]] = {
    ".csv": to_csv,
    ".json": to_json,
    ".parquet": to_parquet,
}
"""The formats of an export, by the file's ending."""
