"""`-f`: how an answer is shown, what the cell's value is, and what goes into a new cell."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from ipyrouter.errors import UsageError
from ipyrouter.text.blocks import code_blocks, find_code, find_html, find_json, syntax_error
from tests.notebook.conftest import Shell
from tests.notebook.kernels import kernel
from tests.notebook.test_kernel import mid_chain

ECHO = "%%route -m o/echo -q -o mine -f "


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('{"a": [1, 2]}', {"a": [1, 2]}),
        ("Here it is:\n```json\n[1, 2]\n```\nEnjoy.", [1, 2]),
        ("Sure: [1, 2] is it.", [1, 2]),
        ("null", None),
    ],
)
def test_json_is_a_python_object(shell: Shell, answer: str, value: Any) -> None:
    ran = shell.run(f"{ECHO}json\n{answer}")
    assert ran.error is None
    assert shell.ip.user_ns["mine"] == value
    assert shell.ip.user_ns["_"] == value


def test_a_line_with_json_is_worth_the_object(shell: Shell) -> None:
    shell.run("numbers = %route -m o/echo -f json [1, 2]")
    assert shell.ip.user_ns["numbers"] == [1, 2]


def test_what_is_no_json_fails_the_cell_and_is_shown(shell: Shell) -> None:
    ran = shell.run("%%route -m o/echo -o mine -f json\nThere is none.")
    assert isinstance(ran.error, UsageError)
    assert "The answer holds no JSON; it is shown as it came, and _ holds it." in str(ran.error)
    assert "There is none." in ran.out
    assert "mine" not in shell.ip.user_ns
    assert shell.ip.user_ns["_"].text == "There is none."


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("First:\n```bash\npip install x\n```\nthen\n```python\nx = 1\n```\nand\n```py\ny = 2\n```", "x = 1\n\ny = 2"),
        ("```\n%matplotlib inline\nx = 1\n```", "%matplotlib inline\nx = 1"),
        ("1. do\n   ```python\n   for i in x:\n       print(i)\n   ```", "for i in x:\n    print(i)"),
        ("```sh\nls -l\n```", "%%bash\nls -l"),
        ("```sql\nSELECT 1\n```", "SELECT 1"),
        ("import os\nprint(os.sep)", "import os\nprint(os.sep)"),
    ],
)
def test_code_of_an_answer(answer: str, code: str) -> None:
    assert find_code(answer) == code


@pytest.mark.parametrize("answer", ["Paris is nice", "", "yes", "It is a (small) town: see below."])
def test_prose_is_no_code(answer: str) -> None:
    with pytest.raises(ValueError, match="no code"):
        find_code(answer)


def test_nested_brackets_are_no_way_to_hang() -> None:
    with pytest.raises(ValueError, match="no JSON"):
        find_json("[" * 100_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        "`" * 1_000_000,
        "```" + "a" * 1_000_000,
        "```" + " " * 1_000_000,
        "x = 1" + "\n" * 1_000_000,
        "\n".join("`" * n for n in range(1000, 2, -1)) + "\n" * 500_000,
        "~~~\n" + "```\n````\n" * 100_000,
    ],
    ids=["fence", "language", "spaces", "lines", "unclosed", "closed"],
)
def test_a_megabyte_is_read(answer: str) -> None:
    # Quadratic time would be hours here.
    assert len(find_html(answer)) <= len(answer)
    for find in (find_code, find_json, syntax_error):
        with contextlib.suppress(ValueError):
            find(answer)


def test_fences_close_what_is_no_longer_than_they() -> None:
    assert code_blocks("````\n```\nx\n```\n````") == [("", "```\nx\n```\n")]
    assert code_blocks("`````\n```py\nx\n```") == [("py", "x\n")]
    assert code_blocks("```\nx") == []


@pytest.mark.parametrize(
    ("answer", "blocks"),
    [
        ("```x = 1``` is inline.\n```py\ny\n```", [("py", "y\n")]),
        ("```py\nx\n``` closes nothing\ny\n```", [("py", "x\n``` closes nothing\ny\n")]),
        ("~~~ a `b`\nx\n~~~", [("a", "x\n")]),
        ("> ```py\n> x\n> ```\n> - ```\n>   y\n>   ```", [("py", "x\n"), ("", "y\n")]),
        ("1. a\n   ```py\n   x\n\n     y\n   ```", [("py", "x\n\n  y\n")]),
        ("- a\n  - ```sql\n    SELECT 1\n    ```\n  - b", [("sql", "SELECT 1\n")]),
        ("```Py\r\nx\r\n```\r\n", [("py", "x\n")]),
        ("<div>\n```py\nx\n```\n</div>", [("py", "x\n")]),  # HTML is shown as text, with the block inside
        ("```{python}\nx\n```   ", [("", "x\n")]),
        ("    ```\n    x\n    ```", []),
        ("- ```\n  x", []),
        ("> ```\n> x\n\n```\ny\n```", [("", "y\n")]),
        ("```py\n```", [("py", "")]),
        ("```py", []),
        ("```py\nx\n", []),
        ("~~~\n````\n```\nx\n```", [("", "x\n")]),
    ],
)
def test_fences_are_commonmarks(answer: str, blocks: list[tuple[str, str]]) -> None:
    assert code_blocks(answer) == blocks


def test_what_can_be_read_but_not_written_is_no_json(monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    monkeypatch.setattr("ipyrouter.notebook.formats.find_json", lambda _: deep)  # newer Pythons read that deep
    ran = shell.run("%route -m o/echo -f json [[]]")
    assert isinstance(ran.error, UsageError)
    assert "nested too deeply" in str(ran.error)


def test_a_new_cell_holds_what_is_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs: list[str] = []
    monkeypatch.setattr(shell.ip, "set_next_input", lambda text, replace: inputs.append(text))
    shell.run("%%route -m o/echo -f code\n```python\nx = 1  # \u202e evil \x1b[31m\n```")
    assert inputs == ["x = 1  #  evil "]


@pytest.mark.parametrize(
    ("fmt", "words"), [("json", "JSON alone"), ("code", "code alone"), ("html", "HTML source alone")]
)
def test_the_model_is_told_what_the_format_needs(shell: Shell, requests: list[Any], fmt: str, words: str) -> None:
    ask = f"-q -t mid -f {fmt}"
    shell.run(f"%%route {ask}\nThe three largest cities")
    shell.run(f"%%route {ask} --raw -s 'Be {{{{brief}}}}.'\nThe three largest cities")
    first, second = (request[2]["messages"] for request in requests)
    assert [turn["role"] for turn in first] == ["system", "user"]
    assert words in first[0]["content"]
    assert second[0]["content"] == f"Be {{{{brief}}}}.\n\n{first[0]['content']}"
    assert first[1]["content"] == "The three largest cities"
    assert first[0]["content"] in " ".join(shell.run(f"%%route -n {ask}\nThe three largest cities").out.split())
    shell.run("%%route -q -t mid\nThe three largest cities")  # another question, with another place in the cache
    assert [turn["role"] for turn in requests[2][2]["messages"]] == ["user"]


@pytest.mark.parametrize("fmt", ["markdown", "text", "none"])
def test_other_formats_ask_for_nothing(shell: Shell, requests: list[Any], fmt: str) -> None:
    shell.run(f"%%route -q -f {fmt}\nThe three largest cities")
    assert [turn["role"] for turn in requests[0][2]["messages"]] == ["user"]


def test_a_cell_adds_its_code_once(home: Any, server: Any) -> None:
    mid_chain(home, server, '["o/echo"]')

    def ask(cell: str | None, code: str, *more: str) -> list[str]:
        reply = running.run(f"%%route -m o/echo -f code {' '.join(more)}\n```python\n{code}\n```", cell=cell)
        assert reply.status == "ok", reply.error
        assert ("has added the cell with this code" in reply.text) == (not reply.payload)
        return [payload["text"] for payload in reply.payload]

    with kernel() as running:
        running.run("%load_ext ipyrouter")
        assert ask("a", "x = 1") == ["x = 1"]
        assert ask("a", "x = 1") == []
        assert ask("a", "x = 1", "--refresh") == []
        assert ask("a", "x = 2") == ["x = 2"]
        assert ask("b", "x = 1") == ["x = 1"]  # another cell
        assert ask("b", "x = 1") == []
        for _ in range(2):  # a console's next prompt, which is used up
            assert ask(None, "x = 1") == ["x = 1"]


def test_code_goes_into_a_new_cell(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs: list[tuple[str, bool]] = []
    monkeypatch.setattr(shell.ip, "set_next_input", lambda text, replace=False: inputs.append((text, replace)))
    ran = shell.run("%%route -m o/echo -f code\nHere:\n```python\nx = 1\n```")
    assert ran.error is None
    assert inputs == [("x = 1", False)]
    assert ran.out.startswith("x = 1\no/echo · price unknown · mid")


def test_formats_in_a_kernel(home: Any, server: Any) -> None:
    mid_chain(home, server, '["o/echo"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        code = running.run("%%route -m o/echo -f code\nHere:\n```python\nx = 1\n```")
        assert "```python\nx = 1\n```" in code.markdown
        assert "Here" not in code.markdown
        assert [payload["source"] for payload in code.payload] == ["set_next_input"]
        assert code.payload[0]["text"] == "x = 1"
        page = running.run("%%route -m o/echo -f html\n```html\n<b onclick='x()'>hi</b>\n```")
        assert "```html\n<b onclick='x()'>hi</b>\n```" in page.markdown
        assert set(page.displays[0]["data"]) == {"text/markdown", "text/plain"}
        nothing = running.run("%%route -m o/echo -f none\nBe quiet")
        assert "Be quiet" not in nothing.markdown
        assert "o/echo" in nothing.markdown
        data = running.run('%%route -m o/echo -f json\n{"a": 1}')
        assert '```json\n{\n  "a": 1\n}\n```' in data.markdown
        assert not data.results  # shown once
        assert running.run("print(_)").out == "{'a': 1}\n"
        bare = running.run('%route -m o/echo -f json {"a": 1}')
        assert '"a"' not in bare.markdown
        assert bare.results[0]["data"]["text/plain"] == "{'a': 1}"
