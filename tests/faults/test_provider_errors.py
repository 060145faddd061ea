"""The errors of Azure, Groq, Mistral, OpenRouter and Ollama, in the shapes that each sends: one clear line each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from ipyrouter.errors import RouteError
from ipyrouter.router import Router
from tests.faults.server import FaultServer, Reply, sse


class Case(NamedTuple):
    """What a service sends, the kind of fault that it is, and what the line says."""

    status: int
    body: Any
    kind: str
    says: str
    headers: Mapping[str, str] = MappingProxyType({})


AZURE_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"hate": {"filtered": True, "severity": "high"}},
        },
    }
}
CASES = {
    "azure-deployment": Case(
        404,
        {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
        "not_found",
        "The API deployment for this resource does not exist",
    ),
    "azure-filter": Case(400, AZURE_FILTER, "refused", "content management policy"),
    "azure-key": Case(
        401,
        {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}},
        "auth",
        "invalid subscription key",
    ),
    "azure-gateway": Case(
        401, {"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid."}, "auth", "Access token"
    ),
    "azure-rate": Case(
        429,
        {"error": {"code": "429", "message": "Requests have exceeded the token rate limit of your current tier."}},
        "rate_limit",
        "token rate limit",
        {"Retry-After": "3600"},
    ),
    "groq-rate": Case(
        429,
        {"error": {"message": "Rate limit reached for model `m` on tokens per minute (TPM): Limit 6000, Used 5990.",
                   "type": "tokens", "code": "rate_limit_exceeded"}},
        "rate_limit",
        "Rate limit reached",
        {"Retry-After": "3600"},
    ),
    "groq-retired": Case(
        400,
        {"error": {"message": "The model `m` has been decommissioned and is no longer supported.",
                   "type": "invalid_request_error", "code": "model_decommissioned"}},
        "not_found",
        "decommissioned",
    ),
    "groq-capacity": Case(
        503,
        {"error": {"message": "m is over capacity. Please try again later.", "type": "internal_server_error"}},
        "server",
        "over capacity",
    ),
    "groq-large": Case(
        413,
        {"error": {"message": "Request too large for model `m`: Limit 6000, Requested 9000", "type": "tokens",
                   "code": "rate_limit_exceeded"}},
        "context",
        "Request too large",
    ),
    "mistral-model": Case(
        400,
        {"object": "error", "message": "Invalid model: m", "type": "invalid_model", "param": None, "code": "1500"},
        "not_found",
        "Invalid model: m",
    ),
    "mistral-key": Case(401, {"detail": "Unauthorized"}, "auth", "Unauthorized"),
    "mistral-rate": Case(
        429,
        {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "param": None, "code": "1300"},
        "rate_limit",
        "Rate limit exceeded",
        {"Retry-After": "3600"},
    ),
    "mistral-fields": Case(
        422,
        {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"],
                                                    "msg": "Extra inputs are not permitted", "input": 1}]}},
        "bad_request",
        "seed: Extra inputs are not permitted",
    ),
    "openrouter-credit": Case(
        402, {"error": {"code": 402, "message": "Insufficient credits. Add more."}}, "quota", "Insufficient credits"
    ),
    "openrouter-upstream": Case(
        429,
        {"error": {"message": "Provider returned error", "code": 429,
                   "metadata": {"raw": "m is temporarily rate-limited upstream", "provider_name": "Some"}}},
        "rate_limit",
        "temporarily rate-limited upstream",
        {"Retry-After": "3600"},
    ),
    "openrouter-model": Case(
        404, {"error": {"message": "No endpoints found for m.", "code": 404}}, "not_found", "No endpoints found"
    ),
    "openrouter-flagged": Case(
        403,
        {"error": {"code": 403, "message": "Your input was flagged by moderation",
                   "metadata": {"reasons": ["violence"], "flagged_input": "…", "provider_name": "Some"}}},
        "refused",
        "flagged by moderation",
    ),
    "ollama-model": Case(
        404,
        {"error": {"message": "model 'm' not found", "type": "not_found_error", "param": None, "code": None}},
        "not_found",
        "model 'm' not found",
    ),
    "ollama-pull": Case(
        404, {"error": "model \"m\" not found, try pulling it first"}, "not_found", "try pulling it first"
    ),
    "ollama-memory": Case(
        500,
        {"error": {"message": "model requires more system memory (9.4 GiB) than is available (5.1 GiB)",
                   "type": "api_error", "param": None, "code": None}},
        "server",
        "more system memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_error_is_one_clear_line(name: str, server: FaultServer, requests: list[Any]) -> None:
    case = CASES[name]
    server.replies["m"] = Reply(case.body, case.status, case.headers)
    router = Router({"providers": {"c": {"sdk": "openai", "base_url": f"{server.url}/v1"}}})
    with pytest.raises(RouteError) as caught:
        router.route("Explain closures", model="c/m")
    router.close()
    attempt = caught.value.attempts[-1]
    assert attempt.error_kind == case.kind
    assert case.says in str(attempt.error)
    assert "\n" not in str(attempt.error)
    assert "{" not in str(attempt.error)


def test_openrouter_s_error_amid_a_stream(server: FaultServer, requests: list[Any]) -> None:
    chunk = {
        "id": "x", "object": "chat.completion.chunk", "provider": "Some",
        "error": {"code": "server_error", "message": "Provider disconnected unexpectedly"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }  # fmt: skip
    server.replies["m"] = Reply(sse(chunk), 200, {"Content-Type": "text/event-stream"})
    router = Router({"providers": {"c": {"sdk": "openai", "base_url": f"{server.url}/v1"}}})
    with pytest.raises(RouteError, match="Provider disconnected unexpectedly"):
        router.route("Explain closures", model="c/m")
    router.close()
