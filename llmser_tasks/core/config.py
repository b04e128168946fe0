"""Every knob: its type, bounds, default and where the default comes from.

The DAG's trigger form, the command line's options, the run's record in Postgres and the reference table in the docs
are all made from these models (`parameters`), so a knob is described once, here.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import (
    ABLATIONS,
    BACKBONES,
    COUNTERS,
    DUMP_FORMATS,
    HOUSE,
    LOSSES,
    METHODS,
    POOL_SOURCES,
    REFERENCE,
    TITLE,
    TRAINED,
    USUAL,
    DumpFormat,
    Kind,
    MethodName,
    OneOf,
    Step,
    behind,
    chain,
)
from llmser_tasks.core.reachable import PACKAGE
from llmser_tasks.core.section import Section

S = TypeVar("S", bound=Section)

Ties = Literal["hash", "file"]
NegativesFrom = Literal["uniform", "popularity", "batch"]
Ablation = Annotated[str, OneOf(ABLATIONS)]
TEXT_FIELDS = tuple(dict.fromkeys((TITLE, *(field for format_ in DUMP_FORMATS.values() for field in format_.fields))))
TextField = Annotated[str, WithJsonSchema({"type": "string", "enum": list(TEXT_FIELDS)})]  # a format has some of them
BEST = "best"
LONGEST_NAME = 63
Name = Annotated[str, StringConstraints(pattern=rf"^[a-z0-9][a-z0-9_-]{{0,{LONGEST_NAME - 1}}}$")]
PATTERNS = {  # in words, what each pattern allows
    "dataset": f"up to {LONGEST_NAME} of a–z, 0–9, - and _, beginning with a letter or digit",
    "endpoint": "up to 100 of a–z, A–Z, 0–9, -, _ and . (it is the id of an Airflow connection)",
}
CONNECTION = r"^[A-Za-z0-9_.-]{1,100}$"
ENDPOINT = "endpoint:"  # before a connection's name, where other names are possible, too
SHOWN = 80  # characters of a refused value that the message repeats


BEFORE_THERE_WAS: Mapping[str, Any] = {
    "ties": "file",
    "item_text": ["title"],
}  # what runs did before the setting existed


def _usual(kind: Kind[Any], what: str) -> str:
    """What the first of a kind declares, and which others declare something else: `0.5, for BERT4Rec 0.35`."""
    usual, *others = kind.values()
    differing = (one for one in others if getattr(one, what) != getattr(usual, what))
    return ", ".join([f"{getattr(usual, what):g}", *(f"for {one.title} {getattr(one, what):g}" for one in differing)])


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


class Recommender(Section):
    """The backbone and how it is trained; all models of a run share it."""

    heading: ClassVar[str] = "Recommender (the backbone of every model)"

    backbone: Annotated[str, OneOf(BACKBONES)] = Field(BACKBONES.default, description="Sequential recommender. [paper]")
    dimension: int = Field(64, ge=4, le=1024, description="d, width of embeddings and states. [released code]")
    layers: int = Field(2, ge=1, le=12, description="Blocks (or GRU layers). [released code]")
    heads: int = Field(1, ge=1, le=16, description="Attention heads. [released code]")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description=f"Empty: {_usual(BACKBONES, 'dropout')}. [released code; measured on Beauty; eSASRec]",
    )
    max_length: int = Field(
        50,
        ge=2,
        le=1000,
        description="Longest sequence a model sees; the newest are kept. [80th percentile of Beauty is 10]",
    )
    loss: Annotated[str, OneOf(LOSSES)] = Field(
        LOSSES.default,
        description="The strong loss by default; bce is the paper's, gbce gSASRec's, cross-entropy takes all items."
        " [measured on Beauty]",
    )
    negatives: int | None = Field(
        None,
        ge=1,
        description="Negatives shared by a batch (sampled-softmax) or drawn per position (bce, gbce);"
        f" empty: {_usual(LOSSES, 'negatives')}. [measured on Beauty; paper; gSASRec]",
    )
    negatives_from: NegativesFrom = Field(
        "batch",
        description="Where sampled-softmax draws them: all items alike, by popularity, or the batch's own positives"
        " beside uniform ones, each corrected for (logQ); the other losses draw uniformly. [measured on Beauty]",
    )
    calibration: float = Field(
        0.75, ge=0, le=1, description="t of gbce: 0 is bce, 1 undoes all overconfidence. [gSASRec]"
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Users per batch; empty: 256, or 128 for fewer than 2,000 training users. [released code: 128; measured"
        " on Beauty and Gift Cards]",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam, no weight decay. [released code]")
    averaging: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="The model is a moving average of the weights after each epoch, in which the former average has this"
        f" share; empty: {_usual(BACKBONES, 'averaging')}. [measured on Beauty]",
    )
    epochs: int = Field(200, ge=1, description="Most epochs of a training. [released code]")
    patience: int = Field(
        10,
        ge=1,
        description="Epochs without a better validation NDCG@10 before training stops. [released code: 20; measured on Beauty]",
    )
    held_out_users: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of users whose first item CCG never trains on: its early-stopping targets. [method]",
    )

    @model_validator(mode="after")
    def _loss_takes_these_negatives(self) -> Self:
        if self.negatives_from == "popularity" and not LOSSES[self.loss].shared:
            sharing = " or ".join(name for name, loss in LOSSES.items() if loss.shared)
            raise ValueError(f"negatives_from {self.negatives_from!r} needs the loss {sharing}")
        return self

    _resolved: ClassVar[Mapping[str, str]] = {
        "dropout": "dropout_rate",
        "averaging": "averaging_rate",
        "negatives": "negatives_drawn",
        "batch_size": "batch_sizes",
    }

    @property
    def batch_sizes(self) -> tuple[tuple[int | None, int], ...]:
        """(below so many training users, users per batch), the first that fits: as set, or what the search on
        validation items found."""
        return ((2_000, 128), (None, 256)) if self.batch_size is None else ((None, self.batch_size),)

    @property
    def dropout_rate(self) -> float:
        """As set, or what the search on Beauty's validation items found for the backbone."""
        if self.dropout is not None:
            return self.dropout
        return BACKBONES[self.backbone].dropout

    @property
    def averaging_rate(self) -> float:
        """As set, or what the search on Beauty's validation items found for the backbone."""
        if self.averaging is not None:
            return self.averaging
        return BACKBONES[self.backbone].averaging

    @property
    def negatives_drawn(self) -> int:
        """How many negatives are drawn: as set, or as the loss's authors did."""
        return LOSSES[self.loss].negatives if self.negatives is None else self.negatives


