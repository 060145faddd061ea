"""A loopback server with OpenAI's and Anthropic's batch APIs, for the real SDKs."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], Any]
"""From a request's body to a result: a whole answer, (status, error) for one that failed, None for one left out."""


class BatchServer:
    """Jobs stay "running" until :meth:`end`; ``lines`` holds what each job was given."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.files: dict[str, bytes] = {}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.states: dict[str, str] = {}
        self.created: dict[str, dt.datetime] = {}
        self.keys: set[str] = set()
        self.failure = "invalid JSONL"
        self.refuse: tuple[int, str] | None = None
        self.metadata: dict[str, Any] = {}
        self.lose_answer = False  # take a job, and hang up instead of giving its id
        owner = self

        class Handler(_Handler):
            server_owner = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def end(self, state: str = "completed") -> None:
        for job in self.states:
            if self.states[job] == "running":
                self.states[job] = state

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_owner: BatchServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        owner = self.server_owner
        data = self.rfile.read(int(self.headers["Content-Length"]))
        owner.keys.add(self.headers.get("Authorization") or self.headers.get("x-api-key") or "")
        if owner.refuse is not None and not self.path.endswith("/files"):
            status, words = owner.refuse
            return self._json({"type": "error", "error": {"message": words, "type": "invalid_request_error"}}, status)
        if self.path == "/v1/files":
            assert b'name="purpose"\r\n\r\nbatch' in data
            content = re.search(rb'filename="ipyrouter.jsonl"[^\n]*\n(?:[^\n]+\n)*?\r\n(.*?)\r\n--', data, re.DOTALL)
            assert content is not None
            name = f"file-{len(owner.files)}"
            owner.files[name] = content[1]
            return self._json({"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "x",
                               "purpose": "batch", "status": "processed"})  # fmt: skip
        body = json.loads(data)
        if self.path == "/v1/batches":
            job = f"batch_{len(owner.lines)}"
            owner.lines[job] = [json.loads(line) for line in owner.files[body["input_file_id"]].splitlines()]
        else:
            assert self.path == "/v1/messages/batches"
            job = f"msgbatch_{len(owner.lines)}"
            owner.lines[job] = body["requests"]
        owner.states[job], owner.metadata[job] = "running", body.get("metadata")
        owner.created[job] = dt.datetime.now(dt.UTC)
        if owner.lose_answer:
            self.close_connection = True
            return None
        return self._json(self._job(job))

    def do_GET(self) -> None:
        owner = self.server_owner
        path = self.path.partition("?")[0]
        name = path.rstrip("/").split("/")[-1]
        if name == "batches":
            claude = path == "/v1/messages/batches"
            jobs = [self._job(job) for job in reversed(owner.states) if job.startswith("msg") == claude]
            return self._json({"object": "list", "data": jobs, "has_more": False, "first_id": None, "last_id": None})
        if self.path.startswith("/v1/batches/") or self.path.startswith("/v1/messages/batches/"):
            job = self.path.split("/batches/")[1].split("/")[0]
            if job not in owner.states:
                return self._json({"type": "error", "error": {"message": "no such batch", "type": "not_found"}}, 404)
            if name == "results":
                return self._send(self._claude_results(job), "application/x-jsonl")
            return self._json(self._job(job))
        kind, _, job = self.path.split("/")[3].partition("-")  # /v1/files/out-batch_0/content
        lines = [line for line in map(self._line, owner.lines[job]) if line]
        failed = [line for line in lines if line["error"] or line["response"]["status_code"] >= 400]
        chosen = failed if kind == "err" else [line for line in lines if line not in failed]
        return self._send("\n".join(map(json.dumps, chosen)).encode(), "application/jsonl")

    def _line(self, request: dict[str, Any]) -> dict[str, Any] | None:
        answer = self.server_owner.answer(request["body"])
        if answer is None:
            return None
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        body = {"error": {"message": body, "type": "server_error"}} if status >= 400 else body
        response = {"status_code": status, "request_id": "r", "body": body}
        return {"id": "x", "custom_id": request["custom_id"], "response": response, "error": None}

    def _claude_results(self, job: str) -> bytes:
        lines = []
        for request in self.server_owner.lines[job]:
            answer = self.server_owner.answer(request["params"])
            result: dict[str, Any] = {"type": "succeeded", "message": answer}
            if answer is None:
                result = {"type": "expired"}
            elif isinstance(answer, tuple):
                error = {"type": "invalid_request_error", "message": answer[1]}
                result = {"type": "errored", "error": {"type": "error", "error": error}}
            lines.append({"custom_id": request["custom_id"], "result": result})
        return "\n".join(map(json.dumps, lines)).encode()

    def _job(self, job: str) -> dict[str, Any]:
        owner = self.server_owner
        state, count = owner.states[job], len(owner.lines[job])
        if job.startswith("msg"):
            ended = state != "running"
            counts = {"processing": 0, "succeeded": count, "errored": 0, "canceled": 0, "expired": 0}
            return {"id": job, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
                    "request_counts": counts, "created_at": owner.created[job].isoformat(), "archived_at": None,
                    "expires_at": "2026-11-30T10:00:00Z", "ended_at": None, "cancel_initiated_at": None,
                    "results_url": f"{owner.url}/v1/messages/batches/{job}/results" if ended else None}  # fmt: skip
        over = state in ("completed", "expired", "cancelled")
        errors = {"object": "list", "data": [{"code": "invalid", "message": owner.failure}]}
        return {"id": job, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "f",
                "completion_window": "24h", "created_at": int(owner.created[job].timestamp()),
                "metadata": owner.metadata[job], "status": "in_progress" if state == "running" else state,
                "output_file_id": f"out-{job}" if over else None, "error_file_id": f"err-{job}" if over else None,
                "errors": errors if state == "failed" else None}  # fmt: skip
