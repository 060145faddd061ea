"""The pictures of README and docs: made here, so that they show what the product looks like.

IPYROUTER_SCREENSHOTS=docs/pictures pytest -n0 tests/browser/test_pictures.py makes them anew.
"""

from __future__ import annotations

import datetime as dt
import io
import random
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from PIL import Image

from ipyrouter import Router
from ipyrouter.types import Candidate, Session, TierName, Usage
from tests.browser.lab import DARK, LIGHT, NARROW, WIDE, Cell, Lab, expect
from tests.faults.server import FaultServer, Reply, chunk, sse
from tests.store.conftest import a_record

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
MOST = 150_000  # bytes of a picture
COLOURS = 256  # of a picture: text and flat areas need no more
NAMES = {(LIGHT, WIDE): "", (DARK, WIDE): "-dark", (LIGHT, NARROW): "-480", (DARK, NARROW): "-480-dark"}
SETTING = """
import ipyrouter
import pandas as pd
orders = pd.DataFrame({{"customer": [1, 1, 2], "total": [9.5, 3, 20]}})
ipyrouter.use_router(ipyrouter.Router({{
    "providers": {{"acme": {{"sdk": "openai", "base_url": "{url}/v1"}}}},
    "prices": {{
        "acme/small": {{"input": 0.1, "output": 0.5}},
        "acme/medium": {{"input": 1, "output": 5}},
        "acme/large": {{"input": 2, "output": 10}},
        "acme/other": {{"input": 2, "output": 10}},
    }},
    "tiers": {{"fast": {{"chain": ["acme/small"]}}, "mid": {{"chain": ["acme/medium"]}},
              "power": {{"chain": ["acme/other", "acme/large"]}}}},
    "budget": {{"day": 5.0}},
}}, home={home!r}))
"""
ANSWER = """A key that occurs **twice in both tables** gives four rows: each with each. Look for them first:

```python
orders[orders.duplicated("customer", keep=False)]
```

Then keep one row a key, or say what you expect: `merge(…, validate="one_to_one")`."""
PROMPTS: dict[TierName, tuple[str, ...]] = {
    "fast": ("What is a tuple?", "Rename x to y in this line", "Count the rows of df", "Fix the typo in this title"),
    "mid": ("Explain why my merge has more rows than either table", "Compare two ways to impute missing values"),
    "power": ("Design a feature store for three teams", "Prove that this estimator is unbiased"),
}
MODELS: dict[TierName, tuple[str, Decimal]] = {
    "fast": ("small", Decimal("0.00000018")),
    "mid": ("medium", Decimal("0.0000018")),
    "power": ("large", Decimal("0.0000036")),
}
"""What answers at each tier, and dollars a token."""
NOTEBOOKS = ("churn.ipynb", "notes/reading.ipynb", "sales.ipynb")
DAYS, REQUESTS = 30, 240


def fill(home: Path) -> None:
    """Put a month of requests into the log, the same ones each time but for their dates."""
    chance = random.Random(30)
    now = dt.datetime.now(dt.UTC)
    records = []
    for number in range(REQUESTS):
        tier = chance.choices(list(MODELS), (6, 3, 1))[0]
        model, a_token = MODELS[tier]
        usage = Usage(chance.randrange(100, 4000), chance.randrange(50, 900))
        cost = a_token * (usage.input_tokens + usage.output_tokens)
        is_cached = chance.random() < 0.2
        record = a_record(
            f"picture {number}",
            session=Session(f"session {number % 9}", now, chance.choice(NOTEBOOKS)),
            created=now - dt.timedelta(days=DAYS * chance.random() ** 2, minutes=5),
            prompt=chance.choice(PROMPTS[tier]),
            tier=tier,
            candidate=Candidate("acme", model),
            status="cached" if is_cached else "ok",
            usage=usage,
            cost=Decimal(0) if is_cached else cost,
            cost_saved=cost if is_cached else None,
            latency=chance.uniform(0.4, 6),
        )
        records.append(record)
    router = Router({}, home=home)
    assert router.store.restore(records) == REQUESTS
    router.close()


