"""Accounts at Azure, Amazon Bedrock and Google Cloud, through the clients that the two SDKs have for them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import anthropic
import httpx2
import openai

from ipyrouter.config import Provider
from ipyrouter.errors import ConfigError
from ipyrouter.providers.anthropic import NO_SPANS, AnthropicBackend
from ipyrouter.providers.base import PLACEHOLDER, Call, Changes, Target
from ipyrouter.providers.network import Watch
from ipyrouter.providers.openai import OpenAIBackend
from ipyrouter.providers.stream import Collector
from ipyrouter.providers.wire import Event

_EVENT_STREAM = "application/vnd.amazon.eventstream"
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def account(target: Target) -> Provider:
    """Return the settings of the account that a target is."""
    if target.provider is None:
        raise ConfigError("This backend needs the settings of a provider.", "Name it in the config.")
    return target.provider


class AzureBackend(OpenAIBackend):
    """Sends calls to Azure OpenAI: its v1 API, or with an api_version the classic one with deployments."""

    most_in_batch: ClassVar[tuple[int, int]] = (0, 0)  # its batches work on files in its own storage

    limit_names = ("max_completion_tokens", "max_tokens")
    paths: ClassVar[tuple[str, ...]] = ("/chat/completions",)
    version = ""
    scope = "https://cognitiveservices.azure.com/.default"

    def client(self) -> openai.OpenAI:
        """Return the SDK's client for the account."""
        provider = account(self.target)
        endpoint = (self.target.base_url or "").rstrip("/")
        for ending in ("/v1", "/openai"):
            endpoint = endpoint.removesuffix(ending)
        shared: dict[str, Any] = {
            "default_query": dict(self.target.query),
            "max_retries": 0,
            "http_client": self.transport.client(self.target.address),
        }
        with_key = provider.credentials == "key"
        if version := provider.place("api_version"):
            login: dict[str, Any] = {"api_key" if with_key else "azure_ad_token": PLACEHOLDER}
            return openai.AzureOpenAI(azure_endpoint=endpoint, api_version=version, **login, **shared)
        headers = {"api-key": PLACEHOLDER} if with_key else {}  # beside the bearer that the SDK sends, as documented
        return openai.OpenAI(api_key=PLACEHOLDER, base_url=f"{endpoint}/openai/v1", default_headers=headers, **shared)

    def body(self, provider: Provider, call: Call, changes: Changes, notes: list[str]) -> dict[str, Any]:
        """Return what to send; a model goes out under the name of its deployment."""
        return {
            **super().body(provider, call, changes, notes),
            "model": provider.deployments.get(call.model, call.model),
        }


class FoundryBackend(AnthropicBackend):
    """Sends calls to Claude in Microsoft Foundry."""

    most_in_batch: ClassVar[tuple[int, int]] = (0, 0)  # its batches work on files in its own storage

    scope = "https://ai.azure.com/.default"

    def client(self) -> Any:
        """Return the SDK's client for the account."""
        provider = account(self.target)
        login: dict[str, Any] = {"api_key": PLACEHOLDER}
        if provider.credentials != "key":
            login = {"azure_ad_token_provider": lambda: PLACEHOLDER}
        return anthropic.AnthropicFoundry(
            base_url=self.target.base_url or "",
            default_query=dict(self.target.query),
            max_retries=0,
            open_telemetry=NO_SPANS,
            http_client=self.transport.client(self.target.address),
            **login,
        )


class BedrockBackend(AnthropicBackend):
    """Sends calls to Claude on Amazon Bedrock, with a key or signed by Amazon's own library."""

    most_in_batch: ClassVar[tuple[int, int]] = (0, 0)  # its batches work on files in its own storage

    paths: ClassVar[tuple[str, ...]] = ("/model",)

    def client(self) -> Any:
        """Return the SDK's client for the account."""
        provider = account(self.target)
        signed = provider.credentials == "aws"
        if signed:
            check_aws(provider)
        sdk = anthropic.AnthropicBedrock(
            api_key=PLACEHOLDER,
            aws_region=provider.place("region"),
            base_url=self.target.base_url,
            default_query=dict(self.target.query),
            max_retries=0,
            open_telemetry=NO_SPANS,
            http_client=self.transport.client(self.target.address),
        )
        if signed:  # it refuses a profile beside AWS_BEARER_TOKEN_BEDROCK, which may be set for somebody else
            sdk.api_key, sdk.aws_profile = None, provider.profile
        return sdk

    def events(self, response: httpx2.Response, watch: Watch, collector: Collector) -> Iterator[Event]:
        """Yield the JSON values of a response; streams come in Amazon's own frames."""
        if not response.headers.get("content-type", "").startswith(_EVENT_STREAM):
            yield from super().events(response, watch, collector)
            return
        import json

        from anthropic.lib.bedrock._stream_decoder import AWSEventStreamDecoder

        for event in AWSEventStreamDecoder().iter_bytes(response.iter_bytes()):
            yield Event(json.loads(event.data), event.event or "")


