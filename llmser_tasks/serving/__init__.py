"""What a trained model is good for once its run is over: recommending to anyone, and leaving as files."""

from __future__ import annotations

from dataclasses import dataclass

from llmser_tasks.core.config import BEST
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import METHODS
from llmser_tasks.core.names import title_of, why_chosen
from llmser_tasks.core.run import model_name
from llmser_tasks.warehouse.tables.artefacts import StoredRun


@dataclass(frozen=True)
class Served:
    """Names of what recommends for a method, among a run's artefacts: those of the run's first seed.

    Attributes:
        model: the trained model.
        addition: what is added to its scores; empty: nothing is.
        fitted: how much of it.
    """

    model: str
    addition: str = ""
    fitted: str = ""


def served(run: StoredRun, method: str) -> Served:
    """
    Raises:
        InputError: the run does not train this method.
    """
    config = run.row.config
    if method not in config["methods"]:
        raise InputError(
            f"Run {run.row.run_id} has no model of {title_of(method)}; name one of its own with --method: "
            f"{', '.join(config['methods'])}."
        )
    seed = config["seeds"][0]
    model = model_name(METHODS.model_of(method), seed)
    addition = METHODS[method].addition if method in METHODS else ""
    return Served(model, addition, model_name(method, seed)) if addition else Served(model)


def chosen(run: StoredRun) -> tuple[str, str]:
    """The method whose recommendations a run has; and its title with why it is this one, for people.

    Raises:
        InputError, StorageError: it has not been evaluated, or that is gone.
    """
    method = run.chosen
    by = "validation" if run.row.config["publish"] == BEST else "name"
    validation = run.summary("evaluation").get("validation", {})
    return method, f"{title_of(method)}, {why_chosen(by, validation)}"
