"""The nouns that travel through the router: frozen, picklable and free of any front end, SDK or database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, get_args

from ipyrouter.errors import CallError, error_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from ipyrouter.schemas import Schema

    T_co = TypeVar("T_co", covariant=True, default=Any)
else:  # the default, which counts for type checkers alone, needs Python 3.13
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

TierName = Literal["fast", "mid", "power"]
CacheMode = Literal["use", "refresh", "off"]
Effort = Literal["none", "low", "medium", "high", "xhigh", "max"]
Role = Literal["user", "assistant"]
Finish = Literal["stop", "length", "refusal", "tool_calls", "interrupted", "partial"]
Input = Literal["image", "pdf"]
Status = Literal["ok", "cached", "weak", "refused", "error", "partial", "interrupted"]

TIERS: tuple[TierName, ...] = get_args(TierName)
"""Cheapest first: a tier's index is its rank."""
STATUSES: tuple[Status, ...] = get_args(Status)
EFFORTS: tuple[Effort, ...] = get_args(Effort)
"""How much a model may think before it answers, least first."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A string in a prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture in a prompt.

    Attributes:
        text: What it is, in a line that goes out before it and is classified and logged in its place.
        words: What it shows, for models that cannot see.
        data: The file's bytes.
        media_type: "image/png", "image/jpeg", "image/gif" or "image/webp".
        width: In pixels.
        height: In pixels.
    """

    text: str
    words: str
    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PdfPart:
    """A PDF document in a prompt.

    Attributes:
        text: What it is, in a line that goes out before it and is classified and logged in its place.
        words: Its text, for models that read no PDFs; "" where that is not known.
        data: The file's bytes.
        name: The file's name.
        pages: How many pages it has, as far as that can be told.
    """

    text: str
    words: str
    data: bytes = field(repr=False)
    name: str
    pages: int


Part = TextPart | ImagePart | PdfPart
"""What a prompt is made of."""


