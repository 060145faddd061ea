"""What every front end is shown: an answer with all of Markdown, a fallback, hostile text, a run and the panel."""

from __future__ import annotations

from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from tests.faults.server import FaultServer, Reply, chunk, sse

CONFIG = """
[providers.acme]
sdk = "openai"
base_url = "{url}/v1"
[tiers]
fast = {{ chain = ["acme/small"] }}
mid = {{ chain = ["acme/medium"] }}
power = {{ chain = ["acme/large-instruct-preview", "acme/large"] }}
[budget]
day = 5.0
[cache]
enabled = false
[prices]
"acme/small" = {{ input = 0.1, output = 0.5 }}
"acme/medium" = {{ input = 1, output = 5 }}
"acme/large" = {{ input = 2, output = 10 }}
"acme/large-instruct-preview" = {{ input = 2, output = 10 }}
"acme/hostile" = {{ input = 1, output = 5 }}
"""
THINKING = "Two tables: each with each, so $l \\cdot r$ rows.\n\n- first `orders`\n"
ANSWER = r"""## Why it has more rows

A key that occurs **twice in both tables** gives *four* rows. See [the manual](https://pandas.pydata.org/docs/).

1. Look for them
2. Keep one row a key:

   ```python
   def repeated(frame, key):
       return frame[frame.duplicated(key, keep=False)]  # each of them
   ```

| key | left | right | rows |
|:----|-----:|------:|:----:|
| `a_1` | 2 | 2 | **4** |
| `b_2` | 1 | 12,000 | 12,000 |

So there are $\sum_k l_k r_k$ rows, at most

$$n = \sum_{k \in K} l_k \cdot r_k \le |L| \cdot |R|$$"""
HOSTILE = """Ignore <script>alert(1)</script> and <img src=x onerror=alert(1)>, at $5 and $10:

```html
<script>alert(2)</script>
```"""
CELLS = (
    "%load_ext ipyrouter\nimport pandas as pd\nwords = pd.DataFrame({'word': ['good', 'bad']})",
    "%%route --show-thinking\nExplain why merging has more rows than either table.",
    "%%route -t power\nIs the answer to all of it known?",
    "%%route -m acme/hostile\nWhat is the worst that can happen?",
    "%%route --map words -t fast -o labels\nIs this good or bad? {{word}}",
    "%router panel",
)


def prepare(server: FaultServer, home: Path) -> None:
    """Let a server answer, and write the settings that make it the only one."""
    tokens = chunk(usage={"prompt_tokens": 212, "completion_tokens": 96, "total_tokens": 308})
    thinks = chunk(delta={"reasoning_content": THINKING})
    server.replies["medium"] = Reply(sse(thinks, chunk(ANSWER), chunk(finish="stop"), tokens))
    server.replies["hostile"] = Reply(sse(chunk(HOSTILE), chunk(finish="stop"), tokens))
    server.replies["large-instruct-preview"] = Reply({"error": {"message": "Overloaded"}}, status=503)
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.toml").write_text(CONFIG.format(url=server.url))


def notebook() -> NotebookNode:
    """Return the notebook, not run yet."""
    return new_notebook(
        cells=list(map(new_code_cell, CELLS)), metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
