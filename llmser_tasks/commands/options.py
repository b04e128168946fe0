"""Command line options made from the configuration: one per knob, with its bounds and its help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from llmser_tasks.core import config, environment
from llmser_tasks.core.config import Parameter
from llmser_tasks.core.places import is_folder, path_of

F = TypeVar("F", bound=Callable[..., Any])
PATHS = ("reviews", "items")  # relative to where the user stands, who may not stand where the run runs


class Several(click.ParamType[Any]):
    """Values separated by commas; the option may also be repeated."""

    name = "list"

    def __init__(self, one: click.ParamType[Any]) -> None:
        self.one = one
        self.name = f"{one.name},…"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return f"{self.one.get_metavar(param, ctx) or self.one.name.upper()}[,…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        return [self.one.convert(part.strip(), param, ctx) for part in str(value).split(",") if part.strip()]


class Named(click.types.StringParamType):
    """Text that names something; `METHOD`."""

    def __init__(self, what: str) -> None:
        self.name = what


class OrEmpty(click.ParamType[Any]):
    """A value, or nothing at all (`--tail-threshold ''`)."""

    def __init__(self, one: click.ParamType[Any]) -> None:
        self.one = one
        self.name = one.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "" else self.one.convert(value, param, ctx)


def of_settings(*sections: str) -> Callable[[F], F]:
    """Give a command an option per knob of these sections (all of them, and --preset, if none is named)."""
    chosen = [p for p in config.parameters() if not sections or p.section in sections]

    def decorate(command: F) -> F:
        for parameter in reversed(chosen):
            command = _option(parameter)(command)
        return command if sections else _preset(command)

    return decorate


def given(ctx: click.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that the user set, over the preset's, as flat values; the others keep the dataset's or the general
    default.
    """
    known = {p.name for p in config.parameters()}
    chosen = {
        name: value
        for name, value in values.items()
        if name in known and ctx.get_parameter_source(name) != click.core.ParameterSource.DEFAULT
    }
    for name, value in chosen.items():
        if isinstance(value, tuple):
            chosen[name] = [item for part in value for item in part]
        elif (name in PATHS and value) or (name == "encoder" and is_folder(value)):
            chosen[name] = str(path_of(name, value).absolute())
    return {**environment.preset(values["preset"]), **chosen} if values.get("preset") else chosen


def as_arguments(flat: Mapping[str, Any]) -> list[str]:
    """The options that give a run these settings: those that the dataset's file does not bring by itself."""
    dataset = {"dataset": flat["dataset"]}
    usual = config.to_flat(environment.configuration(dataset))
    other = dataset | {name: value for name, value in flat.items() if usual.get(name) != value}
    arguments = []
    for name, value in other.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments.append(option if value else option.replace("--", "--no-", 1))
        else:
            several = isinstance(value, list | tuple)
            arguments += [option, ",".join(map(str, value)) if several else "" if value is None else str(value)]
    return arguments


def _preset(command: F) -> F:
    return click.option(
        "--preset",
        type=click.Choice(environment.preset_names()),
        help=f"Settings that belong together; what else you pass stands over them. {environment.ABOUT_PRESETS}",
    )(command)


def _option(parameter: Parameter) -> Callable[[F], F]:
    dashed = parameter.name.replace("_", "-")
    kind = _type(parameter.schema)
    flag = kind is click.BOOL
    default = parameter.default
    shown = ", ".join(map(str, default)) if isinstance(default, tuple) else default
    if flag:
        shown = dashed if default else f"no-{dashed}"
    text = parameter.description + (f" Default: {shown}." if shown not in (None, "") else "")
    return click.option(
        f"--{dashed}/--no-{dashed}" if flag else f"--{dashed}",
        parameter.name,
        type=None if flag else kind,
        multiple=isinstance(kind, Several),
        default=None,
        help=text,
    )


def _type(schema: Mapping[str, Any]) -> click.ParamType[Any]:
    """The click type of a JSON schema, as pydantic writes it."""
    if "anyOf" in schema:
        return OrEmpty(_type(next(s for s in schema["anyOf"] if s["type"] != "null")))
    if schema["type"] == "array":
        return Several(_type(schema["items"]))
    if "enum" in schema:
        return click.Choice(schema["enum"])
    if "const" in schema:
        return click.Choice([schema["const"]])
    if schema["type"] == "boolean":
        return click.BOOL
    if schema["type"] in {"integer", "number"}:
        low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        bounds = {
            "min": schema.get("minimum", low),
            "max": schema.get("maximum", high),
            "min_open": low is not None,
            "max_open": high is not None,
        }
        return click.IntRange(**bounds) if schema["type"] == "integer" else click.FloatRange(**bounds)
    return Named(schema["format"]) if "format" in schema else click.STRING
