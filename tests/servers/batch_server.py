"""A local stand-in for OpenAI's Batch API, for tests.

    python -m tests.servers.batch_server --port 0 [--after 2] [--fail 0.2] [--expire 0.1] [--drop 0.1] [--lose-create]

prints its port. A batch is done when it has been looked at ``--after`` times. Of its requests, by custom_id and how
often that was seen, a share fails with 500 in the error file (``--fail``), expires (``--expire``), or is in neither
file (``--drop``); the rest is answered as ``openai_server`` answers. ``--lose-create``: the first batch is made, and
the connection is cut before its id is told. ``GET /stats`` gives the counts; the state is kept in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import signal
from collections import Counter
from email.parser import BytesParser

import orjson
from aiohttp import web

from tests.servers.openai_server import answer_text, content_hash, error


class BatchServer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.seen: Counter[str] = Counter()
        self.lose_create = args.lose_create
        self.billed_tokens = 0

    async def upload(self, request: web.Request) -> web.Response:
        raw = await request.read()
        message = BytesParser().parsebytes(b"Content-Type: " + request.headers["Content-Type"].encode() + b"\n\n" + raw)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.get_payload()}
        assert parts["purpose"].get_payload() == "batch"
        id_ = f"file-{len(self.files)}"
        self.files[id_] = parts["file"].get_payload(decode=True)
        return web.json_response({"id": id_, "object": "file", "bytes": len(self.files[id_])})

    async def create(self, request: web.Request) -> web.Response:
        wish = orjson.loads(await request.read())
        if wish["input_file_id"] not in self.files:
            return error(400, "no such file")
        id_ = f"batch_{len(self.batches)}"
        batch = {"id": id_, "object": "batch", "status": "in_progress", "looked": 0, "errors": None}
        self.batches[id_] = batch | {"metadata": wish.get("metadata"), "input_file_id": wish["input_file_id"]}
        if self.lose_create:
            self.lose_create = False
            request.transport.abort()
        return web.json_response(self.batches[id_])

    async def state(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return error(404, "no such batch")
        batch["looked"] += 1
        if batch["looked"] >= self.args.after and batch["status"] == "in_progress":
            self.work(batch)
        return web.json_response(batch)

    def work(self, batch: dict) -> None:
        lines = [orjson.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        if self.args.reject:
            batch |= {"status": "failed", "errors": {"data": [{"code": "invalid", "message": "a bad line"}]}}
            return
        good, bad = [], []
        for line in lines:
            id_ = line["custom_id"]
            self.seen[id_] += 1
            draw = int(hashlib.sha256(f"{id_}/{self.seen[id_]}".encode()).hexdigest()[:8], 16) / 2**32
            if draw < self.args.fail:
                body = {"error": {"message": "the model broke", "type": "server_error"}}
                bad.append({"custom_id": id_, "response": {"status_code": 500, "body": body}, "error": None})
            elif draw < self.args.fail + self.args.expire:
                bad.append({"custom_id": id_, "response": None, "error": {"code": "batch_expired", "message": "late"}})
            elif draw >= self.args.fail + self.args.expire + self.args.drop:
                good.append({"custom_id": id_, "response": self.answer(line["body"]), "error": None})
        for name, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[name] = f"file-{len(self.files)}"
                self.files[batch[name]] = b"\n".join(orjson.dumps(row) for row in reversed(rows))
        batch["status"] = "expired" if any(row["response"] is None for row in bad) else "completed"

    def answer(self, body: dict) -> dict:
        digest = content_hash(body)
        text = answer_text(body, digest)
        usage = {"prompt_tokens": sum(len(str(m)) for m in body["messages"]) // 4, "completion_tokens": len(text) // 4}
        self.billed_tokens += sum(usage.values())
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"status_code": 200, "request_id": digest[:8], "body": {"choices": [choice], "usage": usage}}

    async def listing(self, request: web.Request) -> web.Response:
        all_ = list(reversed(self.batches.values()))
        after = request.query.get("after")
        start = next((i + 1 for i, b in enumerate(all_) if b["id"] == after), 0)
        page = all_[start : start + 2]  # small pages, so that paging is used
        return web.json_response({"data": page, "has_more": start + 2 < len(all_)})

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def stats(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "batches": len(self.batches),
                "requests": self.seen.total(),
                "seen": self.seen,
                "tokens": self.billed_tokens,
            }
        )


async def serve(args: argparse.Namespace) -> None:
    server = BatchServer(args)
    app = web.Application(client_max_size=256 * 2**20)
    app.router.add_post("/v1/files", server.upload)
    app.router.add_get("/v1/files/{id}/content", server.content)
    app.router.add_post("/v1/batches", server.create)
    app.router.add_get("/v1/batches", server.listing)
    app.router.add_get("/v1/batches/{id}", server.state)
    app.router.add_get("/stats", server.stats)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", args.port).start()
    print(runner.addresses[0][1], flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--after", type=int, default=2)
    parser.add_argument("--fail", type=float, default=0.0)
    parser.add_argument("--expire", type=float, default=0.0)
    parser.add_argument("--drop", type=float, default=0.0)
    parser.add_argument("--lose-create", action="store_true")
    parser.add_argument("--reject", action="store_true", help="every batch fails as a whole")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
