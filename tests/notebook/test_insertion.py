"""`{{name}}`, --with and -o: which variables a magic sees, and what is not an insertion."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

import ipyrouter
from ipyrouter.errors import UsageError
from tests.notebook.conftest import Shell
from tests.notebook.kernels import kernel
from tests.notebook.test_kernel import mid_chain

SETTING = """
import pandas as pd, types
df = pd.DataFrame({"a": [1]})
row = types.SimpleNamespace(a=1)
d = {"k": 2}
x = total = 3
"""


def prompts(requests: list[Any]) -> list[str]:
    return [request[2]["messages"][-1]["content"] for request in requests]


@pytest.mark.parametrize(
    "place",
    [
        "{{df.head()}}", "{{row.a}}", "{{d['k']}}", "{{x+1}}", "{{ x + 1 }}", '{{f"{x} apples"}}', "{{f'x'}}",
        "{{x:.2f}}", "{{x!r}}", "{{df.head(}}", "{{-x}}", "{{x if x else d}}", "{{ df | upper }}", "{{len('abc')}}",
        "{{_.text}}", "{{Out[1]}}", "{{[n for n in df]}}", "{{(x)}}", "{{not x}}", "{{unknown()}}",
    ],
)  # fmt: skip
def test_an_expression_is_an_error_and_not_paid(shell: Shell, requests: list[Any], place: str) -> None:
    shell.run(SETTING)
    for cell in (f"%%route -q\nWhat of {place}?", f"%route -q What of {place}?", f"%%route -q -s '{place}'\nWhat?"):
        if "-s" in cell and "'" in place:
            continue
        ran = shell.run(cell)
        assert isinstance(ran.error, UsageError), cell
        assert f"{place}: only a plain variable can be inserted" in str(ran.error)
        assert "text = " in str(ran.error)
        assert "--raw" in str(ran.error)
        assert len((ran.out + ran.err).strip().splitlines()) == 1
    assert requests == []
    shell.run(f"%%route -q --raw\nWhat of {place}?")
    assert prompts(requests) == [f"What of {place}?"]


@pytest.mark.parametrize(
    "text",
    [
        "{{a.b}}", "{{0}}", "{{ not a name }}", "{{1+1}}", "{{'text'}}", "{{ first name }}", "{{ name of the x }}",
        "{% for a in b %}{{ a.name }}{% endfor %}", "{{#if a}}{{/if}}", "{{> part}}", "{{}}", "{{ }}",
        "v{{1, 2}, {3, 4}};", "<b style={{color: 'red', x: 1}}>", "\\frac{{a+b}}{c}", "${{ github.ref }}",
        '{{"a": 1, "b": {"c": 2}}}', "{{" * 10_000, "{{x " * 10_000, "{{" + "x." * 5_000 + "}}",
    ],
)  # fmt: skip
def test_what_is_no_attempt_at_insertion_stays(shell: Shell, requests: list[Any], text: str) -> None:
    shell.run("x = 3")
    ran = shell.run(f"%%route -q --yes\n{text}")
    assert ran.error is None, ran.out + ran.err
    assert prompts(requests) == [text]


def test_plain_names_are_inserted_however_they_are_written(shell: Shell, requests: list[Any]) -> None:
    shell.run("größe = 3\nx = 4")
    shell.run("%%route -q\n{{größe}} {{ x }} {{{x}}} {{\nx\n}} {{gro\u0308ße}} {{a.b {{x}} }}")
    assert prompts(requests) == ["3 4 {4} 4 3 {{a.b 4 }}"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("10 ** 10_000", "ValueError. Use --with odd, which cuts it."),
        ("[10 ** 10_000]", "ValueError. Insert a string made of it."),
        ("type('L', (), {'__str__': lambda self: 1 / 0})()", "ZeroDivisionError. Insert a string made of it."),
        ("type('L', (), {'__str__': lambda self: 5})()", "TypeError. Insert a string made of it."),
    ],
)
def test_a_value_that_is_no_string_is_named(shell: Shell, requests: list[Any], value: str, reason: str) -> None:
    shell.run(f"odd = {value}")
    ran = shell.run("%%route -q\nIs {{odd}} good?")
    assert isinstance(ran.error, UsageError)
    assert str(ran.error) == f"{{{{odd}}}} cannot be inserted: str() of it raised {reason}"
    assert requests == []


MAGIC = "get_ipython().run_line_magic('route', '-q About {{q}}')"
SCOPES = {  # each asks about cats
    "a parameter": "def ask(q):\n    r = %route -q About {{q}}\n    return r\nask('cats')",
    "returned at once": "def ask(q):\n    return %route -q About {{q}}\nask('cats')",
    "in one line": "def ask(q): return %route -q About {{q}}\nask('cats')",
    "yielded": "def ask(q):\n    yield %route -q About {{q}}\nlist(ask('cats'))",
    "a local": "q = 'dogs'\ndef ask():\n    q = 'cats'\n    %route -q About {{q}}\nask()",
    "a global": "q = 'cats'\ndef ask():\n    %route -q About {{q}}\nask()",
    "around an inner function": """
