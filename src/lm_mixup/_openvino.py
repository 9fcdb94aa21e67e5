"""The one way in which lm-mixup imports OpenVINO: quietly.

``import openvino`` initialises ``openvino-telemetry`` (a hard dependency of the wheel) with consent assumed: unless the
user has opted out, it writes a client id and a counter to ``~/intel`` and posts an event to an analytics service.
OpenVINO carries its own do-nothing stand-in for installations without that package, so we make the package look
absent before the first import. Nothing is written, nothing is sent, and no file of the user's is touched.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from lm_mixup.errors import MissingExtraError


def silence_telemetry() -> None:
    """Keep OpenVINO from loading its telemetry. Call before importing ``openvino`` or ``openvino_genai``.

    Where the program has imported OpenVINO already, on its own account, this leaves everything as it is.
    """
    if "openvino" not in sys.modules:
        # None in sys.modules makes "import openvino_telemetry" an ImportError, which OpenVINO expects and handles
        blocked: dict[str, ModuleType | None] = {"openvino_telemetry": None}
        sys.modules.update(blocked)  # type: ignore[arg-type]


def import_openvino(what: str) -> Any:
    """The ``openvino`` module, imported without telemetry.

    ``what`` names the feature that needs it, for the :class:`~lm_mixup.errors.MissingExtraError` raised without it.
    """
    silence_telemetry()
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError(what, "embedded", "openvino") from error
    return openvino
