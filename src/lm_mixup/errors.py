"""The errors that lm-mixup raises on purpose, as one tree.

::

    LMMixupError
    ├── InputError             something the user gave is wrong              exit code 2
    │   ├── PoolError          a pool, or (with --strict) a row of one
    │   ├── RecipeError        a recipe, or a setting
    │   └── RatingsError       a ratings file
    ├── MissingExtraError      an optional dependency is not installed       exit code 2
    ├── ModelError             a model cannot be found, fetched or verified  exit code 2
    ├── RunError               a run folder cannot be used as asked          exit code 2
    ├── ProviderError          an LLM endpoint refuses every request         exit code 4
    ├── StorageError           the disk is full or cannot be written         exit code 5
    ├── BudgetError            a cap on what models may cost is reached      exit code 6
    └── InvariantError         a bug in lm-mixup: the counts do not add up   exit code 1

Every message says what was expected, what was found, where, and what to do. A row that cannot be used is never an
exception: it is quarantined or dropped with a reason in the records of its step, or a
:class:`lm_mixup.records.Failure`.
"""

from __future__ import annotations


class LMMixupError(Exception):
    """Base of every error that lm-mixup raises on purpose."""

    exit_code = 1


class InputError(LMMixupError):
    """Something the user gave (a file, a flag, a setting) is wrong."""

    exit_code = 2


class PoolError(InputError):
    """A pool cannot be read, or a row of it is bad and ``--strict`` was asked for."""


class RecipeError(InputError):
    """A recipe or a setting is not valid."""


class RatingsError(InputError):
    """A ratings file cannot be used."""


class MissingExtraError(LMMixupError):
    """An optional dependency is needed and not installed."""

    exit_code = 2

    def __init__(self, what: str, extra: str, package: str) -> None:
        super().__init__(f'{what} needs {package!r}, which is not installed: pip install "lm-mixup[{extra}]"')
        self.extra = extra


class ModelError(LMMixupError):
    """A model cannot be found, fetched or verified."""

    exit_code = 2


class RunError(LMMixupError):
    """A run folder cannot be used as asked."""

    exit_code = 2


class ProviderError(LMMixupError):
    """An LLM endpoint refuses every request (wrong key, wrong model, wrong address)."""

    exit_code = 4


class StorageError(LMMixupError):
    """The disk is full or cannot be written. What was finished is kept; the same command goes on."""

    exit_code = 5


class BudgetError(LMMixupError):
    """A cap on dollars, tokens or requests is reached. What was answered is kept; a higher cap goes on."""

    exit_code = 6


class InvariantError(LMMixupError):
    """A bug in lm-mixup, caught by one of its own checks."""
