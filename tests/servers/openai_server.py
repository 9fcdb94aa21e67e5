"""A local server that speaks the OpenAI chat-completions protocol, for tests: well, and as badly as asked.

    python -m tests.servers.openai_server --port 0 --log FILE [--latency 0.15:0.25] [--faults http-429=0.05,reset=0.02]

prints its port on the first line. Answers are a pure function of the request: a judgement where a JSON object is asked
for, ``<think>…</think><answer>…</answer>`` in the form of the prompt's "Task type: …" where that is asked for, else an
echo of the last message.

Every request is counted by its content hash (of the whole body but ``stream``). ``--log`` appends one JSON line when a
request begins and one when its answer has been sent, each written at once: {"event": "begin"|"end", "hash", "attempt",
"fault", "status"}. ``GET /stats`` gives the counts, ``GET /health`` answers when the server is up.

Faults: ``--faults NAME=SHARE,…`` strikes that share of requests, chosen by hash, attempt and ``--seed``. A prompt can
ask for its own: ``[[NAME]]`` strikes always, ``[[NAME*N]]`` the first N attempts. Names: http-STATUS (any), reset (in
mid-body), truncated (JSON), html (page, status 200), html-502, hang, wrong-type, duplicate (choices), twice (the whole
answer once more), twice-late (10 ms later), empty, echo-key, no-end (a stream without its end), prose (an answer
that is no JSON), no-choices, array. ``--id`` gives every answer the same id.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import re
import signal
from collections import Counter
from pathlib import Path

import orjson
from aiohttp import web

ASKED = re.compile(r"\[\[([a-z0-9-]+)(?:\*(\d+))?\]\]")
TASK_TYPE = re.compile(r"Task type: (qa|mcq|tfq|cs|para)")
WORDS = (
    "river",
    "stone",
    "light",
    "cedar",
    "copper",
    "signal",
    "harbour",
    "meadow",
    "engine",
    "theory",
    "lantern",
    "orbit",
    "salt",
    "weaver",
    "glacier",
    "ember",
)


def content_hash(body: dict) -> str:
    kept = {k: v for k, v in body.items() if k not in ("stream", "stream_options")}
    return hashlib.blake2b(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def words_of(digest: str, count: int) -> str:
    return " ".join(WORDS[int(digest[i % 32], 16)] for i in range(count))


def answer_text(body: dict, digest: str) -> str:
    """What an obedient model would say, decided by the request alone."""
    last = str(body["messages"][-1].get("content", ""))
    whole = "\n".join(str(m.get("content", "")) for m in body["messages"])
    kind = TASK_TYPE.search(whole)
    if "response_format" in body or "Rate the sample above" in last or "four ratings" in last:
        numbers = [1 + int(digest[i : i + 4], 16) % 10 for i in range(0, 16, 4)]
        names = ["Rarity", "Complexity", "Informativeness", "Overall rating"]
        return json.dumps(dict(zip(names, numbers, strict=True)))
    if kind and "<answer>" in whole:
        text = words_of(digest, 24)
        form = {
            "qa": f"Q: What is known of {text[:20]}?\nA: {text}.",
            "mcq": f"Q: Which is right, {digest[:6]}?\nA) one\nB) two\nC) three\nD) four\nAnswer: B) two\n{text}.",
            "tfq": f"The {text[:30]} is real.\nAnswer: True\n{text}.",
            "cs": f"C: {text[:20]}\nS: {text}.",
            "para": f"{text}.",
        }[kind[1]]
        return f"<think>merged {digest[:8]}</think>\n<answer>\n{form}\n</answer>"
    return f"echo {digest[:8]}: {last}"


class Server:
    def __init__(self, args: argparse.Namespace) -> None:
        low, _, high = args.latency.partition(":")
        self.latency = (float(low), float(high or low))
        self.faults = [(n, float(s)) for n, _, s in (f.partition("=") for f in args.faults.split(",") if f)]
        self.seed = args.seed
        self.retry_after = args.retry_after
        self.key = args.key
        self.refuse = set(filter(None, args.refuse.split(",")))
        self.context_chars = args.context_chars
        self.max_in_flight = args.max_in_flight
        self.script = json.loads(Path(args.script).read_text()) if args.script else {}
        self.log = os.open(args.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if args.log else None
        self.counts: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.worked_tokens = 0
        self.logprobs = args.logprobs
        self.id = args.id
        every, _, lasts = args.storm.partition(":")
        self.storm = (float(every or 0), float(lasts or 0))
        self.began: float | None = None

    def write(self, event: str, digest: str, attempt: int, fault: str, status: int = 0) -> None:
        if self.log is not None:
            line = {"event": event, "hash": digest, "attempt": attempt, "fault": fault, "status": status}
            os.write(self.log, orjson.dumps(line) + b"\n")

    def in_storm(self) -> bool:
        """Whether everything is refused just now, for being too much."""
        every, lasts = self.storm
        if not every:
            return False
        now = asyncio.get_running_loop().time()
        self.began = now if self.began is None else self.began
        return (now - self.began) % every > every - lasts

    def fault_of(self, whole: str, digest: str, attempt: int) -> str:
        if self.in_storm():
            return "http-429"
        if "[[" in whole:
            for name, times in ASKED.findall(whole):
                if not times or attempt <= int(times):
                    return name
        if self.faults:
            seeded = hashlib.blake2b(f"{digest}/{attempt}/{self.seed}".encode(), digest_size=8).digest()
            draw = int.from_bytes(seeded, "big") / 2**64
            for name, share in self.faults:
                if draw < share:
                    return name
                draw -= share
        return ""

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        digest = content_hash(body)
        self.counts[digest] += 1
        attempt = self.counts[digest]
        whole = "\n".join(str(m.get("content", "")) for m in body["messages"])
        fault = self.fault_of(whole, digest, attempt)
        self.write("begin", digest, attempt, fault)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            response = await self.respond(request, body, whole, digest, fault)
        finally:
            self.in_flight -= 1
        self.write("end", digest, attempt, fault, response.status)
        return response

    async def respond(
        self, request: web.Request, body: dict, whole: str, digest: str, fault: str
    ) -> web.StreamResponse:
        low, high = self.latency
        if self.max_in_flight and self.in_flight > self.max_in_flight:
            return error(429, "too many at once", headers={"Retry-After": self.retry_after})
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return error(401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}")
        refused = next((name for name in self.refuse if refuses(name, body)), None)
        if refused:
            name = refused.split("/")[0]
            return error(400, f"Unsupported parameter: '{name}' is not supported with this model.", param=name)
        if self.context_chars and len(whole) > self.context_chars:
            return error(400, "This model's maximum context length is 4096 tokens.", code="context_length_exceeded")
        await asyncio.sleep(low + (high - low) * int(digest[:8], 16) / 2**32)
        if fault.startswith("http-"):
            status = int(fault[5:])
            return error(status, f"fault {status}", headers={"Retry-After": self.retry_after} if status == 429 else {})
        if fault == "html-502":
            return web.Response(status=502, text="<html><body>Bad gateway</body></html>", content_type="text/html")
        if fault == "html":
            return web.Response(text="<!doctype html><html><body>Sign in</body></html>", content_type="text/html")
        if fault == "hang":
            self.worked(body, answer_text(body, digest))
            await asyncio.sleep(60)
        if fault == "echo-key":
            return error(500, f"upstream said: bad header {request.headers.get('Authorization', '')}")
        if fault == "empty":
            return web.Response(body=b"", content_type="application/json")
        if fault == "no-choices":
            return web.json_response({"id": "x", "object": "chat.completion", "choices": []})
        if fault == "array":
            return web.json_response([1, 2, 3])
        text = next((a for part, a in self.script.items() if part in whole), None) or answer_text(body, digest)
        if fault == "prose":
            text = "I would say that this sample is rather good."
        self.worked(body, text)
        if body.get("stream"):
            return await self.stream(request, body, text, fault)
        return await self.whole_body(request, body, text, digest, fault)

    def worked(self, body: dict, text: str) -> None:
        """Count the tokens that a provider would bill, whatever becomes of the answer on its way."""
        prompt = sum(len(str(m)) for m in body["messages"]) // 4
        self.worked_tokens += prompt + min(len(text) // 4, body.get("max_tokens", 1 << 30))

    async def whole_body(
        self, request: web.Request, body: dict, text: str, digest: str, fault: str
    ) -> web.StreamResponse:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": sum(len(str(m)) for m in body["messages"]) // 4, "completion_tokens": len(text) // 4}
        if body.get("max_tokens", 1 << 30) < len(text) // 4:
            message["content"], choice["finish_reason"] = text[: 4 * body["max_tokens"]], "length"
        reply = {"id": self.id or f"c-{digest}", "object": "chat.completion", "model": body.get("model")}
        reply |= {"choices": [choice, choice] if fault == "duplicate" else [choice], "usage": usage}
        if body.get("logprobs") and self.logprobs:
            choice["logprobs"] = {"content": logprobs_of(text)}
        data = orjson.dumps(reply)
        if fault == "reset":
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Content-Length": str(len(data))}
            )
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            request.transport.abort()
            return response
        if fault == "truncated":
            data = data[: len(data) // 2]
        if fault.startswith("twice"):  # the whole answer once more on the same connection, at once or a little later
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
            later = 0.01 if fault == "twice-late" else 0.0
            if request.transport is not None:
                asyncio.get_running_loop().call_later(later, request.transport.write, head.encode() + data)
        return web.Response(body=data, content_type="text/plain" if fault == "wrong-type" else "application/json")

    async def stream(self, request: web.Request, body: dict, text: str, fault: str) -> web.StreamResponse:
        kind = "text/plain" if fault == "wrong-type" else "text/event-stream"
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        pieces = [text[i : i + 9] for i in range(0, len(text), 9)] or [""]
        for number, piece in enumerate(pieces):
            if fault in ("reset", "no-end", "truncated") and number >= len(pieces) // 2:
                if fault == "reset":
                    request.transport.abort()
                elif fault == "truncated":
                    await response.write(b'data: {"choices": [{"del\n\n')
                return response
            delta = {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
            await response.write(b": keep-alive\n\ndata: " + orjson.dumps(delta) + b"\n\n")
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(pieces)}}
        await response.write(b"data: " + orjson.dumps(end) + b"\n\n")
        if (body.get("stream_options") or {}).get("include_usage"):
            await response.write(b"data: " + orjson.dumps(usage) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def stats(self, _request: web.Request) -> web.Response:
        counts = {"requests": sum(self.counts.values()), "hashes": self.counts, "most_in_flight": self.most_in_flight}
        counts["worked_tokens"] = self.worked_tokens
        return web.json_response(counts)


def logprobs_of(text: str) -> list[dict]:
    """Words and numbers as tokens. A number's alternatives are itself (70 %) and the one below (30 %)."""
    places = []
    for token in re.findall(r"\d+|\W+|\w+", text):
        options = [(token, 1.0)]
        if token.isdecimal() and int(token) > 1:
            options = [(token, 0.7), (str(int(token) - 1), 0.3)]
        top = [{"token": option, "logprob": math.log(share)} for option, share in options]
        places.append({"token": token, "logprob": top[0]["logprob"], "top_logprobs": top})
    return places


