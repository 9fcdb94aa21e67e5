"""Counting tokens with a model's own tokenizer, chat template and all, without running the model."""

from __future__ import annotations

from pathlib import Path

from lm_mixup._openvino import silence_telemetry
from lm_mixup.errors import MissingExtraError, ModelError
from lm_mixup.evaluation.rows import CountTokens
from lm_mixup.prompts import Messages

MESSAGE_TOKENS, END_TOKENS = 5, 4
"""What a chat template of the ChatML kind adds to each message, and around the answer: for a bare tokenizer file."""


def counter(path: Path) -> CountTokens:
    """Counts by the tokenizer at ``path``: a GGUF file, an OpenVINO folder, or a ``tokenizer.json`` alone.

    Raises ModelError where there is none, MissingExtraError where its package is not installed.
    """
    if not path.exists():
        raise ModelError(f"{path}: expected a GGUF file, an OpenVINO folder or a tokenizer.json, found nothing there")
    return _bare(path) if path.suffix == ".json" else _with_template(path)


def _bare(path: Path) -> CountTokens:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("counting tokens", "embedded", "tokenizers") from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(f"{path}: expected a tokenizer.json, got {error}") from error

    def count(messages: Messages, answer: str) -> int:
        texts = [*(message["content"] for message in messages), answer]
        lengths = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
        return sum(lengths) + MESSAGE_TOKENS * len(messages) + END_TOKENS

    return count


def _with_template(path: Path) -> CountTokens:
    silence_telemetry()
    try:
        import openvino_genai
    except ImportError as error:
        raise MissingExtraError("counting tokens", "genai", "openvino-genai") from error
    try:
        tokenizer = openvino_genai.Tokenizer(str(path))
    except RuntimeError as error:
        raise ModelError(f"{path}: OpenVINO GenAI finds no tokenizer: {str(error).strip()[:300]}") from error
    if not tokenizer.chat_template:
        raise ModelError(f"{path}: the model has no chat template; take an instruction-tuned (chat) model")

    def length(text: str) -> int:
        return int(tokenizer.encode(text, add_special_tokens=False).input_ids.shape[1])

    def count(messages: Messages, answer: str) -> int:
        asked = tokenizer.apply_chat_template([dict(message) for message in messages], add_generation_prompt=True)
        return length(asked) + length(answer) + 1  # and the token that ends the answer

    return count
