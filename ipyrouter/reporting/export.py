"""The log written to a file, part by part: however long it is, memory holds some thousand rows of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

# What a spreadsheet takes for a formula, in full width, too, and behind blanks.
_FORMULA = re.compile(r"[\s\x00-\x1f\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def write(frames: Iterable[pd.DataFrame], path: Path) -> int:
    """Write frames of the same columns to one file in the format of its ending, which is one of WRITERS.

    Only the owner may read it, also where it was there before with wider rights.

    Returns:
        The number of rows.

    Raises:
        OSError: The file cannot be written.
        ImportError: Parquet needs pyarrow.
    """
    writer = WRITERS[path.suffix.lower()]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        return writer(frames, file)


def _csv(frames: Iterable[pd.DataFrame], file: IO[bytes]) -> int:
    """Write CSV in which no text is a formula to a spreadsheet, and no line end inside one ends a row.

    The csv module looks at every character of a text: this takes a quarter of its time.
    """
    rows = 0
    for number, frame in enumerate(frames):
        if number == 0:
            file.write((",".join(map(_quoted, frame.columns)) + "\n").encode())
        file.write("".join([f"{','.join(row)}\n" for row in zip(*_cells(frame), strict=True)]).encode())
        rows += len(frame)
    return rows


def _cells(frame: pd.DataFrame) -> Iterator[list[str]]:
    """Yield each column as the cells of a CSV file; what is not known is an empty one."""
    for name, kind in frame.dtypes.items():
        values = frame[name]
        if isinstance(kind, pd.CategoricalDtype):
            cells = np.array([*map(_text, values.cat.categories), ""], np.object_)
            yield cells[values.cat.codes.to_numpy()].tolist()
        elif kind.kind == "M":
            moments = np.datetime_as_string(values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(), unit="us")
            yield [f'"{moment[:10]} {moment[11:]}+00:00"' for moment in moments.tolist()]
        elif kind.kind == "f":
            yield ["" if value != value else repr(value) for value in values.tolist()]  # noqa: PLR0124  NaN
        elif isinstance(kind, pd.Int64Dtype):
            known = zip(values.to_numpy(np.int64, na_value=0).tolist(), values.isna().tolist(), strict=True)
            yield ["" if unknown else str(value) for value, unknown in known]
        elif kind.kind in "biu":
            yield list(map(str, values.tolist()))
        else:
            yield ["" if value is None else _text(value) for value in values.tolist()]


def _text(value: Any) -> str:
    text = str(value)
    return _quoted(f"'{text}" if _FORMULA.match(text) else text)


def _quoted(text: str) -> str:
    return f'"{text.replace(chr(34), chr(34) * 2)}"'


def _json(frames: Iterable[pd.DataFrame], file: IO[bytes]) -> int:
    """Write one JSON list of objects."""
    rows = 0
    for frame in frames:
        if len(frame):
            records = json.loads(frame.to_json(orient="records", date_format="iso"))
            file.write(b",\n" if rows else b"[\n")
            file.write(json.dumps(records, indent=1)[2:-2].encode())
        rows += len(frame)
    file.write(b"\n]" if rows else b"[]")
    return rows


def _parquet(frames: Iterable[pd.DataFrame], file: IO[bytes]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def sound(field: Any) -> Any:
        """Return the field with a type that every part can have: one may have no value at all in it."""
        if pa.types.is_dictionary(field.type):
            return field.with_type(pa.dictionary(pa.int32(), pa.string(), ordered=field.type.ordered))
        return field.with_type(pa.string()) if pa.types.is_null(field.type) else field

    rows, writer = 0, None
    try:
        for frame in frames:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                writer = pq.ParquetWriter(file, pa.schema(map(sound, table.schema), table.schema.metadata))
            writer.write_table(table.cast(writer.schema))
            rows += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return rows


WRITERS: dict[str, Callable[[Iterable[pd.DataFrame], IO[bytes]], int]] = {
    ".csv": _csv,
    ".json": _json,
    ".parquet": _parquet,
}
"""The formats of an export, by the file's ending."""
