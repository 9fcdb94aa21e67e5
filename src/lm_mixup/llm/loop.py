"""The bridge from plain code to the async port: one event loop in a thread of its own, shared by the process.

Raters and distillers are plain calls (their ports say so); language models are async. :func:`run` works wherever it is
called from, inside a running event loop too, and keeps connections alive from one call to the next.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_S = 5.0
_CLOSE_S = 2.0

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_pid = 0
_closers: list[Callable[[], Awaitable[object]]] = []


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the shared loop and wait for its result. Ctrl-C cancels it and waits until it has ended.

    Must not be called from the shared loop itself (that would wait for itself): raises ``RuntimeError``.
    """
    loop = _shared()
    if _running() is loop:
        work.close()
        raise RuntimeError("loop.run was called from within the shared event loop; await the coroutine instead")
    ended = threading.Event()

    async def watched() -> T:
        try:
            return await work
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(watched(), loop)
    try:
        return future.result()
    except BaseException:
        if future.cancel():
            ended.wait(timeout=_CANCEL_S)  # what follows may close the ledger under it
        raise


def is_shared(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether ``loop`` is the shared one, which lives as long as the process."""
    return loop is _loop


def at_exit(close: Callable[[], Awaitable[object]]) -> None:
    """Have ``close`` awaited on the shared loop before the process ends."""
    _closers.append(close)


def forget(close: Callable[[], Awaitable[object]]) -> None:
    """Undo :func:`at_exit`."""
    with contextlib.suppress(ValueError):
        _closers.remove(close)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _shared() -> asyncio.AbstractEventLoop:
    global _loop, _pid
    with _lock:
        if _loop is None or _pid != os.getpid():  # a forked child has the object, but not the thread
            _loop, _pid = asyncio.new_event_loop(), os.getpid()
            _closers.clear()
            thread = threading.Thread(target=_loop.run_forever, name="lm-mixup event loop", daemon=True)
            thread.start()
            atexit.register(_stop, _loop, thread, _pid)
        return _loop


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    if pid != os.getpid() or not loop.is_running():
        return

    async def close_all() -> None:
        for close in list(_closers):
            await close()

    with contextlib.suppress(TimeoutError):
        asyncio.run_coroutine_threadsafe(close_all(), loop).result(timeout=_CLOSE_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=_CLOSE_S)
    if not thread.is_alive():
        loop.close()
