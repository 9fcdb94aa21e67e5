"""How close the client comes to what an endpoint bears, and what it costs: beside the ``openai`` package.

    python -m benchmarks.llm_client --json [--requests 20000] [--slots 64 256]
    python -m benchmarks.llm_client --json --faults [--requests 10000]

Against a local server in a process of its own that answers after 150–250 ms. Ours includes the ledger, reading the
ratings, and counting progress; ``openai`` is a plain ``asyncio.gather`` behind a semaphore, where that package is
installed. Each figure comes from a process of its own, so that CPU time and peak memory are its own.

``--faults``: 20 % faults (429, 500, resets in mid-body, cut JSON, HTML pages, hangs of 60 seconds, wrong content types,
choices and whole answers that come twice) and storms in which everything is answered with 429; answers come in another
order than requests went, for each takes its own time. Every prompt must end as an answer or a failure, with the text
that the server gives to this prompt, and the ledger's attempts must equal the server's count.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.servers.launch import ROOT, serving

from lm_mixup.ledger import Ledger
from lm_mixup.llm.openai_compatible import OpenAICompatible
from lm_mixup.llm.parsing import JUDGE_SCHEMA, parse_judgement
from lm_mixup.ports import Completion, Prompt

LATENCY = ("--latency", "0.15:0.25")
MEAN_LATENCY_S = 0.2
FAULTS = (
    "http-429=0.03,http-500=0.03,http-503=0.02,reset=0.03,truncated=0.02,html=0.02,html-502=0.01,hang=0.01,"
    "wrong-type=0.01,duplicate=0.01,twice=0.005,twice-late=0.005"
)
STORM = "20:2"  # beside those: in two of every twenty seconds everything is refused


def prompts(count: int) -> Iterator[Prompt]:
    """Prompts of about a kilobyte, all different."""
    for number in range(count):
        messages = ({"role": "system", "content": "rate " * 100}, {"role": "user", "content": f"sample {number} " * 30})
        yield Prompt(str(number), messages, max_tokens=100, schema=JUDGE_SCHEMA)


def used() -> dict[str, float]:
    told = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": told.ru_utime + told.ru_stime, "peak_mb": told.ru_maxrss / 1024}


async def ours(url: str, count: int, slots: int) -> Counter[str]:
    """Ask everything through a ledger, and read each answer."""
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        llm = OpenAICompatible("m", url, "sk-test", ledger=ledger, concurrency=slots)
        async for answer in llm.stream(prompts(count)):
            read = isinstance(answer, Completion) and parse_judgement(answer.text) is not None
            done["read" if read else "not read"] += 1
    return done


async def openai(url: str, count: int, slots: int) -> Counter[str]:
    """The same by the ``openai`` package, without a ledger."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=5)
    places = asyncio.Semaphore(slots)
    form = {"type": "json_schema", "json_schema": {"name": "rating", "schema": dict(JUDGE_SCHEMA), "strict": True}}

    async def one(prompt: Prompt) -> bool:
        async with places:
            answer = await client.chat.completions.create(
                model="m", messages=list(prompt.messages), max_tokens=100, temperature=0, response_format=form
            )
            return parse_judgement(answer.choices[0].message.content) is not None

    read = await asyncio.gather(*(one(prompt) for prompt in prompts(count)))
    return Counter("read" if one_read else "not read" for one_read in read)


def worker(client: str, url: str, count: int, slots: int) -> None:
    """One measurement, in this process; prints one line of JSON. Importing a client is no part of it."""
    importlib.import_module({"ours": "lm_mixup.llm.lines", "openai": "openai"}[client])
    before, began = used()["cpu_s"], time.perf_counter()
    done = asyncio.run({"ours": ours, "openai": openai}[client](url, count, slots))
    seconds, after = time.perf_counter() - began, used()
    per_second = count / seconds
    print(
        json.dumps(
            {
                "client": client,
                "slots": slots,
                "requests": count,
                "requests_per_s": round(per_second, 1),
                "share_of_slots": round(per_second * MEAN_LATENCY_S / slots, 4),
                "cpu_ms_per_request": round(1000 * (after["cpu_s"] - before) / count, 3),
                "peak_mb": round(after["peak_mb"], 1),
                "not_read": done["not read"],
            }
        )
    )


def measure(client: str, count: int, slots: int) -> dict[str, Any]:
    """One measurement in a process of its own, against a server of its own."""
    with serving(*LATENCY) as server:
        command = [
            sys.executable,
            "-m",
            "benchmarks.llm_client",
            "--worker",
            client,
            server.url,
            str(count),
            str(slots),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def faults(count: int, slots: int, timeout_s: float) -> dict[str, Any]:
    """Everything at 20 % faults: what became of the prompts, and whether the accounts agree."""

    async def ask(url: str, ledger: Ledger) -> tuple[list[str], Counter[str]]:
        llm = OpenAICompatible("m", url, "sk-test", ledger=ledger, concurrency=slots, timeout_s=timeout_s)
        ids: list[str] = []
        outcomes: Counter[str] = Counter()
        async for answer in llm.stream(Prompt(str(n), ({"role": "user", "content": f"<{n}>"},)) for n in range(count)):
            ids.append(answer.id)
            if isinstance(answer, Completion):
                outcomes["its answer" if answer.text.endswith(f"<{answer.id}>") else "another's answer"] += 1
            else:
                outcomes[answer.reason] += 1
        return ids, outcomes

    with (
        serving(*LATENCY, "--faults", FAULTS, "--storm", STORM) as server,
        tempfile.TemporaryDirectory() as folder,
        Ledger(Path(folder) / "ledger.sqlite") as ledger,
    ):
        began = time.perf_counter()
        ids, outcomes = asyncio.run(ask(server.url, ledger))
        usage = ledger.usage()
        return {
            "requests": count,
            "seconds": round(time.perf_counter() - began, 1),
            "in_order_none_lost_none_doubled": ids == [str(number) for number in range(count)],
            "outcomes": dict(outcomes),
            "attempts": dict(usage.outcomes),
            "attempts_in_ledger": usage.attempts,
            "attempts_at_server": server.requests,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=0, help="default: 20000, with --faults 10000")
    parser.add_argument("--openai-requests", type=int, default=4000)
    parser.add_argument("--slots", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--timeout", type=float, default=5.0, help="of one request, under --faults")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=4, metavar=("CLIENT", "URL", "REQUESTS", "SLOTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        client, url, count, slots = args.worker
        worker(client, url, int(count), int(slots))
        return
    if args.faults:
        told: dict[str, Any] = faults(args.requests or 10_000, args.slots[0], args.timeout)
    else:
        rows = []
        for slots in args.slots:
            rows.append(measure("ours", args.requests or 20_000, slots))
            if importlib.util.find_spec("openai") is not None:
                rows.append(measure("openai", args.openai_requests, slots))
        told = {"rows": rows, "cpu_ratio": {}}
        by_slots = {(row["client"], row["slots"]): row["cpu_ms_per_request"] for row in rows}
        for slots in args.slots:
            if ("openai", slots) in by_slots:
                ratio = by_slots["ours", slots] / by_slots["openai", slots]
                told["cpu_ratio"][str(slots)] = round(ratio, 3)
    if args.json:
        print(json.dumps(told))
        return
    for row in told.get("rows", [told]):
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if told.get("cpu_ratio"):
        print("CPU of ours as a share of openai's, by slots:", told["cpu_ratio"])


if __name__ == "__main__":
    main()