class Augmentation(Section):
    """Candidate pools and pseudo-prior items (SIA)."""

    heading: ClassVar[str] = "Augmentation: candidate pools and pseudo-prior items"

    pool: int = Field(20, ge=1, le=99, description="N, candidates per user. [released code]")
    pool_from: tuple[Annotated[str, OneOf(POOL_SOURCES)], ...] = Field(
        (POOL_SOURCES.default,),
        min_length=1,
        description=f"Where candidates come from, in equal shares: {', '.join(POOL_SOURCES)}. [paper: ccg]",
    )
    pseudo_items: int = Field(12, ge=2, le=99, description="M, pseudo-prior items kept. [paper's best on Fashion]")
    asked_items: int | None = Field(
        None,
        ge=2,
        le=99,
        description="Items that SNF is asked for, likeliest first, of which M are kept; empty: M. Runs that ask for the"
        " same number share SNF's answers, whatever their M.",
    )
    fill: bool = Field(False, description="Fill a short answer from CCG order. [method: off]")
    without: tuple[Ablation, ...] = Field(
        (), description=f"Parts left out, as in the papers' ablations: {', '.join(ABLATIONS)}."
    )

    _resolved: ClassVar[Mapping[str, str]] = {"asked_items": "picks_asked", "pool_from": "pool_sources"}

    @property
    def picks_asked(self) -> int:
        """How many items SNF is asked for."""
        return self.pseudo_items if self.asked_items is None else self.asked_items

    @property
    def pool_sources(self) -> tuple[str, ...]:
        """Each once, in the order of their places: who names them in another order means the same pool."""
        return tuple(name for name in POOL_SOURCES if name in self.pool_from)


