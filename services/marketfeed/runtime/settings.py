"""Settings: one frozen dataclass per service, read from flags and `MARKETFEED_*` variables.

A field is declared once, with its meaning, and from that declaration come the environment variable, the flag, the
help text and the printed summary. A variable that no service knows is refused, because a misspelt setting that is
silently ignored is the worst kind. Values win in this order: flag, environment, default.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import pkgutil
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import marketfeed
from marketfeed.domain.errors import SettingError

PREFIX = "MARKETFEED_"
# Set by a supervisor for its children; not a setting of a service.
PORT_FILE = "MARKETFEED_PORT_FILE"
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_IN_WORDS = {"INTEGER": "a whole number", "NUMBER": "a number", "yes|no": "yes or no"}


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


def setting(default: Any, meaning: str, *, secret: bool = False, choices: tuple[str, ...] | None = None) -> Any:
    """A settings field: its default (or REQUIRED), and one sentence with meaning, unit and why this default."""
    metadata = {"meaning": meaning, "secret": secret, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Base of every service's settings; a subclass is a frozen, keyword-only, slotted dataclass of `setting` fields."""

    http_host: str = setting("127.0.0.1", "address that /healthz, /readyz, /metrics and /status listen on")
    http_port: int = setting(0, "port of the same, 0 for any free one")
    log_format: str = setting("auto", "log lines: auto is pretty on a terminal", choices=("auto", "json", "pretty"))
    log_level: str = setting("info", "least severity that is logged", choices=("debug", "info", "warning", "error"))
    otlp_endpoint: str | None = setting(None, "where traces go by OTLP over HTTP; without it none are made")
    shutdown_timeout_s: float = setting(20.0, "time in which a stopping service drains, flushes and closes")

    @classmethod
    def load(cls, overrides: Mapping[str, object] | None = None, env: Mapping[str, str] | None = None) -> Self:
        """The settings from flags (`overrides`, None means not given) and environment.

        Raises SettingError with one sentence for a value that cannot be read, a required one that is missing and a
        `MARKETFEED_*` name that no service knows.
        """
        env = os.environ if env is None else env
        refuse_unknown_names(env, {f.name for f in dataclasses.fields(cls)})
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            given = (overrides or {}).get(field.name)
            name = variable(field.name)
            if given is not None:
                values[field.name] = (
                    given if not isinstance(given, str) else parse(flag(field.name), given, field, hints)
                )
            elif name in env:
                values[field.name] = parse(name, env[name], field, hints)
            elif field.default is REQUIRED:
                raise SettingError(name, f"is not set; give it or {flag(field.name)} ({field.metadata['meaning']})")
        return cls(**values)

    def summary(self) -> dict[str, object]:
        """Every setting with its value, secrets masked, for one log line at the start."""
        shown: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            shown[field.name] = "***" if field.metadata["secret"] and value else value
        return shown


def variable(field_name: str) -> str:
    """Environment variable of a field: `flush_interval_ms` is `MARKETFEED_FLUSH_INTERVAL_MS`."""
    return PREFIX + field_name.upper()


def flag(field_name: str) -> str:
    """Command line flag of a field: `flush_interval_ms` is `--flush-interval-ms`."""
    return "--" + field_name.replace("_", "-")


def add_arguments(
    parser: argparse.ArgumentParser, cls: type[Settings], skip: frozenset[str] = frozenset(), title: str = "settings"
) -> None:
    """Give `parser` a flag for every field of `cls` not in `skip`, with meaning, default and variable in its help.

    `title` heads the flags of `cls` itself, so that a long list can be given in several groups.
    """
    base = {f.name for f in dataclasses.fields(Settings)}
    own = parser.add_argument_group(title)
    common = parser.add_argument_group("service", "the same for every service") if base - skip else own
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in skip:
            continue
        group = common if field.name in base else own
        default = "required" if field.default is REQUIRED else f"default {_shown(field.default)}"
        text = f"{field.metadata['meaning']} ({default}; {variable(field.name)})".replace("%", "%%")
        choices = field.metadata["choices"]
        metavar = "|".join(choices) if choices else _type_name(hints[field.name])
        if hints[field.name] is bool:
            group.add_argument(flag(field.name), nargs="?", const="true", default=None, metavar="yes|no", help=text)
        else:
            group.add_argument(flag(field.name), default=None, metavar=metavar, help=text)


def overrides_of(namespace: argparse.Namespace, cls: type[Settings]) -> dict[str, object]:
    """What the command line gave for the fields of `cls`."""
    names = {f.name for f in dataclasses.fields(cls)}
    return {name: value for name, value in vars(namespace).items() if name in names and value is not None}


def refuse_unknown_names(env: Mapping[str, str], own: set[str]) -> None:
    """Raise SettingError for a `MARKETFEED_*` variable that neither this service nor any other knows."""
    given = {name for name in env if name.startswith(PREFIX) and name != PORT_FILE}
    foreign = given - {variable(name) for name in own}
    if foreign and (unknown := foreign - known_variables()):
        raise SettingError(min(unknown), "no service knows this setting; correct or unset it")


def known_variables() -> set[str]:
    """The variables of all services, read from their `settings` modules (which import nothing heavy)."""
    known: set[str] = set()
    for package in pkgutil.iter_modules(marketfeed.__path__):
        if not package.ispkg:
            continue
        try:
            module = importlib.import_module(f"marketfeed.{package.name}.settings")
        except ModuleNotFoundError:
            continue
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Settings):
                known.update(variable(field.name) for field in dataclasses.fields(value))
    return known


def parse(name: str, text: str, field: dataclasses.Field[Any], hints: Mapping[str, Any]) -> Any:
    """The value of a field from its text; raises SettingError naming `name`."""
    choices = field.metadata["choices"]
    if choices and text not in choices:
        raise SettingError(name, f"is {text!r}, must be one of {', '.join(choices)}")
    try:
        return _convert(hints[field.name], text)
    except ValueError:
        kind = _type_name(hints[field.name])
        raise SettingError(name, f"is {text!r}, must be {_IN_WORDS.get(kind, kind)}") from None


def parse_duration(text: str) -> float | None:
    """Seconds in `90`, `30s`, `2m` or `1h`; None for no text. Raises SettingError."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise SettingError("--for", f"is {text!r}; write a time such as 30s, 2m or 1h")
    return float(match[1]) * _UNITS_S[match[2] or "s"]


def _convert(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = [a for a in typing.get_args(kind) if a is not type(None)]
        return None if text == "" else _convert(inner[0], text)
    if kind is bool:
        return _convert_bool(text)
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is Path:
        return Path(text)
    return kind(text)


def _convert_bool(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _type_name(kind: Any) -> str:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return _type_name(next(a for a in typing.get_args(kind) if a is not type(None)))
    if typing.get_origin(kind) is tuple:
        return "A,B,…"
    return {int: "INTEGER", float: "NUMBER", bool: "yes|no", Path: "PATH"}.get(kind, "TEXT")


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "none" if default in (None, "") else str(default)
