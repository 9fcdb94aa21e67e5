"""A local model in OpenVINO GenAI, many prompts at a time, each answered as if it were alone.

Three things make an answer in OpenVINO depend on what is computed beside it: several threads share out the sums of a
matrix product by the number of its rows, so that the last prompt of a batch, once it is alone, is rounded otherwise;
a prompt that is read in pieces sees its own beginning in the cache's 8 bits, and the pieces depend on who else waits;
and so does a beginning that is taken over from another prompt. So here every engine has one thread, prompts are read
whole, nothing is shared between prompts, and the cores are used by engines side by side. Measured bit for bit in
``docs/distillers/trained.md``. An engine is fed as its prompts are done, so that none waits for the longest of a batch.

With ``lookup`` an engine guesses: where the last words of an answer stand in its prompt or earlier in itself, what
follows them there is checked in one pass with the next token, and kept as far as the model would have written it.
Distilling is copying, most of it, so that many steps write several tokens. The guesses come from the prompt and its
own answer alone.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lm_mixup.errors import ModelError
from lm_mixup.ledger import Budget, Ledger
from lm_mixup.llm.batches import Generated, complete_in_batches
from lm_mixup.llm.files import files_digest, window_of
from lm_mixup.llm.openai_wire import Fault, clean
from lm_mixup.llm.openvino import (
    chat_text,
    chat_tokenizer,
    existing,
    generation_config,
    import_genai,
    not_loaded,
    too_long,
)
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure, digest

_NO_CAPS = Budget()
MAX_ENGINES = 8
"""Engines by default, at most: each holds the model's weights once more."""
_WINDOW_TOKENS = 8192
"""Longest prompt and answer where neither the caller nor the model's files tell."""
_ROUNDS = 4
"""Prompts given to the engines at a time, in slots: more keep the slots full, fewer are lost to a kill."""
_ALWAYS: Mapping[str, Any] = MappingProxyType({"INFERENCE_NUM_THREADS": 1})
_LOOKUP_WORDS = 3
"""Tokens at an answer's end that are looked up, at most: the longest that are found count."""


class _Work:
    """Prompts that share all settings, and their answers by position, as far as there are any."""

    def __init__(self, config: Any, slots: int, stopped: threading.Event, *, guess: bool) -> None:
        self.config = config
        self.guess = guess
        self.slots = slots
        self.stopped = stopped
        self.waiting: deque[tuple[int, Any]] = deque()
        self.results: dict[int, Generated | Fault] = {}
        self.errors: list[Exception] = []

    def take(self) -> tuple[int, Any] | None:
        """The next prompt's position and tokens; None where no more wait."""
        try:
            return self.waiting.popleft()
        except IndexError:  # several threads take
            return None


