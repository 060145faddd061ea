"""What a server says in an error, in any of the shapes that servers use, and what it means.

No two makes agree on statuses, codes or shapes, so what counts are the words. The patterns come from the errors that
OpenAI, Anthropic, Gemini, Azure, Mistral, Cohere, Groq, DeepSeek, DashScope, OpenRouter, LiteLLM, vLLM, TGI, llama.cpp,
Ollama and LM Studio send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any

from ipyrouter.providers.base import Change, FaultKind
from ipyrouter.providers.effort import LEVELS

_LONGEST = 300  # characters of a server's message that are kept
_MOST_READ = 10_000  # characters of it that are looked at
_DEEPEST = 8  # objects inside objects that are looked into
_MOST_CODES = 40  # and parameters
_ENVELOPES = (
    "error", "message", "msg", "detail", "errors", "error_message", "error_msg", "errorMessage", "Message",
    "base_resp", "status_msg",
)  # fmt: skip
_LAST_RESORTS = ("error_description", "description", "faultstring", "fault", "title", "reason")
_CODES = ("code", "type", "status", "error_code", "error_type", "reason")


@dataclass(frozen=True, slots=True)
class Words:
    """A server's message, its codes and types, the parameter that it names, and a status among the codes."""

    message: str = ""
    codes: str = ""
    parameter: str = ""
    status: int | None = None

    @property
    def names_model(self) -> bool:
        """Whether it is the parameter "model" that the server takes exception to."""
        return self.parameter.rpartition(".")[2] == "model"

    @property
    def all(self) -> str:
        """Everything that may tell what is meant."""
        return f"{self.codes} {self.parameter} {self.message}"


def read_words(body: Any) -> Words:
    """Return what a server says in a body: text, a page, or JSON of any shape."""
    value = _decode(body)
    message = next(_messages(value), "")
    texts: dict[str, list[str]] = {"codes": [], "parameter": []}
    _gather(value, texts)
    statuses = [int(code) for code in texts["codes"] if re.fullmatch("[45][0-9]{2}", code)]
    return Words(
        _one_line(message),
        " ".join(dict.fromkeys(texts["codes"])),
        " ".join(dict.fromkeys(texts["parameter"])),
        statuses[0] if statuses else None,
    )


