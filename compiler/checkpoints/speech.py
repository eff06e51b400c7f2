"""How a model of sound begins its text, and what it never says: ``Speech``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["FOUND", "Speech"]

FOUND = -1
"""In a prompt: the token of the language that is found from the sound."""


@dataclass(frozen=True)
class Speech:
    """Tokens of Whisper's kind, as ``generation_config.json`` has them.

    Attributes
    ----------
    languages, tasks: tokens by name: ``en``, ``translate``.
    forced: what stands after the first token where neither is asked for; ``FOUND`` a language.
    plain: what asks for text without times; ``None``: nothing does.
    never, never_first: tokens that are not said, or not as the first.
    language, task: those that are asked for where nothing else is.
    """

    languages: Mapping[str, int] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)
    forced: tuple[int, ...] = ()
    plain: int | None = None
    never: tuple[int, ...] = ()
    never_first: tuple[int, ...] = ()
    language: str | None = None
    task: str | None = None

    def prompt(self, start: Sequence[int], language: str | None = None, task: str | None = None
               ) -> tuple[int, ...]:
        """What the text begins with: ``start``, a language, a task, no times. ``ValueError`` for a
        name that is not known."""
        language, task = language or self.language, task or self.task
        own = self._chosen("language", language, self.languages)
        what = self._chosen("task", task, self.tasks)
        found = [*start, *(self.forced if language is None and task is None else ())]
        if own is None and self.languages and found == [*start]:
            own = FOUND
        if own is not None:
            found.append(own)
        if what is None and language is not None:
            what = self.tasks.get("transcribe")
        if what is not None:
            found.append(what)
        if self.plain is not None and found[-1] != self.plain:
            found.append(self.plain)
        return tuple(found)

    @staticmethod
    def _chosen(what: str, name: str | None, known: Mapping[str, int]) -> int | None:
        if name is None:
            return None
        if name not in known:
            allowed = f"one of {', '.join(known)}" if known else "left out: this model has one"
            raise ValueError(f"{what} must be {allowed}, not {name!r}")
        return known[name]
