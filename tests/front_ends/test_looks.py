"""Voilà, marimo, nbconvert's pages, VS Code's stand-in and terminals, really opened: `nox -s front-ends` does it.

IPYROUTER_SCREENSHOTS=docs/pictures nox -s front-ends makes their pictures anew.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pexpect
import pyte
import pytest
from PIL import Image
from playwright.sync_api import Route

from tests.browser.conftest import SCREENSHOTS
from tests.browser.lab import TIMEOUT, Browser, Locator, Page, chromium, expect
from tests.browser.looks import contrast
from tests.browser.test_pictures import COLOURS, MOST
from tests.conftest import is_private
from tests.faults.server import FaultServer
from tests.front_ends import showcase
from tests.notebook.kernels import execute_notebook

FOLDER = Path(__file__).parent
WIDTH, HEIGHT = 640, 2400  # pixels: two of them stand side by side
PORT = 18866
LINES = 60  # of a terminal
COLOURS_OF = {
    "default": "#ccc", "blue": "#6cb6ff", "brightblue": "#6cb6ff", "cyan": "#4ec9b0", "magenta": "#d670d6",
    "brightblack": "#888", "green": "#8ac926", "red": "#f48771",
}  # fmt: skip
"""A terminal's colours by their names."""
THEMES = ("light", "dark")
ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}
MARIMO = """
import marimo

app = marimo.App()


@app.cell
def _():
    import ipyrouter

    return (ipyrouter,)

"""
ASK = """
@app.cell
def _(ipyrouter):
    ipyrouter.route({!r}, {}, cache='off')
    return

"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(autouse=True)
def prepared(server: FaultServer, home: Path) -> None:
    showcase.prepare(server, home)


@pytest.fixture
def executed(home: Path, tmp_path: Path) -> Path:
    """The notebook, run and saved."""
    notebook = showcase.notebook()
    execute_notebook(notebook)
    path = tmp_path / "showcase.ipynb"
    nbformat.write(notebook, path)
    return path


def environment() -> dict[str, str]:
    """Return the variables of another process, which finds this package."""
    kept = {name: value for name, value in os.environ.items() if not is_private(name) or name == "IPYROUTER_HOME"}
    kept.pop("VIRTUAL_ENV", None)  # IPython warns of one that is not its own
    return {**kept, "PYTHONPATH": str(FOLDER.parents[1]), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


@contextlib.contextmanager
def running(*command: str, says: str, folder: Path) -> Iterator[None]:
    """Run a server until the end of the block; it has started when it says so."""
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment(), stdout=file, stderr=file
        )
    try:
        for _ in range(TIMEOUT // 100):
            assert process.poll() is None, log.read_text("utf-8")
            if says in log.read_text("utf-8"):
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def opened(browser: Browser, address: str, theme: str) -> Iterator[Page]:
    """Open a page; in the end, nothing may have run, and nothing but MathJax been asked for."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    harm: list[str] = []
    page.on("dialog", lambda dialog: (harm.append(dialog.message), dialog.accept()))
    page.route("https://cdnjs.cloudflare.com/ajax/libs/mathjax/**", _serve_mathjax)
    page.route("https://api.cdnjs.com/**", lambda route: route.fulfill(body='{"version": "2.7.9"}', headers=ANY_ORIGIN))
    page.goto(address)
    yield page
    assert harm == []
    assert page.locator("script", has_text="alert").count() == 0
    context.close()


def _serve_mathjax(route: Route) -> None:
    """Serve what nbconvert's pages fetch to set formulas, which need the network otherwise."""
    _, _, name = route.request.url.partition("/mathjax/")[2].partition("/")
    route.fulfill(path=FOLDER / "node_modules" / "mathjax" / name.partition("?")[0], headers=ANY_ORIGIN)


def check(page: Page, formula: str, code: str = "pre code") -> None:
    """Check what a user would notice; ``formula`` and ``code`` are where formulas and code are shown."""
    expect(page.get_by_role("heading", name="Why it has more rows")).to_be_visible()
    expect(page.locator(formula).last).to_be_visible()
    expect(page.get_by_text("<img src=x onerror=alert(1)>").first).to_be_visible()
    font = page.locator(code, has_text="def repeated").evaluate("code => getComputedStyle(code).fontFamily")
    assert "mono" in font.lower()
    expect(page.locator("td", has_text="12,000").first).to_have_css("text-align", re.compile("right$"))
    for badge in page.locator("div[role=img]").all():
        assert contrast(badge) >= 4.5
        assert badge.locator("strong").evaluate("name => name.getClientRects().length") == 1  # it is not broken


