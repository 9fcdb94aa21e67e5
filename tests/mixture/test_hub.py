"""To the hub and back, against a local server that speaks the hub's protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lm_mixup.errors import PoolError, StorageError
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.push import push
from lm_mixup.mixture.rows import write_parquet
from tests.mixture.test_load import rows

pytest.importorskip("huggingface_hub")

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes], list[str | None]]]:
    """The server's address, the files of ``me/mixture``, and the tokens that came."""
    files: dict[str, bytes] = {}
    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            name = path.partition(f"/resolve/{SHA}/")[2]
            if path.startswith("/api/datasets/me/mixture/tree/"):
                listed = [{"type": "file", "path": n, "size": len(b), "oid": SHA} for n, b in files.items()]
                self._answer(json.dumps(listed))
            elif path.startswith("/api/datasets/me/mixture"):
                self._answer(
                    json.dumps({"id": "me/mixture", "sha": SHA, "siblings": [{"rfilename": n} for n in files]})
                )
            elif name in files:
                self._answer(files[name])
            else:
                self._answer("{}", 404)

        def do_POST(self) -> None:
            tokens.append(self.headers.get("Authorization"))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            if b'"other"' in body:
                self._answer('{"error": "no"}', 403)
            elif self.path == "/api/repos/create":
                self._answer(json.dumps({"url": f"{self._address()}/datasets/me/mixture"}))
            elif self.path == "/api/validate-yaml":
                self._answer('{"errors": [], "warnings": []}')
            elif "/preupload/" in self.path:
                asked = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]
                self._answer(json.dumps({"files": modes}))
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self._answer(
                    json.dumps({"commitOid": SHA, "commitUrl": f"{self._address()}/datasets/me/mixture/commit/{SHA}"})
                )
            else:
                self._answer("{}", 404)

        def _address(self) -> str:
            return f"http://{self.headers['Host']}"

        def _answer(self, body: str | bytes, status: int = 200) -> None:
            body = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", SHA)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files, tokens
    server.shutdown()
    server.server_close()


def test_pushed_and_loaded_again(tmp_path: Path, hub: tuple[str, dict[str, bytes], list[str | None]]) -> None:
    address, files, tokens = hub
    built = tmp_path / "built"
    for split in ("sft", "grpo", "test"):
        write_parquet(built / f"{split}.parquet", [r for r in rows() if r.split == split])
    for name in ("manifest.json", "README.md", "timings.json", "ledger.sqlite", "store/vectors-x/seg-000000.arrow"):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text("{}")
    url = push(built, "me/mixture", token="hf_secret", endpoint=address)
    assert url.endswith("datasets/me/mixture")
    assert set(files) >= {"sft.parquet", "grpo.parquet", "test.parquet", "manifest.json", "README.md"}
    assert not {"timings.json", "ledger.sqlite"} & set(files)
    assert not any(name.startswith("store") for name in files)
    assert set(tokens) == {"Bearer hf_secret"}
    assert load_mixture("me/mixture", cache_dir=tmp_path / "cache", endpoint=address) == rows()


def test_a_hub_that_refuses_gives_an_error_without_the_token(tmp_path: Path, hub: tuple[str, object, object]) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(StorageError) as error:
        push(tmp_path, "me/other", token="hf_secret", endpoint=hub[0])
    assert "hf_secret" not in str(error.value)
    with pytest.raises(PoolError):
        load_mixture("me/other", cache_dir=tmp_path / "cache", endpoint=hub[0])