class Reliability(Section):
    """How far pseudo items are trusted (ARV) and weighted."""

    heading: ClassVar[str] = "Reliability: masking, reason pools, weights"

    reason_pool: int = Field(10, ge=1, le=99, description="H, RCS candidates per user. [released code]")
    masked_in_pool: bool = Field(
        False,
        description="The masked item takes the place of the last RCS candidate where it is not among them, so that it"
        " can always be named. [paper: off]",
    )
    beta: float = Field(0.5, ge=0, le=1, description="β, weight decay of head users. [paper, Figure 5]")
    forward_on_full: bool = Field(
        False, description="Train RCS on whole histories instead of masked ones. [paper's wording; method: off]"
    )
    encoder: str = Field("minilm", description="BERT that scores: minilm (embedded), a folder, or a hub name.")
    pseudo_targets: bool = Field(
        False, description="Training also asks for the pseudo items themselves, not only for t = 1 … n_u. [Eq. 7: off]"
    )
    enhance_inference: bool = Field(
        True, description="Pseudo items also feed inference. [paper; which is better depends on the data]"
    )


class Texts(Section):
    """Vectors of items' and users' texts, and which are neighbours by them."""

    heading: ClassVar[str] = "Texts: vectors and neighbours of items and users"

    vectors: str = Field(
        "",
        max_length=500,
        description="What items' and users' texts are embedded with: minilm (embedded), a folder with a BERT, a hub name, or"
        " endpoint:NAME, a connection whose model serves /v1/embeddings; empty: the encoder that scores.",
    )
    user_vectors: Literal["mean", "titles"] = Field(
        "mean",
        description="What a user's vector is: the mean of the vectors of the items, the newer the heavier, or that of a"
        " text of the newest titles. [design; LLM-ESR: titles]",
    )
    neighbours: int = Field(
        10, ge=1, le=1000, description="Neighbours that a user or an item has, the closest first. [LLM-ESR]"
    )

    def connection(self) -> str | None:
        """Of the endpoint that embeds; None: a BERT does."""
        return self.vectors.removeprefix(ENDPOINT) if self.vectors.startswith(ENDPOINT) else None

    @model_validator(mode="after")
    def _names_a_connection(self) -> Self:
        name = self.connection()
        if name is not None and not re.fullmatch(CONNECTION, name):
            raise ValueError(f"vectors: behind {ENDPOINT} comes {PATTERNS['endpoint']}")
        return self


class Llm(Section):
    """The endpoint and how it is asked. Its address and key come from the connection, never from here."""

    heading: ClassVar[str] = "LLM endpoint"

    endpoint: str = Field(
        "llmser_ranker",
        pattern=CONNECTION,
        description="Airflow connection (or environment entry) of the OpenAI-compatible endpoint; llmser_ranker is the embedded one.",
    )
    mode: Literal["online", "batch"] = Field(
        "online",
        description="online asks at once; batch hands the questions to the provider's Batch API: cheaper, up to a day.",
    )
    users_per_batch: int = Field(
        512, ge=1, le=100_000, description="Users per mapped task; raised where a run would need more than 300 tasks."
    )
    temperature: float = Field(0.0, ge=0, le=2, description="[method: deterministic]")
    title_length: int = Field(160, ge=16, le=2000, description="Titles are cut to this many characters in a prompt.")
    history_length: int = Field(
        50, ge=1, le=1000, description="Newest history items shown; only the oldest are dropped. [method]"
    )
    budget: float | None = Field(
        None,
        ge=0,
        description="Most that the run may spend on questions, in the currency of the price table; empty: no limit.",
    )
    least_usable: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of a batch's answers that must name a candidate; below it the endpoint talks nonsense and the"
        " batch fails.",
    )
    tolerated_failures: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of users per batch that may stay unanswered for a passing reason before the batch fails.",
    )


class Evaluation(Section):
    """Measuring and publishing."""

    heading: ClassVar[str] = "Evaluation"

    methods: tuple[Annotated[str, MethodName()], ...] = Field(
        USUAL,
        min_length=1,
        description=f"Methods that are trained and compared: {', '.join(TRAINED)}; each also with another item table or"
        f" something added to its scores behind it ({', '.join(behind()) or 'there is none yet'}). What only counts"
        f" ({', '.join(METHODS[name].title for name in COUNTERS)}) is always measured beside them.",
    )
    publish: Annotated[str, MethodName((BEST,))] = Field(
        BEST,
        description="The method whose recommendations readers are given: the best by validation NDCG@10, or a named one."
        " [design]",
    )
    seeds: tuple[int, ...] = Field(
        (42,),
        min_length=1,
        description="Every method is trained once per seed; CCG, RCS and shuffles use the first. [released code: 42, 43, 44]",
    )
    recommendations: int = Field(20, ge=1, le=1000, description="Items recommended to every user.")
    sampled_negatives: int = Field(
        100, ge=1, description="Uniform negatives of the legacy protocol, fixed per seed. [released code]"
    )


