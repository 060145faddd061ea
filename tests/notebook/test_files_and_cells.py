"""`--file`, `--cells` and `--above`: what is on the disk or has run, bounded and without secrets."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ipyrouter.errors import UsageError
from ipyrouter.notebook.prompt import documents, files, pictures
from ipyrouter.notebook.prompt.cells import numbers
from ipyrouter.notebook.prompt.tables import Choice
from tests.notebook.conftest import Shell

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"


def piece(path: Path, choice: Choice = Choice()) -> Any:  # noqa: B008  it is frozen
    return files.pieces([str(path)], choice)[0]


def write(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_text_and_code() -> None:
    assert str(piece(write("notes.txt", "Hello\n"))) == "```\n`notes.txt` (file, 6 characters):\nHello\n```"
    assert str(piece(write("a.py", "x = 1\n"))).startswith("```python\n`a.py` (file, 6 characters):\nx = 1")
    for data in ("Größe".encode(), "Größe".encode("utf-8-sig"), "Größe".encode("utf-16"), "Größe".encode("cp1252")):
        assert piece(write("a.txt", data)).body == "Größe"


def test_a_table_a_picture_and_a_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    rows = "city,n\n" + "Oslo,1\n" * 100
    table = piece(write("a.csv", rows))
    assert "(table, 100 rows × 2 columns)" in table.title
    assert table.note == "`a.csv`: 5 of 100 rows sent."
    assert piece(write("a.tsv", rows.replace(",", "\t")), Choice(3, ("n",))).body.startswith("n: int64")
    Image.new("RGB", (60, 40)).save("a.PNG")
    assert piece(Path("a.PNG")).picture.width == 60
    monkeypatch.setitem(sys.modules, "pypdf", None)  # as if it were not installed
    document = piece(write("a.pdf", PDF)).document
    assert (document.name, document.pages, document.data) == ("a.pdf", 1, PDF)


def test_a_long_file_is_cut_and_says_so() -> None:
    long = piece(write("long.txt", "a" * 100_000 + "END"))
    assert 60_000 <= len(long.body) < 60_100
    assert long.body.endswith("END")
    assert long.note == "`long.txt`: 60,000 of 100,003 characters sent."


def test_what_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("pipe")
    for path, why in (
        (Path("gone.txt"), "is not there"),
        (Path(), "is a folder"),
        (Path("pipe"), "is not a plain file"),
        (write("a.bin", b"\0\1\2\xff" * 10), "holds no text"),
        (write("empty.csv", ""), "is not a valid table"),
        (write("no.pdf", "Hello"), "is not a valid PDF file"),
        (write("no.png", "Hello"), "is not a valid picture"),
        (Path("a" * 5000), r"^--file: 'a{60}' is not a valid path: File name too long\. Correct it\.$"),
        (Path("a\0b"), r"is not a valid path|is not there"),
        (Path("~no-such-user-here/a"), r"is not a valid path|is not there"),
    ):
        with pytest.raises(UsageError, match=why):
            piece(path)
    monkeypatch.setattr(documents, "MOST_BYTES", 100)
    with pytest.raises(UsageError, match="has more than"):
        piece(write("large.txt", "a" * 101))
    assert pictures.read_bounded(write("fits.txt", "a" * 100), 100) == b"a" * 100


def test_secrets_in_files_are_removed() -> None:
    text = str(piece(write("config.py", "password = 'hunter22'\nkey = 'sk-proj-abcdefghijklmnop1234'\n")))
    assert "hunter22" not in text
    assert "abcdefghijklmnop" not in text


SECRET = "A1b2hunter22"


def test_a_setting_that_is_a_secret_is_removed_but_no_code_is_changed() -> None:
    Path("app.env").write_text(f"PASSWORD={SECRET}\nHOST=db")
    Path("app.yaml").write_text(f"password: {SECRET}\nhost: db")
    Path("app.py").write_text("password = ask()\n")
    for name in ("app.env", "app.yaml"):
        (piece,) = files.pieces((name,), Choice())
        assert SECRET not in piece.body
        assert "db" in piece.body
    assert files.pieces(("app.py",), Choice())[0].body == "password = ask()"


@pytest.mark.parametrize("data", [b"PK\3\4\0\0", "hello".encode("utf-16-le"), b"a\0b", bytes(range(256))])
def test_a_file_that_is_no_text(data: bytes) -> None:
    Path("data.bin").write_bytes(data)
    with pytest.raises(UsageError, match=r"--file: data\.bin holds no text that can be read\..*Save it as UTF-8"):
        files.pieces(("data.bin",), Choice())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_in_the_encodings_of_the_world(encoding: str) -> None:
    Path("notes.txt").write_bytes("Grüße €".encode(encoding))
    assert files.pieces(("notes.txt",), Choice())[0].body == "Grüße €"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_with_any_usual_separator(separator: str) -> None:
    Path("data.csv").write_text(f"city{separator}rain\nOslo{separator}5\n")
    assert "\n,city,rain\n0,Oslo,5" in files.pieces(("data.csv",), Choice())[0].body


def test_an_invalid_table_is_named() -> None:
    Path("bad.csv").write_text('a,b\n1,2\n"x')
    with pytest.raises(
        UsageError, match=r"--file: bad\.csv is not a valid table: .+\. Correct it, or rename it to \.txt\."
    ):
        files.pieces(("bad.csv",), Choice())


PIXELS = "iVBORw0KGgo" + "A" * 400


def test_a_notebook_goes_out_as_its_cells_and_their_text() -> None:
    png = {"data": {"image/png": [PIXELS], "text/plain": ["<Figure size 640x480>"]}, "output_type": "display_data"}
    error = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m: v"]}
    printed = {"output_type": "stream", "text": "password: hunter22\n"}
    cells = [
        {"cell_type": "markdown", "source": f"# Yield\n![a](data:image/png;base64,{PIXELS}) end", "attachments": {}},
        {"cell_type": "markdown", "source": "![b](attachment:b.png)", "attachments": {"b.png": {"image/png": PIXELS}}},
        {"cell_type": "code", "source": ["plot()\n", "x"], "outputs": [png, printed, error, "odd"]},
        {"cell_type": "code", "source": 3, "outputs": 3, "attachments": 3},
        "odd",
    ]
    write("a.ipynb", json.dumps({"cells": cells, "nbformat": 4}))
    one = piece(Path("a.ipynb"))
    assert one.body == (
        "[1] markdown:\n# Yield\n![a](data:image/png;base64,…) end\n\n[2] markdown:\n![b](attachment:b.png)\n\n"
        "[3] code:\nplot()\nx\n\n[3] output:\n<Figure size 640x480>\n\n[3] output:\npassword: [removed]\n\n"
        "[3] output:\nE: v\n\n[4] code:\n"
    )
    assert one.note == "`a.ipynb`: 3 pictures in it not sent."
    assert one.title == "`a.ipynb` (notebook, 4 cells)"
    for text in ("", "[]", '{"cells": 3}', "{}", '{"cells": [', "[" * 100_000):
        with pytest.raises(UsageError, match=r"--file: b\.ipynb is not a valid notebook\. Open and save it"):
            piece(write("b.ipynb", text))


@pytest.mark.parametrize("name", ["page.html", "page.md", "page.txt", "style.css", "data.json"])
def test_pictures_within_a_text_do_not_go_out_as_text(name: str) -> None:
    one = piece(write(name, f"<img src='data:image/png;base64,{PIXELS}=='> and the rest"))
    assert one.body == "<img src='data:image/png;base64,…'> and the rest"
    assert one.note == f"`{name}`: 1 picture in it not sent."


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ("", r"\."),
        ("--with words", r": what is sent is `words` \(list\)\."),
        ("--file c.txt", r": what is sent is `c.txt` \(file, 6 characters\)\."),
        ("--cells 1", r": what is sent is Cell \[1\]"),
    ],
)
def test_rows_without_a_table(options: str, sent: str, shell: Shell, requests: list[Any]) -> None:
    write("c.txt", "second")
    shell.run("words = ['a', 'b']")
    for choice in ("--rows 3", "--columns a"):
        error = str(shell.run(f"%%route {choice} {options}\nSum up").error)
        assert re.match(f"--rows and --columns choose from a table, and none is sent{sent}", error), error
    assert requests == []


@pytest.mark.parametrize("option", ["--with ,", "--with ''", "--with ' , '"])
def test_a_with_that_names_nothing(option: str, shell: Shell, requests: list[Any]) -> None:
    assert "--with names nothing." in str(shell.run(f"%%route {option}\nSum up").error)
    assert requests == []


def test_files_go_out(shell: Shell, requests: list[Any]) -> None:
    write("a b.txt", "first")
    write("c.txt", "second")
    ran = shell.run("%%route -q --file 'a b.txt' --file c.txt\nCompare")
    assert ran.error is None
    assert "first" in requests[0][2]["messages"][-1]["content"]
    assert "second" in requests[0][2]["messages"][-1]["content"]
    assert "`c.txt` (file, 6 characters)" in shell.run("%%route -n --file c.txt\nSum it up").out
    assert "It is a file: send it with --file c.txt." in str(shell.run("%%route --with c.txt\nSum it up").error)


def test_cells_go_out_with_what_they_put_out(shell: Shell, requests: list[Any]) -> None:
    shell.run("x = 6 * 7\nprint('loud')\nx")
    shell.run("api_key = 'hunter2hunter2'")
    shell.run("y = 1")
    assert shell.run("%%route -q --cells 1-2\nExplain").error is None
    content = requests[0][2]["messages"][-1]["content"]
    assert "```python\n# Cell [1]:\nx = 6 * 7\nprint('loud')\nx\n```" in content
    assert "What cell [1] put out:" in content
    assert "42" in content
    assert "hunter2" not in content
    assert "y = 1" not in content
    assert shell.run("%%route -q --above 2\nExplain").error is None
    content = requests[1][2]["messages"][-1]["content"]
    assert "Cell [3]" in content
    assert "Cell [4]" in content
    assert "Cell [2]" not in content
    assert "no cell [99] has run. Cells that ran in this session: 1 to " in str(
        shell.run("%%route --cells 99\nExplain").error
    )


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("3", [3]),
        ("3-5", [3, 4, 5]),
        ("1,3-4", [1, 3, 4]),
        ("[3]", [3]),
        ("3:4", [3, 4]),
        ("3–4", [3, 4]),
        ("2,2", [2]),
    ],
)
def test_numbers_of_cells(text: str, cells: list[int]) -> None:
    assert numbers(text) == cells


@pytest.mark.parametrize("text", ["a", "3-", "5-3", "1-1000", "-1", "1.5"])
def test_what_is_no_number_of_a_cell(text: str) -> None:
    with pytest.raises(UsageError, match="is not a valid range"):
        numbers(text)


def test_the_dry_run_leads_with_its_verdict_and_shows_the_prompt(shell: Shell, requests: list[Any]) -> None:
    shell.run("name = 'Ada'")
    out = shell.run("%%route -n\nSay hello to {{name}}").out
    assert out.startswith("Dry run: nothing was sent. Would go to o/ok, about $0.0030, at most $0.041.")
    assert "```\nSay hello to Ada\n```" in out
    shell.run("%%route -q\nSay hello to {{name}}")
    assert "Would come from the cache, as o/ok answered, for $0." in shell.run("%%route -n\nSay hello to {{name}}").out
    assert len(requests) == 1


def test_the_verdict_is_an_error_where_the_call_would_be_one(shell: Shell, make_router: Any) -> None:
    import ipyrouter

    ipyrouter.use_router(make_router(budget={"call": 0.000001}))
    out = shell.run("%%route -n\nSay hello").out
    assert out.startswith("Dry run: nothing was sent. Would be an error. A budget forbids this call: o/ok could cost ")
    assert out.count("A budget forbids this call") == 1
    ipyrouter.use_router(make_router(routing={"mode": "rules", "confirm_tokens": 10}))
    out = shell.run(f"%%route -n\nSay hello {'again ' * 20}").out
    assert out.startswith("Dry run: nothing was sent. Would be an error. This prompt is so large that it needs --yes.")
