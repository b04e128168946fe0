"""Knobs are described once; whatever does not fit is named in one sentence."""

from pathlib import Path

import pytest

from llmser_tasks.core.config import RunConfig, from_flat, load_dataset_defaults, parameters, to_flat
from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders.loop.minibatches import users_per_step


def test_flat_names_are_unique_and_explained() -> None:
    every = list(parameters())
    assert len({p.name for p in every}) == len(every)
    assert all(p.description for p in every)


def test_flat_form_round_trips() -> None:
    config = from_flat({"dataset": "beauty", "item_core": 5, "seeds": [42, 43], "without": ["wd"]})
    assert from_flat(to_flat(config)) == config
    assert config.without("wd")
    assert config.seed == 42


def test_defaults_are_the_methods() -> None:
    config = RunConfig()
    assert (config.augmentation.pool, config.augmentation.pseudo_items, config.reliability.reason_pool) == (20, 12, 10)
    assert config.reliability.beta == 0.5


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bogus": 1}, "Unknown setting 'bogus'"),
        ({"pool": 0}, r"^Setting pool \(--pool\) cannot be 0: Input should be greater than or equal to 1\.$"),
        ({"pool": 5, "pseudo_items": 6}, "must not exceed pool"),
        ({"dataset": "../etc"}, r"^Setting dataset \(--dataset\) cannot be '\.\./etc': .*; try etc\.$"),
        ({"heads": 3}, "divisible by heads"),
        ({"backbone": "bogus"}, r"^Setting backbone \(--backbone\) cannot be 'bogus': Input should be 'sasrec'"),
        ({"seeds": []}, r"^Setting seeds \(--seeds\) cannot be \[\]"),
        ({"seeds": [1, "x"]}, r"^Setting seeds \(number 2\) \(--seeds\) cannot be 'x'"),
        ({"endpoint": "my glm"}, r"cannot be 'my glm': it may be up to 100 of a–z, A–Z, 0–9, -, _ and \."),
        ({"noun": "x" * 300}, r"^Setting noun \(--noun\) cannot be '[x]{79}…: String should have at most 40 char"),
    ],
)
def test_bad_values_are_named(values: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_flat(values)


def test_a_batch_is_smaller_where_users_are_few() -> None:
    recommender = RunConfig().recommender
    assert [users_per_step(recommender, users) for users in (10, 1_999, 2_000, 10**6)] == [128, 128, 256, 256]
    assert users_per_step(from_flat({"batch_size": 7}).recommender, 10**6) == 7


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Beauty", "; try beauty."),
        ("All Beauty", "; try all-beauty."),
        ("Café", "; try cafe."),
        ("../evil", "; try evil."),
        ("x" * 300, f"; try {'x' * 63}."),
        ("a\0b\x1b", "; try a-b."),
        ("漢", "beginning with a letter or digit."),
        ("", "beginning with a letter or digit."),
    ],
)
def test_a_name_that_is_none_is_refused_before_it_becomes_a_path(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "evil.json").write_text('{"user_core": 9}', encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_dataset_defaults(name, [tmp_path / "datasets"])
    sentence = str(error.value)
    assert sentence.startswith("Setting dataset (--dataset) cannot be '")
    assert "up to 63 of a–z, 0–9, - and _" in sentence and sentence.endswith(hint)
    assert "^[" not in sentence and sentence.isprintable() and len(sentence) < 300


def test_an_item_is_called_what_its_source_holds_unless_somebody_says() -> None:
    assert from_flat({}).dataset.noun == from_flat({"source": "amazon-2023"}).dataset.noun == "product"
    assert from_flat({"source": "yelp"}).dataset.noun == from_flat({"source": "yelp", "noun": ""}).dataset.noun
    assert from_flat({"source": "yelp"}).dataset.noun == "business"
    assert from_flat({"source": "yelp", "noun": "restaurant"}).dataset.noun == "restaurant"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"{", "is not JSON"), (b'{"noun": "caf\xe9"}', "is not UTF-8; save it as that"), (b"[]", "one JSON object")],
)
def test_a_datasets_file_that_cannot_be_read_is_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"Dataset file .*mine\.json .*{sentence}"):
        load_dataset_defaults("mine", [tmp_path])
    (tmp_path / "mine.json").write_bytes(b'\xef\xbb\xbf{"user_core": 9}')  # as Windows' Notepad saves it
    assert load_dataset_defaults("mine", [tmp_path]) == {"user_core": 9}
