"""A local model in Hugging Face transformers: batched, padded on the left, sorted by length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_mixup.errors import MissingExtraError, ModelError
from lm_mixup.ledger import Budget, Ledger
from lm_mixup.llm.batches import Generated, complete_in_batches
from lm_mixup.llm.files import files_digest
from lm_mixup.llm.openai_wire import Fault, clean
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure

_NO_CAPS = Budget()


class Transformers:
    """The model in the folder ``path`` (config, safetensors weights, tokenizer with a chat template).

    ``batch_size`` prompts are computed together (see :mod:`lm_mixup.llm.batches` for what that means). ``device`` is a
    torch device (None: the first GPU, else the CPU); ``dtype`` a torch type's name, or ``auto`` for the weights' own.
    A prompt that does not fit into the model's window (``context_tokens``; None: what its config says) together with
    its answer is a Failure ``context-length``. A schema is not enforced; the answer says so (``details["left_out"]``).

    Weights in pickle files and code from model folders are refused. Raises :class:`MissingExtraError` without torch and
    transformers, :class:`ModelError` where the model cannot be used.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        ledger: Ledger | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 1,
        context_tokens: int | None = None,
        budget: Budget = _NO_CAPS,
    ) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtraError("running a local model with transformers", "transformers", "torch") from error
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise ModelError(f"{path}: expected a model's folder with a config.json, found none")
        self._torch = torch
        self._ledger = ledger
        self._batch_size = batch_size
        self._budget = budget
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        safe = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(self.path), padding_side="left", **safe)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                str(self.path), dtype=dtype, use_safetensors=True, **safe
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: transformers cannot load this model: {str(error).strip()[:500]}") from error
        if not self._tokenizer.chat_template:
            raise ModelError(f"{path}: the tokenizer has no chat template; lm-mixup needs an instruction-tuned model")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model: Any = model.to(place).eval()
        own: int | None = getattr(model.config, "max_position_embeddings", None)
        self.context_tokens = context_tokens or own
        self._key = f"transformers:{files_digest(self.path)}:{model.dtype}".replace("torch.", "")

    @property
    def key(self) -> str:
        """The content hash of the model's folder, and the type of its weights in memory."""
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
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def _generate(self, batch: Sequence[Prompt]) -> list[Generated | Fault]:
        texts = [
            self._tokenizer.apply_chat_template(
                [dict(m) for m in prompt.messages], tokenize=False, add_generation_prompt=True
            )
            for prompt in batch
        ]
        lengths = [self.count_tokens(text) for text in texts]
        room = None if self.context_tokens is None else self.context_tokens - batch[0].max_tokens
        good = [i for i, n in enumerate(lengths) if room is None or n <= room]
        made = iter(self._answers([texts[i] for i in good], batch[0]) if good else [])
        left_out = ("json_schema",) if batch[0].schema is not None else ()
        results: list[Generated | Fault] = []
        for n in lengths:
            if room is not None and n > room:
                results.append(Fault("context-length", f"{n} tokens, and {room} fit beside the answer", retry=False))
            else:
                text, reason, count = next(made)
                results.append(Generated(text, reason, n, count, left_out))
        return results

    def _answers(self, texts: list[str], settings: Prompt) -> list[tuple[str, str, int]]:
        """Text, finish reason and number of tokens of each answer."""
        torch, tokenizer = self._torch, self._tokenizer
        # (n, longest) token ids, padded on the left so that every answer begins at the same place
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(self._model.device)
        sampling: dict[str, Any] = {"do_sample": settings.temperature > 0}
        if settings.temperature > 0:
            sampling |= {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
            torch.manual_seed(settings.seed or 0)
        else:  # a model's generation_config may hold sampling settings, which greedy decoding warns about
            sampling |= {"temperature": None, "top_p": None, "top_k": None}
        if settings.stop:
            sampling |= {"stop_strings": list(settings.stop), "tokenizer": tokenizer}
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                max_new_tokens=settings.max_tokens,
                repetition_penalty=settings.repetition_penalty,
                pad_token_id=tokenizer.pad_token_id,
                **sampling,
            )
        new = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._read(tokens, settings) for tokens in new]

    def _read(self, tokens: list[int], settings: Prompt) -> tuple[str, str, int]:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        end = next((i for i, token in enumerate(tokens) if token in ends), None)
        kept = tokens if end is None else tokens[:end]
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        stopped = [at for stop in settings.stop if (at := text.find(stop)) >= 0]
        if stopped:
            return clean(text[: min(stopped)]), "stop", len(kept)
        return clean(text), "length" if end is None and len(tokens) >= settings.max_tokens else "stop", len(kept)
