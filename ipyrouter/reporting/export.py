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
_SUSPICIOUS = re.compile(r"[\s\x00-\x1f\u200b\ufeff=+\-@\uff1d\uff0b\uff0d\uff20]")  # as its first character
_NEXT = "\x1e"  # between the values of a column while they are one string


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
    """Write CSV in which no string is a formula to a spreadsheet, and no line end inside one ends a row.

    A column at a time, and nothing in Python for each value of it: pandas and the csv module take five times as long.
    """
    rows = 0
    for number, frame in enumerate(frames):
        if number == 0:
            file.write((",".join(map(_quote, frame.columns)) + "\n").encode())
        if len(frame):
            file.write("\n".join(map(",".join, zip(*_cells(frame), strict=True))).encode())
            file.write(b"\n")
        rows += len(frame)
    return rows


def _cells(frame: pd.DataFrame) -> Iterator[list[str]]:
    """Yield each column as the cells of a CSV file; what is not known is an empty one."""
    for name, kind in frame.dtypes.items():
        values = frame[name]
        if isinstance(kind, pd.CategoricalDtype):
            cells = np.array([*_strings(values.cat.categories.astype(object).tolist()), ""], np.object_)
            yield cells[values.cat.codes.to_numpy()].tolist()
        elif kind.kind == "M":
            moments = np.datetime_as_string(values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(), unit="us")
            yield (
                f'"{_NEXT.join(moments.tolist())}+00:00"'.replace("T", " ")
                .replace(_NEXT, f'+00:00"{_NEXT}"')
                .split(_NEXT)
            )
        elif kind.kind == "f":
            yield repr(values.tolist())[1:-1].replace("nan", "").split(", ")
        elif isinstance(kind, pd.Int64Dtype):
            numbers = repr(values.to_numpy(np.int64, na_value=0).tolist())[1:-1].split(", ")
            for place in np.flatnonzero(values.isna().to_numpy()).tolist():
                numbers[place] = ""
            yield numbers
        elif kind.kind in "biu":
            yield repr(values.tolist())[1:-1].split(", ")
        else:
            yield _strings(values.tolist())


def _strings(values: list[Any]) -> list[str]:
    """Return quoted cells; None is an empty one."""
    strings = ["" if value is None else value if isinstance(value, str) else str(value) for value in values]
    if any(map(_SUSPICIOUS.match, {string[:1] for string in strings})):
        strings = [f"'{string}" if _FORMULA.match(string) else string for string in strings]
    joined = _NEXT.join(strings).replace('"', '""')
    cells = f'"{joined}"'.replace(_NEXT, f'"{_NEXT}"').split(_NEXT)
    if len(cells) != len(values):  # a string holds the separator
        cells = list(map(_quote, strings))
    for place in [place for place, value in enumerate(values) if value is None]:
        cells[place] = ""
    return cells


def _quote(text: str) -> str:
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
