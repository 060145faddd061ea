"""Taking keys and passwords out of text. Pure functions: what is secret comes as an argument or shows by its looks."""

from __future__ import annotations

import base64
import functools
import html
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

REMOVED = "[key removed]"
GONE = "REMOVED"  # stands for a password or key in an address, which stays one that can be parsed
MARK = "…"  # stands for a known key in a message

_SHORTEST = 8  # characters: a shorter key ("EMPTY", "one") is an ordinary word, and a shorter part betrays little
_MASK = re.compile(r"\*{2,}|•{2,}|…+|\.{3,}|[xX]{4,}")  # what servers put into the middle of a key they quote


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The names of secrets, word by word: "input_tokens", "keyboard" and "author" are none.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = _words(
    "password passwords passwd passwds pwd pwds passphrase passcode passwort kennwort secret secrets credential"
    " credentials creds apikey apikeys authkey authtoken accesskey accesstoken privatekey secretkey authorization"
    " bearer jwt"
)
_LAST_WORDS = frozenset({"token", "auth"})
_OWNERS = {  # a last word that is a secret only after one of these
    "key": _words(
        "api access private secret auth account client encryption decryption signing master ssh service session app"
        " application admin server license subscription consumer bot webhook openai anthropic aws azure gcp google"
        " github gitlab groq mistral gemini huggingface hf stripe"
    ),
    "tokens": _words("access api auth bearer refresh secret"),
    "pass": _words("db database user smtp mail ftp login admin root"),
}
_OWNERS["keys"] = _OWNERS["key"]
_NO_TOKEN = _words(
    "eos bos pad unk sep cls mask special next prev previous max min num n per first last every each start end stop"
    " input output prompt completion word sub"
)
_ABOUT = _words(  # "password_length" and "has_password" are about a secret, and hold none
    "length len count strength policy type name id changed updated at age date expires expiry required min max"
)
_FLAGS = frozenset({"is", "has", "needs", "uses", "no", "n", "num"})

