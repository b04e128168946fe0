"""The trigger form's fields, made from the configuration.

A field of the section `dataset` is empty by default and then takes the value of the dataset's own file, or the general
default where the file is silent; any value entered wins over the file. Every other field shows its default and means
what it shows, because dataset files do not speak of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmser_tasks.core import config

FIRST = ("dataset", "source", "reviews", "items")
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
        if isinstance(default, tuple):
            default = list(default)
        if parameter.name == "dataset":
            schema["examples"] = sorted({str(default), *datasets})
        elif parameter.section == "dataset":
            text += " Empty: as the dataset's file says" + (f", else {_shown(default)}." if _shown(default) else ".")
            default, schema = None, _optional(schema)
        else:
            text += f" Default: {_shown(default) or 'none'}."
        symbol = SYMBOLS.get(parameter.name)
        yield (
            parameter.name,
            {
                "default": default,
                "description": text.strip(),
                "title": parameter.name.replace("_", " ").capitalize() + (f" ({symbol})" if symbol else ""),
                # What every run needs stands outside the sections, where the form shows it unfolded.
                **({} if parameter.name in FIRST else {"section": parameter.heading}),
                **schema,
            },
        )


def values(entered: Mapping[str, Any]) -> dict[str, Any]:
    """What the form sends, less the fields that were left empty."""
    return {name: value for name, value in entered.items() if value is not None}


def dataset_names(*folders: Path) -> list[str]:
    """Datasets that have a file in one of the folders."""
    return sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.json")})


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, list):
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
