"""One module per SDK; nothing outside this folder knows an SDK, and none is imported before the first call."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from ipyrouter.config import Config, Deadlines, Provider
from ipyrouter.errors import IPyRouterError, UsageError
from ipyrouter.providers import local
from ipyrouter.providers.base import Backend, Call, Change, Fault, Parameter, Target, bare
from ipyrouter.text import redact
from ipyrouter.types import Candidate, Completion

if TYPE_CHECKING:
    from ipyrouter.providers.batches import JobStatus, Result, Search
    from ipyrouter.providers.network import Watch
    from ipyrouter.providers.stream import Collector
    from ipyrouter.providers.transport import Transport


_UNPICKLED = "Build the router from the config in this process, or put the key into a variable and name that in 'key'."


class Clients:
    """The SDK clients of one router, built when first used, over one shared transport."""

    def __init__(self, config: Config, progress: local.Progress) -> None:
        self.config = config
        self._progress = progress
        self._lock = threading.Lock()
        self._servers = local.EmbeddedServers()
        self._transport: Transport | None = None
        self._clients: dict[tuple[str, str], Backend] = {}
        self._changes: dict[tuple[Candidate, str], dict[Parameter, int | str | None]] = {}
        self._tokens: dict[str, str] = {}  # by provider: the last one that a cloud's login has issued
        self._process = os.getpid()

    def ready(self, candidate: Candidate) -> bool:
        """Tell whether the candidate can be called: its key is there, or it needs none."""
        provider = self.config.providers[candidate.provider]
        return local.available() if provider.embedded else not provider.lack()

    def complete(
        self, candidate: Candidate, call: Call, deadlines: Deadlines, collector: Collector, *, stream: bool = True
    ) -> Completion:
        """Send the call to the candidate, without the parameters that its server has refused before.

        Args:
            candidate: A provider and a model.
            call: The request, as the SDK-neutral values of one call.
            deadlines: In seconds.
            collector: Gets what arrives; it keeps it after a fault, too.
            stream: Whether the answer may come in pieces; that is up to the provider's setting then.

        Raises:
            Fault: The call failed.
        """
        provider = self.config.providers[candidate.provider]
        if not stream:
            provider = replace(provider, stream=False)
        with self._lock:
            changes = dict(self._changes.get((candidate, provider.address()), {}))
        try:
            client = self._client(provider, candidate.model)
            _check_login(client)
        except KeyboardInterrupt:
            fault = Fault("interrupted", "stopped by the user")
        except Fault as error:
            fault = error
        except IPyRouterError as error:
            fault = Fault("connect", str(error))
        except Exception as error:  # noqa: BLE001  an unusable proxy, certificate file or address
            fault = Fault("connect", f"the client could not be set up: {error}")
        else:
            if "stream" in changes or not stream:  # the first byte comes with the last
                deadlines = replace(deadlines, first_byte=deadlines.total)
            try:
                done = client.complete(provider, call, deadlines, collector, changes)
                notes = tuple(map(self.hide, done.notes))
                return replace(done, thinking=self.hide(done.thinking) if done.thinking else "", notes=notes)
            except Fault as error:
                fault = error
        raise self._hidden(fault)  # here all words of servers, SDKs and pip come through

    # --- batch APIs ---

    def most_in_batch(self, candidate: Candidate) -> tuple[int, int]:
        """Return the requests and bytes that a job of the candidate's batch API takes; 0 where it has none."""
        from ipyrouter.providers.registry import backend_of

        provider = self.config.providers[candidate.provider]
        if provider.embedded or (provider.supports and "batch" not in provider.supports):
            return (0, 0)
        return backend_of(provider.sdk).most_in_batch

    def has_flex(self, candidate: Candidate) -> bool:
        """Tell whether a candidate takes calls that may wait for half the price, as far as that is known."""
        from ipyrouter.providers.registry import backend_of

        provider = self.config.providers[candidate.provider]
        if provider.embedded or (provider.supports and "flex" not in provider.supports):
            return False
        return backend_of(provider.sdk).has_flex

    def batch_body(self, candidate: Candidate, call: Call) -> dict[str, Any]:
        """Return what a batch API gets for a call."""
        provider = replace(self.config.providers[candidate.provider], stream=False)
        with self._lock:
            changes = dict(self._changes.get((candidate, provider.address()), {}))
        return self._client(provider, candidate.model).body(provider, call, changes, [])

    def submit(
        self, candidate: Candidate, name: str, requests: Sequence[tuple[str, dict[str, Any]]], call: Call
    ) -> str:
        """Submit a job under a name and return its id; ``call`` is one of its calls.

        Raises:
            Fault: The provider did not take it.
        """
        with self._batch(candidate, call) as (backend, watch):
            return backend.submit(name, requests, watch)

    def find(self, candidate: Candidate, name: str, keys: Sequence[str], since: float, call: Call) -> Search:
        """Look for a job of which it is not known whether it was submitted; ``since`` is in seconds since 1970.

        Raises:
            Fault: The provider did not say.
        """
        with self._batch(candidate, call) as (backend, watch):
            return backend.find(name, keys, since, watch)

    def poll(self, candidate: Candidate, job: str, call: Call) -> JobStatus:
        """Return how far a job is.

        Raises:
            Fault: The provider did not say.
        """
        with self._batch(candidate, call) as (backend, watch):
            return backend.poll(job, watch)

    def results(self, candidate: Candidate, job: str, call: Call) -> list[Result]:
        """Return all results of a job that has ended.

        Raises:
            Fault: They could not be read.
        """
        with self._batch(candidate, call) as (backend, watch):
            return list(backend.results(job, watch))

    def batch_completion(self, candidate: Candidate, result: Result, collector: Collector) -> Completion:
        """Return the completion in a result.

        Raises:
            Fault: It is an error, or no answer.
        """
        from ipyrouter.providers.batches import completion_of

        provider = self.config.providers[candidate.provider]
        try:
            return completion_of(self._client(provider, candidate.model), provider, result, collector)
        except Fault as fault:
            raise self._hidden(fault) from None

    @contextlib.contextmanager
    def _batch(self, candidate: Candidate, call: Call) -> Iterator[tuple[Backend, Watch]]:
        from ipyrouter.providers.batches import watching

        provider = self.config.providers[candidate.provider]
        backend = self._client(provider, candidate.model)
        try:
            _check_login(backend)
            with watching(backend, provider, call) as watch:
                yield backend, watch
        except Fault as fault:
            raise self._hidden(fault) from None

    def _hidden(self, fault: Fault) -> Fault:
        """Return a fault without keys in its words."""
        fault.message = self.hide(fault.message)
        fault.args = (fault.message,)
        return bare(fault)

    def change(self, candidate: Candidate, change: Change) -> None:
        """Remember for the session what the candidate's server refuses."""
        address = self.config.providers[candidate.provider].address()
        with self._lock:
            self._changes.setdefault((candidate, address), {})[change.parameter] = change.value

    def forget(self) -> None:
        """Send everything again to everybody."""
        with self._lock:
            self._changes.clear()

    def hide(self, text: str) -> str:
        """Return a message without the keys and passwords of providers, proxies and embedded servers."""
        from urllib.request import getproxies

        addresses = [provider.secrets() for provider in self.config.providers.values()]
        proxies = [redact.secrets_in(proxy) for proxy in getproxies().values()]
        known = [*itertools.chain(*addresses, *proxies), *self._servers.secrets(), *self._tokens.values()]
        return redact.scrub(redact.hide(text, known, parts=True))

    def close(self) -> None:
        """Close connections and stop the embedded servers."""
        with self._lock:
            self._clients.clear()
            if self._transport is not None:
                self._transport.close()
                self._transport = None
        self._servers.close()

    def _client(self, provider: Provider, model: str) -> Backend:
        endpoint = self._servers.endpoint(provider.gguf, model, self._progress) if provider.embedded else None
        address = endpoint.url if endpoint else provider.address()
        key = (provider.name, address)
        with self._lock:
            if self._process != os.getpid():  # a forked child shares no connection with its parent
                self._clients, self._transport, self._process = {}, None, os.getpid()
            if key not in self._clients:
                self._clients[key] = self._build(provider, endpoint)
            return self._clients[key]

    def _build(self, provider: Provider, endpoint: local.Endpoint | None) -> Backend:
        from ipyrouter.providers.registry import backend_of
        from ipyrouter.providers.transport import Transport

        if self._transport is None:
            self._transport = Transport()

        backend = backend_of(provider.sdk)
        login = None
        if provider.credentials != "key":
            from ipyrouter.providers.clouds import login_of

            login = login_of(backend, provider)

        def secret() -> str:
            if endpoint is not None:
                return endpoint.secret
            if login is None:
                return provider.secret()
            token = self._tokens[provider.name] = login()
            return token

        base_url, query = _split(f"{endpoint.url}{backend.version}" if endpoint else provider.endpoint())
        if redact.GONE in (urlsplit(base_url or "").username, *query.values()):
            raise UsageError("The address has lost its password or key, because pickles keep none.", _UNPICKLED)
        address = endpoint.url if endpoint else provider.address()
        return backend(Target(address, base_url, secret, query, provider.extra, provider), self._transport)


def _check_login(client: Backend) -> None:
    """Raise Fault where the key, or a variable that a header names, cannot be read: no server has been asked yet."""
    try:
        client.target.extra()
        client.target.secret()
    except IPyRouterError as error:
        # Not of the key itself: once the keyring is unlocked, the next request tries again.
        raise Fault("auth", str(error).removesuffix("."), only_model=True) from None


def _split(address: str | None) -> tuple[str | None, dict[str, str]]:
    """Return an address without its query, to which the SDKs can add a path, and the query."""
    if address is None:
        return None, {}
    parts = urlsplit("".join(address))
    return urlunsplit(parts._replace(query="")), dict(parse_qsl(parts.query))
