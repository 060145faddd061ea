"""The result for pandas: a DataFrame that knows its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from ipyrouter.errors import UsageError


class MapFrame(pd.DataFrame):
    """A run's result, one row for each row of the data. What is made of it is a plain DataFrame.

    Attributes:
        run: The run's id in ``router.runs()``; "" where it is not known any more.
        summary: What the run came to, in a line.
    """

    run: str
    summary: str
    _again: Callable[[], Any] | None

    @classmethod
    def of(cls, frame: pd.DataFrame, run: str, summary: str, again: Callable[[], Any]) -> MapFrame:
        """Return a frame as the result of a run; ``again`` repeats it."""
        result = cls(frame)
        for name, value in (("run", run), ("summary", summary), ("_again", again)):
            object.__setattr__(result, name, value)  # pandas would take an attribute for a column
        return result

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def retry(self) -> Any:
        """Ask again only what has no answer, and return the whole result.

        Raises:
            UsageError: This frame comes from a file or another process.
        """
        again = self.__dict__.get("_again")
        if again is None:
            raise UsageError("This frame does not know its run any more.", "Call map again: answers are in the cache.")
        return again()


def runs_frame(states: list[Mapping[str, Any]]) -> pd.DataFrame:
    """Return runs as a table, a row each."""
    columns = ["run", "status", "prompt", "rows", "distinct", "done", "cached", "failed", "cost", "created", "updated"]
    frame = pd.DataFrame(states, columns=columns)
    return frame.astype({"cost": "float64"})
