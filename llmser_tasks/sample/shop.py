"""The item dump: titles made of brand, tier, attribute, type and use, with the dirt of real item dumps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from llmser_tasks.sample.formats import Format, Item
from llmser_tasks.sample.words import BEAUTY
from llmser_tasks.sample.world import RUNGS, World

NO_LINE = 0.01  # shares of items
NO_TITLE = 0.01
MARKUP_TITLE = 0.008
TAGGED_TITLE = 0.015
SEVERAL_LINES = 0.02

_MARKUP = '<span class="a-size-medium a-color-secondary" data-hook="product-title'
_SIZES = ("2 oz", "4 oz", "8 oz", "12 oz", "Travel Size", "Pack of 2", "Pack of 3", "Gift Box")


def identifier(item: int) -> str:
    return f"SYN-B{item:07d}"


def describe(world: World, style: Format, item: int) -> Item:
    """What an item is, from its place in the catalogue; the title is clean."""
    words = style.vocabulary
    rung, tier = divmod(world.cell(item), world.tiers)
    domain = words.domains[rung // RUNGS]
    kind = domain.types[rung % RUNGS]
    attribute = words.attributes[int(world.place(item) * len(words.attributes))]
    tier_word, brands = words.tiers[tier]
    brand = brands[(rung // RUNGS + item % 2) % len(brands)]
    use = domain.uses[item % len(domain.uses)]
    title = (
        f"{brand} {tier_word} {attribute} {kind} for {use}, {_SIZES[item % len(_SIZES)]}"
        if words is BEAUTY
        else f"{brand} {tier_word} {kind} {attribute}"
    )
    return Item(identifier(item), title, brand, domain.name, kind, attribute)


def lines(world: World, style: Format, seed: int) -> Iterator[bytes]:
    """The item dump, item by item in a fixed shuffled order."""
    random = np.random.default_rng([seed, 2])
    for item in random.permutation(world.items).tolist():
        record = describe(world, style, item)
        assert record.title is not None
        escaped = record.title.replace("&", "&amp;")
        luck = random.random()
        if (luck := luck - NO_LINE) < 0:
            continue
        if (luck := luck - NO_TITLE) < 0:
            yield style.item(replace(record, title=None))
        elif (luck := luck - MARKUP_TITLE) < 0:
            yield style.item(replace(record, title=_MARKUP))
        elif (luck := luck - TAGGED_TITLE) < 0:
            yield style.item(replace(record, title=f"<b>{escaped}</b>&nbsp;"))
        elif (luck := luck - SEVERAL_LINES) < 0:
            yield style.item(replace(record, title=""))
            yield style.item(replace(record, title=escaped))
            yield style.item(replace(record, title=f"{escaped} (renewed)"))
        else:
            yield style.item(replace(record, title=escaped))
    yield b"{'asin': "
    yield b"[]"
