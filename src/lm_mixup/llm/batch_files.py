"""The files and batches of an OpenAI-compatible batch endpoint: uploading, creating, finding, downloading."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from lm_mixup.errors import ProviderError
from lm_mixup.llm import openai_wire as wire
from lm_mixup.llm.endpoint import Endpoint
from lm_mixup.llm.limits import Backoff

if TYPE_CHECKING:
    import aiohttp

TOKEN_NAME = "lm_mixup_token"
"""The name in a batch's metadata under which our own token stands."""

_LISTED = 100
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class BatchFiles:
    """Calls to ``/files`` and ``/batches``. What may pass (429, 5xx, a broken connection) is tried ``attempts`` times.

    Raises :class:`ProviderError` for everything else.
    """

    def __init__(
        self, endpoint: Endpoint, timeout_s: float, *, attempts: int = 6, backoff: Backoff | None = None
    ) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._backoff = backoff or Backoff()

    async def create(self, http: aiohttp.ClientSession, lines: bytes, token: str) -> str:
        """Upload the lines and make a batch of them; returns its id. ``token`` goes into its metadata."""
        form, content_type = _form(lines)
        uploaded = await self._json(http, "POST", "/files", form, content_type)
        wish = {
            "input_file_id": uploaded.get("id"),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {TOKEN_NAME: token},
        }
        # not tried twice blindly: a lost answer may have made a batch, which would be paid
        try:
            made = await self._json(http, "POST", "/batches", orjson.dumps(wish), attempts=1)
        except ProviderError:
            found = await self.find(http, token)
            if found is None:
                made = await self._json(http, "POST", "/batches", orjson.dumps(wish), attempts=1)
            else:
                return found
        return str(made["id"])

    async def find(self, http: aiohttp.ClientSession, token: str) -> str | None:
        """The id of the batch with this token in its metadata, None if there is none."""
        after = ""
        while True:
            page = await self._json(http, "GET", f"/batches?limit={_LISTED}{after}")
            batches = [batch for batch in page.get("data") or () if isinstance(batch, dict)]
            for batch in batches:
                if (batch.get("metadata") or {}).get(TOKEN_NAME) == token:
                    return str(batch["id"])
            if not batches or not page.get("has_more"):
                return None
            after = f"&after={batches[-1]['id']}"

    async def state(self, http: aiohttp.ClientSession, id_: str) -> Mapping[str, Any]:
        """What the endpoint says of a batch.

        One that it does not know is an error, and is not sent again: with another key it might be known, and be paid.
        """
        try:
            return await self._json(http, "GET", f"/batches/{id_}")
        except ProviderError as error:
            raise ProviderError(
                f"{error}. Batches belong to the key's project. Where one is gone for good (after a month, with most), "
                "the model as openai:MODEL in place of openai-batch:MODEL asks what is missing one by one"
            ) from error

    async def lines(self, http: aiohttp.ClientSession, file_id: str) -> AsyncIterator[bytes]:
        """The lines of a file."""
        for line in (await self._call(http, "GET", f"/files/{file_id}/content")).split(b"\n"):
            if line.strip():
                yield line

    async def _json(
        self,
        http: aiohttp.ClientSession,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        attempts: int | None = None,
    ) -> Mapping[str, Any]:
        raw = await self._call(http, method, path, body, content_type, attempts)
        try:
            told = orjson.loads(raw)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise ProviderError(f"{self._endpoint.base_url}{path}: expected a JSON object, got {wire.excerpt(raw)}")
        return told

    async def _call(
        self,
        http: aiohttp.ClientSession,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        attempts: int | None = None,
    ) -> bytes:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        url, headers = self._endpoint.base_url + path, {"Content-Type": content_type}
        detail, wait_s = "", 0.0
        for failures in range(1, (attempts or self._attempts) + 1):
            try:
                async with http.request(
                    method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
                ) as response:
                    raw = await response.read()
                    if response.status == 200:
                        return raw
                    fault = wire.read_error(response.status, raw, response.headers.get("Retry-After"))
                    detail, wait_s = fault.detail, fault.retry_after_s
                    if response.status not in _RETRIED:
                        break
            except TimeoutError:
                detail = f"no answer within {self._timeout_s:g} s"
            except (aiohttp.ClientError, OSError) as error:
                detail = f"{type(error).__name__}: {error}"
            if failures < (attempts or self._attempts):
                await asyncio.sleep(self._backoff.seconds(failures, wait_s))
        raise ProviderError(
            f"{method} {self._endpoint.base_url}{path}: {self._endpoint.scrubbed(detail)}; what was handed over is "
            "kept: the same command goes on"
        )


def _form(lines: bytes) -> tuple[bytes, str]:
    """An upload as a multipart form, and its content type."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="requests.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    return head.encode() + lines + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