class BedrockOpenAIBackend(OpenAIBackend):
    """Sends calls to Bedrock's OpenAI-compatible addresses, with a key or signed by Amazon's own library."""

    most_in_batch: ClassVar[tuple[int, int]] = (0, 0)  # its batches work on files in its own storage

    version = "/openai/v1"

    def client(self) -> openai.OpenAI:
        """Return the SDK's client for the account."""
        from openai.providers import bedrock

        provider = account(self.target)
        login: dict[str, Any] = {"api_key": PLACEHOLDER}
        if provider.credentials == "aws":
            check_aws(provider)
            login = {"api_key": None, "profile": provider.profile}
        host = urlsplit(self.target.address).hostname or ""
        return openai.OpenAI(
            provider=bedrock(
                endpoint="mantle" if host.startswith("bedrock-mantle.") else "runtime",
                region=provider.place("region"),
                base_url=self.target.base_url,
                **login,
            ),
            default_query=dict(self.target.query),
            max_retries=0,
            http_client=self.transport.client(self.target.address),
        )


class VertexBackend(AnthropicBackend):
    """Sends calls to Claude on Google Cloud."""

    most_in_batch: ClassVar[tuple[int, int]] = (0, 0)  # its batches work on files in its own storage

    paths: ClassVar[tuple[str, ...]] = ("/projects",)

    def client(self) -> Any:
        """Return the SDK's client for the account."""
        provider = account(self.target)
        return anthropic.AnthropicVertex(
            region=provider.place("region"),
            project_id=provider.place("project"),
            access_token=PLACEHOLDER,
            base_url=self.target.base_url,
            default_query=dict(self.target.query),
            max_retries=0,
            open_telemetry=NO_SPANS,
            http_client=self.transport.client(self.target.address),
        )


# --- logins without a key: what each cloud's own library finds ---


def login_of(backend: Any, provider: Provider) -> Callable[[], str] | None:
    """Return what gives the token of a provider's calls, None where it needs none or has a key.

    Raises ConfigError where the credentials do not go with the backend.
    """
    if provider.credentials == "key":
        return None
    goes_with = {
        "entra": (AzureBackend, FoundryBackend, OpenAIBackend),
        "aws": (BedrockBackend, BedrockOpenAIBackend),
        "google": (VertexBackend, OpenAIBackend),
    }
    if not issubclass(backend, goes_with[provider.credentials]):
        raise ConfigError(
            f"providers.{provider.name}.credentials: {provider.credentials!r} does not go with {provider.sdk!r}.",
            'Use "key", or another sdk.',
        )
    if provider.credentials == "entra":
        return _entra(getattr(backend, "scope", FoundryBackend.scope))
    return _google if provider.credentials == "google" else None


def check_aws(provider: Provider) -> None:
    """Raise ConfigError where Amazon's library is missing or finds no credentials."""
    try:
        import boto3
        import botocore.exceptions
    except ImportError:
        raise ConfigError("Amazon's credentials need boto3.", "Install it: pip install boto3.") from None
    if provider.extra()[1]:
        raise ConfigError(
            f'providers.{provider.name}.query does not go with credentials = "aws": the address is signed.',
            "Leave one of them out.",
        )
    try:
        found = boto3.Session(profile_name=provider.profile).get_credentials()
    except botocore.exceptions.BotoCoreError as error:
        raise ConfigError(f"Amazon's credentials cannot be used: {error}.", "Run: aws configure") from None
    if found is None:
        which = f"the profile {provider.profile!r}" if provider.profile else "this machine"
        raise ConfigError(
            f"Amazon's library finds no credentials for {which}.", "Run: aws configure, or aws sso login."
        )


@functools.cache
def _entra(scope: str) -> Callable[[], str]:
    """Return what gives a token of Microsoft Entra ID: of a workload, a managed identity or the user's own login."""
    try:
        import azure.identity
    except ImportError:
        raise ConfigError("Entra ID needs azure-identity.", "Install it: pip install azure-identity.") from None
    issued = azure.identity.get_bearer_token_provider(azure.identity.DefaultAzureCredential(), scope)

    def token() -> str:
        try:
            return str(issued())
        except Exception as error:  # noqa: BLE001  azure-core's errors quote whatever each login said, over many lines
            raise ConfigError(f"Entra ID gives no token ({type(error).__name__}).", "Run: az login") from None

    return token


_google_lock = threading.Lock()
_google_credentials: Any = None


def _google() -> str:
    """Return a token of Google's application default credentials. Raises ConfigError."""
    global _google_credentials  # noqa: PLW0603  one login a process, as google-auth caches its token in it
    try:
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests
    except ImportError:
        raise ConfigError(
            "Google's credentials need google-auth.", 'Install it: pip install "google-auth[requests]".'
        ) from None
    with _google_lock:
        try:
            if _google_credentials is None:
                _google_credentials, _ = google.auth.default(scopes=[_GOOGLE_SCOPE])
            if not _google_credentials.valid:
                _google_credentials.refresh(google.auth.transport.requests.Request())
        except (google.auth.exceptions.GoogleAuthError, OSError) as error:
            _google_credentials = None
            raise ConfigError(
                f"Google gives no token ({type(error).__name__}).", "Run: gcloud auth application-default login"
            ) from None
        return str(_google_credentials.token)


def forget() -> None:
    """Forget the logins: credentials are looked for anew."""
    global _google_credentials  # noqa: PLW0603
    _entra.cache_clear()
    with _google_lock:
        _google_credentials = None
