"""Models that lm-mixup trained, read from their folders."""

import shutil

import orjson
import pytest

from lm_mixup.distillers import trained
from lm_mixup.errors import ModelError
from lm_mixup.models import MODELS


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
