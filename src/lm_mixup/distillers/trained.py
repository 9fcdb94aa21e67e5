"""Models that lm-mixup trained, as files: what they are, and how they become a file that runs without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from lm_mixup.distillers.checks import CheckedDistiller
from lm_mixup.distillers.extractive import ExtractiveDistiller
from lm_mixup.distillers.lm import LMDistiller
from lm_mixup.errors import ModelError
from lm_mixup.files import file_digest
from lm_mixup.llm import openvino_int8
from lm_mixup.llm.gguf import WeightType, merge_adapter, replace_weights
from lm_mixup.models import MODELS, derived, resolve
from lm_mixup.ports import LLM
from lm_mixup.prompts.compact import compact_digest
from lm_mixup.records import digest
from lm_mixup.task_types import TEMPLATES

DEFAULT = "lm-mixup-135m"
SHIPPED = MappingProxyType({DEFAULT: Path(__file__).parent / "weights" / "smollm2-135m-v2"})
"""The models that come with the package, by name."""
REPETITION_PENALTY = 1.0
"""None: distilling is copying, most of it, and a penalty makes the model change names to avoid repeating them."""
SLOTS = 16
"""Prompts that an engine answers at a time. Answers do not depend on it, but for the time they take."""
AT_ONCE = 2048
"""Clusters that are looked at together: a tenth of a pool's are in range, and engines want many prompts at a time. What
was answered is in the ledger: a kill loses none of it."""
LOOKUP = 5
"""Tokens that an engine guesses ahead: distilling is copying, most of it."""
_ADAPTER = "adapter_model.safetensors"
_OTHERWISE = (
    "merge it with PEFT if it is an adapter, serve it (vLLM, transformers), and give distill.distiller: lm, "
    "distill.style: compact and distill.llm"
)


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model: its folder, its base, whether it is an adapter on it, and the range it was trained in."""

    folder: Path
    base: str
    base_sha256: str
    adapter: bool
    max_samples: int
    max_tokens: int


def load(name: str) -> Trained:
    """The model of a shipped name, or in a folder that ``lm-mixup train`` wrote. Raises :class:`ModelError`."""
    folder = SHIPPED.get(name, Path(name))
    try:
        told: dict[str, Any] = orjson.loads((folder / "lm_mixup.json").read_bytes())
        model = Trained(
            folder, told["base"], told["base_sha256"], told["adapter"], told["max_samples"], told["max_tokens"]
        )
        prompts = told["prompt_digest"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{name}: expected one of {', '.join(SHIPPED)}, or a folder that lm-mixup train wrote (lm_mixup.json); "
            f"{type(error).__name__}: {error}"
        ) from error
    if prompts != compact_digest():
        raise ModelError(
            f"{folder}: trained with other prompts than this version of lm-mixup asks with; train it again"
        )
    return model


def distiller(model: Trained, llm: LLM, *, templates: Mapping[str, str] = TEMPLATES) -> LMDistiller:
    """The model as a distiller, without checks; ``llm`` runs it. For checks: :func:`checked`."""
    return LMDistiller(
        llm,
        style="compact",
        ask_again=False,
        templates=templates,
        max_input_tokens=model.max_tokens,
        max_new_tokens=model.max_tokens,
        repetition_penalty=REPETITION_PENALTY,
    )


def checked(
    model: Trained,
    llm: LLM,
    *,
    templates: Mapping[str, str] = TEMPLATES,
    least_rating: float = 0.0,
    least_alike: float = 0.0,
) -> CheckedDistiller:
    """The model where its answer holds as much as extraction's and adds nothing, extraction elsewhere.

    Clusters whose best member is rated below ``least_rating``, or whose members share fewer of their words than
    ``least_alike``, are extraction's without asking the model.
    """
    return CheckedDistiller(
        distiller(model, llm, templates=templates),
        ExtractiveDistiller(templates=templates),
        max_samples=model.max_samples,
        max_tokens=model.max_tokens,
        least_rating=least_rating,
        least_alike=least_alike,
        at_once=AT_ONCE,
        templates=templates,
    )


def identity(model: Trained) -> str:
    """Names the model and how it is run, before it is there to run. Raises ModelError where its files are missing."""
    return f"trained:{_merged(model)}-lookup{LOOKUP}"


def _merged(model: Trained) -> str:
    """A hash of the bytes that run: of the base, of what was trained, and of the way from them to a file."""
    return digest([openvino_int8.VERSION, model.base_sha256, *_weights(model)])[:16]


def runnable(model: Trained, *, cache_dir: Path) -> Path:
    """An OpenVINO folder of the model, made with its base at first and kept in the cache (half a minute, 170 MB).

    Raises :class:`ModelError` where the base is no model that lm-mixup resolves, or not the one it was trained on, and
    :class:`MissingExtraError` without the extra ``genai``.
    """
    if model.base not in MODELS:
        raise ModelError(
            f"{model.folder}: its base {model.base!r} is none that lm-mixup fetches, so it does not run without torch; "
            f"{_OTHERWISE}"
        )
    base = resolve(model.base, cache_dir=cache_dir)
    if model.base_sha256 and model.base_sha256 not in {file.sha256 for file in MODELS[model.base].files}:
        raise ModelError(f"{model.folder}: was trained on other bytes of {model.base} than this version has")

    def make(folder: Path) -> None:
        merged = folder / "model.gguf"
        write_gguf(model, base, merged)
        openvino_int8.write_int8(merged, folder)
        merged.unlink()

    return derived(f"{model.base}-{_merged(model)}", make, cache_dir=cache_dir)


def write_gguf(model: Trained, base: Path, out: Path, *, weights: WeightType = "F16") -> None:
    """Write the model as one GGUF file, which llama.cpp and its kin run; ``base`` is its base model's file."""
    if model.adapter:
        merge_adapter(base, model.folder, out, weights=weights)
    else:
        replace_weights(base, model.folder, out, weights=weights)


def _weights(model: Trained) -> list[str]:
    """Hashes of the files that hold what was trained."""
    files = sorted(model.folder.glob(_ADAPTER if model.adapter else "*.safetensors"))
    try:
        hashes = [file_digest(path) for path in files]
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if not hashes:
        raise ModelError(f"{model.folder}: expected {_ADAPTER if model.adapter else '*.safetensors'}, found none")
    return [*hashes, file_digest(model.folder / "adapter_config.json")] if model.adapter else hashes
