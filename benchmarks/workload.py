"""A day of a development team's requests: templates and data of our own making, drawn with a seed.

None of it was seen by the classifier's training. The tier a request needs is our own judgement, as its author.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ipyrouter.types import TIERS, TierName

Form = Literal["prose", "code", "json"]
HARD = 0.15  # the share of requests that need power; of the others ten need fast to every seven that need mid
REPEATS = 0.25  # of all requests; each repeats one of the last 60 different ones: cells run again, notebooks restarted

_WORDS = {
    "name": ["orders", "customers", "invoices", "sessions", "events", "payments", "users", "shipments",
             "readings", "tickets"],
    "column": ["amount", "created_at", "region", "status", "email", "price", "score", "duration", "country", "weight"],
    "lib": ["pandas", "numpy", "requests", "sqlalchemy", "pydantic", "polars", "asyncio", "pytest", "flask", "celery"],
    "error": ["KeyError: 'id'", "ValueError: cannot reindex on an axis with duplicate labels", "RecursionError",
              "TypeError: unhashable type: 'list'", "UnicodeDecodeError at byte 0xe9", "MemoryError"],
    "old": ["userList", "tmp2", "do_stuff", "dfNew", "getdata", "x1", "procRow", "calcVals"],
    "sys": ["a payments service", "a sensor network of 4,000 devices", "a hospital's booking system", "a search engine",
            "a game's matchmaking", "a data warehouse", "a newspaper's paywall", "a logistics planner"],
    "store": ["PostgreSQL", "MySQL", "MongoDB", "SQLite", "Oracle", "Redis", "DynamoDB"],
}  # fmt: skip
_TEMPLATES: dict[TierName, list[tuple[str, Form]]] = {
    "fast": [
        ("What is the difference between a list and a tuple?", "prose"),
        ("What does {lib} do, in two sentences?", "prose"),
        ("Rename the variable {old} in this line to something that says what it is: {old} = "
         "load('{name}.csv')", "prose"),
        ("Convert this to snake_case: {old}{n}", "prose"),
        ("Fix the typos in this commit message: 'ad indx on {name}.{column}, remov ded code, clos #{n}'", "prose"),
        ("Return these as a JSON array only: {name}, {column}, {lib}, {n}", "json"),
        ("How do I read the file {name}_{n}.csv into a DataFrame?", "prose"),
        ("Which pip command installs {lib} {n}.0?", "prose"),
        ("Add a one-line docstring to this function:\n{code:4}", "code"),
        ("What is the regex for a date like 2026-11-{n:02d}?", "prose"),
        ("Translate this log line into German: '{n} {name} could not be written to {store}'", "prose"),
        ("Sort df by {column}, largest first, and keep the first {n} rows. Just the line.", "prose"),
        ("Give me a short name for a branch that fixes {error} in {name}.", "prose"),
        ("How many bytes are {n} MB?", "prose"),
    ],
    "mid": [
        ("Why does this raise {error}? Explain the cause and show the fix.\n{code:15}", "prose"),
        ("Write a Python function that merges {name} and {name2} on {column} and reports the keys that match more than "
         "once. Include type hints and an example.", "code"),
        ("Write pytest tests for this code, edge cases included:\n{code:20}", "code"),
        ("Explain what this code does, step by step, and name two things that could go wrong in "
         "it:\n{code:25}", "prose"),
        ("Rewrite this loop with {lib} so that it runs on {n},000 rows in under a second:\n{code:12}", "code"),
        ("Write an SQL query for {store}: for each region the three {name} with the highest {column} of the "
         "last {n} days, ties included. Explain the window function that you use.", "prose"),
        ("Summarise this traceback for a ticket, with the likely cause and what to check first:\n{trace}", "prose"),
        ("My {lib} job on {name} takes {n} minutes and uses 9 GB. Which three measurements would you take first, and "
         "why?", "prose"),
        ("Add retries with backoff and a deadline to this function. Keep its interface.\n{code:18}", "code"),
        ("Compare {lib} and {lib2} for validating {name} at the edge of a service: speed, error "
         "messages, typing.", "prose"),
        ("Write a dataclass for a row of {name} with {column}, {column2} and an id, which parses itself from JSON and "
         "refuses unknown keys.", "code"),
        ("Turn this function into a generator and say how its memory use changes:\n{code:22}", "code"),
    ],
    "power": [
        ("Design an architecture for {sys} that survives the loss of a region, keeps {column} consistent, and "
         "costs under ${n},000 a month. Weigh two alternatives, name the failure modes, and say what you would "
         "measure.", "prose"),
        ("Review this codebase's core module for race conditions, lost updates and security holes. Rank the "
         "findings and propose a fix for each.\n{code:140}", "prose"),
        ("Draw up a migration plan from {store} to {store2} for {sys}: {n} TB, no downtime above a minute, a "
         "way back at every step. Include schema changes, dual writes, verification and the order of the cut-over.",
    "prose"),
        ("Prove or refute: the cache below never returns a value older than its deadline under concurrent "
         "writers. If it does, give the interleaving and a corrected version.\n{code:60}", "code"),
        ("Refactor entire module: split it along its responsibilities, remove the global state, and keep the public "
         "interface. Explain each step and its risk.\n{code:180}", "code"),
        ("Do a security audit of this upload handler of {sys}: injection, traversal, denial of service, "
         "secrets. Show an exploit for each finding, and the fix.\n{code:90}", "prose"),
        ("We see duplicate {name} about once in {n},000 writes under load, only in production, with {lib} and {store}. "
         "Derive the possible causes from first principles and devise experiments that tell them apart.", "prose"),
        ("Optimize algorithm: this matching of {name} to {name2} is O(n²) and n is {n},000,000. Find a better "
         "bound, prove it, and implement it with its tests.\n{code:45}", "code"),
    ],
}  # fmt: skip
_LINES = (
    "    for row in {name}:", "        total += row['{column}'] * {n}", "        if row.get('{column2}') is None:",
    "            continue", "    {name2} = [clean(r) for r in {name} if r['{column}'] > {n}]", "    with lock:",
    "        cache[row['id']] = (time.time(), {name2})",
    "    query = f\"SELECT * FROM {name} WHERE {column} = '{{v}}'\"",
    "    result = client.get('/{name}/' + str({n}), timeout={n})", "    logger.info('%s of %s {name}', done, {n})",
    "    return sorted({name2}, key=lambda r: r['{column}'])[:{n}]",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """A request, the tier that it needs in our judgement, and the form of its answer."""

    prompt: str
    needs: TierName
    form: Form


def requests(count: int, seed: int, hard: float = HARD) -> list[Task]:
    """Return that many requests in their order, repeats among them."""
    shares = {"fast": (1 - hard) * 10 / 17, "mid": (1 - hard) * 7 / 17, "power": hard}
    chance = random.Random(seed)
    tasks: list[Task] = []
    different: list[Task] = []
    while len(tasks) < count:
        if different and chance.random() < REPEATS:
            tasks.append(chance.choice(different[-60:]))
            continue
        needs: TierName = chance.choices(TIERS, [shares[tier] for tier in TIERS])[0]
        template, form = chance.choice(_TEMPLATES[needs])
        task = Task(_filled(template, chance), needs, form)
        tasks.append(task)
        if task not in different:  # a question without slots comes by itself more than once
            different.append(task)
    return tasks


def _filled(template: str, chance: random.Random) -> str:
    def pick(words: Sequence[str]) -> str:
        return chance.choice(words)

    fields = {kind: pick(words) for kind, words in _WORDS.items()}
    fields |= {f"{kind}2": pick([word for word in words if word != fields[kind]]) for kind, words in _WORDS.items()}
    return template.format(**fields, n=chance.randrange(2, 90), code=_Code(chance), trace=_trace(chance))


class _Code:
    """Python of about as many lines as the template's format says: {code:20}."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def __format__(self, spec: str) -> str:
        chance, lines = self._chance, []
        for number in range(max(3, round(int(spec) * chance.lognormvariate(0, 0.4)))):
            if number % 12 == 0:
                lines.append(f"def {chance.choice(_WORDS['old'])}{number}({chance.choice(_WORDS['name'])}):")
            fields = {kind: chance.choice(words) for kind, words in _WORDS.items()}
            fields |= {f"{kind}2": chance.choice(words) for kind, words in _WORDS.items()}
            lines.append(chance.choice(_LINES).format(**fields, n=chance.randrange(2, 90)))
        return "\n".join(lines)


def _trace(chance: random.Random) -> str:
    frames = [
        f'  File "/srv/app/{chance.choice(_WORDS["name"])}.py", line {chance.randrange(9, 900)}, in '
        f"{chance.choice(_WORDS['old'])}\n    {chance.choice(_WORDS['name'])} = load()"
        for _ in range(chance.randrange(4, 14))
    ]
    return "\n".join(["Traceback (most recent call last):", *frames, chance.choice(_WORDS["error"])])
