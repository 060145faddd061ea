"""Deleting answers from the log, or their texts alone, together with what the cache holds of them."""

from __future__ import annotations

import sqlite3
from typing import Any

from ipyrouter.store.filters import where


def forget(connection: sqlite3.Connection, answer_id: str | None, before: int | None, *, content: bool) -> int:
    """Delete an answer, those before a time in microseconds, or all; return how many answers that concerned.

    With ``content`` their texts and what the classifier read in them go, and models, tokens and costs stay.
    """
    chosen, values = where(" WHERE ", {"id = ?": answer_id, "time < ?": before})
    (count,) = connection.execute(f"SELECT COUNT(*) FROM answers{chosen}", values).fetchone()  # noqa: S608  our own words
    _forget_cached(connection, chosen, values, before, everything=answer_id is None and before is None)
    if content:
        connection.execute(
            f"UPDATE attempts SET text = NULL WHERE answer_id IN (SELECT id FROM answers{chosen})",  # noqa: S608
            values,
        )
        connection.execute(
            f"UPDATE answers SET prompt = NULL, system = NULL, text = NULL, reasons = '[]'{chosen}",  # noqa: S608
            values,
        )
    else:
        connection.execute(
            f"DELETE FROM attempts WHERE answer_id IN (SELECT id FROM answers{chosen})",  # noqa: S608
            values,
        )
        connection.execute(f"DELETE FROM answers{chosen}", values)  # noqa: S608
    return int(count)


def _forget_cached(
    connection: sqlite3.Connection, chosen: str, values: list[Any], before: int | None, *, everything: bool
) -> None:
    if everything:
        connection.execute("DELETE FROM cache")
    else:
        # An answer and its cache entry are written with the same time; one that came from the cache has its text.
        connection.execute(
            f"DELETE FROM cache WHERE created IN (SELECT time FROM answers{chosen})"  # noqa: S608  our own words
            f" OR text IN (SELECT text FROM answers{chosen}) OR created < ?",
            (*values, *values, before or 0),
        )
    connection.execute(
        "UPDATE counters SET value = (SELECT COALESCE(SUM(size), 0) FROM cache) WHERE name = 'cache_bytes'"
    )
