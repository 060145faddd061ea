"""`%%route --map NAME`: the prompt of a cell over a column of the notebook's data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipyrouter.errors import UsageError
from ipyrouter.notebook.prompt import variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipyrouter.notebook.options import RouteLine
    from ipyrouter.router import Router
    from ipyrouter.types import Session

# Of one answer, its display or a conversation.
_SINGLE = ("continue_", "chat", "with_", "rows", "columns", "file", "cells", "above", "error", "raw", "show_thinking")


def ask(args: RouteLine, prompt: str, namespace: Mapping[str, Any], router: Router, session: Session) -> Any:
    """Ask the prompt of each row, and return the frame; a dry run prints its estimate and returns None.

    Args:
        args: The line.
        prompt: The prompt as it is typed.
        namespace: What names mean where the magic stands.
        router: What asks.
        session: Whose requests these are.

    Raises:
        UsageError: There are no such data, or an option does not go with ``--map``.
    """
    for name in _SINGLE:
        if getattr(args, name):
            option = name.rstrip("_").replace("_", "-")
            raise UsageError(f"--{option} does not go with --map.", "It is about one answer; leave it out.")
    if args.format not in (None, "json"):
        raise UsageError(f"-f {args.format} does not go with --map.", "A run gives a table; leave -f out.")
    from ipyrouter.notebook import progress

    schema = variables.schema(args.schema, namespace) if args.schema else None
    system = variables.insert(args.system, namespace) if args.system else None
    result = router.map(
        _data(args.map or "", namespace), prompt, variables=namespace, schema=schema, system=system,
        tier=args.tier, model=args.model, max_output_tokens=args.max_tokens, temperature=args.temperature,
        cache="off" if args.no_cache else "refresh" if args.refresh else "use",
        escalate=False if args.no_escalate else None, allow_large=args.yes, effort=args.effort,
        tags=args.tag, json=args.format == "json" and schema is None, budget=args.budget, pilot=args.pilot,
        delivery=args.delivery, dry_run=args.dry_run, yes=args.yes,
        progress=_hide if args.quiet else progress.choose(), session=session,
    )  # fmt: skip
    if args.dry_run:
        print(f"Dry run: nothing was sent.\n{result}")
        return None
    return result


def _hide(_: object) -> None:
    """Show nothing of the progress."""


def _data(name: str, namespace: Mapping[str, Any]) -> Any:
    """Return the variable, or an attribute of it, that ``--map`` names."""
    first, *attributes = name.split(".")
    if first not in namespace:
        hint = variables.nearest(first, namespace) or "Name a list, a Series or a DataFrame."
        raise UsageError(f"--map {name}: there is no variable {first!r}.", hint)
    value = namespace[first]
    for attribute in attributes:
        try:
            value = getattr(value, attribute)
        except AttributeError:
            raise UsageError(
                f"--map {name}: {first} has no {attribute!r}.", f"Name {first} alone, and the column in the prompt."
            ) from None
    return value
