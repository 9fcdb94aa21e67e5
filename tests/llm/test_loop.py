"""The bridge from plain code to async: results, errors, running loops, and a quiet end."""

import asyncio
import subprocess
import sys
import textwrap

import pytest

from lm_mixup.llm import loop
from tests.servers.launch import ROOT, serving


async def double(x):
    await asyncio.sleep(0.001)
    return 2 * x


async def fail():
    raise KeyError("x")


def test_results_and_errors_come_back():
    assert loop.run(double(4)) == 8
    with pytest.raises(KeyError):
        loop.run(fail())


def test_it_works_inside_a_running_loop():
    async def outer():
        return loop.run(double(5))

    assert asyncio.run(outer()) == 10


def test_calling_it_from_its_own_loop_is_an_error_and_no_deadlock():
    async def inner():
        return loop.run(double(1))

    with pytest.raises(RuntimeError, match="await the coroutine"):
        loop.run(inner())


SCRIPT = """
    import sys
    from lm_mixup.llm import loop
    from lm_mixup.llm.openai_compatible import OpenAICompatible
    from lm_mixup.ports import Prompt

    llm = OpenAICompatible("m", sys.argv[1])
    for i in range(3):
        answers = loop.run(llm.complete([Prompt("x", ({"role": "user", "content": str(i)},))]))
        assert answers[0].text
"""


def test_a_process_ends_quietly_with_connections_open():
    with serving() as server:
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", textwrap.dedent(SCRIPT), server.url],
            capture_output=True, text=True, cwd=ROOT, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED = """
    import asyncio, os, signal, threading, time
    from lm_mixup.llm import loop

    async def work():
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.2)
            print("cleaned up", flush=True)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's parent may have it ignored
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    try:
        loop.run(work())
    except KeyboardInterrupt:
        print("interrupted", time.monotonic() - began < 10, flush=True)
"""


def test_ctrl_c_cancels_the_work_and_waits_for_its_end():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.split("\n")[:2] == ["cleaned up", "interrupted True"], done.stderr
