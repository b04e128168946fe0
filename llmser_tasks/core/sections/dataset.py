"""Which dumps, and how they are filtered."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, ValidationInfo, WithJsonSchema, field_validator, model_validator

from llmser_tasks.core.choices import OneOf
from llmser_tasks.core.kinds import (
    DUMP_FORMATS,
    TITLE,
    DumpFormat,
)
from llmser_tasks.core.section import Section

Ties = Literal["hash", "file"]
TEXT_FIELDS = tuple(dict.fromkeys((TITLE, *(field for format_ in DUMP_FORMATS.values() for field in format_.fields))))
TextField = Annotated[str, WithJsonSchema({"type": "string", "enum": list(TEXT_FIELDS)})]  # a format has some of them
LONGEST_NAME = 63
Name = Annotated[str, StringConstraints(pattern=rf"^[a-z0-9][a-z0-9_-]{{0,{LONGEST_NAME - 1}}}$")]
NAMES = f"up to {LONGEST_NAME} of a–z, 0–9, - and _, beginning with a letter or digit"  # in words, what that allows


def _texts() -> str:
    """What the text is by default, by format: `title, brand, categories for amazon-2014, …`."""
    formats: dict[tuple[str, ...], list[str]] = {}
    for name, format_ in DUMP_FORMATS.items():
        formats.setdefault(format_.text, []).append(name)
    return "; ".join(f"{', '.join(text)} for {', '.join(names)}" for text, names in formats.items())


class Dataset(Section):
    """Which dumps, and how they are filtered."""

    heading: ClassVar[str] = "Filter and split"

    name: Name = Field(
        "sample", description="Name of the dataset: its folder in the artefact store, its rows in Postgres."
    )
    source: Annotated[str, OneOf(DUMP_FORMATS)] = Field(
        DUMP_FORMATS.default, description="Format of the dumps. [design]"
    )
    reviews: str = Field(
        "", description="Path of the review dump: JSON lines or array, CSV or Parquet, plain or .gz; or Yelp's .tar."
    )
    items: str = Field("", description="Path of the item dump (meta or business); inside the same .tar for Yelp.")
    user_core: int = Field(3, ge=1, description="Users with fewer interactions are dropped. [released code]")
    item_core: int = Field(
        3, ge=1, description="Items with fewer are dropped: 3 Fashion, Yelp; 5 Book, Beauty. [released code]"
    )
    iterate_core: bool = Field(
        False, description="Repeat the filter until nothing falls out (k-core). [released code: one pass]"
    )
    min_length: int = Field(
        3, ge=3, description="Users with shorter histories after the filter are dropped. [released code]"
    )
    split: Literal["leave-one-out", "temporal"] = Field(
        "leave-one-out", description="How test and validation are cut off. [paper]"
    )
    ties: Ties = Field(
        "hash",
        description="Order of a user's interactions that share a time: hash carries no information, file keeps the order"
        " of lines, which in many dumps is that of item ids. [measured on Beauty; released code: file]",
    )
    tail_threshold: int | None = Field(
        None,
        ge=1,
        description="T: a user with n_u ≤ T is a tail user; empty: the 80th percentile of n_u. [paper: 3 Fashion]",
    )
    noun: str = Field(
        "", max_length=40, description="What an item is called in the prompts; empty: business for Yelp, else product."
    )

    item_text: tuple[TextField, ...] = Field(
        (),
        description="Fields that make an item's text, in this order: what it is embedded by and what an LLM is shown. Empty:"
        f" {_texts()}. A field that an item does not have is left out. [measured on Yelp; UniSRec, Recformer]",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_source_says(cls, values: Any) -> Any:
        """Where neither the file nor a person says what an item is called and what makes its text, its source does."""
        if not isinstance(values, dict):
            return values
        source = values.get("source", DUMP_FORMATS.default)
        format_ = DUMP_FORMATS.get(source) if isinstance(source, str) else None
        usual = {
            "noun": format_.noun if format_ else DumpFormat.noun,
            "item_text": format_.text if format_ else DumpFormat.text,
        }
        return values | {name: value for name, value in usual.items() if not values.get(name)}

    @field_validator("item_text")
    @classmethod
    def _fields_of_the_source(cls, fields: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        source = info.data.get("source", "")
        known = (TITLE, *DUMP_FORMATS[source].fields) if source in DUMP_FORMATS else fields
        for field in fields:
            if field not in known:
                raise ValueError(f"{field!r} is no field of {source}, which has {', '.join(known)}")
        if len(set(fields)) < len(fields):
            raise ValueError("it names a field twice")
        return fields
