"""Pictures and PDF files in a prompt: who gets them, in which form, and what they count."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionMessageParam
from PIL import Image
from pydantic import TypeAdapter

from ipyrouter.config import load
from ipyrouter.config.catalogue import inputs_of
from ipyrouter.errors import BudgetError, ConfigError, UsageError
from ipyrouter.notebook.rendering import badge_text
from ipyrouter.pricing import media
from ipyrouter.router import Router
from ipyrouter.types import Candidate, ImagePart, Message, PdfPart, Prompt, TextPart
from tests.faults.server import TEXT, FaultServer

READS = ["text", "image", "pdf"]


def png(width: int = 512, height: int = 384, colour: str = "white") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def picture(width: int = 512, height: int = 384, colour: str = "white") -> ImagePart:
    data = png(width, height, colour)
    return ImagePart("`fig`: the picture below", "`fig`: a line from 1 to 3", data, "image/png", width, height)


PDF = PdfPart("`a.pdf`: the file below", "", b"%PDF-1.7 a", "a.pdf", 2)
ASKS = Prompt((TextPart("What stands out?"), picture()))


def providers(server: FaultServer, **inputs: list[str]) -> dict[str, Any]:
    """Return the providers "o", "a" and "g", of which those that are named read what is said."""
    table: dict[str, dict[str, Any]] = {
        "o": {"sdk": "openai", "base_url": f"{server.url}/v1"},
        "a": {"sdk": "anthropic", "base_url": server.url},
        "g": {"sdk": "google", "base_url": server.url},
    }
    for name, reads in inputs.items():
        table[name]["input"] = reads
    return table


def test_openai_is_sent_parts(make_router: Callable[..., Router], server: FaultServer, requests: list[Any]) -> None:
    router = make_router(providers=providers(server, o=READS))
    assert router.route(Prompt((*ASKS.parts, PDF)), system="Be brief.").text == TEXT
    messages = requests[0][2]["messages"]
    TypeAdapter(list[ChatCompletionMessageParam]).validate_python(messages)
    assert messages[0] == {"role": "system", "content": "Be brief."}
    text, caption, image, title, file = messages[1]["content"]
    assert [text["text"], caption["text"]] == ["What stands out?", "`fig`: the picture below"]
    assert image["type"] == "image_url"
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == png()
    assert title["text"] == "`a.pdf`: the file below"
    assert file["file"]["filename"] == "a.pdf"
    assert base64.b64decode(file["file"]["file_data"].removeprefix("data:application/pdf;base64,")) == b"%PDF-1.7 a"


def test_anthropic_is_sent_blocks(make_router: Callable[..., Router], server: FaultServer, requests: list[Any]) -> None:
    router = make_router(providers=providers(server, a=READS), fast=["a/ok"], mid=["a/ok"], power=["a/ok"])
    assert router.route(Prompt((*ASKS.parts, PDF))).text == TEXT
    messages = requests[0][2]["messages"]
    TypeAdapter(list[MessageParam]).validate_python(messages)
    kinds = [block["type"] for block in messages[0]["content"]]
    assert kinds == ["text", "text", "image", "text", "document"]
    assert messages[0]["content"][2]["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(png()).decode(),
    }
    assert base64.b64decode(messages[0]["content"][4]["source"]["data"]) == b"%PDF-1.7 a"


def test_google_is_sent_parts(make_router: Callable[..., Router], server: FaultServer, requests: list[Any]) -> None:
    types = pytest.importorskip("google.genai.types", reason="the extra google is not installed")
    router = make_router(providers=providers(server, g=READS), fast=["g/ok"], mid=["g/ok"], power=["g/ok"])
    assert router.route(Prompt((*ASKS.parts, PDF))).text == TEXT
    content = types.Content.model_validate(requests[0][2]["contents"][0])
    inline = [part.inline_data for part in content.parts if part.inline_data]
    assert [(blob.mime_type, blob.data) for blob in inline] == [
        ("image/png", png()),
        ("application/pdf", b"%PDF-1.7 a"),
    ]


def test_a_candidate_that_cannot_see_is_passed_over(
    make_router: Callable[..., Router], server: FaultServer, requests: list[Any]
) -> None:
    router = make_router(providers=providers(server, a=READS), fast=["o/ok", "a/ok"], mid=["o/ok", "a/ok"])
    answer = router.route(ASKS)
    assert (answer.provider, len(requests)) == ("a", 1)
    assert "o/ok passed over: it does not read pictures." in answer.notes
    assert router.preview(ASKS).candidate == Candidate("a", "ok")
    assert router.route("What is a list?").provider == "o"  # without a picture nobody is


def test_a_tier_none_of_whose_models_sees_leaves_it_to_another(
    make_router: Callable[..., Router], server: FaultServer, requests: list[Any]
) -> None:
    router = make_router(providers=providers(server, a=READS), fast=["o/ok"], mid=["o/ok"], power=["a/ok"])
    answer = router.route(ASKS, tier="fast")
    assert answer.tier == "power"
    assert any("o/ok does not read pictures" in note and "power answers instead" in note for note in answer.notes)


def test_where_none_can_see_words_go_out_and_the_badge_says_so(
    make_router: Callable[..., Router], requests: list[Any]
) -> None:
    router = make_router()
    for model in (None, "o/ok"):
        answer = router.route(ASKS, model=model, cache="off")
        assert requests[-1][2]["messages"][0]["content"] == "What stands out?\n\n`fig`: a line from 1 to 3"
        assert "described in words" in badge_text(answer)
        assert any(note.startswith("described in words: ") and "input = [" in note for note in answer.notes)
        assert any(note.startswith("described in words: ") for note in router.preview(ASKS, model=model).notes)


def test_a_document_without_words_is_not_sent_to_who_cannot_read_it(
    make_router: Callable[..., Router], requests: list[Any]
) -> None:
    with pytest.raises(UsageError, match=r"no model that can be called reads PDF files\..*pip install pypdf"):
        make_router().route(Prompt((TextPart("Sum it up"), PDF)))
    assert not requests


def test_a_picture_of_an_earlier_turn_goes_out_again(
    make_router: Callable[..., Router], server: FaultServer, requests: list[Any]
) -> None:
    router = make_router(providers=providers(server, o=READS))
    router.route("And now?", history=[Message("user", ASKS), Message("assistant", "A line.")])
    assert [part["type"] for part in requests[0][2]["messages"][0]["content"]] == ["text", "text", "image_url"]


def test_another_picture_is_another_answer(
    make_router: Callable[..., Router], server: FaultServer, requests: list[Any]
) -> None:
    router = make_router(providers=providers(server, o=READS))
    router.route(ASKS)
    assert router.route(ASKS).cached
    assert not router.route(Prompt((ASKS.parts[0], picture(colour="black")))).cached
    assert len(requests) == 2


def test_notes_of_a_prompt_stand_at_its_answer_and_go_to_nobody(
    make_router: Callable[..., Router], requests: list[Any]
) -> None:
    router = make_router()
    prompt = Prompt((TextPart("What is in it?"),), ("`df`: 5 of 200 rows sent.",))
    for answer in (router.route(prompt), router.route(prompt)):  # the second one from the cache
        assert "`df`: 5 of 200 rows sent." in answer.notes
    assert "`df`: 5 of 200 rows sent." in router.preview(prompt).notes
    assert "200 rows" not in str(requests[0][2])


def test_a_picture_counts_in_estimate_and_worst_case(
    make_router: Callable[..., Router], server: FaultServer, requests: list[Any]
) -> None:
    """In "gpt-4o" a tile costs 170 tokens, every picture 85: a mock name that the fault server answers to."""
    names = {tier: ["o/gpt-4o"] for tier in ("fast", "mid", "power")}
    settings = {"providers": providers(server), **names}
    router = make_router(**settings)
    words = router.preview(Prompt(ASKS.parts[:1])).input_tokens
    seen = router.preview(ASKS).input_tokens
    assert seen - words == 85 + 170 + 7  # its caption has 24 characters
    bill = {"o/gpt-4o": {"input": 1000, "output": 1}}
    worst = Decimal("0.45")  # 383 tokens for the picture, 50 for the text at most
    assert make_router(**{**settings, "prices": bill}, budget={"call": float(worst)}).route(ASKS).text == TEXT
    with pytest.raises(BudgetError):
        make_router(**{**settings, "prices": bill}, budget={"call": 0.38}).route(ASKS, cache="off")


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        ("gpt-4o", 512, 512, 255), ("gpt-4o", 1024, 1024, 765), ("openai/gpt-4o", 2048, 4096, 1105),
        ("gpt-4o-mini", 512, 384, 8500), ("o1", 512, 384, 225), ("gpt-5", 1024, 1024, 630),
        ("gpt-4.1-mini", 1024, 1024, 1659), ("gpt-4.1-mini", 1800, 2400, 2489), ("gpt-6-luna", 512, 384, 231),
        ("claude-sonnet-4-5", 1000, 1000, 1296), ("claude-haiku-4-5", 4000, 3000, 1600),
        ("claude-opus-4-7", 2000, 1500, 3888), ("us.anthropic.claude-opus-5-5-v1:0", 8000, 8000, 4784),
        ("gemini-2.5-flash", 384, 384, 258), ("gemini-2.5-flash", 960, 540, 1548), ("gemini-3-pro", 512, 384, 1120),
    ],
)  # fmt: skip
def test_the_makers_formulas(model: str, width: int, height: int, tokens: int) -> None:
    """Where the makers' pages work an example out, it is among these."""
    assert media.image_tokens(model, width, height) == tokens


