"""A local model in OpenVINO GenAI: an OpenVINO folder, or a GGUF file as it is. No torch."""

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

    ``batch_size`` prompts are computed together (see :mod:`lm_mixup.llm.batches` for what that means); a schema is
    enforced while decoding. ``context_tokens`` is the model's window (None: what its files say): a prompt that does not
    fit into it together with its answer is a Failure ``context-length``. ``properties`` go to OpenVINO as they are.

    Raises :class:`MissingExtraError` without ``openvino-genai``, :class:`ModelError` where the model cannot be loaded.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        ledger: Ledger | None = None,
        device: str = "CPU",
        batch_size: int = 1,
        context_tokens: int | None = None,
        budget: Budget = _NO_CAPS,
        properties: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        silence_telemetry()
        try:
            import openvino_genai
        except ImportError as error:
            raise MissingExtraError("running a local model with OpenVINO", "genai", "openvino-genai") from error
        self.path = Path(path)
        if not self.path.exists():
            raise ModelError(f"{path}: expected a GGUF file or an OpenVINO folder, found nothing there")
        self._genai = openvino_genai
        self._ledger = ledger
        self._batch_size = batch_size
        self._budget = budget
        try:
            self._pipeline = openvino_genai.LLMPipeline(str(self.path), device, **properties)
            self._tokenizer = self._pipeline.get_tokenizer()
        except RuntimeError as error:
            raise ModelError(f"{path}: OpenVINO GenAI cannot load this model: {str(error).strip()[:500]}") from error
        if not self._tokenizer.chat_template:
            raise ModelError(
                f"{path}: the model has no chat template; lm-mixup needs an instruction-tuned (chat) model"
            )
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
            batch_size=self._batch_size,
            budget=self._budget,
        )

    def count_tokens(self, text: str) -> int:
        """How many tokens the model makes of a text."""
        return int(self._tokenizer.encode(text, add_special_tokens=False).input_ids.shape[1])

    def _generate(self, batch: Sequence[Prompt]) -> list[Generated | Fault]:
        texts = [
            self._tokenizer.apply_chat_template([dict(m) for m in prompt.messages], add_generation_prompt=True)
            for prompt in batch
        ]
        lengths = [self.count_tokens(text) for text in texts]
        room = None if self.context_tokens is None else self.context_tokens - batch[0].max_tokens
        results: list[Generated | Fault | None] = [
            Fault("context-length", f"{n} tokens, and {room} fit beside the answer", retry=False)
            if room is not None and n > room
            else None
            for n in lengths
        ]
        good = [i for i, result in enumerate(results) if result is None]
        if good:
            made = self._pipeline.generate([texts[i] for i in good], self._config(batch[0]))
            for i, text, reason in zip(good, made.texts, made.finish_reasons, strict=True):
                cut = reason == self._genai.GenerationFinishReason.LENGTH
                results[i] = Generated(clean(text), "length" if cut else "stop", lengths[i], self.count_tokens(text))
        return [result for result in results if result is not None]

    def _config(self, prompt: Prompt) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens = prompt.max_tokens
        config.apply_chat_template = False  # it has been
        config.do_sample = prompt.temperature > 0
        if config.do_sample:
            config.temperature, config.top_p = prompt.temperature, prompt.top_p
            config.rng_seed = prompt.seed or 0
        config.repetition_penalty = prompt.repetition_penalty
        config.stop_strings = set(prompt.stop)
        if prompt.schema is not None:
            schema = orjson.dumps(dict(prompt.schema)).decode()
            config.structured_output_config = self._genai.StructuredOutputConfig(json_schema=schema)
        return config
