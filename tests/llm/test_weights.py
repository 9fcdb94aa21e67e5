"""Reading safetensors without torch."""

import contextlib
import struct

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.errors import ModelError
from lm_mixup.llm.weights import SafeTensors
from tests.llm.tiny import write_safetensors


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_tensors_come_back_in_full_width(kind, tmp_path):
    # numbers with few bits, so that each type holds them exactly
    tensors = {"a.b": np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4), "c": np.array([0.5], np.float32)}
    read = SafeTensors([write_safetensors(tmp_path / "x.safetensors", tensors, kind)])
    assert list(read) == ["a.b", "c"]
    for name, tensor in tensors.items():
        assert read[name].dtype == np.float32
        assert np.array_equal(read[name], tensor)


def test_several_files_are_one_model_and_no_name_comes_twice(tmp_path):
    one = write_safetensors(tmp_path / "1.safetensors", {"a": np.zeros(2, np.float32)})
    two = write_safetensors(tmp_path / "2.safetensors", {"b": np.ones(3, np.float32)})
    assert SafeTensors([one, two]).keys() == {"a", "b"}
    with pytest.raises(ModelError, match=r"'a' is in 1\.safetensors too"):
        SafeTensors([one, write_safetensors(tmp_path / "3.safetensors", {"a": np.zeros(1, np.float32)})])


def header(entry, data=b"\0" * 8):
    head = orjson.dumps({"w": entry})
    return struct.pack("<Q", len(head)) + head + data


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4,
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 3) + b"[1]",
        header(GOOD | {"dtype": "I64"}),
        header(GOOD | {"shape": [3]}),
        header(GOOD | {"shape": [-1, -2]}),
        header(GOOD | {"data_offsets": [-8, 0]}),
        header(GOOD | {"data_offsets": [8, 16]}),
        header(GOOD, data=b"\0" * 7),
        header({"dtype": "F32"}),
        header("w"),
    ],
)
def test_what_is_no_safetensors_file_is_a_model_error(content, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.safetensors"):
        SafeTensors([path])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        SafeTensors([tmp_path / "none.safetensors"])


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("s") / "any.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        assert all(tensor.dtype == np.float32 for tensor in SafeTensors([path]).values())