# What the keys of services begin with, by what may follow: 8 characters, 16 with "_" and "-", 16 letters and digits.
_SHORT = (
    # OpenAI, Anthropic, Stripe; Groq, Replicate, npm; xAI, Perplexity, NVIDIA, GitLab; Google; Slack
    r"[spr]k[-_]|gsk_|r8_|npm_|xai-|pplx-|nvapi-|gl(?:pat|dt|rt|cbt|ptt|soat|imt|agent|ft)-|ya29\.|xox[abpr]-|xapp-"
)
_LONG = (
    # GitHub, PyPI, Pinecone, Supabase, Grafana, Docker, Sentry; Square, Tailscale, Tavily, Vault, Google, LangSmith
    r"github_pat_|pypi-Ag|pcsk_|sb_secret_|glsa_|dckr_pat_|sntrys_|sq0[a-z]{3}-|tskey-|tvly-|hv[sbr]\.|GOCSPX-|AQ\.Ab"
    r"|lsv2_[ps][tk]_|ATATT3"  # and Atlassian
)
_PLAIN = (
    # GitHub, Hugging Face; Databricks, DigitalOcean, webhooks, Linear, Notion, Together, Fireworks, Supabase, Netlify
    r"gh[pousr]_|hf_|dapi(?=[0-9a-f]{32})|do[opr]_v1_|whsec_|lin_api_|ntn_|tgp_v1_|fw_|sbp_|nfp_"
    # Grafana, Jina, RubyGems, Vercel, Shopify, Cerebras, Bedrock, age, Mailgun, Doppler, PostHog
    r"|glc_|jina_|rubygems_|vc[kp]_|shp(?:at|ss|ca|pa)_|csk-|ABSK|AGE-SECRET-KEY-1|key-(?=[0-9a-f]{32})|dp\.[psc]t\."
    r"|ph[cx]_"
)
_PREFIXES = re.compile(
    rf"{_SHORT}|{_LONG}|(?:hf|gh[pousr]|whsec|tgp_v1|do[opr]_v1|shp(?:at|ss|ca|pa))_|AKIA|ASIA|AIza|eyJ|Bearer |Basic "
)
_LOOKS = re.compile(
    rf"\b(?:(?:{_SHORT})[\w-]{{8,}}|(?:{_LONG})[\w=-]{{16,}}|(?:{_PLAIN})[A-Za-z0-9+/=]{{16,}}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}\b|AIza[\w-]{30,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|\d{8,10}:AA[\w-]{30,})"  # SendGrid; Telegram
    r"|(?<![\w-])eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"
    r"|(?<=[Bb]earer )[\w.~+/=-]{8,}|(?<=[Bb]asic )[A-Za-z0-9+/=]{8,}"
    r"|(?<=://)[^\s/@:]*:[^\s/]+(?=@)|(?<=hooks\.slack\.com/services/)[\w/]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
# Between a name and its value in Python: name: dict[str, str] | None = …
_ANNOTATION = r"(?:\s{0,3}:\s{0,3}\w[\w.]{0,40}(?:\[[\w., |\[]{0,40}\]{1,3})?(?:\s?\|\s?\w{1,30}){0,3})?"
# password = "…", 'api_key': '…': the name says what it is; key="…" may be anything, unless it looks like a key.
_ASSIGNMENT = re.compile(
    r"""((?:api|access|private|secret|auth|account|client)[_-]?(?:key|token|secret)|passw(?:or)?d|passphrase)"""
    rf"""(["']?{_ANNOTATION}\s{{0,3}}[=:]\s{{0,3}}[rbf]?)(["'])[^"'\n]{{4,}}\3""",
    re.IGNORECASE,
)
_LIKELY = re.compile(
    rf"""(key|token|secret)(["']?{_ANNOTATION}\s{{0,3}}[=:]\s{{0,3}}[rbf]?)(["'])[\w.~+/=-]{{20,}}\3""",
    re.IGNORECASE,
)
# A field in a repr: name=value or 'name': value, the value quoted or up to the next comma or bracket.
_FIELD = re.compile(
    r"""(?P<before>(?P<quote>["']?)(?<![\w.-])(?P<name>[A-Za-z_][\w.-]{0,80})(?P=quote)\s{0,3}[=:]\s{0,3})"""
    r"""(?P<value>[rbfu]{0,2}(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|(?:(?:Bearer|Basic|Token)\s)?[^\s,()\[\]{}'"]+)"""
)
# Without quotes, as in .env, INI and YAML files, properties, headers, connection strings and shell commands: up to the
# next blank or semicolon. What ends in a comma or holds brackets is Python's, where the value is another name.
_UNQUOTED = re.compile(
    r"""(?P<before>(?:(?<=\\[nrt])|(?<![\w.$@%\\]))(?P<name>[A-Za-z_][\w.-]{0,80})"""
    r"""(?P<between>=|[ \t]{1,3}=[ \t]{1,3}|:[ \t]{1,3}))"""
    r"""(?P<value>(?:(?:Bearer|Basic|Token)[ \t])?[^\s;,'"`()\[\]{}<>$%=\\][^\s;,'"`()\[\]{}<>\\]{3,})"""
    r"""(?=[\s;'"`\\]|\Z)"""
)
_LINE_BEGINS = re.compile(r"""(?:^|[\n,'"`]|\\[nr])[ \t-]*$""")
_NO_VALUE = re.compile(  # behind a name and ":" or "=": a type, a constant, the name of a variable
    r"(?i:str|int|bool|bytes|float|object|any|none|null|nil|true|false|string|number|required|optional|undefined)"
    r"|[A-Z][A-Za-z]*(?:\.[A-Z]\w*)?|(?:os|self|cls|args|config|settings|cfg|opts|options)\..*|\*+|\.{3}|…"
)
_ELEMENT = re.compile(r"(<(?P<name>[\w:.-]{1,60})>)[^<>\n]{1,500}(?=</(?P=name)>)")  # XML
_LOGIN = re.compile(  # netrc; curl; options of commands; cookies
    r"(\blogin\s{1,3}\S{1,100}\s{1,3}password\s{1,3})\S+"
    r"|(\bcurl\b[^\n]{0,200}?\s(?:-u|--user|--proxy-user)[ =]?['\"]?[^\s:'\"]{1,100}:)[^\s'\"]+"
    r"|(--(?:password|api-key|token|secret)[ =]['\"]?)[\w.~+/@!#%^&*-]{4,}"
    r"|(\b(?:Set-)?Cookie:[ \t]{0,3})[^\s'\"][^\n'\"]*"
)
_REFERENCES = re.compile(r"(?:(?:Bearer|Basic) )?(?:\$\{\w+\})+")  # a value that names variables and holds nothing else
_QUERY = re.compile(r"(?<=[?&])([\w.~%-]{1,80})=([^&#\s'\"<>]+)")


# --- what is known ---


def hide(text: str, secrets: Iterable[str], *, parts: bool = False) -> str:
    """Return the text without the secrets, as they are or escaped, URL-encoded or in base64, whatever stands around.

    Args:
        text: What is shown, logged or raised.
        secrets: The keys and passwords; those shorter than 8 characters are ordinary words and stay.
        parts: Remove every run of 8 characters of a secret, too, and keys with a masked middle ("sk-abcd****wxyz").
    """
    known = frozenset(secret for secret in secrets if len(secret) >= _SHORTEST)
    if not known:
        return text
    forms = _all_forms(known)
    for form in forms:
        text = text.replace(form, MARK)
    if not parts:
        return text
    for secret in sorted(known, key=len, reverse=True):
        text = _without_masked(text, secret)
    return _without_runs(text, _runs(known))


@functools.lru_cache(maxsize=4)  # the same few secrets for every line that is shown
def _all_forms(secrets: frozenset[str]) -> tuple[str, ...]:
    """Return all that secrets look like, the longest first."""
    return tuple(sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True))


