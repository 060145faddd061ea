"""Deleting answers from the log, or their texts alone, together with what the cache holds of them."""

from __future__ import annotations

import sqlite3
from typing import Any


def forget(sql: sqlite3.Connection, answer_id: str | None, before: int | None, *, content: bool) -> int:
    """Delete an answer, those before a time in microseconds, or all; return how many answers that concerned.

    With ``content`` their texts and what the classifier read in them go, and models, tokens and costs stay.
    """
    conditions = {"id = ?": answer_id, "time < ?": before}
    known = {condition: value for condition, value in conditions.items() if value is not None}
    chosen, values = f" WHERE {' AND '.join(known)}" if known else "", list(known.values())
    (count,) = sql.execute(f"SELECT COUNT(*) FROM answers{chosen}", values).fetchone()
    _forget_cached(sql, chosen, values, before)
    if answer_id is None:
        _forget_runs(sql, before)
    if content:
        sql.execute(f"UPDATE attempts SET text = NULL WHERE answer_id IN (SELECT id FROM answers{chosen})", values)
        sql.execute(f"UPDATE answers SET prompt = NULL, system = NULL, text = NULL, reasons = '[]'{chosen}", values)
    else:
        sql.execute(f"DELETE FROM answers{chosen}", values)  # a trigger deletes their attempts first
    return int(count)


def _forget_runs(sql: sqlite3.Connection, before: int | None) -> None:
    """Delete the runs that last went on before a time, or all: they hold prompts."""
    sql.execute("DELETE FROM runs WHERE updated < ?", (before,)) if before else sql.execute("DELETE FROM runs")
    sql.execute("DELETE FROM run_rows WHERE run NOT IN (SELECT id FROM runs)")


def _forget_cached(sql: sqlite3.Connection, chosen: str, values: list[Any], before: int | None) -> None:
    if chosen:
        # An answer and its cache entry are written with the same time; one that came from the cache has its text.
        sql.execute(
            f"DELETE FROM cache WHERE created IN (SELECT time FROM answers{chosen})"
            f" OR text IN (SELECT text FROM answers{chosen}) OR created < ?",
            (*values, *values, before or 0),
        )
    else:
        sql.execute("DELETE FROM cache")
    sql.execute(
        "INSERT OR REPLACE INTO counters (name, value, control)"
        " SELECT 'cache_bytes', CAST(TOTAL(size) AS INTEGER), CAST(TOTAL(size) AS INTEGER) FROM cache"
    )
