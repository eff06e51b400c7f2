"""Golden vectors as files: one JSON file per unit, one case per line, words as hexadecimal
digits."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FOLDER", "Choice", "File", "Group", "load", "number", "save", "value", "word"]

Choice = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[2] / "tests/golden/vectors"


@dataclass
class Group:
    """The cases of one choice of formats; ``cases`` have a class, then the unit's fields."""

    choice: Choice
    cases: list[list]

    def column(self, fields: Sequence[str], name: str) -> list:
        at = 1 + list(fields).index(name)
        return [case[at] for case in self.cases]

    def __str__(self) -> str:
        return " ".join(map(str, self.choice.values()))


@dataclass
class File:
    """Everything of one unit; ``fields`` says what each item of a case is."""

    unit: str
    about: str
    fields: dict[str, str]
    groups: list[Group]


def word(number: int, bits: int) -> str:
    """``bits`` bits as hexadecimal digits, two's complement."""
    return format(int(number) & (1 << bits) - 1, f"0{-(-bits // 4)}x")


def number(text: str) -> int:
    return int(text, 16)


def value(real: float) -> str:
    """A float64 in C's hexadecimal notation, without zeros that say nothing: ``0x1.8p-3``."""
    if not np.isfinite(real):
        return str(real)
    digits, exponent = float(real).hex().split("p")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return f"{digits}p{exponent}"



def save(file: File, folder: Path = FOLDER) -> Path:
    """Write ``file``, one case a line."""
    groups = []
    for group in file.groups:
        lines = ",\n".join(f"   {json.dumps(case)}" for case in group.cases)
        choice = json.dumps(group.choice)[1:-1]
        groups.append(f'  {{{choice},\n   "cases": [\n{lines}]}}')
    head = json.dumps({"unit": file.unit, "about": file.about,
                       "fields": {"class": "why the case is here"} | file.fields},
                      indent=1, ensure_ascii=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file.unit}.json"
    path.write_text(head[:-2] + ',\n "groups": [\n' + ",\n".join(groups) + "]}\n")
    return path


def load(unit: str, folder: Path = FOLDER) -> File:
    """The file of ``unit``."""
    raw = json.loads((folder / f"{unit}.json").read_text())
    groups = [Group({k: v for k, v in group.items() if k != "cases"}, group["cases"])
              for group in raw["groups"]]
    return File(raw["unit"], raw["about"], {k: v for k, v in raw["fields"].items()
                                            if k != "class"}, groups)
