"""A local model in OpenVINO GenAI, one prompt at a time: an OpenVINO folder, or a GGUF file as it is. No torch.

Many at a time: :mod:`lm_mixup.llm.openvino_slots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from lm_mixup._openvino import silence_telemetry
from lm_mixup.errors import MissingExtraError, ModelError
from lm_mixup.ledger import Budget, Ledger
from lm_mixup.llm.batches import Generated, complete_in_batches
from lm_mixup.llm.files import files_digest, window_of
from lm_mixup.llm.openai_wire import Fault, clean
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure

_NO_CAPS = Budget()


class OpenVINO:
    """The model at ``path``: a ``.gguf`` file, or a folder that ``optimum-cli export openvino`` wrote.

    All cores work on one prompt. A schema is enforced while decoding. ``context_tokens`` is the model's window (None:
    what its files say): a prompt that does not fit into it together with its answer is a Failure ``context-length``.
    ``properties`` go to OpenVINO as they are.

    Raises :class:`MissingExtraError` without ``openvino-genai``, :class:`ModelError` where the model cannot be loaded.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        ledger: Ledger | None = None,
        device: str = "CPU",
        context_tokens: int | None = None,
        budget: Budget = _NO_CAPS,
        properties: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._genai = import_genai()
        self.path = existing(path)
        self._ledger = ledger
        self._budget = budget
        try:
            self._pipeline = self._genai.LLMPipeline(str(self.path), device, **properties)
        except RuntimeError as error:
            raise not_loaded(path, error) from error
        self._tokenizer = chat_tokenizer(path, self._pipeline)
        self.context_tokens = context_tokens or window_of(self.path)
        self._key = f"openvino:{files_digest(self.path)}"

    @property
    def key(self) -> str:
        """The content hash of the model's files."""
        return self._key

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """An answer, or a failure, for each prompt, in their order."""
        return await complete_in_batches(
            prompts,
            self._generate,
            model=self.key,
            ledger=self._ledger,
            batch_size=1,
            budget=self._budget,
        )

    def count_tokens(self, text: str) -> int:
        """How many tokens the model makes of a text."""
        return int(self._tokenizer.encode(text, add_special_tokens=False).input_ids.shape[1])

    def _generate(self, batch: Sequence[Prompt]) -> list[Generated | Fault]:
        (prompt,) = batch
        text = chat_text(self._tokenizer, prompt)
        length = self.count_tokens(text)
        room = None if self.context_tokens is None else self.context_tokens - prompt.max_tokens
        if room is not None and length > room:
            return [too_long(length, room)]
        config = generation_config(self._genai, prompt)
        config.apply_chat_template = False  # it has been
        made = self._pipeline.generate([text], config)
        cut = made.finish_reasons[0] == self._genai.GenerationFinishReason.LENGTH
        answer = made.texts[0]
        return [Generated(clean(answer), "length" if cut else "stop", length, self.count_tokens(answer))]


def import_genai() -> Any:
    """The ``openvino_genai`` module, without telemetry. Raises :class:`MissingExtraError`."""
    silence_telemetry()
    try:
        import openvino_genai
    except ImportError as error:
        raise MissingExtraError("running a local model with OpenVINO", "genai", "openvino-genai") from error
    return openvino_genai


def existing(path: Path | str) -> Path:
    """The path of a model's files. Raises :class:`ModelError` where nothing is."""
    if not Path(path).exists():
        raise ModelError(f"{path}: expected a GGUF file or an OpenVINO folder, found nothing there")
    return Path(path)


def not_loaded(path: Path | str, error: Exception) -> ModelError:
    """The error for files that are no model, or none that this version of OpenVINO knows."""
    return ModelError(f"{path}: OpenVINO GenAI cannot load this model: {str(error).strip()[:500]}")


def chat_tokenizer(path: Path | str, pipeline: Any) -> Any:
    """The tokenizer of a pipeline. Raises :class:`ModelError` for a model without a chat template."""
    tokenizer = pipeline.get_tokenizer()
    if not tokenizer.chat_template:
        raise ModelError(f"{path}: the model has no chat template; lm-mixup needs an instruction-tuned (chat) model")
    return tokenizer


def chat_text(tokenizer: Any, prompt: Prompt) -> str:
    """A prompt as the model reads it."""
    return str(tokenizer.apply_chat_template([dict(m) for m in prompt.messages], add_generation_prompt=True))


def too_long(length: int, room: int) -> Fault:
    """Why a prompt of so many tokens is not answered."""
    return Fault("context-length", f"{length} tokens, and {room} fit beside the answer", retry=False)


def generation_config(genai: Any, prompt: Prompt) -> Any:
    """A prompt's settings, as OpenVINO GenAI takes them."""
    config = genai.GenerationConfig()
    config.max_new_tokens = prompt.max_tokens
    config.do_sample = prompt.temperature > 0
    if config.do_sample:
        config.temperature, config.top_p = prompt.temperature, prompt.top_p
        config.rng_seed = prompt.seed or 0
    config.repetition_penalty = prompt.repetition_penalty
    config.stop_strings = set(prompt.stop)
    if prompt.schema is not None:
        schema = orjson.dumps(dict(prompt.schema)).decode()
        config.structured_output_config = genai.StructuredOutputConfig(json_schema=schema)
    return config
