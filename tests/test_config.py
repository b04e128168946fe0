"""Knobs are described once; whatever does not fit is named in one sentence."""

import pytest

from llmser_tasks.config import RunConfig, from_flat, parameters, to_flat
from llmser_tasks.errors import InputError


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
        ({"pool": 0}, "augmentation.pool"),
        ({"pool": 5, "pseudo_items": 6}, "must not exceed pool"),
        ({"dataset": "../etc"}, "dataset.name"),
        ({"heads": 3}, "divisible by heads"),
        ({"backbone": "bogus"}, "recommender.backbone"),
    ],
)
def test_bad_values_are_named(values: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_flat(values)


def test_a_batch_is_smaller_where_users_are_few() -> None:
    recommender = RunConfig().recommender
    assert [recommender.users_per_step(users) for users in (10, 1_999, 2_000, 10**6)] == [128, 128, 256, 256]
    assert from_flat({"batch_size": 7}).recommender.users_per_step(10**6) == 7
