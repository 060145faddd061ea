"""`%load_ext` is the first cost that a user feels."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "ipyrouter")
new = set(sys.modules) - before
heavy = {"openai", "anthropic", "google.genai", "httpx2", "pandas", "matplotlib", "ipywidgets", "genai_prices",
         "xllamacpp", "sqlite3", "markdown_it", "pygments", "pydantic", "tomllib"}
print(len(new), sorted(heavy & new))
assert "route" in shell.magics_manager.magics["cell"]
"""


def test_load_ext_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    count, _, heavy = done.stdout.strip().partition(" ")
    assert heavy == "[]"
    assert int(count) <= 40


WARM = """
import sys, threading
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("%load_ext ipyrouter\\nimport sys\\ninside = 'numpy' in sys.modules", store_history=False)
for thread in threading.enumerate():
    if thread.name == "ipyrouter-warm-up":
        thread.join()
from ipyrouter.classifier import model
print(shell.user_ns["inside"], model.shipped.cache_info().currsize)
shell.run_cell("None", store_history=False)
print([thread.name for thread in threading.enumerate() if thread.name == "ipyrouter-warm-up"])
"""


def test_the_classifier_is_read_once_the_cell_that_loads_is_over() -> None:
    done = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False 1", "[]"]
