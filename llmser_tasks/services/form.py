"""The trigger form's fields, made from the configuration.

A field of the section `dataset` is empty by default and then takes the value of the dataset's own file, or the general
default where the file is silent; any value entered wins over the file. Every other field shows its default and means
what it shows, because dataset files do not speak of them.

A preset does speak of them. The form sends every field, touched or not, so beside a preset one that still shows its
default counts as untouched; whatever else is entered wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmser_tasks.core import config, environment
from llmser_tasks.core.config import Parameter

FIRST = ("dataset", "source", "reviews", "items")
PRESET = "preset"
SYMBOLS = {"pool": "N", "pseudo_items": "M", "reason_pool": "H", "tail_threshold": "T", "beta": "β", "dimension": "d"}
AS_FILE = "as the dataset's file says"
Field = dict[str, Any]


def fields(datasets: Iterable[str] = ()) -> Iterator[tuple[str, Field]]:
    """Name, default, help and JSON schema of every field, in the order of the form.

    Args:
        datasets: names offered for the dataset; any other name may be typed.
    """
    for parameter in config.parameters():
        schema = _flat(parameter.schema)
        default, text = parameter.default, parameter.description
        if parameter.name == "dataset":
            schema["examples"] = sorted({str(default), *datasets})
        elif parameter.section == "dataset":
            text += " Empty: as the dataset's file says" + (f", else {_shown(default)}." if _shown(default) else ".")
            schema = _optional(schema)
        else:
            text += f" Default: {_shown(default) or 'none'}."
        symbol = SYMBOLS.get(parameter.name)
        yield (
            parameter.name,
            {
                "default": _untouched(parameter),
                "description": text.strip(),
                "title": parameter.name.replace("_", " ").capitalize() + (f" ({symbol})" if symbol else ""),
                # What every run needs stands outside the sections, where the form shows it unfolded.
                **({} if parameter.name in FIRST else {"section": parameter.heading}),
                **schema,
            },
        )
        if parameter.name == FIRST[-1]:
            yield PRESET, _preset()


def values(entered: Mapping[str, Any]) -> dict[str, Any]:
    """What the form sends, less the fields that were left empty, over the values of the preset.

    Raises:
        InputError: there is no such preset.
    """
    filled = {name: value for name, value in entered.items() if value is not None and name != PRESET}
    if not entered.get(PRESET):
        return filled
    preset = environment.preset(str(entered[PRESET]))
    untouched = {parameter.name: _untouched(parameter) for parameter in config.parameters()}
    return preset | {name: value for name, value in filled.items() if name not in preset or value != untouched[name]}


def dataset_names(*folders: Path) -> list[str]:
    """Datasets that have a file in one of the folders."""
    return sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.json")})


def _preset() -> Field:
    names = environment.preset_names()
    return {
        "default": None,
        "description": "Settings that belong together. They stand in for fields that show their default; what else you"
        f" enter wins. {environment.ABOUT_PRESETS} Default: none.",
        "title": "Preset",
        "type": ["string", "null"],
        "enum": [None, *names],
        "values_display": {None: "none"},
    }


def _untouched(parameter: Parameter) -> Any:
    """What a field holds before anybody enters something."""
    if parameter.section == "dataset" and parameter.name != "dataset":
        return None
    return list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, list | tuple):
        return ", ".join(map(str, default))
    return "" if default is None else str(default)


def _flat(schema: Mapping[str, Any]) -> Field:
    """`anyOf` [T, null] as one type list, which is what the form understands; choices of a list as its pick list."""
    flat: Field = {}
    for key, value in schema.items():
        if key == "anyOf":
            for alternative in value:
                flat |= {k: v for k, v in alternative.items() if k != "type"}
            flat["type"] = [alternative["type"] for alternative in value]
        else:
            flat[key] = value
    one = flat.get("items", {})
    if flat.get("type") == "array" and (choices := one.get("enum") or one.get("examples")):
        flat["examples"] = list(choices)
    return flat


def _optional(schema: Field) -> Field:
    """The same field, which may stay empty."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if kinds == ["boolean"]:  # the form's switch knows no third state, a choice does
        return {"enum": [None, True, False], "values_display": {None: AS_FILE, "true": "yes", "false": "no"}}
    optional = schema | {"type": [*kinds, *(["null"] if "null" not in kinds else [])]}
    if "enum" in optional:
        optional |= {"enum": [None, *optional["enum"]], "values_display": {None: AS_FILE}}
    return optional