q = 'dogs'
def ask(q):
    def inner():
        %route -q About {{q}}
    inner()
ask('cats')""",
    "around an inner function that outlives it": """
q = 'dogs'
def ask(q):
    def inner():
        return %route -q About {{q}}
    return inner
ask('cats')()""",
    "around a comprehension": f"q = 'dogs'\ndef ask(q):\n    return [{MAGIC} for _ in range(1)]\nask('cats')",
    "of a comprehension": f"[{MAGIC} for q in ['cats']]",
    "of a method": "class A:\n    def ask(self, q):\n        return %route -q About {{q}}\nA().ask('cats')",
    "of a class": "class A:\n    q = 'cats'\n    %route -q About {{q}}\n",
    "of async code": "async def ask(q):\n    return %route -q About {{q}}\nawait ask('cats')",
    "of a cell's text": """
def ask(q):
    return get_ipython().run_cell_magic('route', '-q', 'About {{q}}')
ask('cats')""",
    "timed": f"def ask(q):\n    %time r = {MAGIC}\nask('cats')",
    "in a loop": "for q in ['cats']:\n    %route -q About {{q}}\n",
}


@pytest.mark.parametrize("code", SCOPES.values(), ids=SCOPES)
def test_the_variables_are_those_that_python_would_read(shell: Shell, requests: list[Any], code: str) -> None:
    ran = shell.run(code)
    assert ran.error is None, ran.out + ran.err
    assert prompts(requests) == ["About cats"]


def test_with_and_system_see_the_function_too(shell: Shell, requests: list[Any]) -> None:
    code = """
    def look(frame, tone):
        def inner():
            return %route -q --with frame -s "Be {{tone}}." What is odd here?
        return inner
    frame = tone = "wrong"
    answer = look([1, 2, 99], "brief")()
    """
    ran = shell.run(textwrap.dedent(code))
    assert ran.error is None, ran.out + ran.err
    system, prompt = requests[0][2]["messages"]
    assert system["content"] == "Be brief."
    assert "[1, 2, 99]" in prompt["content"]


def test_a_function_gets_what_its_magic_gives(shell: Shell, requests: list[Any]) -> None:
    """A cell magic's text in a function is worth the answer there, in a terminal and for every format."""
    shell.run("def ask(options, text):\n    return get_ipython().run_cell_magic('route', options, text)")
    assert shell.run("a = ask('-q', 'hello'); a.text").value
    assert shell.run("ask('-q -m o/echo -f json', '[1, 2]')").value == [1, 2]


def test_out_cannot_set_a_functions_variable(shell: Shell, requests: list[Any]) -> None:
    ran = shell.run("def ask():\n    result = None\n    %route -q -o result hello\n    return result\nask()")
    assert str(ran.error) == (
        "-o result: this is a variable of the function ask, which a magic cannot set. Write result = %route …"
    )
    assert requests == []
    assert shell.run("def ask():\n    %route -q -o result hello\nask()").error is None
    assert shell.ip.user_ns["result"].text