class OpenVINOSlots:
    """The model at ``path``: a ``.gguf`` file, or an OpenVINO folder.

    ``engines`` of one thread each (None: one for each core of the process, at most :data:`MAX_ENGINES`) answer
    ``slots`` prompts at a time; answers depend on neither number. With a temperature above 0 an engine answers one at
    a time. ``lookup`` is how many tokens are guessed ahead in greedy answers without a penalty, a stop or a schema (0:
    none); others need an engine of the plain kind, which is made when they come. The other settings are those of
    :class:`lm_mixup.llm.openvino.OpenVINO`, and so are the errors.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        ledger: Ledger | None = None,
        slots: int = 16,
        engines: int | None = None,
        lookup: int = 0,
        context_tokens: int | None = None,
        budget: Budget = _NO_CAPS,
        properties: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._genai = import_genai()
        self.path = existing(path)
        self._ledger = ledger
        self._slots = slots
        self._engines = engines or min(MAX_ENGINES, len(os.sched_getaffinity(0)))
        self._budget = budget
        self._properties = {**properties, **_ALWAYS}
        self.context_tokens = context_tokens or window_of(self.path) or _WINDOW_TOKENS
        self._lookup = lookup
        first = self._engine(guess=lookup > 0)
        self._ready: dict[bool, list[Any]] = {lookup > 0: [first], lookup == 0: []}
        self._tokenizer = chat_tokenizer(path, first)
        parts: list[object] = [files_digest(self.path), dict(properties)]
        if lookup:
            parts.append(["lookup", lookup, _LOOKUP_WORDS])
        self._key = "openvino-slots:" + digest(parts)[:16]

    @property
    def key(self) -> str:
        """A hash of the model's files and the settings that answers depend on."""
        return self._key

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """An answer, or a failure, for each prompt, in their order."""
        stopped = threading.Event()
        try:
            return await complete_in_batches(
                prompts,
                partial(self._generate, stopped=stopped),
                model=self.key,
                ledger=self._ledger,
                batch_size=self._slots * self._engines * _ROUNDS,
                budget=self._budget,
                independent=True,
            )
        finally:
            stopped.set()  # the engines run in threads of their own: where this was cancelled, they would go on

    def count_tokens(self, text: str) -> int:
        """How many tokens the model makes of a text."""
        return int(self._tokenizer.encode(text, add_special_tokens=False).input_ids.shape[1])

    def _engine(self, *, guess: bool) -> Any:
        """A new engine; ``guess``: of the kind that looks up what may come next."""
        scheduler = self._genai.SchedulerConfig()
        scheduler.max_num_seqs = self._slots
        # prompts are read whole: either nothing else is computed beside them, or there is room for all of them
        scheduler.max_num_batched_tokens = self.context_tokens * (self._slots + 1 if guess else 1)
        # guesses that are not checked in the very next step are taken for checked ones: no step may leave an answer out
        scheduler.dynamic_split_fuse = guess
        scheduler.enable_prefix_caching = False
        properties = {**self._properties, "prompt_lookup": True} if guess else self._properties
        try:
            return self._genai.ContinuousBatchingPipeline(str(self.path), scheduler, "CPU", properties)
        except RuntimeError as error:
            raise not_loaded(self.path, error) from error

    def _generate(self, batch: Sequence[Prompt], *, stopped: threading.Event) -> list[Generated | Fault]:
        """The answers to prompts that share all settings."""
        room = self.context_tokens - batch[0].max_tokens
        slots = 1 if batch[0].temperature > 0 else self._slots
        guess = self._lookup > 0 and _plain(batch[0])
        config = generation_config(self._genai, batch[0])
        if guess:
            config.num_assistant_tokens, config.max_ngram_size = self._lookup, _LOOKUP_WORDS
        work = _Work(config, slots, stopped, guess=guess)
        for i, prompt in enumerate(batch):
            ids = self._tokenizer.encode(chat_text(self._tokenizer, prompt), add_special_tokens=False).input_ids
            if ids.shape[1] > room:
                work.results[i] = too_long(int(ids.shape[1]), room)
            else:
                work.waiting.append((i, ids))
        count = min(self._engines, math.ceil(len(work.waiting) / slots))
        threads = [threading.Thread(target=self._answer, args=(work,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if work.errors and len(work.results) < len(batch):
            raise RuntimeError(str(work.errors[0])) from work.errors[0]
        stopped_short = Fault("cancelled", "stopped before it was answered")
        return [work.results.get(i, stopped_short) for i in range(len(batch))]

    def _answer(self, work: _Work) -> None:
        """Answer what waits with one engine, together with the other threads that do."""
        try:
            engine = self._idle(work.guess)
            self._feed(engine, work)
        except (RuntimeError, ModelError) as error:  # the engine may hold half-done requests: it is not used again
            work.errors.append(error)
        else:
            self._ready[work.guess].append(engine)

    def _idle(self, guess: bool) -> Any:
        try:
            return self._ready[guess].pop()
        except IndexError:
            return self._engine(guess=guess)

    def _feed(self, engine: Any, work: _Work) -> None:
        """Keep the engine's slots full until nothing waits, or the work is stopped."""
        running: dict[int, tuple[Any, int, list[int]]] = {}
        while not work.stopped.is_set():
            while len(running) < work.slots and (taken := work.take()) is not None:
                i, ids = taken
                running[i] = (engine.add_request(i, ids, work.config), int(ids.shape[1]), [])
            if not running:
                return
            engine.step()
            for i, (handle, prompt_tokens, tokens) in list(running.items()):
                reason = self._read(handle, tokens)
                if reason is not None:
                    del running[i]
                    text = clean(self._tokenizer.decode(tokens))
                    work.results[i] = Generated(text, reason, prompt_tokens, len(tokens))
        for handle, _, _ in running.values():
            handle.stop()
        engine.step()  # lets go of what was stopped

    def _read(self, handle: Any, tokens: list[int]) -> str | None:
        """Append what is new of an answer; why it ended, once it has."""
        cut = False
        while handle.can_read():
            for output in handle.read().values():
                tokens.extend(output.generated_ids)
                cut = output.finish_reason == self._genai.GenerationFinishReason.LENGTH
        if handle.get_status() == self._genai.GenerationStatus.RUNNING:
            return None
        return "length" if cut else "stop"


def _plain(prompt: Prompt) -> bool:
    """Whether each token of an answer is the likeliest one, with no further condition."""
    return prompt.temperature == 0 and prompt.repetition_penalty == 1 and not prompt.stop and prompt.schema is None