def refuses(name: str, body: dict) -> bool:
    """Whether the body holds what the server was told to refuse; ``response_format/json_schema`` means that type."""
    key, _, kind = name.partition("/")
    return key in body and (not kind or body[key].get("type") == kind)


def error(status: int, message: str, *, code: str = "", param: str = "", headers: dict | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "error", "code": code or None, "param": param or None}}
    return web.json_response(body, status=status, headers=headers)


async def health(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def serve(args: argparse.Namespace) -> None:
    server = Server(args)
    app = web.Application(client_max_size=256 * 2**20)
    for path in ("/v1/chat/completions", "/chat/completions"):
        app.router.add_post(path, server.complete)
    app.router.add_get("/stats", server.stats)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", args.port, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", default="", help="append a JSON line for each request's begin and end")
    parser.add_argument("--latency", default="0", help="seconds, or LOW:HIGH (by the request's hash)")
    parser.add_argument("--faults", default="", help="NAME=SHARE,…")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--retry-after", default="0.05")
    parser.add_argument("--key", default="", help="the only key that is let in (do not use a real one)")
    parser.add_argument("--refuse", default="", help="parameters answered with 400, e.g. response_format,seed")
    parser.add_argument("--context-chars", type=int, default=0, help="longer prompts are answered with 400")
    parser.add_argument("--max-in-flight", type=int, default=0, help="more at once are answered with 429")
    parser.add_argument("--logprobs", action="store_true", help="probabilities of tokens, where they are asked for")
    parser.add_argument("--id", default="", help="of every answer, instead of one by content")
    parser.add_argument("--storm", default="", help="EVERY:LASTS seconds: everything is answered with 429 for so long")
    parser.add_argument("--script", default="", help="a JSON object: part of a prompt → answer")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
