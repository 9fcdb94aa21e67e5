"""Adapters merged into GGUF files, and trained weights put in their place, on a tiny random llama."""

import numpy as np
import orjson
import pytest

pytest.importorskip("gguf", reason='needs the extra: pip install "lm-mixup[genai]"')

from lm_mixup.errors import ModelError
from lm_mixup.llm.gguf import merge_adapter, replace_weights
from tests.llm import tiny


@pytest.fixture(scope="module")
def weights():
    return tiny.weights()


@pytest.fixture(scope="module")
def base(weights, tmp_path_factory):
    return tiny.write_gguf(tmp_path_factory.mktemp("base") / "base.gguf", weights)


def fields(path):
    import gguf

    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items() if name[:5] != "GGUF."}


@pytest.mark.parametrize(("kind", "tolerance"), [("F16", 1e-3), ("Q8_0", 1.5e-2)])
def test_an_adapter_is_added_to_every_layer_in_the_files_own_order_of_rows(kind, tolerance, weights, base, tmp_path):
    added = tiny.write_adapter(tmp_path / "a", rank=4, alpha=12)
    merge_adapter(base, tmp_path / "a", tmp_path / "out.gguf", weights=kind)
    made = tiny.read_gguf(tmp_path / "out.gguf")
    assert len(made) == len(weights)
    for name, weight in weights.items():
        expected = tiny.permuted(name, weight + added.get(name, 0))
        assert np.abs(made[tiny.gguf_name(name)] - expected).max() < tolerance


def test_an_adapter_of_zeros_changes_nothing(base, tmp_path):
    tiny.write_adapter(tmp_path / "a", alpha=0)
    merge_adapter(base, tmp_path / "a", tmp_path / "out.gguf")
    before, after = tiny.read_gguf(base), tiny.read_gguf(tmp_path / "out.gguf")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_what_is_no_weight_stays_as_it_is(base, tmp_path):
    tiny.write_adapter(tmp_path / "a")
    merge_adapter(base, tmp_path / "a", tmp_path / "out.gguf", weights="Q8_0")
    assert fields(tmp_path / "out.gguf") == fields(base) | {"general.file_type": 7}


def test_weights_that_no_adapter_touches_keep_their_bytes(weights, tmp_path):
    import gguf

    base = tiny.write_gguf(tmp_path / "q.gguf", weights, kind="Q8_0")
    tiny.write_adapter(tmp_path / "a")
    merge_adapter(base, tmp_path / "a", tmp_path / "out.gguf")
    before, after = ({t.name: t for t in gguf.GGUFReader(p).tensors} for p in (base, tmp_path / "out.gguf"))
    kept = "token_embd.weight"
    assert before[kept].tensor_type == after[kept].tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert before[kept].data.tobytes() == after[kept].data.tobytes()
    assert after["blk.0.attn_q.weight"].tensor_type == gguf.GGMLQuantizationType.F16


def test_rank_stabilised_lora_is_scaled_by_the_root_of_its_rank(base, weights, tmp_path):
    added = tiny.write_adapter(tmp_path / "a", rank=4, alpha=8, use_rslora=True)
    merge_adapter(base, tmp_path / "a", tmp_path / "out.gguf")
    name = "model.layers.1.mlp.down_proj.weight"
    made = tiny.read_gguf(tmp_path / "out.gguf")[tiny.gguf_name(name)]
    assert np.abs(made - (weights[name] + 2 * added[name])).max() < 1e-3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"r": 0}, "rank"),
        ({"r": None}, "configuration"),
    ],
)
def test_more_than_plain_lora_is_refused(config, message, base, tmp_path):
    tiny.write_adapter(tmp_path / "a", **config)
    with pytest.raises(ModelError, match=message):
        merge_adapter(base, tmp_path / "a", tmp_path / "out.gguf")


def adapter_with(folder, tensors):
    tiny.write_adapter(folder)
    tiny.write_safetensors(folder / "adapter_model.safetensors", tensors)


