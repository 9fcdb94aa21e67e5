"""What a training tells while it runs, and when it ends sooner. Needs transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from lm_mixup.training.folder import Folder

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

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """A line: the step, the figures, seconds of training so far (those before a resumption included)."""
        figures = {name: float(logs[key]) for key, name in self._kept.items() if logs and key in logs}
        if not figures or not state.is_world_process_zero:
            return
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


def quiet(trainer: Any) -> None:
    """Take transformers' own printing of figures away: ours go to the log and to the caller's progress."""
    trainer.remove_callback(PrinterCallback)
