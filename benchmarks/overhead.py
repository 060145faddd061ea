"""What stands between a prompt and the wire: ipyrouter beside the bare SDK, the article's code and litellm.

All call one loopback server in a process of its own, so that it does not share the interpreter lock with what is
measured; they take turns, so that a slow spell of the machine meets all. ipyrouter runs as it comes: learned
classifier, log row on the disk. litellm needs an environment of its own that also holds ipyrouter's dependencies.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import openai

from benchmarks.article_code import ArticleRouter
from benchmarks.timing import ROOT, fresh, interleaved, table
from ipyrouter.router import Router
from tests.conftest import server_config

SERVER = (
    "import time\nfrom tests.faults.server import FaultServer\nprint(FaultServer().url, flush=True)\ntime.sleep(3600)"
)
_REFERENCE = "openai SDK, reused client"
_FIRST_CALLS = {
    "openai SDK": (
        "import openai",
        "openai.OpenAI(api_key='x', base_url='{url}/v1').chat.completions.create(model='ok', messages=[MESSAGE])",
    ),
    "the article's code": (
        "from benchmarks.article_code import ArticleRouter",
        "ArticleRouter('{url}/v1', 'ok').route('Explain closures')",
    ),
    "litellm": (
        "import litellm",
        "litellm.completion(model='openai/ok', api_base='{url}/v1', api_key='x', messages=[MESSAGE])",
    ),
    "ipyrouter": (
        "from ipyrouter.router import Router",
        "from types import SimpleNamespace\nfrom tests.conftest import server_config\n"
        "router = Router({{**server_config(SimpleNamespace(url='{url}')), 'routing': {{}}}}, home='{home}')\n"
        "router.route('Explain closures')",
    ),
}
_FIRST = """
import time
MESSAGE = {{"role": "user", "content": "Explain closures"}}
started = time.perf_counter()
{load}
imported = time.perf_counter()
{call}
done = time.perf_counter()
# Not getrusage: its peak is that of the process that forked this one.
memory = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print((imported - started) * 1000, (done - started) * 1000, int(memory) / 1024)
"""


class Address:
    def __init__(self, url: str) -> None:
        self.url = url


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=500)
    repeats = parser.parse_args().repeats
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    try:
        with tempfile.TemporaryDirectory() as home:
            _calls(url, home, repeats)
            _first_calls(url, home)
    finally:
        process.kill()


def _calls(url: str, home: str, repeats: int) -> None:
    streamed, whole = (_router(url, f"{home}/{stream}", stream=stream) for stream in (True, False))
    article = ArticleRouter(f"{url}/v1", "ok")
    streamed.route("Explain closures: cached")
    article.route("Explain closures: cached")
    works: dict[str, Callable[[int], object]] = {
        **_bare(url),
        "the article's code": lambda n: article.route(f"Explain closures {n}"),
        "the article's code, cache hit": lambda _: article.route("Explain closures: cached"),
        **_litellm(url),
        "ipyrouter": lambda n: whole.route(f"Explain closures {n}"),
        "ipyrouter, streamed": lambda n: streamed.route(f"Explain closures {n}"),
        "ipyrouter, cache hit": lambda _: streamed.route("Explain closures: cached"),
        "ipyrouter, classification alone": lambda n: streamed.classify(f"Explain closures {n}"),
    }
    table(interleaved(works, repeats), _REFERENCE)
    streamed.close()
    whole.close()


def _router(url: str, home: str, *, stream: bool) -> Router:
    settings = {**server_config(Address(url), stream=stream), "routing": {}}  # type: ignore[arg-type]
    return Router(settings, home=home)


def _messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Explain closures {number}"}]


def _bare(url: str) -> dict[str, Callable[[int], object]]:
    create: Any = openai.OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0).chat.completions.create

    def stream(number: int) -> None:
        usage = {"include_usage": True}
        for _ in create(model="ok", messages=_messages(number), max_tokens=4096, stream=True, stream_options=usage):
            pass

    return {
        _REFERENCE: lambda n: create(model="ok", messages=_messages(n), max_tokens=4096),
        f"{_REFERENCE}, streamed": stream,
    }


def _litellm(url: str) -> dict[str, Callable[[int], object]]:
    if importlib.util.find_spec("litellm") is None:
        print("litellm is not installed: run this where it is to see it beside")
        return {}
    import litellm

    litellm.suppress_debug_info = True
    where = {"model": "openai/ok", "api_base": f"{url}/v1", "api_key": "x"}
    router = litellm.Router(model_list=[{"model_name": "m", "litellm_params": where}])
    cached = litellm.Router(model_list=[{"model_name": "m", "litellm_params": where}], cache_responses=True)
    return {
        "litellm.completion": lambda n: litellm.completion(**where, messages=_messages(n), max_tokens=4096),
        "litellm Router": lambda n: router.completion(model="m", messages=_messages(n), max_tokens=4096),
        "litellm Router, cache hit": lambda _: cached.completion(model="m", messages=_messages(0), max_tokens=4096),
    }


def _first_calls(url: str, home: str, rounds: int = 5) -> None:
    """Print, each in a process of its own, what it takes from nothing to the first answer."""
    names = [name for name in _FIRST_CALLS if name != "litellm" or importlib.util.find_spec("litellm")]
    best: dict[str, list[float]] = {}
    for turn in range(rounds):
        for name in names:
            load, call = _FIRST_CALLS[name]
            code = _FIRST.format(load=load, call=call.format(url=url, home=f"{home}/first-{turn}"))
            figures = [float(word) for word in fresh(code).split()[-3:]]
            best[name] = [min(pair) for pair in zip(figures, best.get(name, figures), strict=True)]
    print(
        f"\n{f'best of {rounds} fresh processes':<30} {'import ms':>10} {'first answer ms':>16} {'peak memory MB':>15}"
    )
    for name, (imported, answered, memory) in best.items():
        print(f"{name:<30} {imported:>10.0f} {answered:>16.0f} {memory:>15.0f}")


if __name__ == "__main__":
    main()
