"""The trigger form: every knob, with help, and no way to say two things."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from llmser_tasks.core import config, environment
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ABLATIONS, BACKBONES, METHODS, TRAINED, USUAL
from llmser_tasks.services import form

FIELDS = dict(form.fields(["beauty", "yelp"]))
SCHEMA_KEYS = {"type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "items", "minItems"}


def test_every_knob_has_a_field_with_help() -> None:
    knobs = [parameter.name for parameter in config.parameters()]
    assert list(FIELDS) == [*form.FIRST, "preset", *knobs[len(form.FIRST) :]]
    assert all(len(field["description"]) > 10 for field in FIELDS.values())


@pytest.mark.parametrize("name", list(FIELDS))
def test_the_default_passes_the_fields_own_schema(name: str) -> None:
    schema = {key: value for key, value in FIELDS[name].items() if key in SCHEMA_KEYS}
    jsonschema.validate(FIELDS[name]["default"], schema)


def test_an_untouched_form_is_the_default_configuration() -> None:
    entered = {name: field["default"] for name, field in FIELDS.items()}
    assert config.from_flat(form.values(entered)) == config.RunConfig()


def test_an_empty_dataset_field_lets_the_datasets_file_speak_and_a_filled_one_does_not() -> None:
    assert FIELDS["item_core"]["default"] is None
    assert "item_core" not in form.values({"dataset": "beauty", "item_core": None})
    assert form.values({"item_core": 3}) == {"item_core": 3}


def test_a_preset_stands_beneath_what_is_entered_and_above_what_is_not() -> None:
    assert FIELDS["preset"]["default"] is None and "section" not in FIELDS["preset"]
    assert FIELDS["preset"]["enum"] == [None, *environment.preset_names()]
    untouched = {name: field["default"] for name, field in FIELDS.items()}
    released = environment.preset("released")
    sent = untouched | {"dataset": "beauty", "preset": "released", "max_length": 30, "seeds": [7], "ties": "hash"}
    made = environment.configuration(form.values(sent))
    assert (made.recommender.max_length, made.evaluation.seeds, made.dataset.ties) == (30, (7,), "hash")
    rest = {name: value for name, value in released.items() if name not in {"max_length", "seeds", "ties"}}
    assert rest.items() <= config.to_flat(made).items()
    alone = environment.configuration(form.values({"dataset": "beauty", "preset": "released"}))
    assert alone == environment.configuration(released | {"dataset": "beauty"})


def test_a_preset_that_there_is_not_is_one_sentence() -> None:
    sentence = "^There is no preset 'nosuch'; name one of released, released-llm-esr, or none\\.$"
    with pytest.raises(InputError, match=sentence):
        form.values({"preset": "nosuch"})


def test_bounds_and_choices_are_the_configurations() -> None:
    assert FIELDS["beta"]["maximum"] == 1
    assert FIELDS["backbone"]["enum"] == list(BACKBONES)
    assert FIELDS["split"]["enum"] == [None, "leave-one-out", "temporal"]
    assert FIELDS["tail_threshold"]["type"] == ["integer", "null"]
    assert FIELDS["without"]["examples"] == list(ABLATIONS)
    assert FIELDS["dataset"]["examples"] == ["beauty", "sample", "yelp"]


def test_methods_and_what_is_published_can_be_picked_by_name() -> None:
    methods, publish = FIELDS["methods"], FIELDS["publish"]
    assert (methods["type"], methods["minItems"], methods["default"]) == ("array", 1, list(USUAL))
    trained = [name for name in METHODS.every() if METHODS[name].trained]
    assert methods["examples"] == trained and set(TRAINED) <= set(trained)
    assert (publish["examples"], publish["default"]) == (["best", *trained], "best")
    assert f"Default: {', '.join(USUAL)}." in methods["description"] and "Default: best." in publish["description"]
    assert config.from_flat(form.values({"methods": ["base"], "publish": "base"})).methods == ["base"]


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ({"methods": ["llmser"]}, "methods must hold base, which the others are compared with"),
        ({"methods": ["base"], "publish": "llmser"}, "publish names llmser, which is not among the methods"),
        ({"methods": ["base", "nosuch"]}, r"Setting methods \(number 2\) \(--methods\) cannot be 'nosuch': name ba"),
        ({"methods": []}, r"^Setting methods \(--methods\) cannot be \[\]: name at least one\.$"),
        ({"seeds": []}, r"^Setting seeds \(--seeds\) cannot be \[\]: name at least one\.$"),
        ({"publish": "popularity"}, r"Setting publish \(--publish\) cannot be 'popularity': name best, base, "),
    ],
)
def test_methods_that_cannot_be_run_are_one_sentence(entered: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as told:
        config.from_flat(form.values(entered))
    assert str(told.value).count(". ") == 0


def test_dataset_names_of_several_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/shoes.json", "a/notes.txt"):
        (tmp_path / name).write_text("{}")
    assert form.dataset_names(tmp_path / "a", tmp_path / "missing") == ["shoes"]
