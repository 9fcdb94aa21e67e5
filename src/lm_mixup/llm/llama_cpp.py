"""A local GGUF model in llama.cpp, in this process, by the ``xllamacpp`` wheel. No torch, grammar-bound schemas.

A llama.cpp *server* needs none of this: it speaks the OpenAI protocol (``openai:MODEL@http://host:8080/v1``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from lm_mixup.errors import MissingExtraError, ModelError
from lm_mixup.ledger import Budget, Ledger
from lm_mixup.llm.batches import Generated, complete_in_batches
from lm_mixup.llm.files import files_digest, window_of
from lm_mixup.llm.openai_wire import Fault, read_error, read_reply, request_body
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure

DEFAULT_WINDOW = 8192
"""Where neither the caller nor the file says."""

_NO_CAPS = Budget()


class LlamaCpp:
    """The model in the GGUF file ``path``, one prompt at a time on ``threads`` threads.

    ``context_tokens`` is the window to make room for, prompt and answer (None: what the file says, at most what it was
    trained for). Raises :class:`MissingExtraError` without
    ``xllamacpp``, :class:`ModelError` where the model cannot be loaded.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        ledger: Ledger | None = None,
        context_tokens: int | None = None,
        budget: Budget = _NO_CAPS,
        threads: int = 0,
        gpu_layers: int = 0,
    ) -> None:
        try:
            import xllamacpp
        except ImportError as error:
            raise MissingExtraError("running a local model with llama.cpp", "llamacpp", "xllamacpp") from error
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError(f"{path}: expected a GGUF file, found none")
        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        self.context_tokens = context_tokens or window_of(self.path) or DEFAULT_WINDOW
        params.n_ctx = self.context_tokens
        params.n_parallel = 1
        params.n_gpu_layers = gpu_layers
        params.verbosity = -1
        if threads:
            params.cpuparams.n_threads = threads
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path}: llama.cpp cannot load this model: {str(error).strip()[:500]}") from error
        self._ledger = ledger
        self._budget = budget
        self._key = f"llama-cpp:{files_digest(self.path)}"

    @property
    def key(self) -> str:
        """The content hash of the model's file."""
        return self._key

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """An answer, or a failure, for each prompt, in their order."""
        return await complete_in_batches(
            prompts, self._generate, model=self.key, ledger=self._ledger, batch_size=1, budget=self._budget
        )

    def _generate(self, batch: Sequence[Prompt]) -> list[Generated | Fault]:
        results: list[Generated | Fault] = []
        for prompt in batch:
            # what the prompts before have left in the cache must not touch this one's numbers
            extra = {"cache_prompt": False, "repeat_penalty": prompt.repetition_penalty}
            body = request_body("local", prompt, ("repetition_penalty",), stream=False, extra=extra)
            reply = orjson.dumps(self._server.handle_chat_completions(orjson.loads(body)))
            answer = read_error(400, reply, None) if reply.startswith(b'{"error"') else read_reply(reply)
            if isinstance(answer, Fault):
                results.append(answer)
            else:
                counts = (answer.prompt_tokens, answer.completion_tokens)
                results.append(Generated(answer.text, answer.finish_reason, *counts))
        return results
