"""Uses of the public interface that every type checker must reject: exactly the lines marked "wrong". Not run."""

from __future__ import annotations

import pydantic

import ipyrouter
from ipyrouter import Message, Router
from ipyrouter.types import RouteOptions


class Review(pydantic.BaseModel):
    score: float


ipyrouter.route("x", teir="fast")  # wrong
ipyrouter.route("x", tier="fats")  # wrong
ipyrouter.route("x", tier="Fast")  # wrong
ipyrouter.route("x", cache="maybe")  # wrong
ipyrouter.route("x", cache=False)  # wrong
ipyrouter.route("x", max_tokens=5)  # wrong
ipyrouter.route("x", max_output_tokens="many")  # wrong
ipyrouter.route("x", temperature="hot")  # wrong
ipyrouter.route("x", history=[{"role": "user", "content": "Hello"}])  # wrong
ipyrouter.route("x", history=Message("user", "Hello"))  # wrong
ipyrouter.route("x", on_delta=lambda: None)  # wrong
ipyrouter.route("x", "fast")  # wrong
ipyrouter.aroute("x", teir="fast")  # wrong
Router().preview("x", tier="fats")  # wrong
Router().log(sinc="2026-11-01")  # wrong
ipyrouter.route(None)  # wrong
ipyrouter.route()  # wrong

ipyrouter.route("x", effort="lots")  # wrong
ipyrouter.route("x", json="yes")  # wrong
ipyrouter.route("x", schema="Review")  # wrong
ipyrouter.route("x", schema=["a", "b"])  # wrong
print(ipyrouter.route("x").data.score)  # wrong
print(ipyrouter.route("x", schema=Review).data.scroe)  # wrong
number: int = ipyrouter.route("x", schema=Review).data  # wrong
Router().route("x", schema=Review, effort="lots")  # wrong
Router().preview("x", shcema=Review)  # wrong

options: RouteOptions = {"tier": "fats"}  # wrong
misspelt: RouteOptions = {"teir": "fast"}  # wrong

ipyrouter.cost_log(sinc="2026-11-01")  # wrong
ipyrouter.cost_log(since=20261101)  # wrong
ipyrouter.cost_log(day="2026-11-01")  # wrong
ipyrouter.cost_log(tier="fats")  # wrong
ipyrouter.cost_log(status="okay")  # wrong
ipyrouter.cost_log("2026-11-01")  # wrong

ipyrouter.classify(None)  # wrong
ipyrouter.daily_report(23)  # wrong
ipyrouter.use_router("article")  # wrong
Message("system", "x")  # wrong
print(ipyrouter.route("x").txt)  # wrong
print(ipyrouter.route("x").cost + 1)  # wrong
ipyrouter.rout("x")  # wrong
Router().route("x", teir="fast")  # wrong
Router(hom="folder")  # wrong