def lora(module, rows, columns, rank=4):
    name = f"base_model.model.{module}.lora_"
    return {f"{name}A.weight": np.ones((rank, columns)), f"{name}B.weight": np.ones((rows, rank))}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lora("model.layers.7.self_attn.q_proj", 64, 64), "made for another model"),
        (lora("model.layers.0.self_attn.q_proj", 32, 64), "made for another model"),
        (lora("model.layers.0.experts.0", 64, 64), "no LoRA matrix of a layer that is known"),
        ({"weight": np.ones((2, 2))}, "no LoRA matrix"),
        (dict(list(lora("model.layers.0.mlp.up_proj", 96, 64).items())[:1]), "two matrices"),
        ({}, "no matrices"),
    ],
)
def test_an_adapter_that_does_not_fit_leaves_no_file(tensors, message, base, tmp_path):
    adapter_with(tmp_path / "a", tensors)
    with pytest.raises(ModelError, match=message):
        merge_adapter(base, tmp_path / "a", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_a_base_that_is_no_gguf_file(tmp_path):
    tiny.write_adapter(tmp_path / "a")
    (tmp_path / "base.gguf").write_bytes(b"nothing of the kind, but long enough to be read as a header")
    with pytest.raises(ModelError, match="expected a GGUF file"):
        merge_adapter(tmp_path / "base.gguf", tmp_path / "a", tmp_path / "out.gguf")


# --- all weights ---------------------------------------------------------------------------------------------------


def folder_of(folder, weights, vocabulary=None, **extra):
    folder.mkdir()
    names = list(weights | extra)
    parts = {n: (weights | extra)[n] for n in names}
    half = len(parts) // 2
    tiny.write_safetensors(folder / "model-1.safetensors", dict(list(parts.items())[:half]), "BF16")
    tiny.write_safetensors(folder / "model-2.safetensors", dict(list(parts.items())[half:]), "BF16")
    numbers = vocabulary or {token: i for i, token in enumerate(tiny.tokens())}
    marks = [{"content": t, "id": i} for t, i in list(numbers.items())[:3]]
    told = {"model": {"vocab": dict(list(numbers.items())[3:])}, "added_tokens": marks}
    (folder / "tokenizer.json").write_bytes(orjson.dumps(told))
    return folder


def test_trained_weights_take_the_bases_place(base, tmp_path):
    trained = tiny.weights(seed=5)
    folder = folder_of(tmp_path / "t", trained, **{"lm_head.weight": trained["model.embed_tokens.weight"]})
    replace_weights(base, folder, tmp_path / "out.gguf")
    made = tiny.read_gguf(tmp_path / "out.gguf")
    for name, weight in trained.items():
        expected = tiny.permuted(name, weight)
        assert np.abs(made[tiny.gguf_name(name)] - expected).max() <= 2**-7 * np.abs(expected).max()
    assert fields(tmp_path / "out.gguf") == fields(base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.layers.1.mlp.up_proj.weight"), "found none"),
        (lambda w: w.update({"model.layers.2.mlp.up_proj.weight": np.ones((96, 64))}), "no place for"),
        (lambda w: w.update({"model.layers.0.mlp.up_proj.weight": np.ones((64, 96))}), "expected"),
        (lambda w: w.update({"visual.w": np.ones((4, 4))}), "has no place"),
        (lambda w: w.update({"lm_head.weight": np.ones((261, 64))}), "no place for"),
    ],
)
def test_weights_of_another_model_are_refused(change, message, weights, base, tmp_path):
    other = dict(weights)
    change(other)
    with pytest.raises(ModelError, match=message):
        replace_weights(base, folder_of(tmp_path / "t", other), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_another_vocabulary_is_refused(weights, base, tmp_path):
    numbers = {token: i for i, token in enumerate([*tiny.tokens()[:-1], "zz"])}
    with pytest.raises(ModelError, match="another vocabulary"):
        replace_weights(base, folder_of(tmp_path / "t", weights, numbers), tmp_path / "out.gguf")