class Refresh(Section):
    """What a run takes over from the published one, and whether it replaces it."""

    heading: ClassVar[str] = "Refresh and publication"

    incremental: bool = Field(
        False,
        description="Start from the dataset's published run: ask only about users whose history changed, go on training"
        " its models. [design]",
    )
    warm_epochs: int = Field(
        5,
        ge=1,
        description="Most epochs of a training that goes on from the published run's model. [design]",
    )
    gate: float | None = Field(
        0.05,
        ge=0,
        le=1,
        description="Share by which the validation NDCG@10 may be below the published run's; beyond it the run is not"
        " published. Empty: always published. [design]",
    )


class Common(Section):
    """What every run has, whatever methods there are."""

    dataset: Dataset = Dataset()
    recommender: Recommender = Recommender()
    augmentation: Augmentation = Augmentation()
    reliability: Reliability = Reliability()
    texts: Texts = Texts()
    llm: Llm = Llm()
    evaluation: Evaluation = Evaluation()
    refresh: Refresh = Refresh()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.augmentation.pseudo_items > self.augmentation.pool:
            raise ValueError("pseudo_items (M) must not exceed pool (N)")
        if not self.augmentation.pseudo_items <= self.augmentation.picks_asked <= self.augmentation.pool:
            raise ValueError("asked_items must lie between pseudo_items (M) and pool (N)")
        if self.recommender.dimension % self.recommender.heads:
            raise ValueError("dimension must be divisible by heads")
        methods = self.evaluation.methods
        if REFERENCE not in methods:
            raise ValueError(f"methods must hold {REFERENCE}, which the others are compared with")
        if self.evaluation.publish not in {BEST, *methods}:
            raise ValueError(f"publish names {self.evaluation.publish}, which is not among the methods")
        return self

    @property
    def methods(self) -> list[str]:
        """Those that are trained, each once, in the order in which tables list them."""
        return METHODS.sorted(self.evaluation.methods)

    @property
    def models(self) -> list[str]:
        """The methods whose models are trained for these; what is added to scores needs no model of its own."""
        return list(dict.fromkeys(METHODS.model_of(name) for name in self.methods))

    @property
    def chain(self) -> dict[str, Step]:
        """Steps and question steps that the run's methods need, in order."""
        return chain([*self.methods, *COUNTERS])

    @property
    def seed(self) -> int:
        """The seed of everything that is done once per run."""
        return self.evaluation.seeds[0]

    def without(self, part: Ablation) -> bool:
        return part in self.augmentation.without

    def of(self, section: type[S]) -> S:
        """The settings of one method, which its folder declares."""
        return next(value for _, value in self if type(value) is section)