def take(lab: Lab, path: Path, first: Cell | None = None, last: Cell | None = None) -> None:
    """Write a picture of the window, or of what stands from one cell to another."""
    if first is not None:
        first.element.evaluate("element => element.scrollIntoView()")
    lab.page.screenshot()  # a window that has just grown is black in the first
    picture = Image.open(io.BytesIO(lab.page.screenshot())).convert("RGB")
    if first is not None and last is not None:
        top, bottom = first.element.bounding_box(), last.element.bounding_box()
        assert top is not None
        assert bottom is not None
        end = bottom["y"] + bottom["height"]
        assert end < picture.height  # all of it is seen
        picture = picture.crop((int(top["x"]), int(top["y"]), int(top["x"] + top["width"]), int(end)))
    picture.quantize(COLOURS, kmeans=1).save(path, optimize=True)
    assert path.stat().st_size < MOST


def views(lab: Lab, height: int) -> Iterator[str]:
    """Show the window in both themes and widths, so many pixels high; yield how each picture's name ends."""
    for (theme, width), name in NAMES.items():
        lab.theme(theme)
        lab.page.set_viewport_size({"width": width, "height": height})
        lab.page.mouse.move(0, 0)  # no button lights up
        lab.page.wait_for_timeout(1000)  # the notebook measures its cells anew
        yield name


def test_the_pictures_of_readme_and_docs(lab: Lab, server: FaultServer, screenshots: Path, tmp_path: Path) -> None:
    fill(tmp_path / "pictures")
    tokens = chunk(usage={"prompt_tokens": 212, "completion_tokens": 96, "total_tokens": 308})
    server.replies["medium"] = Reply(sse(chunk(ANSWER), chunk(finish="stop"), tokens))
    server.replies["other"] = Reply({"error": {"message": "Overloaded"}}, status=503)
    notebook = lab.notebook("analysis")
    lab.page.set_viewport_size({"width": WIDE, "height": 1600})
    notebook.run(SETTING.format(url=server.url, home=str(tmp_path / "pictures"))).wait()
    question = "%%route\nExplain why merging {{orders}} with *customers* gives more rows than either."
    answer = notebook.run(question).wait()
    expect(answer.badge).to_have_text(re.compile(r"^acme/medium · \$0\.000.* · mid"))
    expect(answer.button("Insert code")).to_be_visible()
    again = notebook.run(question).wait()
    expect(again.badge).to_contain_text("cached")
    other = notebook.run("%%route -t power\nIs the answer to all of it known?").wait()
    expect(other.badge).to_contain_text("fell back")
    dry = notebook.run("%%route -n\nDesign a feature store for three teams, with lineage and access rules.").wait()
    expect(dry.output).to_contain_text("nothing was sent")
    for name in views(lab, 1800):
        take(lab, screenshots / f"cell{name}.png", answer, dry)
    for name in views(lab, 800):
        lab.page.locator(".ipyrouter-spending button").click()
        panel = lab.page.locator(".ipyrouter-panel")
        expect(panel.get_by_role("img", name=re.compile("^Cost per tier"))).to_be_visible()
        expect(panel.locator(".ipyrouter-log tbody tr").first).to_be_visible()
        answer.element.evaluate("element => element.scrollIntoView()")
        take(lab, screenshots / f"lab{name}.png")
        lab.page.locator(".lm-TabBar-tab", has_text="Costs").locator(".lm-TabBar-tabCloseIcon").click()
    log = notebook.run("%router panel").wait()
    expect(log.output.locator(".ipyrouter-log tbody tr")).to_have_count(20)
    expect(log.output.get_by_role("img", name=re.compile("^Cost per tier"))).to_be_visible()
    for name in views(lab, 2400):
        take(lab, screenshots / f"panel{name}.png", log, log)
    lab.shut_kernels_down()


def test_readme_and_docs_show_them() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pictures = {
        (page.parent / name).resolve()
        for page in pages
        for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    assert pictures == set(PICTURES.glob("*.png"))
