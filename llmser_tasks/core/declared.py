"""What a file of each kind says of itself, as `core.kinds` finds and lists it."""

from __future__ import annotations

from dataclasses import dataclass

TITLE = "title"  # of an item, among the fields that make its text


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What every declaration says.

    Attributes:
        title: what people read.
        place: its place in lists; the first is the default.
    """

    title: str
    place: int


@dataclass(frozen=True, kw_only=True)
class Backbone(Declared):
    """A sequence encoder; its file's `BACKBONE` makes the model.

    Attributes:
        dropout, averaging: what a training uses that does not set them.
    """

    dropout: float = 0.5
    averaging: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Loss(Declared):
    """What a position costs; its file's `make_loss` makes the function.

    Attributes:
        negatives: how many are drawn, unless a setting says otherwise.
        shared: a batch's positions share them; else each has its own.
    """

    negatives: int
    shared: bool


@dataclass(frozen=True, kw_only=True)
class ItemTable(Declared):
    """What an item is to a model; its file's `ITEM_TABLE` makes the table (`recommenders.items.table`).

    Attributes:
        features: names of the arrays that it is made from, each with a row for padding and for every item.
        needs: steps whose files give these (`methods.making.StepModule`).
        usual: a run trains the reference with it, too, unless `methods` says otherwise.
    """

    features: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    usual: bool = False


@dataclass(frozen=True, kw_only=True)
class Term(Declared):
    """Something that a training minimises, per user; its file's `make_term` makes it (`recommenders.terms.term`).

    Attributes:
        features: names of the arrays that it needs.
    """

    features: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Addition(Declared):
    """Something added to a finished model's scores; its file has what `methods.adding.AdditionModule` names.

    Attributes:
        needs: steps whose artefacts it is made of, beside histories and catalogue.
        usual: as an item table's; with a usual table together.
    """

    needs: tuple[str, ...] = ()
    usual: bool = False


@dataclass(frozen=True, kw_only=True)
class DumpFormat(Declared):
    """A format of dumps; its file's `SOURCE` says how to read it.

    Attributes:
        noun: what one item is called in prompts.
        fields: what its item dumps tell of an item beside the title; `SOURCE.details` says how they are read.
        text: which of these, and the title, make an item's text unless a setting says otherwise, in this order.
    """

    noun: str = "product"
    fields: tuple[str, ...] = ()
    text: tuple[str, ...] = (TITLE,)


@dataclass(frozen=True, kw_only=True)
class Method(Declared):
    """A way to recommend: its file has what `methods.trained.TrainedModule` names, or, a counter's, `rank`
    (`methods.counting`).

    Attributes:
        trained: it trains a model for every seed; else it only counts, and is always measured.
        reference: the others are compared with it; there is exactly one.
        after_reference: it begins with the reference's model of the same item table and seed, which is trained or found
            first; in a refresh, too.
        usual: a run trains it unless `methods` says otherwise.
        needs: steps whose artefacts it is made of, beside histories and catalogue.
        item_table: what items are to its models; empty: the usual one.
        addition: what is added to its scores; empty: nothing.
        terms: what its trainings minimise beside next items.
        ablations: parts of it that a run may leave out (`without`).
        charted: shown in charts by group, beside the tables.
        colour: its name among the page's colours.
    """

    trained: bool = False
    reference: bool = False
    after_reference: bool = False
    usual: bool = False
    needs: tuple[str, ...] = ()
    item_table: str = ""
    addition: str = ""
    terms: tuple[str, ...] = ()
    ablations: tuple[str, ...] = ()
    charted: bool = True
    colour: str

    @property
    def heading(self) -> str:
        """The title where it begins a line."""
        return self.title[0].upper() + self.title[1:]


@dataclass(frozen=True, kw_only=True)
class Step(Declared):
    """Makes an artefact that methods need, under the step's name; its file has what
    `methods.making.StepModule` names.

    Attributes:
        needs: other steps that come before it, beside histories and catalogue.
        trains: it trains a model, from which a refresh goes on.
        ranks: it ranks with a model, so a GPU is of use here too.
        kept: in a refresh, users who have not changed keep what the earlier run made of them.
        tables: the warehouse's, that it writes.
        when: a setting, and the value without which nobody needs the step; empty: it is always needed.
        tries: it tries the run's other methods (`kinds.Methods.tried`), so it comes after all that these need.
    """

    needs: tuple[str, ...] = ()
    when: tuple[str, str] | tuple[()] = ()
    trains: bool = False
    ranks: bool = False
    kept: bool = False
    tables: tuple[str, ...] = ()
    tries: bool = False


@dataclass(frozen=True, kw_only=True)
class QuestionStep(Step):
    """What an LLM is asked per user; its file has what `asking.questions.QuestionModule` names.

    Attributes:
        short: the title where room is small.
        asks: what is asked, in a few words.
    """

    short: str
    asks: str


@dataclass(frozen=True, kw_only=True)
class PoolSource(Declared):
    """Finds what somebody may have chosen before their first item; its file has what
    `methods.llmser.candidate_pools.Source` names.

    Attributes:
        found: what its candidates are, as a prompt says it.
        by: how they were found.
    """

    found: str
    by: str