@functools.lru_cache(maxsize=4)
def _runs(secrets: frozenset[str]) -> frozenset[str]:
    """Return every run of 8 characters of all that secrets look like."""
    forms = _all_forms(secrets)
    return frozenset(form[i : i + _SHORTEST] for form in forms for i in range(len(form) - _SHORTEST + 1))


def _forms(secret: str) -> Iterator[str]:
    """Yield what a secret looks like in messages, bodies and headers."""
    data = _bytes_of(secret)
    quoted = (quote(data, safe=""), quote(data), quote_plus(data))
    yield from (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret)[1:-1].replace("/", "\\/"))
    yield from (html.escape(secret), *quoted, *(re.sub(r"%..", lambda m: m[0].lower(), form) for form in quoted))
    for before in range(3):  # where it begins within base64's groups of three bytes
        text = base64.b64encode(bytes(before) + data).decode()
        # Only the characters that hold nothing but the secret's bits.
        whole = text[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        yield from (whole, whole.replace("+", "-").replace("/", "_"))


def _bytes_of(secret: str) -> bytes:
    """Return a secret's bytes; a variable may hold some that are not UTF-8, which Python keeps as surrogates."""
    try:
        return secret.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return secret.encode(errors="surrogatepass")


def _without_masked(text: str, secret: str) -> str:
    """Remove the secret's beginning and end around a mask, where both together are long enough."""
    pieces: list[str] = []
    done = 0
    for mask in _MASK.finditer(text):
        if mask.start() < done:
            continue
        sizes = range(len(secret), 0, -1)
        head = next((k for k in sizes if text.endswith(secret[:k], done, mask.start())), 0)
        tail = next((k for k in sizes if text.startswith(secret[-k:], mask.end())), 0)
        if head + tail >= _SHORTEST:
            pieces += [text[done : mask.start() - head], MARK]
            done = mask.end() + tail
    return "".join([*pieces, text[done:]])


def _without_runs(text: str, grams: frozenset[str]) -> str:
    pieces: list[str] = []
    end = 0  # of the last run
    for place in range(len(text) - _SHORTEST + 1):
        if text[place : place + _SHORTEST] in grams:
            if place > end or not pieces:
                pieces += [text[end:place], MARK]
            end = place + _SHORTEST
    return "".join([*pieces, text[end:]])


def keys_of(environ: Mapping[str, str]) -> list[str]:
    """Return the values of environment variables whose names are those of keys; paths to keys are none."""
    return [
        value.strip()
        for variable, value in environ.items()
        if (secret_name(variable) or variable.upper().endswith(("_KEY", "_TOKEN")))
        and not value.startswith(("/", "~", "."))
    ]


# --- what shows by its looks ---


def scrub(text: str) -> str:
    """Return the text without passwords and keys in addresses, and without what looks like the key of a service."""
    return _without_queries(_LOOKS.sub(REMOVED, text))


def content(text: str) -> str:
    """Return what is sent along without what looks like a key, and without quoted values whose name says it is one."""
    text = scrub(text)
    for pattern in (_ASSIGNMENT, _LIKELY):
        text = pattern.sub(r"\1\2\3[removed]\3", text)
    text = _UNQUOTED.sub(_without_value, text)
    text = _ELEMENT.sub(lambda element: f"{element[1]}[removed]" if secret_name(element["name"]) else element[0], text)
    return _LOGIN.sub(lambda login: f"{next(filter(None, login.groups()))}[removed]", text)


def _without_value(field: re.Match[str]) -> str:
    """Return a field whose name is that of a secret without its value, unless that is Python's or prose."""
    value, between = field["value"], field["between"]
    if not secret_name(field["name"]) or _NO_VALUE.fullmatch(value) or value == field["name"]:
        return field[0]
    if between.startswith(":"):  # a line of its own, or a header in quotes: else these are words
        before = field.string[max(field.start() - 20, 0) : field.start()]
        after = field.string[field.end() : field.end() + 1]
        if not _LINE_BEGINS.search(before) or after in (" ", "\t", ";"):
            return field[0]
    elif between != "=":  # password = secret, token = answer.token: Python's own variables
        names = value.split(".")
        if all(map(str.isidentifier, names)) and (len(names) > 1 or not re.search(r"\d", value)):
            return field[0]
    return f"{field['before']}[removed]"


def fields(text: str) -> str:
    """Return a repr without the values of fields whose names are those of secrets."""

    def without(field: re.Match[str]) -> str:
        return f"{field['before']}[removed]" if secret_name(field["name"]) else field[0]

    return _FIELD.sub(without, text)


def secret_name(name: object) -> bool:
    """Tell whether a column, field or query parameter of this name holds a secret."""
    if not isinstance(name, str):
        return False
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[0] in _FLAGS or words[-1] in _ABOUT:
        return False
    *_, before, last = ["", *words]
    if last in _OWNERS:
        return before in _OWNERS[last]
    if last == "token" and before in _NO_TOKEN:
        return False
    return last in _LAST_WORDS or not _SECRET_WORDS.isdisjoint(words) or _compound(words)


def _compound(words: list[str]) -> bool:
    """Tell whether api_key and the like stand anywhere in a name: api_key_2, old_private_key_pem."""
    pairs = itertools.pairwise(words)
    return any(second in ("key", "token") and first in _OWNERS["key"] for first, second in pairs)


def like_secret(text: str) -> bool:
    """Tell whether a value could be a key: it begins like one, or is a long mix of letters and digits."""
    if _PREFIXES.match(text.strip()) or _LOOKS.search(text):
        return True
    words = re.findall(r"[A-Za-z0-9]{12,}", text)
    return any(re.search(r"\d", word) and re.search(r"[A-Za-z]", word) for word in words)


def excerpt(value: object) -> str:
    """Return what an error may show of a value that is wrong: itself where it is short and plain, else its kind."""
    if isinstance(value, str):
        plain = len(value) <= 40 and not like_secret(value)
        return repr(value) if plain else f"a string of {len(value):,} characters"
    if isinstance(value, int) and value.bit_length() > 64:  # Python writes no more than 4,300 digits
        return "a very large number"
    if value is None or isinstance(value, bool | int | float):
        text = repr(value)
        return text if len(text) <= 20 else f"a number of {sum(map(str.isdigit, text))} digits"
    return f"a value of the type {type(value).__name__}"


def message(text: str) -> str:
    """Return another library's words without what could be a key."""
    return re.sub(r"[^\s'\"]{8,}", lambda word: "[hidden]" if like_secret(word[0]) else word[0], scrub(text))


def name(word: str) -> str:
    """Return a name as an error may show it; where a key was written in its place, that is not shown."""
    return word if len(word) <= 80 and not like_secret(word) else "[hidden]"


# --- addresses ---


class Address(str):
    """An address for the code that opens it, which shows no password and no key when it is printed or pickled.

    ``str()``, ``repr()`` and f-strings give what may be shown; concatenation and URL parsers see the real characters.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return public(self)

    def __repr__(self) -> str:
        return repr(public(self))

    def __format__(self, spec: str) -> str:
        return format(public(self), spec)

    def __copy__(self) -> Address:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Address:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Address, (public(self),)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return self.__reduce__()


class Private(str):
    """A value that is itself for whoever joins it, but is shown and pickled without its literal parts.

    What names a variable, as in "Bearer ${GATEWAY_TOKEN}", is no secret and stays.
    """

    __slots__ = ()

    def _shown(self) -> str:
        value = "".join(self)
        return value if _REFERENCES.fullmatch(value) else GONE

    def __str__(self) -> str:
        return self._shown()

    def __repr__(self) -> str:
        return repr(self._shown())

    def __format__(self, spec: str) -> str:
        return format(self._shown(), spec)

    def __copy__(self) -> Private:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Private:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Private, (self._shown(),)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return self.__reduce__()


def public(address: str) -> str:
    """Return an address without its password and the values of parameters that are secrets."""
    real = "".join(address)  # of an Address, the characters themselves
    scheme, there, rest = real.partition("://")
    if not there:  # a proxy's may be written without
        scheme, rest = "", real
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = f"{GONE}@{authority.rpartition('@')[2]}"
    return _without_queries(f"{scheme}{there}{authority}{slash}{path}")


def _without_queries(text: str) -> str:
    def without(parameter: re.Match[str]) -> str:
        named = unquote(parameter[1])
        hidden = (
            named.lower() in ("key", "sig", "code")
            or named.lower().endswith("signature")
            or secret_name(named)
            or like_secret(parameter[2])
        )
        return f"{parameter[1]}={GONE}" if hidden else parameter[0]

    return _QUERY.sub(without, text)


def secrets_in(address: str) -> list[str]:
    """Return the password and the keys that stand in an address, decoded and as they are written."""
    real = "".join(address)
    try:
        parts = urlsplit(real if "://" in real else f"//{real}")
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return []
    secrets = [password, unquote(password), *([user] if user and not password else [])]
    for parameter, value in parse_qsl(parts.query):
        if public(f"?{parameter}={quote(value)}") != f"?{parameter}={quote(value)}":
            secrets += [value, quote(value, safe="")]
    return [secret for secret in dict.fromkeys(secrets) if secret]
