"""Start the local OpenAI-shaped server in a process of its own, and read what it counted."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Running:
    port: int
    log: Path | None
    process: subprocess.Popen

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=10) as response:
            return json.load(response)

    @property
    def requests(self) -> int:
        return self.stats()["requests"]

    def events(self, event: str) -> Counter[str]:
        """How often each content hash has begun, or ended, by the log."""
        assert self.log is not None, "start the server with log=…"
        lines = (json.loads(line) for line in self.log.read_text().splitlines())
        return Counter(line["hash"] for line in lines if line["event"] == event)

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def start(*arguments: str, log: Path | None = None, module: str = "openai_server") -> Running:
    """A server with these command-line arguments, ready to answer. End it with ``end()``."""
    command = [sys.executable, "-m", f"tests.servers.{module}", *arguments, *(["--log", str(log)] if log else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    port = process.stdout.readline().strip()
    assert port.isdigit(), f"the server did not start: {command}"
    return Running(int(port), log, process)


@contextlib.contextmanager
def serving(*arguments: str, log: Path | None = None, module: str = "openai_server") -> Iterator[Running]:
    server = start(*arguments, log=log, module=module)
    try:
        yield server
    finally:
        server.end()