_KINDS: dict[type[Part], Input] = {ImagePart: "image", PdfPart: "pdf"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one turn holds, in the order in which a model reads it.

    ``notes`` say what was left out of it, a sentence each; they are shown with the answer and sent to nobody.
    """

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Prompt:
        """Return the prompt that is one string."""
        return cls((TextPart(text),))

    @property
    def text(self) -> str:
        """All text of the prompt: what is classified, validated and logged."""
        return "\n\n".join(part.text for part in self.parts)

    @property
    def needs(self) -> frozenset[Input]:
        """What a model must read besides text: "image", "pdf"."""
        return frozenset(_KINDS[type(part)] for part in self.parts if type(part) in _KINDS)

    def in_words(self) -> Prompt:
        """Return the prompt with the words for its pictures and documents in their place."""
        parts = (part if isinstance(part, TextPart) else TextPart(part.words) for part in self.parts)
        return Prompt(tuple(parts), self.notes)


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """One turn of a conversation.

    Attributes:
        role: "user" or "assistant".
        content: The turn; a string is turned into a Prompt.
    """

    role: Role
    content: Prompt

    def __init__(self, role: Role, content: str | Prompt) -> None:
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "content", Prompt.of(content) if isinstance(content, str) else content)

    @property
    def text(self) -> str:
        """The text of the turn."""
        return self.content.text


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model at one provider, written "provider/model".

    Attributes:
        provider: The provider's name in the config.
        model: The model's name at that provider.
    """

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Session:
    """Whose requests these are, and since when (UTC): what session budgets count and the log names.

    ``run`` names the run on several workers that they belong to, where it has a budget, which their store keeps.
    """

    id: str
    started: dt.datetime
    notebook: str | None = None
    run: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks, before any decision is taken.

    ``allow_large`` confirms a prompt that is so large that the router would otherwise refuse it with an estimate.
    ``json`` asks for JSON of any shape, ``schema`` for one shape; ``show_thinking`` for a summary of the thinking.
    ``conversation`` says that later turns will send this one again, as does a ``history``.
    ``previous_tier`` is that of the turn before, or of this prompt before a small edit: near a boundary it stays.
    ``tags`` stand in the log, beside those of the config.
    ``flex`` says that the answer may take long, for half the price where the provider has that.
    """

    prompt: Prompt
    system: str | None = None
    history: tuple[Message, ...] = ()
    tier: TierName | None = None
    model: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    cache: CacheMode = "use"
    escalate: bool | None = None
    allow_large: bool = False
    effort: Effort | None = None
    schema: Schema | None = None
    json: bool = False
    show_thinking: bool = False
    conversation: bool = False
    previous_tier: TierName | None = None
    tags: tuple[str, ...] = ()
    flex: bool = False


@dataclass(frozen=True, slots=True)
class Classification:
    """The tier a prompt needs, and why.

    Attributes:
        tier: "fast", "mid" or "power".
        difficulty: 0 to 1; the higher, the more a strong model is needed.
        confidence: 0 to 1: how often the tier is right where the classifier is as sure as here.
        reasons: What the classifier noticed, in words.
        runner_up: The tier that it could be as well; None where the classifier is sure.
    """

    tier: TierName
    difficulty: float
    confidence: float
    reasons: tuple[str, ...]
    runner_up: TierName | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, under OpenTelemetry's GenAI names.

    Attributes:
        input_tokens: Every input token, the next two kinds included.
        output_tokens: Every output token, the reasoning ones included.
        cached_input_tokens: Input tokens that the provider read from its own cache.
        cache_write_tokens: Input tokens that the provider wrote to its own cache.
        cache_write_1h_tokens: Those of them that it keeps for an hour, which cost more; they are not logged apart.
        reasoning_tokens: Output tokens that the model spent on thinking.
        estimated: True where the provider did not report the counts.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_write_1h_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer.

    Attributes:
        text: The piece; "" when a model is about to answer.
        tier: The tier whose chain answers.
        candidate: The model.
        attempt: Counts from 1; when it grows, the answer starts again from its beginning.
    """

    text: str
    tier: TierName
    candidate: Candidate
    attempt: int

    def __str__(self) -> str:
        return self.text


class RouteOptions(TypedDict, total=False):
    """The options of :func:`ipyrouter.route`, which are those of :meth:`ipyrouter.Router.route`."""

    system: str | None
    history: Sequence[Message]
    tier: TierName | None
    model: str | None
    max_output_tokens: int | None
    temperature: float | None
    cache: CacheMode
    escalate: bool | None
    allow_large: bool
    effort: Effort | None
    json: bool
    show_thinking: bool
    conversation: bool
    previous_tier: TierName | None
    tags: Sequence[str]
    session: Session | None
    on_delta: Callable[[Delta], None] | None


class MapOptions(TypedDict, total=False):
    """The options of :func:`ipyrouter.map` that are those of :func:`ipyrouter.route`."""

    system: str | None
    model: str | None
    max_output_tokens: int | None
    temperature: float | None
    cache: CacheMode
    escalate: bool | None
    allow_large: bool
    effort: Effort | None
    json: bool
    tags: Sequence[str]


class LogConditions(TypedDict, total=False):
    """What :func:`ipyrouter.cost_log` and :meth:`ipyrouter.Router.log` can be restricted to."""

    since: dt.datetime | dt.date | str | None
    until: dt.datetime | dt.date | str | None
    tier: TierName | None
    model: str | None
    session: str | None
    notebook: str | None
    status: Status | None
    user: str | None
    team: str | None
    tag: str | None
    content: bool


@dataclass(frozen=True, slots=True)
class Completion:
    """What one provider answered to one call, and the seconds until its first words and in all.

    ``thinking`` is what the model wrote on its way to ``text``, where the provider shows it; ``first_token`` the
    seconds until the first of either. ``billed`` is the provider's own figure in dollars, where it is known to bill by
    it. ``notes`` say what was sent differently because the server refuses it. ``price_context`` holds what else than
    the standard price the server says that it served the call at, under genai-prices' names.
    """

    text: str
    usage: Usage
    finish: Finish
    model: str
    first_token: float | None = None
    latency: float = 0.0
    thinking: str = ""
    billed: Decimal | None = None
    notes: tuple[str, ...] = ()
    price_context: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars of one call, and the rates behind them.

    Attributes:
        amount: Dollars; None where no price is known.
        price_id: The price that was matched.
        rates: Dollars per million tokens by kind: input, output, cached_input, cache_write.
    """

    amount: Decimal | None
    price_id: str | None = None
    rates: tuple[tuple[str, Decimal], ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one candidate.

    Attributes:
        tier: The tier whose chain was used.
        candidate: The model.
        status: "ok", "cached", "weak", "refused", "error", "partial" or "interrupted".
        usage: The tokens of the call.
        cost: Its cost in dollars.
        latency: Seconds of the call, without set-up.
        first_token: Seconds until the first token; None if none came.
        finish: How the answer ended.
        text: What arrived.
        error_kind: The kind of the fault, if there was one.
        error: The fault in words, with its remedy.
        thinking: What the model wrote before the text, where the provider shows it; it is not logged.
    """

    tier: TierName
    candidate: Candidate
    status: Status
    usage: Usage = Usage()
    cost: Cost = Cost(Decimal(0))
    latency: float = 0.0
    first_token: float | None = None
    finish: Finish | None = None
    text: str = ""
    error_kind: str | None = None
    error: str | None = None
    thinking: str = ""

    @property
    def fault(self) -> CallError | None:
        """Why this attempt failed, as an error of its own class; None where it did not fail."""
        if self.error is None or self.status == "weak":
            return None
        message, _, remedy = self.error.partition(" — ")
        return error_of(self.error_kind)(f"{self.candidate}: {message}", remedy)


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """A routed answer.

    Attributes:
        id: The request in the log (column ``answer_id``).
        text: The answer.
        tier: The tier that answered.
        provider: The provider of the model that answered.
        model: The model that answered.
        cost: Dollars of this request, every attempt included; None where a price is not known.
        usage: The tokens of the call that answered.
        cached: True for an answer from the cache.
        latency: Seconds that the calls took, those of failed attempts included, but neither set-up (a session's first
            call imports an SDK) nor waiting between them; for a cached answer the look-up and, where the same request
            was in flight, the wait for it.
        finish: How the answer ended: "stop", "length", "refusal", "tool_calls", "interrupted" or "partial".
        classification: The classifier's judgement of the prompt.
        attempts: Every attempt, in order.
        escalated_from: The tier whose answer was weak.
        fallback_from: The model that should have answered.
        cost_saved: Dollars that a cached answer would have cost.
        first_token: Seconds until the first token of the call that answered; None if none came.
        notes: What the router changed, left out or could not do, a sentence each.
        created: When it was recorded, in UTC.
        fallback_reason: Why the model in ``fallback_from`` did not answer.
        thinking: What the model wrote before the text, where the provider shows it; a cached answer has none.
        data: The answer as the object that ``schema`` asked for; None without one.
        tags: Words under which it stands in the log, those of the config among them.
    """

    id: str
    text: str
    tier: TierName
    provider: str
    model: str
    cost: Decimal | None
    usage: Usage
    cached: bool
    latency: float
    finish: Finish
    classification: Classification
    attempts: tuple[Attempt, ...] = ()
    escalated_from: TierName | None = None
    fallback_from: str | None = None
    cost_saved: Decimal | None = None
    first_token: float | None = None
    notes: tuple[str, ...] = ()
    created: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    fallback_reason: str | None = None
    thinking: str = ""
    data: T_co = None  # type: ignore[assignment]  # without a schema it is None by its type, too
    tags: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """The article's name for :attr:`text`."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return the article's keys: content, model, tier, cost (dollars or None), tokens and cached."""
        return {
            "content": self.text,
            "model": self.model,
            "tier": self.tier,
            "cost": None if self.cost is None else float(self.cost),
            "tokens": {"input": self.usage.input_tokens, "output": self.usage.output_tokens},
            "cached": self.cached,
        }

    def __str__(self) -> str:
        return self.text

    # As `%load_ext ipyrouter` shows it, where the extension is not loaded.

    def _repr_markdown_(self) -> str:
        return self._bundle()["text/markdown"]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  an answer holds no other
        printer.text(self._bundle()["text/plain"])

    def _bundle(self) -> dict[str, str]:
        from ipyrouter.notebook import formats, rendering

        return rendering.answer_bundle(self, formats.Body(self.text))


@dataclass(frozen=True, slots=True)
class Preview:
    """What a request would do. Nothing was sent.

    Attributes:
        classification: The classifier's judgement of the prompt.
        tier: The tier that would answer.
        candidate: The model that would be called first.
        input_tokens: An estimate.
        max_output_tokens: The limit on the answer.
        cost_low: Dollars for the shortest answer; None where no price is known.
        cost_typical: Dollars for an answer of 300 tokens, about half a page, without thinking; None where no price is
            known.
        cost_high: Dollars for the longest answer; None where no price is known.
        cached: True if the answer is in the cache.
        key: The variable that holds the key; None where none is needed.
        key_present: True if the model can be called.
        notes: What the router would change or leave out, and what is in the way, a sentence each.
        obstacle: The note on what would make it an error; "" where nothing would.
        effort: How much the model would be asked to think, in its own words; None where nothing is said of it.
        schema: The name of the schema that the answer must fit; "" where there is none.
    """

    classification: Classification
    tier: TierName
    candidate: Candidate
    input_tokens: int
    max_output_tokens: int
    cost_low: Decimal | None
    cost_high: Decimal | None
    cached: bool
    key: str | None
    key_present: bool
    notes: tuple[str, ...] = ()
    cost_typical: Decimal | None = None
    obstacle: str = ""
    effort: str | None = None
    schema: str = ""


def total(costs: list[Decimal | None]) -> Decimal | None:
    """Add dollars; one unknown addend makes the sum unknown."""
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if len(known) == len(costs) else None