def of_methods() -> dict[str, Any]:
    """The settings that methods have to themselves, by the name of the section.

    A folder of a method, or a file's neighbour, has them in a file of its own: `methods/asrep/settings.py` makes the
    section asrep of the one `Section` in it, `methods/x_settings.py` the section x.
    """
    found = {}
    for path in sorted((HOUSE / "methods").rglob("*settings.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        name = parts[-1].removesuffix("settings").rstrip("_") or parts[-2]
        module = importlib.import_module(".".join([PACKAGE, *parts]))
        (section,) = (
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Section) and value is not Section
        )
        found[name] = (section, section())
    return found


if TYPE_CHECKING:

    class RunConfig(Common):
        """One run: a dataset through the whole pipeline."""
else:
    RunConfig = create_model(
        "RunConfig", __base__=Common, __doc__="One run: a dataset through the whole pipeline.", **of_methods()
    )


@dataclass(frozen=True)
class Parameter:
    """One knob as forms, options and docs see it."""

    section: str
    heading: str  # of the section, as people read it
    name: str
    schema: Mapping[str, Any]  # JSON schema of the value
    default: Any
    description: str


def parameters() -> Iterator[Parameter]:
    """Every knob, in order. Leaf names are unique over all sections, so a form or command line can be flat."""
    for section, field in RunConfig.model_fields.items():
        model = field.annotation
        assert isinstance(model, type) and issubclass(model, Section)
        properties = model.model_json_schema()["properties"]
        for name, leaf in model.model_fields.items():
            yield Parameter(
                section=section,
                heading=model.heading,
                name="dataset" if (section, name) == ("dataset", "name") else name,
                schema={k: v for k, v in properties[name].items() if k not in {"default", "description", "title"}},
                default=leaf.default,
                description=leaf.description or "",
            )


def from_flat(values: Mapping[str, Any]) -> RunConfig:
    """Build a RunConfig from flat names (`dataset` is the dataset's name); absent names keep their defaults.

    A dataset that ships as a preset, or has a file beside the presets, brings its own defaults for its section.

    Raises:
        InputError: a name is unknown or a value is out of bounds; the sentence names it.
    """
    sections: dict[str, dict[str, Any]] = {}
    known = {p.name: p for p in parameters()}
    for name, value in values.items():
        if name not in known:
            raise InputError(f"Unknown setting {name!r}; the settings are: {', '.join(known)}.")
        parameter = known[name]
        sections.setdefault(parameter.section, {})["name" if name == "dataset" else name] = value
    try:
        return RunConfig.model_validate(sections)
    except ValidationError as error:
        raise InputError(_refusal(error)) from None


def check_dataset_name(name: str) -> None:
    """Check a name before it becomes part of a path.

    Raises:
        InputError: no dataset may be called that; the sentence says what is allowed, and suggests a name.
    """
    try:
        Dataset(name=name)
    except ValidationError as error:
        raise InputError(_refusal(error, "dataset")) from None


def _refusal(error: ValidationError, section: str = "") -> str:
    """The first thing that is wrong, under the name by which people know the setting."""
    first = error.errors()[0]
    section, *names = [*([section] if section else []), *map(str, first["loc"])] or [""]
    leaf = names[0] if names else section
    name = "dataset" if (section, leaf) == ("dataset", "name") else leaf
    if not names:
        return f"The settings do not fit together: {first['msg'].removeprefix('Value error, ')}."
    place = f" (number {int(names[1]) + 1})" if len(names) > 1 and names[1].isdigit() else ""
    given = repr(first.get("input"))
    given = given if len(given) <= SHOWN else f"{given[:SHOWN]}…"
    why = first["msg"].removeprefix("Value error, ")
    if first["type"] == "too_short":
        why = "name at least one"
    if first["type"] == "string_pattern_mismatch" and name in PATTERNS:
        why = f"it may be {PATTERNS[name]}"
        if name == "dataset" and (usable := _usable_name(str(first["input"]))):
            why += f"; try {usable}"
    return f"Setting {name}{place} (--{name.replace('_', '-')}) cannot be {given}: {why}."


def _usable_name(wanted: str) -> str:
    """The nearest name that a dataset may have; empty if nothing of the wish can be kept."""
    plain = unicodedata.normalize("NFKD", wanted).casefold().encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:LONGEST_NAME].rstrip("-_")


def to_flat(config: RunConfig) -> dict[str, Any]:
    """The inverse of `from_flat`, JSON-ready."""
    dump = config.model_dump(mode="json")
    return {p.name: dump[p.section]["name" if p.name == "dataset" else p.name] for p in parameters()}


def digest(value: Any) -> str:
    """sha256 of a JSON-ready value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def load_dataset_defaults(name: str, folders: list[Path]) -> dict[str, Any]:
    """Defaults of a dataset file `NAME.json` (flat names), from the first folder that has one; else empty.

    Raises:
        InputError: the name is none, which is checked before it becomes a path; or the file cannot be read.
    """
    check_dataset_name(name)
    for folder in folders:
        path = folder / f"{name}.json"
        if path.is_file():
            try:
                values = json.loads(path.read_text(encoding="utf-8-sig"))
            except UnicodeDecodeError:
                raise InputError(f"Dataset file {path} is not UTF-8; save it as that.") from None
            except json.JSONDecodeError as error:
                raise InputError(f"Dataset file {path} is not JSON: {error}.") from None
            except OSError as error:
                raise InputError(f"Dataset file {path} cannot be read: {error.strerror or error}.") from None
            if not isinstance(values, dict):
                raise InputError(f"Dataset file {path} must hold one JSON object of settings.")
            return values
    return {}
