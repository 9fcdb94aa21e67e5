"""A tiny random llama as a GGUF file, and LoRA adapters for it, without torch."""

import struct
from pathlib import Path

import numpy as np
import orjson

LAYERS, WIDTH, HEADS, KV_HEADS, INNER = 2, 64, 4, 2, 96
HEAD = WIDTH // HEADS
CHAT = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MODULES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (KV_HEADS * HEAD, WIDTH),
    "self_attn.v_proj": (KV_HEADS * HEAD, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}
_GGUF = {
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


def tokens() -> list[str]:
    """Byte-level tokens: the marks first, then one a byte in GPT-2's spelling of bytes, then what merges make."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = {byte: chr(byte) for byte in printable}
    rest = (byte for byte in range(256) if byte not in spelled)
    spelled |= {byte: chr(256 + n) for n, byte in enumerate(rest)}
    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(spelled[byte] for byte in range(256)), "th", "an"]


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights by their names in a Hugging Face folder."""
    rng = np.random.default_rng(seed)

    def matrix(*shape):
        return (rng.standard_normal(shape) * 0.2).astype(np.float32)

    out = {"model.embed_tokens.weight": matrix(len(tokens()), WIDTH), "model.norm.weight": 1 + matrix(WIDTH)}
    for layer in range(LAYERS):
        for module, shape in MODULES.items():
            out[f"model.layers.{layer}.{module}.weight"] = matrix(*shape)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[f"model.layers.{layer}.{norm}.weight"] = 1 + matrix(WIDTH)
    return out


def gguf_name(name: str) -> str:
    """The GGUF name of a Hugging Face tensor."""
    ends = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in ends:
        return ends[name]
    _, _, layer, module = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{_GGUF[module]}.weight"


def permuted(name: str, weight: np.ndarray) -> np.ndarray:
    """As llama.cpp's converter writes q and k: row pairs of each head's two halves, element by element."""
    heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else 0
    if not heads:
        return weight
    out = np.empty_like(weight)
    for head in range(heads):
        for i in range(HEAD // 2):
            for half in range(2):
                out[head * HEAD + 2 * i + half] = weight[head * HEAD + half * (HEAD // 2) + i]
    return out


def write_gguf(path: Path, tensors: dict[str, np.ndarray], kind: str = "F16") -> Path:
    """A model's file."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens()))
    writer.add_file_type(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens())
    writer.add_token_types([3, 3, 3, *[1] * 258])
    writer.add_token_merges(["t h", "a n"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)
    for name, weight in tensors.items():
        q = gguf.GGMLQuantizationType[kind] if weight.ndim > 1 else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(np.ascontiguousarray(permuted(name, weight)), q)
        writer.add_tensor(gguf_name(name), data, raw_dtype=q)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read_gguf(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, dequantised, by their GGUF names."""
    import gguf

    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], kind: str = "F32") -> Path:
    """A safetensors file; BF16 cuts the mantissas off."""
    header, blobs, at = {}, [], 0
    for name, tensor in tensors.items():
        match kind:
            case "BF16":
                blob = (np.ascontiguousarray(tensor, np.float32).view("<u4") >> 16).astype("<u2").tobytes()
            case "F16":
                blob = tensor.astype("<f2").tobytes()
            case _:
                blob = tensor.astype("<f4").tobytes()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    head = orjson.dumps({"__metadata__": {"format": "pt"}, **header})
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(blobs))
    return path


def write_adapter(folder: Path, *, rank: int = 4, alpha: int = 8, seed: int = 1, **config) -> dict[str, np.ndarray]:
    """A PEFT folder with an adapter on all linear layers; what it adds, by the names of a Hugging Face folder."""
    rng = np.random.default_rng(seed)
    tensors, added = {}, {}
    for layer in range(LAYERS):
        for module, (rows, columns) in MODULES.items():
            a = rng.standard_normal((rank, columns)).astype(np.float32) * 0.1
            b = rng.standard_normal((rows, rank)).astype(np.float32) * 0.1
            name = f"model.layers.{layer}.{module}"
            tensors |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
            added[f"{name}.weight"] = alpha / rank * (b @ a)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none", "base_model_name_or_path": "tiny"}
    (folder / "adapter_config.json").write_bytes(orjson.dumps(told | config))
    return added