def short(text: str) -> str:
    """Return a string, cut to the length of a message."""
    text = _one_line(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _one_line(text: str) -> str:
    """Return a string as one line without control characters; of an HTML page, its title."""
    text = text[:_MOST_READ]
    if re.search(r"<html|<!doctype", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE) or re.search(r"<(?:h1|body)[^>]*>([^<]+)", text)
        name = f" (“{unescape(title[1]).strip()}”)" if title and title[1].strip() else ""
        text = f"an HTML page{name}"
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", text).split())


def _decode(text: Any) -> Any:
    """Return the JSON in a string, or the string: gateways pass on another server's error as a string."""
    if isinstance(text, str) and text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _messages(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield what may be the message, the best first."""
    value = _decode(value)
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, list) and depth < _DEEPEST:
        texts = [next(_messages(item, depth + 1), "") for item in value[:5]]
        if any(texts):
            yield "; ".join(filter(None, texts))
    elif isinstance(value, dict) and depth < _DEEPEST:
        yield from _of_object(value, depth + 1)


def _of_object(value: dict[str, Any], depth: int) -> Iterator[str]:
    nested = value.get("error")
    names = [*_ENVELOPES, *_LAST_RESORTS]
    if isinstance(nested, str):  # beside a message it is a code: {"error": "invalid_grant", "message": "…"}
        names = [*names[1:], "error"]
    text = next((text for name in names if name in value for text in _messages(value[name], depth)), "")
    raw = value.get("metadata")
    raw = next(_messages(raw.get("raw"), depth), "") if isinstance(raw, dict) else ""  # OpenRouter: what upstream says
    if raw and raw not in text:
        text = f"{text}: {raw}" if text else raw
    if text and isinstance(place := value.get("loc"), list):  # FastAPI
        where = ".".join(str(part) for part in place if part != "body")
        text = f"{where}: {text}" if where else text
    if text:
        yield text


def _gather(value: Any, texts: dict[str, list[str]], depth: int = 0) -> None:
    """Collect codes and names of parameters, at any depth."""
    value = _decode(value)
    if depth > _DEEPEST or len(texts["codes"]) + len(texts["parameter"]) > _MOST_CODES:
        return
    if isinstance(value, list):
        for item in value[:5]:
            _gather(item, texts, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "loc" and isinstance(item, list):
                texts["parameter"].append(".".join(str(part) for part in item[:10])[:200])
            elif name in ("param", "parameter") and isinstance(item, str):
                texts["parameter"].append(item[:200])
            elif (name in _CODES or name == "error") and isinstance(item, str | int):
                texts["codes"].append(str(item)[:200])
            _gather(item, texts, depth + 1)


# --- what the words mean ---


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(parts), re.IGNORECASE)


_CREDIT = _pattern(
    r"insufficient.{0,3}(quota|balance|credits?|funds)",
    r"credit balance|out of credits?|billing|payment.?required|arrear|good standing|add credits|usage limits",
    r"(reached|reaching|exceeded|exceeding|hit) .{0,20}(spend\w*|credit|usage) limit|past.?due|余额不足|欠费",
    r"exceeded your current quota|quota.?exceeded|budget.{0,40}exceeded|exceeded.?budget",
    r"(key|credit|spend\w*|usage|monthly|weekly) limit (was |has been )?(exceeded|reached)",
)
_SOON = _pattern(r"per.?(minute|second|hour|day)|/ ?min|try again in|retry in|retry.?delay|requests? rate")
_KEY = _pattern(
    r"(api.?key|access token|bearer token|x-api-key|credentials?)\b[^.]{0,40}"
    r"(invalid|not valid|incorrect|expired|missing|required|revoked|disabled|not found|malformed)",
    r"\b(invalid|incorrect|expired|missing|wrong|no|unknown|revoked|disabled)\b[^.]{0,20}"
    r"(api.?key|auth\w* (token|header|credentials)|\bcredentials|access token|x-api-key)",
    r"api_key_invalid|unauthenticated|unauthori[sz]ed|authentication_error|account\W.{0,20}(deactivated|suspended)",
    r"(令牌|密钥|api.?key).{0,4}(无效|过期|错误)|无效的(令牌|密钥|api.?key)|login fail",
    r"no_db_connection",  # LiteLLM without a database knows one key, and no other
)
_RATE = _pattern(r"rate.?limit|too.?many.?requests|throttl|resource_exhausted|requests? per (minute|day)|\b[rt]pm\b")
_CONTEXT = _pattern(
    r"context.{0,3}(length|size|window|limit)|maximum context|n_ctx|exceed_context",
    r"too many (input |prompt )?tokens|request too large|maximum (input|prompt) (length|tokens)|range of input length",
    r"(prompt|input|inputs|messages?|conversation)\b.{0,40}too (long|large|many)|string.?(above.?max|too.?long)",
    r"input.{0,30}(tokens?|length|count).{0,60}exceed|exceeds? the (model|limit|max|available|context)",
    r"max_new_tokens.{0,20}must be|reduce the (length|size)|tokens (exceed|in the messages)",
    r"longer than the (maximum )?(model|context)|exceed\w* (the )?(model|context) (token )?(limit|length)",
    r"超长|上下文长度",
)
_FILTER = _pattern(
    r"content.?(filter|policy|management)|responsible.?ai|data.?inspection|moderation|flagged|safety (system|polic)",
    r"sensitive (content|information|words?)|inappropriate|prohibited.content|guardrail|usage polic(y|ies)",
    r"content exists risk|敏感内容|不安全",
)
_MODEL = _pattern(
    r"model_not_found|unsupported_model|model_decommissioned|model.{0,3}not.{0,3}(exist|available|supported)",
    r"not a (valid|chat) model|model (identifier|id|name)\b.{0,20}(invalid|not valid|unknown)",
    r"(invalid|unknown|unsupported|no such|nonexistent|unrecognized) model|no models? loaded|access model",
    r"models?\b[^.]{0,80}(does not exist|doesn't exist|not (found|exist|supported|available|loaded|deployed)\b"
    r"|unavailable|no longer|deprecated|decommissioned|retired|has been (removed|shut))",
    r"(deployment|engine|endpoint|entity)\b[^.]{0,60}(does not exist|not found)|no endpoints found",
    r"does not support (chat|this api|the (chat|messages))|not supported in the v1/chat/completions",
)
_ADDRESS = _pattern(
    r"unexpected endpoint|unknown (path|route|endpoint|url)|invalid url|cannot (post|get) |page not found|no route",
    r"method not allowed",
)
_SERVER = _pattern(
    r"overloaded|server.?error|internal.?error|unavailable|timed? ?out|loading|at capacity|try again later|bad gateway",
    r"api_error",
)
_OURS = _pattern(
    r"\bmessages?\b[^.]{0,60}(must|required|invalid|expected|empty|missing|at least|too short|should|not valid)",
    r"(required|invalid|expected|empty|missing|too short|must)[^.]{0,40}\bmessages?\b",
    r"(could not|cannot|failed to|unable to|error) ?(parse|pars|decod)\w*|invalid json|malformed|not valid json",
    r"\bcontent\b[^.]{0,40}(must|expected|cannot|should|non-empty|null)|field required",
)
_TEMPLATE = _pattern(r"roles must alternate|only user and assistant roles|template")
_FORBIDDEN = _pattern(r"permission_error|permission.?denied|not allowed|access.?denied|does not have access")
_BAD_REQUEST = _pattern(r"invalid_request_error|bad.?request|invalid_argument")
_OF_A_MODEL = _pattern(r"model|deployment|engine|endpoint|entity|polic")

_BY_WORDS: tuple[tuple[re.Pattern[str], FaultKind], ...] = (
    (_CREDIT, "quota"),
    (_KEY, "auth"),
    (_CONTEXT, "context"),
    (_FILTER, "refused"),
    (_MODEL, "not_found"),
    (_ADDRESS, "not_found"),
    (_RATE, "rate_limit"),
    (_SERVER, "server"),
)
_IN_BAND: tuple[tuple[re.Pattern[str], FaultKind], ...] = (
    *_BY_WORDS,
    (_FORBIDDEN, "forbidden"),
    (_pattern("not_found_error"), "not_found"),
    (_BAD_REQUEST, "bad_request"),
)
_ON_403 = tuple(rule for rule in _BY_WORDS if rule[1] in ("quota", "auth", "refused", "rate_limit"))
_BY_STATUS: dict[int, FaultKind] = {
    401: "auth",
    402: "quota",
    404: "not_found",
    405: "not_found",
    407: "connect",
    410: "not_found",
    413: "context",
    451: "forbidden",
    # A server's own trouble under a client's number: timed out, in another's way, busy.
    **dict.fromkeys((408, 409, 421, 423, 424, 425, 498, 499), "server"),
}
"""The statuses that mean the same at every server; the others are sorted by words."""


def kind_of(status: int | None, words: Words) -> FaultKind:
    """Return what kind of fault a status with words is; ``status`` is None inside a response that began well."""
    text = words.all
    if status is None:
        return _first(_IN_BAND, text, "server")
    if status >= 500:
        return "context" if status == 500 and _CONTEXT.search(text) else "server"
    if status == 429:
        return "quota" if _CREDIT.search(text) and not _SOON.search(text) else "rate_limit"
    if status == 403:
        return _first(_ON_403, text, "forbidden")
    return _BY_STATUS.get(status) or _first(_BY_WORDS, text, "not_found" if words.names_model else "bad_request")


def _first(rules: tuple[tuple[re.Pattern[str], FaultKind], ...], text: str, otherwise: FaultKind) -> FaultKind:
    return next((kind for pattern, kind in rules if pattern.search(text)), otherwise)


def is_final(status: int | None, kind: FaultKind, words: Words) -> bool:
    """Tell whether every candidate would refuse the request: what is wrong is its content or its shape."""
    if kind == "refused":
        return True
    text = f"{words.parameter} {words.message}"
    if kind != "bad_request" or _TEMPLATE.search(text):
        return False
    return status == 422 or _OURS.search(text) is not None


def is_of_address(status: int | None, words: Words, model: str) -> bool:
    """Tell of a fault of the kind not_found whether the address is wrong: the server says nothing of a model."""
    if status == 405 or _ADDRESS.search(words.message):
        return True
    named = re.search(rf"(?<!\w){re.escape(model)}(?!\w)", words.message)
    return status == 404 and not named and not _OF_A_MODEL.search(words.all)


# --- what the candidate could answer without ---

_NOT_TAKEN = _pattern(
    r"unsupported|not support|n't support|not (be )?(permitted|allowed|accepted|recogni|valid|enabled|implemented)",
    r"not available|unknown|unrecogni[sz]ed|unexpected|extra (inputs|fields)|extra_forbidden|instead|incompatible",
    r"unavailable|mandatory|不支持|参数非法",
)
_TOO_LARGE = _pattern(
    r"too (large|high|big|many)|at most|range|exceed|greater|less than|lower|<=?|>=?|must be|should be|maximum|limit"
)
_WRONG_VALUE = _pattern(
    r"invalid|deprecated|only|must|should|cannot|no longer|disabled|range|at most|less than|<=?|>=?"
)
_LIMIT = _pattern(
    r"max_(completion_|output_|new_)?tokens|maxOutputTokens|(completion|output) tokens|maximum tokens you requested"
)
_NOT_OF_OUTPUT = _pattern(r"prompt|(?<!extra )\binputs?\b(?! should)|messages\b|context (length|limit|size)|reduce the")
_NUMBER = re.compile(r"(?<![\w.-])\d[\d,_]{0,12}(?![\w-]|\.\d)")
_TEMPERATURE = _pattern(r"(?<![a-z_])temperature(?![a-z_])")
_SYSTEM = _pattern(
    r"\bsystem\b.{0,40}(role|message|prompt|instruction)|\brole\b.{0,30}\bsystem\b|does not support 'system'",
    r"developer instruction|roles must alternate|only user and assistant roles",
)
_STREAM = _pattern(r"\bstream(ing|ed)?\b")
_STREAM_OPTIONS = _pattern(r"stream_options|include_usage")
_EFFORT = _pattern(r"\b(reasoning[._]?)?effort\b|reasoning is mandatory|\bthink value\b|not support thinking")
_THINKING = _pattern(r"\bthinking\b|thinking_(budget|level|config)")
_CACHING = _pattern("cache_control|prompt_cach")
_JSON = _pattern(
    r"response_?(format|schema|json_schema|mime_?type)|output_(config|format)|json[_ ]?(schema|object|mode)|\bschema\b",
    r"structured output|guided|grammar",
)
_LEVELS = re.compile(r"(?:supported values|must be|should be|one of|expected)\b(.*)", re.IGNORECASE | re.DOTALL)
_LEAST = 16  # tokens: a smaller number in a message about a limit is not the limit
_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


def refused_parameter(status: int | None, words: Words, sent: Mapping[str, Any]) -> Change | None:
    """Return which parameter of those in the body ``sent`` the server refuses, and what to send instead."""
    text = f"{words.codes.replace('invalid_request_error', '')} {words.parameter} {words.message}"
    if status not in (None, 400, 422, 500, 501):
        return None
    if _LIMIT.search(text) and not _NOT_OF_OUTPUT.search(text):
        return _refused_limit(text, sent)
    if not _NOT_TAKEN.search(text) and (status in (500, 501) or not _WRONG_VALUE.search(text)):
        return None
    if "temperature" in {**sent, **sent.get("extra_body", {})} and _TEMPERATURE.search(text):
        return Change("temperature")
    messages = sent.get("messages") or [{}]
    if ("system" in sent or messages[0].get("role") == "system") and _SYSTEM.search(text):
        return Change("system")
    if (change := _refused_output(text, sent)) is not None:
        return change
    if "stream_options" in sent and _STREAM_OPTIONS.search(text):
        return Change("stream_options")
    return Change("stream") if sent.get("stream") and _STREAM.search(text) else None


def _refused_output(text: str, sent: Mapping[str, Any]) -> Change | None:
    """Return whether it is the effort, the thinking, the caching or the form of the answer that is refused."""
    if _CACHING.search(text) and ("prompt_cache_key" in sent or "'cache_control'" in str(sent)):
        return Change("prompt_caching")
    output = sent.get("output_config", {})
    effort = sent.get("reasoning_effort") or output.get("effort")
    if effort and _EFFORT.search(text):
        match = _LEVELS.search(text)
        words = re.findall(r"[a-z]+", match[1].lower()) if match else []
        return Change("effort", ",".join(level for level in LEVELS if level in words and level != effort) or None)
    if "thinking" in sent and _THINKING.search(text):
        return Change("thinking")
    form = sent.get("response_format") or output.get("format")
    if form and _JSON.search(text):
        return Change("json_object" if form["type"] == "json_object" else "json_schema")
    return Change("effort") if output and "output_config" in text else None


def _refused_limit(text: str, sent: Mapping[str, Any]) -> Change | None:
    """Return the limit that the server names, or the other of the two names that it may know."""
    name = next((name for name in (*_OTHER_NAME, "max_output_tokens") if name in sent), None)
    if name is None:
        return None
    numbers = [int(re.sub("[,_]", "", number)) for number in _NUMBER.findall(text)]
    most = max((number for number in numbers if _LEAST <= number < sent[name]), default=None)
    if most is not None and _TOO_LARGE.search(text):
        return Change("limit", most - 1 if f"{most} (exclusive" in text else most)
    return Change("limit_name", _OTHER_NAME[name]) if name in _OTHER_NAME and _NOT_TAKEN.search(text) else None
