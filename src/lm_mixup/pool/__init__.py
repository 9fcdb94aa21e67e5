"""Reading and writing pools: one file per format.

:func:`read` yields :class:`PoolRow` and :class:`BadRow` from files of any known shape; :func:`export` writes samples
in a format that a trainer reads; :func:`read_ratings` reads what raters said; :func:`settle` decides the language of
rows that are too short to tell.
"""

from lm_mixup.pool.language import settle
from lm_mixup.pool.ratings import Ratings, read_ratings
from lm_mixup.pool.reader import PoolOptions, read
from lm_mixup.pool.rows import REASONS, BadRow, FileReport, PoolReport, PoolRow
from lm_mixup.pool.write import ExportReport, export, write_jsonl

__all__ = [
    "REASONS",
    "BadRow",
    "ExportReport",
    "FileReport",
    "PoolOptions",
    "PoolReport",
    "PoolRow",
    "Ratings",
    "export",
    "read",
    "read_ratings",
    "settle",
    "write_jsonl",
]
