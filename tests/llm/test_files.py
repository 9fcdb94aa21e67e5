"""What model files say of themselves."""

import struct

import pytest

from lm_mixup.llm.files import window_of


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def gguf(*entries: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries)


NAME = text(b"general.name") + struct.pack("<I", 8) + text(b"a model")
WORDS = text(b"tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"bc")
NUMBERS = text(b"some.numbers") + struct.pack("<IIQ", 9, 6, 3) + struct.pack("<3f", 1, 2, 3)
WINDOW = text(b"llama.context_length") + struct.pack("<II", 4, 2048)


@pytest.mark.parametrize(
    ("content", "window"),
    [
        (gguf(NAME, WORDS, NUMBERS, WINDOW), 2048),
        (gguf(NAME), None),
        (gguf(NAME, WINDOW)[:-6], None),
        (b"GGUF", None),
        (b"something else", None),
        (b"", None),
    ],
)
def test_the_window_in_a_gguf_header(tmp_path, content, window):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert window_of(path) == window


def test_the_window_in_a_config(tmp_path):
    assert window_of(tmp_path) is None
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 8192}')
    assert window_of(tmp_path) == 8192
    (tmp_path / "config.json").write_text("[]")
    assert window_of(tmp_path) is None