def save(name: str, pictures: list[Image.Image]) -> None:
    """Write pictures side by side, if pictures are wanted."""
    if SCREENSHOTS is None:
        return
    whole = Image.new("RGB", (sum(one.width for one in pictures), max(one.height for one in pictures)), "white")
    left = 0
    for one in pictures:
        whole.paste(one, (left, 0))
        left += one.width
    path = SCREENSHOTS / f"{name}.png"
    whole.quantize(COLOURS, kmeans=1).save(path, optimize=True)
    assert path.stat().st_size < MOST


def picture(page: Page, path: Path, first: Locator, last: Locator) -> Image.Image:
    """Return a picture of what stands from one element to another."""
    page.screenshot(path=path)
    top, bottom = first.bounding_box(), last.bounding_box()
    assert top is not None
    assert bottom is not None
    end = bottom["y"] + bottom["height"]
    assert end < HEIGHT
    return Image.open(path).convert("RGB").crop((0, max(int(top["y"]) - 4, 0), WIDTH, int(end) + 4))


def test_a_page_of_nbconvert(executed: Path, browser: Browser, tmp_path: Path) -> None:
    pictures = []
    for theme in THEMES:
        command = ["nbconvert", "--to=html", f"--theme={theme}", f"--output=page-{theme}", str(executed)]
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
        with opened(browser, executed.with_name(f"page-{theme}.html").as_uri(), theme) as page:
            check(page, ".mjx-chtml", ".highlight pre")
            first = page.locator(".jp-Cell", has_text="%%route --show-thinking").first
            pictures.append(picture(page, tmp_path / "page.png", first, page.locator("progress")))
    save("nbconvert", pictures)


def test_markdown_of_nbconvert(executed: Path) -> None:
    subprocess.run([sys.executable, "-m", "nbconvert", "--to=markdown", str(executed)], check=True, capture_output=True)
    text = executed.with_suffix(".md").read_text("utf-8")
    for whole in ("## Why it has more rows", "$$n = \\sum", "def repeated(frame, key):", "| key | left |"):
        assert text.count(whole) == 1, whole
    assert "<svg" not in text
    assert "<script" not in re.sub(r"(?s)```html.*?```", "", text)
    assert text.count("Spent over time") == 1  # the figures stand there once


def test_voila(browser: Browser, tmp_path: Path) -> None:
    pictures = []
    nbformat.write(showcase.notebook(), tmp_path / "showcase.ipynb")
    for theme in THEMES:
        options = (f"--theme={theme}", f"--port={PORT}", "--no-browser", "--Voila.ip=127.0.0.1")
        with (
            running("voila", "showcase.ipynb", *options, says="running at", folder=tmp_path),
            opened(browser, f"http://127.0.0.1:{PORT}/", theme) as page,
        ):
            expect(page.locator(".ipyrouter-log tbody tr").first).to_be_visible()  # the panel's widgets are there
            expect(page.get_by_role("img", name=re.compile("^Cost per tier"))).to_be_visible()
            check(page, "mjx-container")
            last = page.get_by_role("button", name="Export")
            pictures.append(picture(page, tmp_path / "page.png", page.locator("div[role=img]").first, last))
    save("voila", pictures)


def test_marimo(browser: Browser, tmp_path: Path) -> None:
    asked = (("Explain why merging has more rows.", "tier='mid'"), ("Is it known?", "tier='power'"),
             ("What is the worst?", "model='acme/hostile'"))  # fmt: skip
    (tmp_path / "notebook.py").write_text(MARIMO + "".join(ASK.format(*one) for one in asked))
    pictures = []
    for theme in THEMES:
        (tmp_path / "pyproject.toml").write_text(f'[tool.marimo.display]\ntheme = "{theme}"\n')
        options = ("--headless", "--no-token", f"--port={PORT}")
        with (
            running("marimo", "-y", "run", "notebook.py", *options, says="URL", folder=tmp_path),
            opened(browser, f"http://127.0.0.1:{PORT}/", theme) as page,
        ):
            expect(page.locator("div[role=img]")).to_have_count(3)
            check(page, "marimo-tex", "pre")
            last = page.locator("pre", has_text="alert(2)")
            pictures.append(picture(page, tmp_path / "page.png", page.locator("div[role=img]").first, last))
    save("marimo", pictures)


