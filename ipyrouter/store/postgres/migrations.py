"""The schema's versions: numbered SQL files, which the owner of the store runs and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipyrouter.errors import StoreError

if TYPE_CHECKING:
    import psycopg

_FILES = sorted(Path(__file__).with_name("sql").glob("[0-9][0-9][0-9][0-9].sql"))
VERSION = int(_FILES[-1].stem)
"""The schema that this version makes; it refuses newer ones."""
OLDEST = max(VERSION - 2, 1)
"""The oldest schema that it works with: kernels and their owner are not upgraded in one moment."""
MEMBERS = "ipyrouter_member"
"""The role that has a member's rights."""


def upgrade(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Run the files that a database lacks, all in one transaction, and make the next partitions.

    Args:
        connection: The owner's: it may create a schema and roles.

    Returns:
        The version before, 0 for none, and the version now.

    Raises:
        StoreError: A newer ipyrouter has upgraded it.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('ipyrouter upgrade', 0))")
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (MEMBERS,))
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE ROLE {MEMBERS} NOLOGIN")
        cursor.execute("CREATE SCHEMA IF NOT EXISTS ipyrouter")
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS ipyrouter.schema_version"
            " (version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"
        )
        cursor.execute("SELECT COALESCE(max(version), 0) FROM ipyrouter.schema_version")
        (before,) = cursor.fetchone() or (0,)
        if before > VERSION:
            raise StoreError(
                f"The team store has version {before}, this ipyrouter knows {VERSION}.",
                "Upgrade it: pip install --upgrade ipyrouter",
            )
        for file in _FILES:
            if (version := int(file.stem)) > before:
                cursor.execute(file.read_bytes())
                cursor.execute("INSERT INTO ipyrouter.schema_version (version) VALUES (%s)", (version,))
        cursor.execute(
            "SELECT ipyrouter.make_partition(extract(epoch FROM now() + month * interval '1 month')::bigint * 1000000)"
            " FROM generate_series(0, 2) month"
        )
    return before, VERSION
