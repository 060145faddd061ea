"""The check that holds the requests of all other tests to what OpenAI and Anthropic publish."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.published import faults_of

TURN = {"role": "user", "content": "Explain closures"}
OPENAI = {"model": "m", "messages": [TURN]}
ANTHROPIC = {**OPENAI, "max_tokens": 9}


@pytest.mark.parametrize(
    ("path", "body", "fault"),
    [
        ("/v1/chat/completions", OPENAI, ""),
        ("/v1/chat/completions", {**OPENAI, "stream": True}, ""),
        ("/v1/chat/completions", {**OPENAI, "stream": "yes"}, "stream"),
        ("/v1/chat/completions", {**OPENAI, "foo": 1}, "'foo'"),
        ("/v1/chat/completions", {"model": "m"}, "'messages'"),
        ("/v1/chat/completions", {**OPENAI, "reasoning_effort": "huge"}, "$.reasoning_effort"),
        ("/v1/messages", ANTHROPIC, ""),
        ("/v1/messages?beta=true", OPENAI, "'max_tokens'"),
        ("/v1/messages", {**ANTHROPIC, "temperature": 1}, ""),
        ("/v1/messages", {**ANTHROPIC, "cache_control": {"type": "forever"}}, "$.cache_control"),
        ("/v1/something", {"foo": 1}, ""),
    ],
)
def test_a_request_is_held_to_what_is_published(path: str, body: dict[str, Any], fault: str) -> None:
    faults = faults_of(path, body)
    assert len(faults) == bool(fault)
    assert not fault or fault in faults[0]
