"""Models that lm-mixup trained, read from their folders."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from lm_mixup import task_types
from lm_mixup.distillers import trained
from lm_mixup.errors import ModelError
from lm_mixup.llm.openvino_slots import OpenVINOSlots
from lm_mixup.models import MODELS, resolve
from lm_mixup.records import Cluster, Sample, TaskType

CACHE = Path(os.environ.get("LM_MIXUP_CACHE") or Path.home() / ".cache" / "lm-mixup")


def cluster_of(task_type, *texts):
    samples = tuple(
        Sample(f"{task_type}{i}", task_types.to_messages(task_types.parse(task_type, text)), "made", task_type, "en")
        for i, text in enumerate(texts)
    )
    return Cluster(f"c-{task_type}", task_type, "en", "made", samples, (2.0,) * len(samples))


def test_the_shipped_model_is_small_safe_and_says_what_it_is():
    model = trained.load(trained.DEFAULT)
    assert model.adapter
    assert model.base in MODELS
    assert model.base_sha256 in {file.sha256 for file in MODELS[model.base].files}
    assert (model.max_samples, model.max_tokens) == (4, 512)
    size = sum(path.stat().st_size for path in model.folder.iterdir())
    assert size <= 10_000_000
    assert {path.suffix for path in model.folder.iterdir()} == {".md", ".json", ".safetensors"}
    told = orjson.loads((model.folder / "lm_mixup.json").read_bytes())
    assert told["data_digest"] in (model.folder / "README.md").read_text()


def test_what_is_no_trained_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"lm-mixup-135m, or a folder that lm-mixup train wrote"):
        trained.load(str(tmp_path))
    (tmp_path / "lm_mixup.json").write_text("[]")
    with pytest.raises(ModelError, match="TypeError"):
        trained.load(str(tmp_path))


def test_another_prompt_or_another_base_is_an_error(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trained.SHIPPED[trained.DEFAULT], folder)
    told = orjson.loads((folder / "lm_mixup.json").read_bytes())
    (folder / "lm_mixup.json").write_bytes(orjson.dumps(told | {"prompt_digest": "other"}))
    with pytest.raises(ModelError, match="trained with other prompts"):
        trained.load(str(folder))
    (folder / "lm_mixup.json").write_bytes(orjson.dumps(told | {"base": "someone/model"}))
    with pytest.raises(ModelError, match="without torch"):
        trained.runnable(trained.load(str(folder)), cache_dir=tmp_path)


# --- the shipped model itself, where its base is on this machine ---------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    pytest.importorskip("openvino_genai", reason='needs the extra: pip install "lm-mixup[genai]"')
    pytest.importorskip("gguf", reason='needs the extra: pip install "lm-mixup[genai]"')
    model = trained.load(trained.DEFAULT)
    try:
        resolve(model.base, cache_dir=CACHE, offline=True)
    except ModelError:
        pytest.skip(f"{model.base} is not on this machine: lm-mixup models get {model.base}")
    return model, OpenVINOSlots(trained.runnable(model, cache_dir=CACHE), engines=2, slots=4, lookup=trained.LOOKUP)


CLUSTERS = [
    cluster_of(
        TaskType.PARA,
        "Glass is made of sand, soda and lime. The mix is melted at 1500 degrees.",
        "glass is maed of sand, soda and lime. It cools slowly in a lehr, so that it does not crack.",
        "The mix is melted at 1500 degrees. It cools slowly in a lehr, so that it does not crack.",
    ),
    cluster_of(
        TaskType.TFQ,
        "The Loire is the longest river of France.\nAnswer: True\nIt is 1006 kilometres long.",
        "The Loire is teh longest river of France.\nAnswer: True",
    ),
    cluster_of(
        TaskType.QA,
        "Q: Who invented the zip?\nA: Whitcomb Judson, in 1893.",
        "Q: who invented the zip\nA: Whitcomb Judson. It was shown at the Chicago fair.",
    ),
]


@pytest.mark.slow
def test_the_shipped_model_distils_and_each_cluster_as_if_it_were_alone(shipped):
    model, llm = shipped
    distiller = trained.checked(model, llm)
    together = distiller.distill(CLUSTERS)
    assert [made.cluster for made in together] == [c.id for c in CLUSTERS]
    assert any("[checked:" in made.think for made in together)
    assert "1500" in together[0].answer
    assert "maed" not in together[0].answer
    assert [distiller.distill([c])[0] for c in CLUSTERS] == together
    assert distiller.distill(CLUSTERS[::-1]) == together[::-1]


@pytest.mark.slow
def test_from_file_to_file_on_the_command_line(shipped, tmp_path):
    rows = [
        {"cluster": c.id, "task_type": str(c.task_type), "rating": 2.0, "messages": [m.as_dict() for m in s.messages]}
        for c in CLUSTERS
        for s in c.samples
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    command = ["distill", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "--model", trained.DEFAULT]
    done = subprocess.run([sys.executable, "-m", "lm_mixup.cli.main", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert len(made) == len(CLUSTERS)
    assert any("1500" in str(row["messages"]) for row in made)
