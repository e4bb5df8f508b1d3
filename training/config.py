"""Training configurations: TOML files, checked whole before anything is loaded."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRECISIONS = ("no", "fp16", "bf16")


@dataclass(frozen=True)
class Run:
    """How long and how a stage is trained: the same keys for every stage."""

    steps: int
    """Optimizer steps in all."""
    batch_size: int
    """Samples of one process in one forward pass."""
    learning_rate: float
    accumulate: int = 1
    """Forward passes to one optimizer step."""
    warmup: int = 100
    """Steps of linear rise of the learning rate."""
    cooldown: float = 0.2
    """Share of the steps, at the end, in which the learning rate falls linearly to zero."""
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is kept; 0 for none."""
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    compile: bool = False
    """Compile the trained networks by torch.compile; on a CPU that takes a C++ compiler."""
    seed: int = 0
    workers: int = 0
    """Processes that load data, beside each training process."""
    log_every: int = 20
    checkpoint_every: int = 500
    preview_every: int = 1000

    def __post_init__(self) -> None:
        positive = ("steps", "batch_size", "accumulate", "learning_rate", "log_every")
        positive += ("checkpoint_every", "preview_every", "clip_norm")
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"run.{name} is {getattr(self, name)}; expected more than 0.")
        for name in ("warmup", "weight_decay", "workers", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"run.{name} is {getattr(self, name)}; expected 0 or more.")
        for name in ("cooldown", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"run.{name} is {getattr(self, name)}; expected 0 to 1.")
        if self.mixed_precision not in PRECISIONS:
            raise ValueError(
                f"run.mixed_precision is {self.mixed_precision!r}; expected one of "
                f"{', '.join(PRECISIONS)}."
            )


#: What may change when a run goes on: nothing that alters the steps that were taken, or which
#: samples the next ones see.
RESUMABLE = (
    "steps",
    "learning_rate",
    "mixed_precision",
    "compile",
    "workers",
    "log_every",
    "checkpoint_every",
    "preview_every",
)

ADDED = (
    *("order", "captioned", "own_left_out", "catalogue", "keep", "noise_offset"),
    *("focus", "focus_share", "start", "decoder_only"),
)
"""Options of the stages that earlier versions did not have."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: naming the file.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give a training configuration (TOML).")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a training configuration (TOML).")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error


def override(content: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Apply `table.key=value` settings; the value is read as TOML, else as a string."""
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign or not name:
            raise ValueError(f"{setting!r} is no setting: expected table.key=value.")
        try:
            value = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            value = text
        *tables, key = name.split(".")
        table = content
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ValueError(f"{setting!r}: {part!r} is no table of the configuration.")
        table[key] = value
    return content


def parse(cls: type, content: Mapping[str, Any], where: str = "") -> Any:
    """Build the dataclass `cls` from plain values; nested tables are nested dataclasses.

    Raises:
        ValueError: an unknown key, a missing one, or a value of another type.
    """
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(
            f"unknown key {where + unknown[0]!r}; known here: {', '.join(sorted(known))}."
        )
    values = {}
    for name, spec in known.items():
        if name in content:
            values[name] = _value(hints[name], content[name], where + name)
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise ValueError(f"the key {where + name!r} is missing.")
    return cls(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}; expected a table.")
        return parse(hint, value, f"{where}.")
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} is {value!r}; expected a list.")
        return tuple(
            _value(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value)
        )
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if get_origin(hint) is dict and isinstance(value, Mapping):
        return {k: _value(get_args(hint)[1], v, f"{where}.{k}") for k, v in value.items()}
    plain = get_origin(hint) or hint
    if plain is not Any and (
        not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool)
    ):
        raise ValueError(f"{where} is {value!r}; expected {plain.__name__}.")
    return value


def check_shares(name: str, shares: Sequence[float], count: int | None = None) -> None:
    """Refuse shares that can't be relative probabilities.

    Raises:
        ValueError: naming the key.
    """
    if count is not None and len(shares) != count:
        raise ValueError(f"{name} is {list(shares)}; expected {count} numbers.")
    if not all(0 <= share < math.inf for share in shares) or not sum(shares) > 0:
        raise ValueError(f"{name} is {list(shares)}; expected numbers from 0 on, not all 0.")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the keys whose values differ, as `table.key: old, now new`."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b and f"{prefix}{key}" not in {f"run.{name}" for name in RESUMABLE}:
            found.append(f"{prefix}{key}: {a!r}, now {b!r}")
    return found


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration as JSON values."""
    return json.loads(json.dumps(asdict(config), default=str))


__all__ = [
    "ADDED",
    "Run",
    "check_shares",
    "differences",
    "field",
    "override",
    "parse",
    "plain",
    "read_toml",
]
