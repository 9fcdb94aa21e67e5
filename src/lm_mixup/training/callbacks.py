"""What a training tells while it runs, and when it ends sooner. Needs transformers."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from lm_mixup.training.folder import Folder
from lm_mixup.training.watch import Watch

_KEPT = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "num_tokens": "tokens"}


class Log(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Writes figures into the folder's log and hands them to ``progress``."""

    def __init__(self, folder: Folder, progress: Any, clock: Callable[[], float], kept: dict[str, str] | None = None):
        self._folder = folder
        self._progress = progress
        self._clock = clock
        self._kept = _KEPT if kept is None else kept
        before = folder.lines()
        self._start = clock() - (before[-1]["seconds"] if before else 0.0)
        self._tokens = next((line["tokens"] for line in reversed(before) if "tokens" in line), 0)  # TRL counts anew

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """A line: the step, the figures, seconds of training so far (those before a resumption included)."""
        figures = {name: float(logs[key]) for key, name in self._kept.items() if logs and key in logs}
        if not figures or not state.is_world_process_zero:
            return
        if "tokens" in figures:
            figures["tokens"] += self._tokens
        seconds = round(self._clock() - self._start, 1)
        self._folder.add({"step": state.global_step, **figures, "seconds": seconds})
        if self._progress:
            self._progress(state.global_step, state.max_steps, {**figures, "seconds": seconds})


class StopAt(TrainerCallback):  # type: ignore[misc]
    """Ends a training after a number of steps, with a checkpoint, leaving the schedule of rates as it was."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Save and stop at the step."""
        if state.global_step >= self._steps:
            control.should_save = True
            control.should_training_stop = True
        return control


class Look(TrainerCallback):  # type: ignore[misc]
    """Lets the watch look before the first step, every so many steps, and at the end; stops where it says so."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> Any:
        """The look that all others are compared with."""
        if state.global_step == 0:
            self._watch.look(model, 0)
        return control

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> Any:
        """A look every so many steps."""
        if state.global_step % self._watch.every == 0 and self._watch.look(model, state.global_step):
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """The last look."""
        self._watch.look(model, state.global_step)


class GiveBack(TrainerCallback):  # type: ignore[misc]
    """Gives freed memory back to the system after each step, where the C library can (glibc).

    Batches of ever other lengths leave holes that glibc keeps: without this a training on a CPU grew from 6 to 18 GB in
    two hundred steps.
    """

    def __init__(self) -> None:
        self._trim: Any = None
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            self._trim = ctypes.CDLL("libc.so.6").malloc_trim

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Trim."""
        if self._trim is not None:
            self._trim(0)


def quiet(trainer: Any) -> None:
    """Take transformers' own printing of figures away: ours go to the log and to the caller's progress."""
    trainer.remove_callback(PrinterCallback)