def test_the_bound_is_above_the_estimate_and_grows_with_the_picture() -> None:
    draw = random.Random(1)
    for model in ("gpt-4o", "gpt-6-luna", "claude-opus-5-5", "gemini-3-pro", "stranger"):
        for _ in range(200):
            width, height = draw.randint(1, 3000), draw.randint(1, 3000)
            part = ImagePart("", "x", b"", "image/png", width, height)
            turn = [Message("user", Prompt((part,)))]
            assert 0 < media.estimate(turn, model) < media.bound(turn, model)
    two = [Message("user", Prompt((PDF,)))]
    assert (media.estimate(two, "gpt-4o"), media.bound(two, "gpt-4o")) == (3000, 7000)


@pytest.mark.parametrize(
    ("service", "model", "reads"),
    [
        ("openai", "gpt-6.1-sol", {"image", "pdf"}), ("openai", "gpt-3.5-turbo", set()), ("openai", "gpt-4", set()),
        ("openai", "gpt-4o", {"image", "pdf"}), ("openai", "o3-mini", set()), ("openai", "o3", {"image", "pdf"}),
        ("anthropic", "claude-3-haiku-20240307", {"image"}), ("anthropic", "claude-opus-5-5", {"image", "pdf"}),
        ("openrouter", "anthropic/claude-opus-5-5", {"image", "pdf"}), ("openrouter", "some/model", set()),
        ("bedrock", "us.anthropic.claude-3-haiku-20240307-v1:0", {"image"}), ("groq", "llama-3.3-70b", set()),
        ("groq", "meta-llama/llama-4-scout-17b", {"image"}), ("google", "gemma-3-1b-it", set()),
        ("ollama", "gemma3:4b", {"image"}), ("ollama", "qwen3:8b", set()),
    ],
)  # fmt: skip
def test_what_models_read(service: str, model: str, reads: set[str]) -> None:
    assert inputs_of(service, model) == reads


def test_a_server_of_the_user_s_own_says_what_it_reads() -> None:
    own = {"sdk": "openai", "base_url": "http://localhost:1/v1"}
    assert load({"providers": {"mine": own}}).inputs(Candidate("mine", "m")) == set()
    said = load({"providers": {"mine": {**own, "input": ["text", "image"]}}})
    assert said.inputs(Candidate("mine", "m")) == {"image"}
    assert load().inputs(Candidate("local", "smollm2")) == set()
    with pytest.raises(ConfigError, match="input must be a list of some of 'text', 'image', 'pdf'"):
        load({"providers": {"mine": {**own, "input": ["vision"]}}})
