"""The prompts: one text file each, versioned, and the one loader that turns a file and some values into messages.

A file looks like this (``#`` starts a comment line above the first section)::

    version: 1
    # what it is for
    [system]
    …text…
    [user]
    …text with {{sample}}…

Placeholders are ``{{name}}``. They are filled in one pass, and what is filled in is never read again, so that sample
text holding braces, tags or placeholders stays what it is: data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lm_mixup.errors import InputError
from lm_mixup.records import digest

_SECTION = re.compile(r"^\[(system|user|assistant)\]\s*$")
_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")

Messages = tuple[dict[str, str], ...]
"""OpenAI-shaped messages: dictionaries of ``role`` and ``content``."""


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt: its name, its version, and its parts as (role, text with placeholders).

    ``digest`` is the content hash of the parts; it belongs into the key of whatever is asked with the prompt.
    """

    name: str
    version: int
    parts: tuple[tuple[str, str], ...]
    digest: str

    @property
    def placeholders(self) -> frozenset[str]:
        """The names that :meth:`render` must be given."""
        return frozenset(name for _, text in self.parts for name in _PLACEHOLDER.findall(text))

    def render(self, **values: str) -> Messages:
        """The messages with every placeholder filled in. Values are data: they are not searched for placeholders.

        Raises :class:`InputError` unless exactly the template's placeholders are given.
        """
        if self.placeholders != values.keys():
            raise InputError(
                f"prompt {self.name!r}: expected values for {sorted(self.placeholders)}, got {sorted(values)}"
            )
        return tuple(
            {"role": role, "content": _PLACEHOLDER.sub(lambda found: values[found[1]], text)}
            for role, text in self.parts
        )


def load(name: str) -> Template:
    """The prompt ``name`` that ships with the package, e.g. ``judge_qa``. Raises :class:`InputError` if none has it."""
    file = resources.files(__name__).joinpath(f"{name}.txt")
    if not file.is_file():
        known = sorted(f.name.removesuffix(".txt") for f in resources.files(__name__).iterdir() if ".txt" in f.name)
        raise InputError(f"there is no prompt {name!r}; the package has: {', '.join(known)}")
    return parse(file.read_text(encoding="utf-8"), name)


def load_file(path: Path) -> Template:
    """A prompt of the user's own, in the same form. Raises :class:`InputError` where it cannot be used."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the prompt: {error}") from error


def parse(text: str, name: str) -> Template:
    """A prompt from the text of its file; ``name`` is what errors call it."""
    version: int | None = None
    parts: list[tuple[str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        section = _SECTION.match(line)
        if section:
            parts.append((section[1], []))
        elif parts:
            parts[-1][1].append(line)
        elif line.startswith("version:") and line.removeprefix("version:").strip().isdecimal():
            version = int(line.removeprefix("version:"))
        elif line.strip() and not line.startswith("#"):
            raise InputError(
                f'{name} line {number}: expected "version: N", a # comment or a section such as [user], got {line!r}'
            )
    done: tuple[tuple[str, str], ...] = tuple((role, "\n".join(lines).strip()) for role, lines in parts)
    if version is None or not done or any(not body for _, body in done):
        raise InputError(f'{name}: expected a line "version: N" and at least one section ([system], [user]) with text')
    return Template(name, version, done, digest([list(part) for part in done]))
