"""Reading and writing pools: one file per format.

:func:`read` yields :class:`PoolRow` and :class:`BadRow` from files of any known shape.
"""

from lm_mixup.pool.reader import PoolOptions, read
from lm_mixup.pool.rows import REASONS, BadRow, FileReport, PoolReport, PoolRow

__all__ = ["REASONS", "BadRow", "FileReport", "PoolOptions", "PoolReport", "PoolRow", "read"]
