"""Answers, prompts and model names as front ends render them: nothing runs or fetches, and all of them read the same.

JupyterLab's renderer needs Node and `npm ci --prefix tests/renderers`; without them these tests skip, or fail in CI.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from ipyrouter.text.sanitise import code, markdown, plain
from ipyrouter.text.tex import formula
from tests.conftest import ROOT

try:
    from tests.renderers.prove import faults
    from tests.renderers.readers import JupyterLab, Page, readers
except ImportError as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(f"{error.name} is missing: pip install -e '.[test]'", allow_module_level=True)

pytestmark = pytest.mark.slow
ANSWERS = 20_000 if os.environ.get("CI") else 2_000
Readers = dict[str, Callable[[str], str]]


@pytest.fixture(scope="module")
def read() -> Iterator[Readers]:
    """All renderers."""
    try:
        jupyterlab = JupyterLab()
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with jupyterlab:
        yield readers(jupyterlab)


@pytest.mark.usefixtures("read")
def test_nothing_runs_in_any_reader() -> None:
    processes = os.cpu_count() or 1
    each = -(-ANSWERS // processes)
    command = [sys.executable, "-m", "tests.renderers.prove", str(each)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [*command, str(seed)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for seed in range(processes)
    ]
    outputs = [process.communicate()[0].decode() for process in running]
    assert [text.splitlines()[-1] for text in outputs] == [f"{each} answers, 0 with faults"] * processes, "\n".join(
        outputs
    )[:9999]


EVIL = "<img src=x onerror=alert(1)>"
OPENED = {
    "a tag that stands alone": "<br>\n`%s`",
    "kbd": "<kbd>\nx `%s`\n</kbd>",
    "an autolink in an HTML block": "<br>\n<http://x/onmouseover=alert(1)//>\n\n%s",
    "a tilde": "~`%s`",
    "a bare address": "See https://docs.example/`%s`",
    "an address and two backticks": "See http://e.example/x``%s`` for more.",
    "www": "www.docs.example/`%s`",
    "an autolink": "<https://docs.example/`>%s`",
    "a link's address": "[x](`) %s`",
    "a link's title": "[x](https://x.example '`') %s`",
    "an image's title": "![x](https://x.example \"`\") %s`",
    "a definition": "[x]: https://x.example '`\n%s`'",
    "display maths": "$$`$$%s`",
    "inline maths": "$a`$ %s`",
    "round maths": "\\\\(`\\\\) %s`",
    "square maths": "\\\\[`\\\\] %s`",
    "an environment": "\\begin{align}`\\end{align} %s`",
    "maths around a fence": "$$\n```\n$$\n%s\n```",
    "maths around HTML": "$a$ %s $b$",
    "a stand-in for maths": "@@0@@ `@@1@@` $x$ `%s`",
    "a table": "| ` | x |\n|---|---|\n| ` | %s ` |",
    "a bar in code": "| a |\n|---|\n| `|%s` |",
    "a fence's words": "```x `\n%s\n```",
    "a language": '```"><img/src=x/onerror=alert(1)>\n%s\n```',
    "mermaid": "```mermaid-js\n%s\n```",
    "a fence in a list": "- a\n\n      ```\n  %s\n  ```",
    "a fence in a quote": "> ```\n%s\n> ```",
    "references": "&lt;img src=x onerror=alert(1)&gt; &#60;script&#62; %s",
    "separators of lines": "```\n\u2028```\n%s\n```",
    "control characters": "<im\x00g src=x \x1b[31monerror=alert(1)> `%s",
    "a comment": "<!-- `-->%s`",
    "a processing instruction": "<?`?>%s`",
    "a definition list": "x\n: ```\n%s\n```",
    "a footnote": "[^1]\n\n[^1]: `\n%s`",
    "pandoc": "`%s`{=html}",
    "the end of its place": "</div></main></td></table>%s",
    "emphasis": "*a `*%s*` b*",
    "a task": "- [ ] `\n- [x] %s`",
}  # fmt: skip


@pytest.mark.parametrize("text", OPENED.values(), ids=OPENED)
def test_what_opens_code_elsewhere(read: Readers, text: str) -> None:
    whole = text % EVIL
    assert faults(markdown(whole), read) == []
    for end in range(len(whole)):  # as it arrives
        assert faults(markdown(whole[:end]), {name: read[name] for name in ("JupyterLab", "nbconvert")}) == []


@pytest.mark.parametrize(
    ("reader", "text", "fault"),
    [
        ("GitHub", EVIL, "<img>"),
        ("nbconvert", f"See https://docs.example/`{EVIL}`", "<img>"),
        ("nbconvert", f"$$`$$ {EVIL}`", "<img>"),
        ("JupyterLab", f"~`{EVIL}`", "<img>"),
        ("markdown-it", f"<br>\n`{EVIL}`", "<img>"),
        ("JupyterLab", '```"><img/src=x>\nx\n```', "<img src='x'>"),
        ("nbconvert", "```mermaid\nA\n```", "<pre class='mermaid'>"),
        ("GitHub", "[x](<javascript:alert(1)>)", "<a href='javascript:alert(1)'>"),
        ("VS Code", "<span style='position:fixed'>x</span>", "<span style='position:fixed'>"),
        ("VS Code", "</main><p>x", "it ends its own place"),
        ("VS Code", "<title>x</title>", "<title>"),
    ],
)
def test_these_tests_would_notice(read: Readers, reader: str, text: str, fault: str) -> None:
    assert f"{reader}: {fault}" in faults(text, {reader: read[reader]})


def test_these_tests_would_notice_differences(read: Readers) -> None:
    assert "they read it differently" in faults("See www.docs.example/&#60;", read)


# --- what it means stays ---

HONEST = {
    "emphasis": (
        "**bold** and *it* and _it_ and __bold__, ~~gone~~, a**b**c, **(x)**y, ***both***, **a `b` c**, *x **y** z*"
    ),
    "code": (
        "`x`, `a<b>`, `x | y`, `$HOME`, `` a`b ``, `C:\\new`, `a & b`, `*args`, `f(x)[0]`, `@app`, `{{x}}`, `é`, `a  b`"
    ),
    "marks": (
        'a < b, a > b, 1<2, AT&T, a_b_c, 2 * 3, 50 %, #1, a|b, ~5, C:\\new, [x], {y}, x^2, it\'s "so" – naïve 数学 🙂!'
    ),
    "references": "&lt;b&gt; &amp; &copy; \\*no\\* \\<i> &nbsp; &#x41;",
    "links": (
        '[docs](https://pandas.pydata.org/a_b?c=d&e=f#g "title") and <https://x.example/y>, [a '
        "**b**](http://x.example), [r][1], <a@b.example>, [q](https://x.example/%20/a(b)c)\n\n"
        "[1]: https://y.example"
    ),
    "headings": "# One\n\n## Two `x`\n\nThree\n=====\n\nFour\n----\n\n#### Five # six ##\n\n# 1. Seven",
    "paragraphs": "one\ntwo  \nthree\\\nfour\n\n1986. was\n\n- \n\n\\- no list\n\n\\+ nor this\n\n: x",
    "lists": (
        "- a\n- b\n  - c\n    1. d\n    2. e\n- f\n\ntext\n\n3. g\n4. h\n\n* loose\n\n* items\n\n"
        "  two paragraphs\n\n  - and `more`"
    ),
    "a list after another": "- a\n+ b\n* c\n\n1. d\n2) e",
    "code in a list": (
        "1. Install:\n   ```bash\n   pip install x\n   ```\n   and\n2. Run:\n\n   ```python\n   if a<b:\n"
        "       run()\n   ```\n\n   That is all.\n   - so\n     - ```\n       deep\n       ```"
    ),
    "quotes": "> a\n> b\n>\n> - c\n>\n> ```py\n> x<y\n> ```\n\n> > nested **b**\n\n> # title",
    "fences": (
        "```python\nx = a[0](b) < c  # <b> `$HOME` \\n ![x](y)\n\n\n# ~~~ ```\n```\n\n~~~\n```\n~~~\n\n"
        "    indented\n\n````\n```\n````\n\n```nonsense\nx\n```"
    ),
    "code that looks like maths": (
        "```latex\n\\begin{align}\na &= b \\\\[2pt]\n\\end{align}\n```\n\n```python\n"
        're.compile("\\\\(a\\\\)")  # @@0@@\n```\n\n```bash\necho $HOME $PATH\n```'
    ),
    "tables": (
        "| a | b | c |\n|:--|:-:|--:|\n| 1 | `x` | **y** |\n| a \\| b |  | [l](https://x.example) |\n\n"
        "| one |\n|---|\n| 1<2 |"
    ),
    "a table in a list": "- x\n\n  | a | b |\n  |---|---|\n  | 1 | 2 |\n\n- y",
    "rules": "a\n\n---\n\nb\n\n* * *\n\n- c\n\n  ---",
    "empty": "",
    "deep": "- a\n  - b\n    - c\n      - d\n        - e\n          - f\n            - g",
}


@pytest.mark.parametrize("text", HONEST.values(), ids=HONEST)
def test_honest_answers_mean_what_they_did(read: Readers, text: str) -> None:
    meant = Page(read["VS Code"](text)).reading()
    for name, render in read.items():
        assert Page(render(markdown(text))).reading() == meant, name


def test_harmless_tags_stay(read: Readers) -> None:
    text = "a<br>b<BR/>H<sub>2</sub>O x<SUP>2</SUP>, **<kbd>Ctrl</kbd>** `<br>` &lt;br&gt; <sub>"
    html = "a<br>b<br>H<sub>2</sub>O x<sup>2</sup>, <strong><kbd>Ctrl</kbd></strong> <code>&lt;br&gt;</code> &lt;br&gt;"
    for name, render in read.items():
        assert f"<p>{html} &lt;sub&gt;</p>" in render(markdown(text)).replace("<br />", "<br>"), name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("![cat](https://x.example/y.png)", "cat"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("[x](data:text/html,x) [y](ftp://z) [z](#top)", "[x](data:text/html,x) [y](ftp://z) [z](#top)"),
        ("- [ ] open\n- [x] done", "☐ open ☑ done"),
        (
            "see https://x.example/a_(b), or (https://y.example).",
            "see https://x.example/a_(b), or (https://y.example).",
        ),
        ("from $5 to $10", "from $5 to $10"),
        ("\\(\\href{javascript:alert(1)}{x}\\)", "(\\href{javascript:alert(1)}{x})"),
        ("a\u202eb &#x202e;c &#8296;d", "ab c d"),
    ],
)
def test_what_is_said_of_the_rest(read: Readers, text: str, says: str) -> None:
    for name, render in read.items():
        assert dict(Page(render(markdown(text))).reading())["main"] == says, name


def test_images_and_bare_addresses_are_links(read: Readers) -> None:
    text = "![cat](https://x.example/y.png) ![](https://x.example/z.png) https://x.example/a_(b). www.x.example"
    for render in read.values():
        links = [what for what in Page(render(markdown(text))).reading() if what[0].startswith("link")]
        assert links == [
            ("link to https://x.example/a_(b)", "https://x.example/a_(b)"),
            ("link to https://x.example/y.png", "cat"),
            ("link to https://x.example/z.png", "image"),
        ]


def test_code_is_highlighted(read: Readers) -> None:
    source = markdown("- a\n\n  ```Python\n  x = 1\n  ```")
    assert 'class="language-python"' in read["JupyterLab"](source)
    assert '<div class="highlight">' in read["nbconvert"](source)


# --- formulas ---

FORMULAS = {
    "$E = mc^2$": "$E = mc^2$",
    "\\(x_i < y\\)": "$x_i &lt; y$",
    "$$\\frac{a}{b} \\\\ \\\\$$": "$$\\frac{a}{b}$$",
    "\\[\\sum_{i=1}^n x_i\\]": "$$\\sum_{i=1}^n x_i$$",
    "$$\na\n= b\n- c\n$$": "$$a = b - c$$",
    "\\[\n\\begin{aligned}\na &= b \\\\[2pt]\nc &= d % why\n\\end{aligned}\n\\]": (
        "$$\\begin{aligned} a &amp; = b \\\\ c &amp; = d \\end{aligned}$$"
    ),
    "\\begin{align*}\na &= b\n\\end{align*}": "$$\\begin{align*} a &amp; = b \\end{align*}$$",
    "with $A = \\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}$ in it": (
        "$A = \\begin{pmatrix}1&amp; 2\\\\ 3&amp; 4\\end{pmatrix}$"
    ),
    "| a |\n|---|\n| $\\|x\\| \\\\| y$ |": "$\\vert x\\vert  \\Vert  y$",
    "- in a list $x$": "$x$",
    "> in a quote\n>\n> $$\n> x\n> $$": "$$x$$",
    "1. a\n   ```\n   b\n   ```\n   $x$": "$x$",
    "**$x$** and *$y$*": "$x$",
}  # fmt: skip


@pytest.mark.parametrize(("text", "html"), FORMULAS.items())
def test_formulas_are_formulas(read: Readers, text: str, html: str) -> None:
    for name in ("JupyterLab", "nbconvert"):
        assert html in read[name](markdown(text)).replace("& ", "&amp; "), name


@pytest.mark.parametrize(
    "source",
    [
        "\\href{javascript:alert(1)}{x}", "\\require{html}", "\\unicode{60}", "\\includegraphics{x}",
        "\\style{a}{b}", "\\class{a}{b}", "\\cssId{a}{b}", "\\data{a=b}{c}", "\\url{x}", "\\mmlToken{mi}{x}",
        "\\bbox[red]{x}", "\\def\\x{y}", "\\newcommand{\\x}{y}", "\\let\\x=y", "\\rule{99em}{99em}",
        "\\hspace{-99em}", "\\kern99em", "\\raise99em{x}", "\\smash{x}", "\\llap{x}", "\\begin{href}x\\end{href}",
        "\\begin{align}x", "\\end{align}", "\\HREF{x}", "\\input{x}", "\\csname href\\endcsname", "\\Huge x",
        "\\label{x}", "\\texttip{a}{b}", "\\toggle{a}{b}\\endtoggle", "`x`", "x$y", "@@0@@", "#1", "{", "}{", "\\",
        "", " % all of it", "x" * 10_001,
    ],
)  # fmt: skip
def test_what_is_no_formula_for_certain(source: str) -> None:
    assert formula(source) is None


def test_a_formula_is_inert_in_itself() -> None:
    assert formula("a<b>c") == "a< b>c"
    assert formula("\\text{[x](javascript:y)}<img>") == "\\text{[x] (javascript:y)}< img>"
    assert formula("&lt;") == "& lt;"
    assert formula("a \\\\[999em] [b]") == "a \\\\ {}[b]"
    assert "href" not in re.sub("`[^`]*`", "", markdown("$\\text{a}$ [b](javascript:x) $\\text{c}$"))


# --- much, and deep ---

SHAPES = (
    "\n", "[", "[[]](", "](", "![", "`", "`a", "``a`", "*", "**a ", "*a **b ", "*a_", "~~a", ">", "> ", "> a\n",
    ">\n", "- ", "- a\n", "1. ", "  - a\n", "> - ", "$", "$a ", "$$a\n", "$$\n", "\\(", "\\(a ", "\\[\n", "\\[a ",
    "\\begin{align}\n", "<", "<a", "<br>", "<sub>", "http://", "https://x.y/(", "https://x.y ", "&", "&#1;", "|",
    "|a\n|-\n", "a|b\n-|-\n", "[a]: ", "[a]: x\n", "[a\n", "\\", "\\\n", "#", "a\n===\n", "    a\n", "```\n",
    "~~~\n```\n", "```a\n", "\x1b[", "\x1b]", "\u202e", "{", "[`", "`[", "[*", "*a]", "[a](", "[a][", "[a](<b> 'c ",
    "<!--", "a@b.c ", "www.", "- [ ] a\n", "* a\n\n  b\n", "$\\{ ", "%", "//", "\r",
)  # fmt: skip


def calls(work: Callable[[], object]) -> int:
    """Return how many functions something calls: a measure of its work on any machine."""
    count = 0

    def called(*_: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_text_is_twice_the_work(shape: str) -> None:
    from ipyrouter.text.blocks import code_blocks

    for work in (markdown, code_blocks):
        work("```\n```")
        once, twice = (shape * (size // len(shape)) for size in (2_000, 4_000))
        assert calls(lambda: work(twice)) <= 2.5 * calls(lambda: work(once)) + 1_000  # noqa: B023
        assert len(markdown(twice)) <= 150 * len(twice) + 1_000


@pytest.mark.parametrize(
    "text", ["\n" * 200_000, "`<b> $x$ [a](b) " * 65_536, ">" * 150_000, "- " * 90_000, "> a\n" * 40_000]
)
def test_what_is_huge_or_deep_is_shown_as_it_came(read: Readers, text: str) -> None:
    assert markdown(text) == code(text)


@pytest.mark.parametrize("text", [">" * 30 + " a", "- " * 30 + "a", "> - " * 15 + "a", "> " * 19 + "```\nx\n```"])
def test_nothing_is_lost_in_the_depth(read: Readers, text: str) -> None:
    assert faults(markdown(text), read) == []
    for render in read.values():
        assert text.rstrip()[-1] in dict(Page(render(markdown(text))).reading())["main"]


@pytest.mark.parametrize(
    "text", ["x", "```", "~~~\n````\n", "@@0@@ <b>", "\\\\(x\\\\) `", "\n\nx\n\n", "<script>", "$a$ `b`"]
)
def test_verbatim_is_verbatim(read: Readers, text: str) -> None:
    source = code(text, "python")
    assert faults(source, read) == []
    for render in read.values():
        assert dict(Page(render(source)).reading())["pre"] == text.strip("\n")


def test_plain_keeps_newlines_and_tabs() -> None:
    assert plain("a\tb\r\nc\rd\x07\u2028e") == "a\tb\nc\nd\ne"