def test_scopes_in_a_kernel(home: Any, server: Any, requests: list[Any]) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        running.run("%load_ext ipyrouter")
        for code in SCOPES.values():
            requests.clear()
            reply = running.run(code.replace("-q", "-q -t mid --no-cache"))
            assert reply.status == "ok", reply.error
            assert prompts(requests) == ["About cats"]


# --- where the magic stands ---


@pytest.mark.parametrize(
    "cell",
    [
        "# ask about cats\n%%route -q\nhello",
        "\n\n# ask\n\n  # about cats\n%%route -q\nhello",
        "  %%route -q\nhello",
        "# ask\n\t%%route -q\nhello",
        "\ufeff%%route -q\nhello",
        "%%route\t-q\nhello",
        "%%route\u00a0-q\nhello",
        "%%route\u3000-q \u00a0\nhello",
        "%%route -q\r\nhello",
        "%route\u00a0-q hello",
        "%route\t-q hello",
        "answer = %route\u00a0-q hello",
    ],
)
def test_blanks_and_comments_around_the_magic(shell: Shell, requests: list[Any], cell: str) -> None:
    ran = shell.run(cell)
    assert ran.error is None, ran.out + ran.err
    assert prompts(requests) == ["hello"]


@pytest.mark.parametrize("above", ["%load_ext autoreload", "x = 1", "import os", "def f():\n    return 1", "x = [\n1]"])
@pytest.mark.parametrize("prompt", ["hello", "What's a list?", "It's 5 o'clock (\n"])
def test_code_above_the_cell_magic_is_one_line(shell: Shell, requests: list[Any], above: str, prompt: str) -> None:
    ran = shell.run(f"{above}\n%%route -q\n{prompt}")
    assert isinstance(ran.error, UsageError)
    line = 2 + above.count("\n")
    assert f"%%route must be the first line of its cell, and stands on line {line}; nothing was sent." in str(ran.error)
    assert len((ran.out + ran.err).strip().splitlines()) == 1
    assert requests == []


@pytest.mark.parametrize(
    "cell",
    [
        'text = """\n%%route\nhello\n"""',
        "%%time\n%%route -q\nhello",
        "%%route -q\nhello\n%%route\nagain",
        "x = 5\nroute = 2\ny = x %route",
    ],
)
def test_other_cells_stay_as_they_are(shell: Shell, requests: list[Any], cell: str) -> None:
    ran = shell.run(cell)
    assert ran.error is None, ran.out + ran.err
    assert shell.ip.user_ns.get("text", "\n%%route\nhello\n") == "\n%%route\nhello\n"
    assert shell.ip.user_ns.get("y", 1) == 1


@pytest.mark.parametrize("prompt", ["hello", "1 + 1"])
def test_loading_and_asking_in_one_cell(home: Any, server: Any, prompt: str) -> None:
    mid_chain(home, server, '["o/ok"]')
    with kernel() as running:
        below = running.run(f"%load_ext ipyrouter\n%%route\n{prompt}")
        assert "UsageError: %%route must be the first line of its cell" in below.error
        assert len(below.error.splitlines()) == 1
        running.run("%unload_ext ipyrouter")
        reply = running.run("%load_ext ipyrouter\n%route What is a list?")
        assert reply.error.startswith("UsageError: A %route question stands in the cell that loads ipyrouter")
        assert len(reply.error.splitlines()) == 1
        assert running.run("%route -q -t mid What is a list?").status == "ok"  # it is loaded
        assert running.run("x = 1\nx?").status == "ok"  # help is help again
        running.run("%unload_ext ipyrouter")
        helped = running.run("%load_ext ipyrouter\nlist?\n%route -q -t mid hello")
        assert (helped.status, [payload["source"] for payload in helped.payload]) == ("ok", ["page"])


def test_a_path_from_windows_names_the_notebook_alone(shell: Shell) -> None:
    for path in (r"c:\Users\ada.lovelace\plan.ipynb", r"\\server\ada\plan.ipynb", "/home/ada/plan.ipynb", "plan.ipynb"):
        shell.ip.user_ns["__vsc_ipynb_file__"] = path
        shell.run("%route -q --no-cache hello")
        assert ipyrouter.cost_log()["notebook"].iloc[-1] == "plan.ipynb"
