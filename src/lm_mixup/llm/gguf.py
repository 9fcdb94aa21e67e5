"""GGUF files with other weights: an adapter merged in, or trained weights in the place of the base model's.

What is not a weight (the tokenizer, the chat template, the shape) comes from the base model's file. No torch: the
``gguf`` package dequantises, numpy adds. The result runs wherever the base model's file does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from lm_mixup.errors import MissingExtraError, ModelError
from lm_mixup.llm.weights import Array, SafeTensors

WeightType = Literal["F16", "Q8_0"]
"""Half-precision numbers, or eight bits with a scale for 32 of them (half the size; errors of up to 0.4 %)."""

_PLACES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)$")
_LORA = re.compile(r"^base_model\.model\.(.+)\.lora_([AB])\.weight$")

_ARCHITECTURES = {"llama": True, "qwen2": False}
"""Models whose weights have these names, and whether llama.cpp interleaves the two halves of each head of q and k."""

_FILE_TYPES = {"F16": 1, "Q8_0": 7}
_PLAIN_LORA = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "trainable_token_indices": None,
    "lora_bias": False,
    "target_parameters": None,
    "layer_replication": None,
}
"""What of an ``adapter_config.json`` must be so; each of these changes what the matrices mean, or adds weights."""


def merge_adapter(base: Path, adapter: Path, out: Path, *, weights: WeightType = "F16") -> None:
    """Write ``base`` with the LoRA adapter of a PEFT folder added: W + (alpha / r) · B · A.

    ``base`` is a GGUF file; weights that the adapter does not touch keep their bytes. Raises :class:`ModelError` where
    the two do not fit together or the adapter is more than plain LoRA, :class:`MissingExtraError` without ``gguf``.
    """
    deltas = _deltas(adapter)

    def change(name: str, weight: Callable[[], Array]) -> Array | None:
        delta = deltas.pop(name, None)
        if delta is None:
            return None
        b, a = delta
        old = weight()
        if (b.shape[0], a.shape[1]) != old.shape:
            raise ModelError(
                f"{adapter}: made for another model: {name} would need {old.shape}, has {(b.shape[0], a.shape[1])}"
            )
        return np.asarray(old + b @ a, np.float32)

    _rewrite(base, out, change, weights)
    if deltas:
        out.unlink(missing_ok=True)
        raise ModelError(f"{adapter}: made for another model: {base} has no {', '.join(sorted(deltas)[:3])}")


def replace_weights(base: Path, folder: Path, out: Path, *, weights: WeightType = "F16") -> None:
    """Write ``base`` with the weights of a Hugging Face folder that was trained from it.

    Raises :class:`ModelError` where the folder has other tensors, shapes or another vocabulary than ``base``.
    """
    _same_vocabulary(base, folder)
    tensors = SafeTensors(sorted(folder.glob("*.safetensors")))
    places: dict[str, str] = {}
    for name in tensors:
        module, dot, part = name.rpartition(".")
        place = _place(module)
        if place is None or not dot:
            raise ModelError(f"{folder}: the tensor {name!r} has no place in {base}")
        places[f"{place}.{part}"] = name
    if len(places) < len(tensors):
        raise ModelError(f"{folder}: two of its tensors have the same place in {base}")

    def change(name: str, weight: Callable[[], Array]) -> Array:
        theirs = places.pop(name, None)
        if theirs is None:
            raise ModelError(f"{folder}: expected a tensor for {name} of {base}, found none")
        new, shape = tensors[theirs], weight().shape
        if new.shape != shape:
            raise ModelError(f"{folder}: expected {shape} in {theirs}, found {new.shape}")
        return new

    tied = places.get("output.weight") if "token_embd.weight" in places else None
    if tied and np.array_equal(tensors[tied], tensors[places["token_embd.weight"]]):
        del places["output.weight"]
    _rewrite(base, out, change, weights)
    if places:
        out.unlink(missing_ok=True)
        raise ModelError(f"{folder}: {base} has no place for {', '.join(sorted(places.values())[:3])}")


# --- reading adapters ---------------------------------------------------------------------------------------------


def _deltas(adapter: Path) -> dict[str, tuple[Array, Array]]:
    """For each weight, by its name in GGUF files, the scaled B (rows, r) and A (r, columns), as trained."""
    scale = _scale(adapter)
    tensors = SafeTensors([adapter / "adapter_model.safetensors"])
    found: dict[str, dict[str, Array]] = {}
    for name in tensors:
        matched = _LORA.match(name)
        place = _place(matched[1]) if matched else None
        if matched is None or place is None:
            raise ModelError(f"{adapter}: {name!r} is no LoRA matrix of a layer that is known here")
        found.setdefault(f"{place}.weight", {})[matched[2]] = tensors[name]
    out = {}
    for name, pair in found.items():
        if pair.keys() != {"A", "B"} or pair["A"].ndim != 2 or pair["B"].shape[1:] != pair["A"].shape[:1]:
            raise ModelError(f"{adapter}: expected two matrices A and B of one rank for {name}")
        out[name] = (np.asarray(pair["B"] * np.float32(scale), np.float32), pair["A"])
    if not out:
        raise ModelError(f"{adapter}: the adapter holds no matrices")
    return out


def _scale(adapter: Path) -> float:
    path = adapter / "adapter_config.json"
    try:
        config = orjson.loads(path.read_bytes())
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: expected the configuration of a LoRA adapter: {error}") from error
    for name, expected in _PLAIN_LORA.items():
        value = config.get(name, expected)
        if value != expected and (value or expected):
            raise ModelError(f"{path}: expected {name} {expected!r}, got {value!r}; only plain LoRA can be merged here")
    if rank < 1:
        raise ModelError(f"{path}: expected a rank r of at least 1, got {rank}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _place(module: str) -> str | None:
    """The GGUF name of a module of a Hugging Face model, without its part (weight, bias)."""
    layer = _LAYER.match(module)
    if layer is None:
        return _ENDS.get(module)
    place = _PLACES.get(layer[2])
    return None if place is None else f"blk.{layer[1]}.{place}"


# --- GGUF ---------------------------------------------------------------------------------------------------------


def _rewrite(
    base: Path, out: Path, change: Callable[[str, Callable[[], Array]], Array | None], weights: WeightType
) -> None:
    """Write a GGUF file with what ``change`` makes of each tensor; None keeps its bytes.

    ``change`` is given a tensor's name, and what reads it with its rows in Hugging Face's order.
    """
    gguf = _gguf()
    reader = _reader(gguf, base)
    architecture = str(reader.fields["general.architecture"].contents())
    if architecture not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise ModelError(f"{base}: a model of architecture {architecture!r}; known here are {known}")
    heads = _heads(reader, architecture) if _ARCHITECTURES[architecture] else {}
    writer = gguf.GGUFWriter(out, architecture, use_temp_file=True)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if array else None)
    writer.add_file_type(_FILE_TYPES[weights])
    for tensor in reader.tensors:
        count = heads.get(tensor.name.split(".")[-2], 0)
        read = partial(_read, gguf, tensor, count)
        new = change(tensor.name, read)
        if new is None:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        else:
            kind = _kind(gguf, new, weights)
            data = gguf.quants.quantize(np.ascontiguousarray(_interleaved(new, count), np.float32), kind)
            writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError("merging an adapter into a model", "genai", "gguf") from error
    return gguf


def _reader(gguf: Any, path: Path) -> Any:
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{path}: expected a GGUF file: {error}") from error


def _read(gguf: Any, tensor: Any, heads: int) -> Array:
    plain = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return _straight(np.asarray(plain, np.float32), heads)


def _kind(gguf: Any, weight: Array, weights: WeightType) -> Any:
    """Vectors stay in full; rows that Q8_0's blocks do not divide become half-precision."""
    kinds = gguf.GGMLQuantizationType
    if weight.ndim < 2:
        return kinds.F32
    fits = weight.shape[-1] % gguf.GGML_QUANT_SIZES[kinds.Q8_0][0] == 0
    return kinds.Q8_0 if weights == "Q8_0" and fits else kinds.F16


def _heads(reader: Any, architecture: str) -> dict[str, int]:
    """How many heads q and k have, by their names in GGUF files."""
    count = int(reader.fields[f"{architecture}.attention.head_count"].contents())
    grouped = reader.fields.get(f"{architecture}.attention.head_count_kv")
    return {"attn_q": count, "attn_k": int(grouped.contents()) if grouped else count}


def _interleaved(rows: Array, heads: int) -> Array:
    """Rows in llama.cpp's order: in each head, one of the first half and one of the second in turn (0 heads: as is)."""
    if not heads:
        return rows
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _straight(rows: Array, heads: int) -> Array:
    """Rows in Hugging Face's order."""
    if not heads:
        return rows
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _same_vocabulary(base: Path, folder: Path) -> None:
    path = folder / "tokenizer.json"
    try:
        told = orjson.loads(path.read_bytes())
        numbers = dict(told["model"]["vocab"]) | {t["content"]: t["id"] for t in told.get("added_tokens", ())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: expected a tokenizer: {error}") from error
    tokens = _reader(_gguf(), base).fields["tokenizer.ggml.tokens"].contents()
    if any(tokens[number : number + 1] != [token] for token, number in numbers.items()):
        raise ModelError(f"{path}: another vocabulary than that of {base}")
