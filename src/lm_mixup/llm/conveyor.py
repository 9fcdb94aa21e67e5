"""From a stream of prompts to their answers in the same order: the ledger, duplicates, and bounded memory.

Prompts are taken in blocks, looked up in the ledger, and what is not answered is given to worker tasks: ``at_once`` of
them, and as many more as stand aside (before their next attempt, say), up to ``_CREW`` times as many in all. So hardly
one waits for another's place: it goes on with its own. An answer goes on only when it is on disk. At most ``window``
prompts are under way or wait for an earlier one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from lm_mixup.errors import RunError
from lm_mixup.ledger import Answer, Attempt, Ledger, Request, Reservation
from lm_mixup.llm.openai_wire import Fault
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure

Ask = Callable[["Errand"], Awaitable[tuple[Answer | Fault, Reservation | None]]]
"""Gets one answer, however many attempts it takes, and what was reserved for it."""

_BLOCK = 256
_CREW = 4
_POLL_S = 0.2


@dataclass(slots=True, eq=False)
class _Job:
    prompt: Prompt
    request: Request
    result: asyncio.Future[Answer | Fault]


class Errand:
    """One prompt whose answer is being got: what whoever gets it may say meanwhile."""

    __slots__ = ("_conveyor", "prompt", "request")

    def __init__(self, conveyor: Conveyor, job: _Job) -> None:
        self._conveyor = conveyor
        self.prompt = job.prompt
        self.request = job.request

    def note(self, attempt: Attempt, reserved: Reservation | None) -> None:
        """An attempt failed; what was reserved for it."""
        self._conveyor.note(self.request, attempt, reserved)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """A context in which this one waits and needs no place: another may be begun meanwhile."""
        return self._conveyor.aside()


def completion_of(prompt: Prompt, answer: Answer | Fault) -> Completion | Failure:
    """An answer, or a fault, as the port gives it."""
    if isinstance(answer, Fault):
        return Failure(prompt.id, "llm", answer.kind, answer.detail)
    return Completion(
        prompt.id, answer.text, answer.finish_reason, answer.prompt_tokens, answer.completion_tokens, answer.details
    )


class Conveyor:
    """One pass over ``prompts``. Iterate over :meth:`results` to the end, or close it."""

    def __init__(
        self, prompts: Iterable[Prompt], ask: Ask, *, model: str, ledger: Ledger | None, at_once: int, window: int
    ) -> None:
        self._prompts: Iterator[Prompt] = iter(prompts)
        self._ask = ask
        self._model = model
        self._ledger = ledger
        self._at_once = at_once
        self._window = window
        self._workers = 0
        self._idle = 0  # of the workers: those that wait for a job
        self._aside = 0  # of the workers: those that stand aside
        self._order: deque[_Job] = deque()
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._by_key: dict[str, _Job] = {}  # under way, by this conveyor
        self._held: dict[str, _Job] = {}  # under way, by somebody else on the same ledger
        self._claimed: set[str] = set()
        self._polling = False
        self._writing: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._fed = False
        self._fatal: BaseException | None = None

    async def results(self) -> AsyncGenerator[Completion | Failure, None]:
        """The answers, in the order of the prompts. Raises what ends the whole pass (ProviderError, StorageError)."""
        self._start(self._feed())
        try:
            while True:
                while not self._order and not self._fed and self._fatal is None:
                    self._changed.clear()
                    await self._changed.wait()
                if self._fatal is not None:
                    raise self._fatal
                if not self._order:
                    return
                job = self._order[0]
                try:
                    answer = await job.result
                except asyncio.CancelledError:
                    if self._fatal is None:
                        raise
                    continue
                self._order.popleft()
                self._changed.set()
                yield completion_of(job.prompt, answer)
        finally:
            await self._stop()

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._check)

    def _check(self, done: asyncio.Future[Any]) -> None:
        """A task or a write has ended: if badly, so does the pass."""
        self._writing.discard(done)
        if not done.cancelled() and (error := done.exception()) is not None and self._fatal is None:
            self._fatal = error
            self._changed.set()
            for job in self._order:
                job.result.cancel()

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._ledger is not None and self._claimed:
            with contextlib.suppress(RunError):  # closed already, which gives up all claims
                self._write(self._ledger.release(list(self._claimed)))
        await asyncio.gather(*self._writing, return_exceptions=True)

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while len(self._order) >= self._window or self._jobs.qsize() >= 2 * _BLOCK:
                self._changed.clear()
                await self._changed.wait()
            block = []
            for prompt in islice(self._prompts, min(_BLOCK, self._window - len(self._order))):
                block.append(_Job(prompt, Request.of(self._model, prompt), loop.create_future()))
            if not block:
                break
            self._order.extend(block)
            self._changed.set()
            fresh = [job for job in block if not self._joins_another(job)]
            self._staff(self._jobs.qsize() + len(fresh))
            await self._look_up(fresh)
            await asyncio.sleep(0)
        self._fed = True
        self._changed.set()

    async def _poll(self) -> None:
        """Look again for what somebody else is asking, until it is answered or its claim has fallen to us."""
        while self._held:
            await asyncio.sleep(_POLL_S)
            await self._look_up(list(self._held.values()))
        self._polling = False

    def _joins_another(self, job: _Job) -> bool:
        """Whether the same request is under way here already: then its answer is this one's too."""
        other = self._by_key.setdefault(job.request.key, job)
        if other is job:
            return False

        def join(done: asyncio.Future[Answer | Fault]) -> None:
            if not job.result.done() and not done.cancelled():
                job.result.set_result(done.result())

        other.result.add_done_callback(join)
        return True

    async def _look_up(self, jobs: list[_Job]) -> None:
        if self._ledger is None:
            for job in jobs:
                self._jobs.put_nowait(job)
            return
        opened = await self._ledger.open([job.request.key for job in jobs], [job.prompt.id for job in jobs])
        for job in jobs:
            key = job.request.key
            self._held.pop(key, None)
            if key in opened.answers:
                self._finish(job, opened.answers[key])
            elif key in opened.claimed:
                self._claimed.add(key)
                self._jobs.put_nowait(job)
            else:
                self._held[key] = job
        if self._held and not self._polling:
            self._polling = True
            self._start(self._poll())

    # ---- workers -----------------------------------------------------------------------------------------------

    def _staff(self, jobs: int) -> None:
        """Start workers, as far as there are jobs for them and they may be at work."""
        while (
            self._idle < jobs and self._workers - self._aside < self._at_once and self._workers < _CREW * self._at_once
        ):
            self._start(self._work())
            self._workers += 1
            self._idle += 1

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """A worker stands aside: another may take its place meanwhile."""
        self._aside += 1
        self._staff(self._jobs.qsize())
        try:
            yield
        finally:
            self._aside -= 1

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            self._idle -= 1
            if self._jobs.qsize() < _BLOCK:
                self._changed.set()
            answer, reserved = await self._ask(Errand(self, job))
            if self._ledger is None:
                self._finish(job, answer)
            elif isinstance(answer, Fault):
                self._write(self._ledger.release([job.request.key]), partial(self._stored, job, answer))
            else:
                self._write(self._ledger.record(job.request, answer, reserved), partial(self._stored, job, None))
            if self._workers - self._aside > self._at_once:
                self._workers -= 1
                return
            self._idle += 1

    def note(self, request: Request, attempt: Attempt, reserved: Reservation | None) -> None:
        """An attempt at a request failed."""
        if self._ledger is not None:
            self._write(self._ledger.record_failure(request, attempt, reserved))

    def _write(self, future: asyncio.Future[Any], then: Callable[[asyncio.Future[Any]], None] | None = None) -> None:
        self._writing.add(future)
        future.add_done_callback(then or self._check)

    def _stored(self, job: _Job, fault: Fault | None, done: asyncio.Future[Any]) -> None:
        """A job's answer, or its failure, is on disk."""
        self._check(done)
        if not done.cancelled() and done.exception() is None:
            self._finish(job, fault or done.result())

    def _finish(self, job: _Job, answer: Answer | Fault) -> None:
        self._by_key.pop(job.request.key, None)
        self._claimed.discard(job.request.key)
        if not job.result.done():
            job.result.set_result(answer)