def test_what_stands_in_for_vs_code(executed: Path, browser: Browser, tmp_path: Path) -> None:
    cells = nbformat.read(executed, as_version=4).cells[1:]
    outputs = [output for cell in cells for output in cell.outputs]
    lines = "".join(
        json.dumps(output.data["text/markdown"]) + "\n" for output in outputs if "text/markdown" in output.data
    )
    command = ["node", str(FOLDER / "vs_code.mjs")]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    rendered = iter(done.stdout.splitlines())
    body = ""
    for cell in cells:
        body += f'<div class="source">{html.escape(cell.source)}</div>'
        for output in cell.outputs:
            if "text/html" in output.data:
                body += f'<div class="html">{output.data["text/html"]}</div>'
            elif "text/markdown" in output.data:
                body += f'<div class="markdown">{json.loads(next(rendered))}</div>'
    styles = (FOLDER / "vs_code.css", FOLDER / "node_modules/katex/dist/katex.min.css")
    links = "".join(f'<link rel="stylesheet" href="{style.as_uri()}">' for style in styles)
    pictures = []
    for theme in THEMES:
        page_file = tmp_path / f"{theme}.html"
        page_file.write_text(f'<!doctype html><meta charset="utf-8">{links}<body class="vscode-{theme}">{body}</body>')
        with opened(browser, page_file.as_uri(), theme) as page:
            check(page, ".katex")
            first = page.locator(".source").first
            pictures.append(picture(page, tmp_path / "page.png", first, page.locator("progress")))
    save("vs-code", pictures)


# --- terminals ---


def test_terminals(browser: Browser, tmp_path: Path) -> None:
    lines = ("%load_ext ipyrouter", "%route -t mid --no-cache Explain why merging has more rows than either table.",
             "%router log", "%router compare")  # fmt: skip
    pictures = []
    for module in ("IPython", "jupyter_console"):
        screen = _screen(module, lines)
        text = "\n".join(line.rstrip() for line in screen.display)
        for words in ("acme/medium · $0.00069 · mid", "repeated(frame, key)", "You paid $0.00"):
            assert words in text
        assert "routing" not in text
        page_file = tmp_path / "screen.html"
        page_file.write_text(
            f'<!doctype html><meta charset="utf-8"><body style="margin:8px;background:#111">{_html(screen)}'
        )
        with opened(browser, page_file.as_uri(), "dark") as page:
            pictures.append(picture(page, tmp_path / "page.png", page.locator("pre"), page.locator("pre")))
    save("terminals", pictures)


def _screen(module: str, lines: tuple[str, ...]) -> Any:
    """Return a terminal of 80 columns in which lines were typed."""
    console: Any = pexpect.spawn(
        sys.executable, ["-m", module, "--simple-prompt"], encoding="utf-8", timeout=TIMEOUT / 1000,
        dimensions=(LINES, 80), env={**environment(), "TERM": "xterm-256color", "COLUMNS": "80"},
    )  # fmt: skip
    screen = pyte.Screen(80, LINES)
    stream = pyte.Stream(screen)
    try:
        for number, line in enumerate((*lines, ""), 1):
            console.expect_exact(f"In [{number}]: ")
            greeting = number == 1
            stream.feed(("" if greeting else console.before) + f"In [{number}]: ")
            console.sendline(line)
    finally:
        console.ptyproc.delayafterterminate = 2
        console.close(force=True)
    return screen


def _html(screen: Any) -> str:
    """Return a terminal's characters with their colours."""
    rows = []
    for number in range(LINES):
        row = ""
        for column in range(80):
            one = screen.buffer[number][column]
            colour = COLOURS_OF.get(one.fg, f"#{one.fg}")
            weight = ";font-weight:bold" if one.bold else ""
            row += f'<span style="color:{colour}{weight}">{html.escape(one.data)}</span>'
        rows.append(row)
    return f'<pre style="font:12.5px/1.3 monospace">{chr(10).join(rows)}</pre>'
