"""The pictures of README and docs: made here, so that they show what the product looks like.

IPYROUTER_SCREENSHOTS=docs pytest tests/browser/test_pictures.py makes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.browser.lab import LIGHT, Lab, Notebook, expect
from tests.faults.server import FaultServer

ROOT = Path(__file__).parents[2]
SETTING = """
import ipyrouter
ipyrouter.use_router(ipyrouter.Router({{
    "providers": {{"acme": {{"sdk": "openai", "base_url": "{url}/v1"}}}},
    "prices": {{
        "acme/small": {{"input": 0.1, "output": 0.5}},
        "acme/medium": {{"input": 1, "output": 5}},
        "acme/large": {{"input": 2, "output": 10}},
    }},
    "tiers": {{"fast": {{"chain": ["acme/small"]}}, "mid": {{"chain": ["acme/medium"]}},
              "power": {{"chain": ["acme/large"]}}}},
    "budget": {{"day": 5.0}},
}}, home={home!r}))
"""
QUESTIONS = """
import time
questions = ["What is a tuple?", "Rename x to y in this line", "Explain why my merge has more rows than either table",
             "Compare two ways to impute missing values", "What is a tuple?", "Count the rows of df",
             "Design a feature store for three teams", "Fix the typo in this title"]
for question in 3 * questions:
    ipyrouter.route(question + " " * (time.time_ns() % 3))
    time.sleep(0.2)
"""


def test_the_pictures_of_the_readme(
    lab: Lab, notebook: Notebook, server: FaultServer, screenshots: Path, tmp_path: Path
) -> None:
    lab.theme(LIGHT)
    lab.page.set_viewport_size({"width": 1000, "height": 1200})
    notebook.run(SETTING.format(url=server.url, home=str(tmp_path / "pictures"))).wait()
    answer = notebook.run("%%route\nWhat is the answer to life, the universe and everything?").wait()
    expect(answer.output).to_contain_text("Forty-two")
    expect(answer.badge).to_contain_text("acme/small · $0.000")
    again = notebook.run("%%route\nWhat is the answer to life, the universe and everything?").wait()
    expect(again.badge).to_contain_text("cached")
    dry = notebook.run(
        "%%route --dry-run\nDesign a feature store for three teams, with lineage and access rules."
    ).wait()
    expect(dry.output).to_contain_text("nothing was sent")
    tops = [cell.element.bounding_box() for cell in (answer, again, dry)]
    assert all(tops)
    first, last = tops[0], tops[-1]
    assert first is not None
    assert last is not None
    bottom = last["y"] + last["height"]
    clip = {"x": first["x"], "y": first["y"], "width": 900, "height": bottom - first["y"]}
    lab.page.screenshot(path=screenshots / "cell.png", clip=clip)
    notebook.run(QUESTIONS).wait()
    panel = notebook.run("%router panel").wait()
    expect(panel.output.locator(".ipyrouter-log")).to_be_visible()
    box = panel.output.bounding_box()
    assert box is not None
    panel.element.scroll_into_view_if_needed()
    panel.output.screenshot(path=screenshots / "panel.png")


def test_readme_and_docs_show_them() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pictures = {
        (page.parent / name).resolve()
        for page in pages
        for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    assert pictures == set((ROOT / "docs").rglob("*.png"))
