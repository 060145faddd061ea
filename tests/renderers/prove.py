"""Renders what hostile answers become in every reader, and looks for harm in the HTML.

python -m tests.renderers.prove COUNT [SEED] prints each fault, and in the end how many answers there were.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from decimal import Decimal

from ipyrouter.notebook import rendering
from ipyrouter.notebook.formats import Body
from ipyrouter.notebook.prompt.attachments import Piece
from ipyrouter.text import sanitise, tables
from ipyrouter.types import Answer, Classification, Usage
from tests.renderers.hostile import Writer
from tests.renderers.readers import JupyterLab, Page, readers


def answer(writer: Writer) -> str:
    """Return a finished answer by a model of a hostile name, with a hostile note."""
    finished = Answer(
        id="1", text=writer.text(), tier="fast", provider="o", model=writer.name(), cost=Decimal("0.1"),
        usage=Usage(1, 2), cached=False, latency=1, finish="stop", notes=(writer.name(),),
        classification=Classification("fast", 0.1, 0.9, ()),
    )  # fmt: skip
    thinking = writer.text() if writer.number(2) else ""
    return rendering.answer_bundle(finished, Body(finished.text, thinking=thinking))["text/markdown"]


def partial(writer: Writer) -> str:
    """Return an answer of which a part has arrived."""
    text = writer.text()
    return rendering.partial_bundle("mid", writer.name(), text[: writer.number(len(text))], "markdown")["text/markdown"]


def dry_run(writer: Writer) -> str:
    """Return what is sent along with a prompt, as a dry run shows it."""
    return sanitise.markdown(str(Piece(writer.name(), writer.text(), writer.name())))


def report(writer: Writer) -> str:
    """Return a table of a report, whose cells come from the log."""
    return tables.markdown(tables.Table(writer.name(), ("model", "prompt"), [(writer.name(), writer.name())]))


def block(writer: Writer) -> str:
    """Return an answer that is shown as it came."""
    return rendering.partial_bundle("power", "o/m", writer.text(), "text")["text/markdown"]


def documents(count: int, seed: int = 0) -> Iterator[str]:
    """Yield Markdown as our outputs hold it, made of hostile text; most of it answers."""
    kinds = (answer, partial, answer, report, answer, block, answer, dry_run)
    for number in range(count):
        yield kinds[number % len(kinds)](Writer(seed * 10_000_000 + number))


def faults(markdown: str, read: dict[str, Callable[[str], str]]) -> list[str]:
    """Return what is wrong with Markdown as the readers render it."""
    result = []
    pages: dict[str, Page] = {}
    readings = {}
    for name, render_with in read.items():
        html = render_with(markdown)
        try:
            if html not in pages:
                pages[html] = Page(html)
                result += [f"{name}: {harm}" for harm in pages[html].harm()]
        except AssertionError as error:
            result.append(f"{name}: {error}")
            continue
        readings[name] = pages[html].reading()
    # Some readers know no formulas, so that what means something in one is not the same to all.
    if "$" not in markdown and any(reading != next(iter(readings.values())) for reading in readings.values()):
        result.append("they read it differently")
    return result


def main(count: int, seed: int = 0) -> int:
    """Return how many of the answers are not rendered as they should be."""
    bad = 0
    with JupyterLab() as jupyterlab:
        read = readers(jupyterlab)
        for number, markdown in enumerate(documents(count, seed)):
            if wrong := faults(markdown, read):
                bad += 1
                print(f"--- {number} of seed {seed}: {wrong}\n{markdown}", file=sys.stderr)
    print(f"{count} answers, {bad} with faults")
    return bad


if __name__ == "__main__":
    sys.exit(min(main(*map(int, sys.argv[1:])), 1))
