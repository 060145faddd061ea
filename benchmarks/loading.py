"""`%load_ext` in a running IPython: milliseconds and new modules, beside extensions that are installed.

jupysql and ipython-sql are both the module `sql`: each needs an environment of its own to be seen.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics

from benchmarks.timing import fresh

_PEERS = ("ipyrouter", "anywidget", "sql", "jupyter_ai_magics", "jupyter_ai_magic_commands", "ipywidgets")
_CODE = """
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("1 + 1", store_history=False)
before = set(sys.modules)
started = time.perf_counter()
{load}
elapsed = (time.perf_counter() - started) * 1000
print(json.dumps([elapsed, len(set(sys.modules) - before)]))
"""


def _owner(module: str) -> str:
    """Name the package too where the module does not tell: jupysql and ipython-sql are both `sql`."""
    owners = set(importlib.metadata.packages_distributions().get(module, [module]))
    return (
        module
        if module.replace("_", "-") in {o.replace("_", "-") for o in owners}
        else f"{module} ({', '.join(owners)})"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    print(f"{'':<28} {'best ms':>8} {'median ms':>10} {'modules':>8}")
    for name in _PEERS:
        # ipywidgets is not an extension: its import alone is the yardstick that every machine with this project has.
        load = "import ipywidgets" if name == "ipywidgets" else f"shell.run_line_magic('load_ext', {name!r})"
        try:
            runs = [json.loads(fresh(_CODE.format(load=load)).splitlines()[-1]) for _ in range(repeats)]
        except RuntimeError:
            print(f"{name:<28} not installed")
            continue
        times = [elapsed for elapsed, _ in runs]
        label = "import ipywidgets" if name == "ipywidgets" else f"%load_ext {_owner(name)}"
        print(f"{label:<28} {min(times):>8.1f} {statistics.median(times):>10.1f} {runs[0][1]:>8}")


if __name__ == "__main__":
    main()
