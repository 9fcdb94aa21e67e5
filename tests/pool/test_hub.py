"""Data sets by hub id, against a local server that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lm_mixup.errors import MissingExtraError, PoolError
from lm_mixup.pool.hub import choose, fetch

pytest.importorskip("huggingface_hub")

SHA = "0123456789abcdef0123456789abcdef01234567"
READ = """
import sys
from lm_mixup.errors import LMMixupError
from lm_mixup.pool import PoolReport, read
report = PoolReport()
try:
    for row in read(sys.argv[1:], report=report, detect_language=None):
        print("row", row.pool, row.sample.source, row.sample.prompt, sep="|")
except LMMixupError as error:
    print("error", type(error).__name__, error, sep="|")
for note in report.notes:
    print("note", note, sep="|")
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The server's address, and its one repository's files (``org/set``)."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            prefix = f"/datasets/org/set/resolve/{SHA}/"
            if path in ("/api/datasets/org/set", "/api/datasets/org/set/revision/main"):
                siblings = [{"rfilename": name} for name in files]
                self._answer(json.dumps({"id": "org/set", "sha": SHA, "siblings": siblings}).encode())
            elif path.removeprefix(prefix) in files:
                self._answer(files[path.removeprefix(prefix)])
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _answer(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", SHA)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _read(endpoint: str, home: Path, *names: str) -> list[str]:
    # huggingface-hub reads its settings when imported, hence a process of its own
    drop = ("HF_", "HUGGING", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, *names],
        env=kept | settings | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.splitlines()


def _parquet(prompt: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"prompt": [prompt], "completion": ["yes"]}), sink)
    return bytes(sink.getvalue().to_pybytes())


def test_the_train_split_is_fetched_unless_another_is_named(hub: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    endpoint, files = hub
    files |= {
        "README.md": b"words",
        "run_me.py": b"raise SystemExit('a script of the repository was run')",
        "data/train-00000-of-00002.parquet": _parquet("a"),
        "data/train-00001-of-00002.parquet": _parquet("b"),
        "data/test-00000-of-00001.parquet": _parquet("c"),
    }
    name = f"hf://datasets/org/set@{SHA[:8]}/data/train-0000"
    rows = [f"row|{name}0-of-00002.parquet|org/set|a", f"row|{name}1-of-00002.parquet|org/set|b"]
    said = _read(endpoint, tmp_path, "org/set")
    assert said[:2] == rows
    assert "left data/test-00000-of-00001.parquet" in said[2]
    assert _read(endpoint, tmp_path, "hf://datasets/org/set@main:test")[0].endswith("|c")


def test_what_is_nowhere_is_refused(hub: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    endpoint, _ = hub
    (said,) = _read(endpoint, tmp_path, "org/absent")
    assert said.startswith("error|PoolError|org/absent: neither a file here nor a data set")
    (said,) = _read("http://127.0.0.1:9", tmp_path, "org/absent")
    assert "the hub cannot be reached" in said
    assert "hf download org/absent" in said


def test_without_the_extra_it_is_said_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"lm-mixup\[hub\]"):
        fetch("org/set", [])


@pytest.mark.parametrize(
    ("names", "folder", "split", "chosen"),
    [
        (["b.jsonl", "a.jsonl"], "", None, ["a.jsonl", "b.jsonl"]),
        (["a.jsonl", "state.json", "x.py"], "", None, ["a.jsonl"]),
        (["train.jsonl", "test.jsonl", "dev.jsonl"], "", None, ["train.jsonl"]),
        (["train.jsonl", "test.jsonl", "dev.jsonl"], "", "validation", ["dev.jsonl"]),
        (["train.jsonl", "train.parquet"], "", None, ["train.parquet"]),
        (["en/train.jsonl", "de/train.jsonl"], "de", None, ["de/train.jsonl"]),
        (["constraints.jsonl", "latest.jsonl"], "", None, ["constraints.jsonl", "latest.jsonl"]),
    ],
)
def test_choice_of_files(names: list[str], folder: str, split: str | None, chosen: list[str]) -> None:
    assert choose(names, folder, split, "org/set", []) == chosen


@pytest.mark.parametrize(
    ("names", "split", "said"),
    [
        (["en/train.jsonl", "de/train.jsonl"], None, r"several folders \(de, en\).*hf://datasets/org/set/en"),
        (["README.md"], None, "no data file of a known kind"),
        (["a.jsonl"], "test", "no files of the split 'test'"),
        (["test.jsonl"], None, "no files of the split 'train'"),
    ],
)
def test_what_is_not_plain_is_asked_back(names: list[str], split: str | None, said: str) -> None:
    with pytest.raises(PoolError, match=said):
        choose(names, "", split, "org/set", [])
