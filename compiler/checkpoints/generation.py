"""What the files of a model say of the text that it generates: ``with_speech``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.settings import Settings, shown
from compiler.checkpoints.speech import FOUND, Speech

__all__ = ["with_speech"]


def with_speech(folder: Path, model: Transformer) -> Transformer:
    """``model``, which hears, with what ``generation_config.json`` says, or ``config.json`` where
    there is none; ``CheckpointError``."""
    path = folder / "generation_config.json"
    settings = Settings.from_json(path if path.exists() else folder / "config.json")
    most = len(model.embedding.table)  # type: ignore[union-attr]  # a decoder of words

    def token(value: object, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < most:
            raise CheckpointError(f"{settings.where}: {name} must be tokens from 0 to {most - 1}, "
                                  f"not {shown(value)}")
        return value

    def listed(name: str) -> tuple[int, ...]:
        values = settings.get(name)
        if values is not None and not (isinstance(values, list) and all(
                type(value) is int and value >= 0 for value in values)):
            raise settings.refuse(name, "a list of tokens")
        return tuple(value for value in values or () if value < most)  # no others could be said

    def named(name: str) -> dict[str, int]:
        values = settings.get(name)
        if values is not None and not isinstance(values, dict):
            raise settings.refuse(name, "tokens by name")
        return {key.removeprefix("<|").removesuffix("|>"): token(value, name)
                for key, value in (values or {}).items()}

    plain = settings.get("no_timestamps_token_id")
    found = Speech(
        named("lang_to_id"), named("task_to_id"), _forced(settings, token),
        None if plain is None else token(plain, "no_timestamps_token_id"),
        listed("suppress_tokens"), listed("begin_suppress_tokens"))
    return replace(model, speech=replace(
        found, language=_asked(settings, "language", found.languages),
        task=_asked(settings, "task", found.tasks)))


def _asked(settings: Settings, name: str, known: Mapping[str, int]) -> str | None:
    """What the settings ask for where nothing else does."""
    value = settings.get(name)
    if value is None:
        return None
    plain = value.removeprefix("<|").removesuffix("|>") if isinstance(value, str) else ""
    if plain not in known:
        raise settings.refuse(name, f"one of {', '.join(known) or 'none'}")
    return plain


def _forced(settings: Settings, token: Callable[[object, str], int]) -> tuple[int, ...]:
    """The tokens after the first, which ``forced_decoder_ids`` has by position from 1 on; null is
    a language that is found."""
    name = "forced_decoder_ids"
    values = settings.get(name) or []
    if not isinstance(values, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and pair[0] == place
            for place, pair in enumerate(values, 1)):
        raise settings.refuse(name, "pairs of a position, from 1 on, and a token")
    found = tuple(FOUND if value is None else token(value, name) for _, value in values)
    if FOUND in found[1:] or (FOUND in found and not settings.get("lang_to_id")):
        raise settings.refuse(name, "null for the first alone, where lang_to_id names languages")
    return found
