"""The latent-taste model: who buys what, in which order, and why a title tells something about it.

The catalogue is a ladder. Eight domains of five product types follow one another, forty rungs in all, and people climb
them: from shampoo to scalp oil, then on to styling. What somebody buys early in a career therefore differs from what
follows, a sequence model can learn the next rung, and where a history begins in the middle of the ladder, what came
before can be guessed. On a rung, two lasting tastes decide: the tier (which brands) and an attribute (a scent, a
district). Both are words of the title, so titles tell as much as co-occurrence does. Best-sellers, jumps and whims are
the noise; within a cell of the catalogue, and between domains, popularity follows a power law.

Lengths have a power-law tail: more than 80 % of users are shorter than 8, as in the paper's Figure 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

RUNGS = 5  # product types of a domain
TIERS = 4
LONGEST = 200
FLEETING = 0.12  # share of users with one or two interactions, whom the core filter drops

STEP = ((0, 0.22), (1, 0.56), (2, 0.12))  # rungs climbed from one interaction to the next, else a jump anywhere
LOYAL_TO_TIER = 0.8
LOYAL_TO_ATTRIBUTE = 0.75
BESTSELLER = 0.12
REPEAT = 0.02  # the previous item, bought again
SAME_DAY = 0.05


@dataclass(frozen=True)
class World:
    """A catalogue: items sorted by cell (rung, tier), and within a cell from most to least popular.

    Attributes:
        starts: (cells + 1,) first item of every cell; cell = rung · tiers + tier.
        rungs, tiers: how many there are; a catalogue of few items has fewer.
        first_rung: cumulative probabilities of the rung a career begins on.
        bestsellers: (B,) items that anybody may buy, best first.
    """

    starts: Numbers
    rungs: int
    tiers: int
    first_rung: NDArray[np.float64]
    bestsellers: Numbers

    @property
    def items(self) -> int:
        return int(self.starts[-1])

    def cell(self, item: int) -> int:
        return int(np.searchsorted(self.starts, item, side="right")) - 1

    def place(self, item: int) -> float:
        """Where in its cell an item stands, in [0, 1): from which its attribute follows."""
        cell = self.cell(item)
        return float((item - self.starts[cell]) / (self.starts[cell + 1] - self.starts[cell]))


def build(items: int, seed: int) -> World:
    """A catalogue of `items` ≥ 10 items."""
    random = np.random.default_rng([seed, 0])
    domains = int(np.clip(items // 40, 1, 8))
    tiers = int(np.clip(items // (domains * RUNGS), 1, TIERS))
    rungs = domains * RUNGS
    popularity = 1 / (1 + random.permutation(domains)) ** 0.8
    weights = np.repeat(np.repeat(popularity**0.5, RUNGS), tiers) * random.uniform(0.6, 1.4, rungs * tiers)
    spare = items - rungs * tiers
    sizes = 1 + np.floor(spare * weights / weights.sum()).astype(np.int64)
    sizes[np.argsort(-weights, kind="stable")[: items - sizes.sum()]] += 1
    starts = np.concatenate([[0], np.cumsum(sizes)])
    first = np.repeat(popularity, RUNGS)
    bestsellers = random.permutation(items)[: max(5, items // 10)]
    return World(starts, rungs, tiers, np.cumsum(first / first.sum()), bestsellers)


@dataclass(frozen=True)
class Careers:
    """What a group of users did, user by user, in order.

    Attributes:
        users: (n,) row of the user in the group.
        items: (n,) item, from 0.
        seconds: (n,) since the careers' era began; two interactions may share one moment.
        ratings: (n,) 1 … 5.
    """

    users: Numbers
    items: Numbers
    seconds: Numbers
    ratings: Numbers


def careers(world: World, users: int, years: float, whole_days: bool, random: np.random.Generator) -> Careers:
    """Draw the careers of `users` people within an era of `years`.

    Args:
        whole_days: times are midnights, as Amazon's are.
    """
    lengths = draw_lengths(users, random)
    attribute = random.random(users) ** 2
    tier = np.minimum((random.random(users) ** 1.5 * world.tiers).astype(np.int64), world.tiers - 1)
    rung = np.searchsorted(world.first_rung, random.random(users)).clip(max=world.rungs - 1)
    longest = int(lengths.max())
    items = np.zeros((users, longest), np.int64)
    climbs = np.array([size for size, _ in STEP] + [0])
    chances = np.cumsum([share for _, share in STEP])
    for t in range(longest):
        active = np.flatnonzero(lengths > t)
        if t:
            step = np.searchsorted(chances, random.random(len(active)))
            anywhere = random.integers(world.rungs, size=len(active))
            climbed = (rung[active] + climbs[step]) % world.rungs
            rung[active] = np.where(step == len(STEP), anywhere, climbed)
        items[active, t] = _choose(world, rung[active], tier[active], attribute[active], random)
        if t:
            again = active[random.random(len(active)) < REPEAT]
            items[again, t] = items[again, t - 1]
    user, place = np.nonzero(np.arange(longest) < lengths[:, None])
    seconds = _times(lengths, user, place, years, whole_days, random)
    ratings = np.searchsorted([0.05, 0.1, 0.2, 0.42], random.random(len(user))) + 1
    return Careers(user, items[user, place], seconds, ratings)


def draw_lengths(users: int, random: np.random.Generator) -> Numbers:
    """n ≥ 3 with P(n ≥ 3 + x) = (1 + x / 2.2)^-1.6, and a share of fleeting users with one or two."""
    tail = 3 + np.floor((random.random(users) ** (-1 / 1.6) - 1) * 2.2)
    lengths: Numbers = np.minimum(tail, LONGEST).astype(np.int64)
    fleeting = random.random(users) < FLEETING
    lengths[fleeting] = random.integers(1, 3, fleeting.sum())
    return lengths


def _choose(
    world: World, rung: Numbers, tier: Numbers, attribute: NDArray[np.float64], random: np.random.Generator
) -> Numbers:
    count = len(rung)
    tier = np.where(random.random(count) < LOYAL_TO_TIER, tier, random.integers(world.tiers, size=count))
    place = np.where(random.random(count) < LOYAL_TO_ATTRIBUTE, attribute, random.random(count) ** 2)
    cell = rung * world.tiers + tier
    size = world.starts[cell + 1] - world.starts[cell]
    chosen = world.starts[cell] + np.minimum((place * size).astype(np.int64), size - 1)
    best = world.bestsellers[(random.random(count) ** 3 * len(world.bestsellers)).astype(np.int64)]
    bought: Numbers = np.where(random.random(count) < BESTSELLER, best, chosen)
    return bought


def _times(
    lengths: Numbers, user: Numbers, place: Numbers, years: float, whole_days: bool, random: np.random.Generator
) -> Numbers:
    """Careers begin anywhere in the first two thirds of the era and end within it."""
    era = years * 365.0
    begin = random.random(len(lengths)) * era * 2 / 3
    gaps = random.exponential(np.minimum(20.0, era / 4 / lengths)[user])
    gaps = np.where(random.random(len(user)) < SAME_DAY, 0.0, gaps + (1.0 if whole_days else 0.0))
    gaps[place == 0] = 0.0
    elapsed = np.cumsum(gaps)
    since = elapsed - elapsed[place == 0][user]
    days = np.minimum(begin[user] + since, era)
    seconds: Numbers = (np.floor(days) * 86_400 if whole_days else days * 86_400).astype(np.int64)
    return seconds
