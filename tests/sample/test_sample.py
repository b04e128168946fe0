"""The sample: real formats, real dirt, structure that can be learnt, and no doubt that it is made up."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_dumps import Ingested

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.kinds import DUMP_FORMATS
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import ingest
from llmser_tasks.sample import SampleFiles, shop, write_sample
from llmser_tasks.sample.formats import FORMATS
from llmser_tasks.sample.world import World, build, careers, draw_lengths
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets


def describe(files: SampleFiles, source: str) -> Dataset:
    return Dataset(name="sample", source=source, reviews=str(files.reviews), items=str(files.items))


@pytest.mark.parametrize("source", DUMP_FORMATS)
def test_every_format_is_read_back_with_its_dirt(workspace: Workspace, tmp_path: Path, source: str) -> None:
    files = write_sample(tmp_path / "sample", source=source)
    done = Ingested(workspace, describe(files, source))
    reviews, items = done.report["lines"]["reviews"], done.report["lines"]["items"]
    assert done.report["before"]["users"] == 3000
    assert done.report["before"]["items"] <= 600
    assert done.report["after"]["users"] > 2000
    assert done.report["lengths"]["shorter_than_8"] > 0.8
    assert done.report["lengths"]["max"] > 40
    assert reviews["duplicates"] > 100
    assert reviews["filtered"]["rating"] > 10
    assert reviews["filtered"]["user_core"] > 100
    assert sum(reviews["quarantined"].values()) >= 3
    assert sum(items["quarantined"].values()) == 2
    assert items["duplicates"] >= 10
    assert done.report["titles"]["no_line"] > 0
    assert 0.93 < done.report["titles"]["coverage"] < 0.995
    assert done.report["ties"]["moments"] > 100
    assert done.report["repeat_purchases"] > 100
    assert any(row["rating"] is None for row in done.interactions)
    assert not [title for title in done.titles().values() if title and ("<" in title or "&amp;" in title)]
    raw = gzip.decompress(files.items.read_bytes())
    assert b"<span class" in raw
    assert b"&amp;" in raw


def test_it_says_that_it_is_synthetic(workspace: Workspace, tmp_path: Path) -> None:
    files = write_sample(tmp_path / "sample", users=300)
    done = Ingested(workspace, describe(files, "amazon-2014"))
    assert done.summary["synthetic"] is True
    assert done.report["synthetic"] is True
    assert "SYNTHETIC DATA" in files.marker.read_text()
    assert all(row["user_id"].startswith("SYN-") for row in done.users)
    assert all(row["item_id"].startswith("SYN-") for row in done.items)
    assert b"Synthetic review" in gzip.decompress(files.reviews.read_bytes())


def test_items_of_2014_are_python_literals(tmp_path: Path) -> None:
    files = write_sample(tmp_path, users=50)
    lines = gzip.decompress(files.items.read_bytes()).splitlines()
    assert sum(line.startswith(b"{'asin': ") for line in lines) > 50


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one = write_sample(tmp_path / "one", users=5000, seed=7)
    two = write_sample(tmp_path / "two", users=5000, seed=7)
    other = write_sample(tmp_path / "other", users=5000, seed=8)
    assert one.reviews.read_bytes() == two.reviews.read_bytes()
    assert one.items.read_bytes() == two.items.read_bytes()
    assert one.reviews.read_bytes() != other.reviews.read_bytes()


def test_writing_again_replaces_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_sample(tmp_path, users=100)
    files = write_sample(tmp_path, users=50)
    assert sorted(tmp_path.iterdir()) == sorted([files.reviews, files.items, files.marker])
    assert "50 users" in files.marker.read_text()


@pytest.mark.parametrize("items", [10, 11, 60, 137, 600, 5000])
def test_any_size_of_catalogue(items: int) -> None:
    world = build(items, seed=1)
    assert world.items == items
    assert (np.diff(world.starts) > 0).all()
    words = {shop.describe(world, FORMATS["yelp"], item).title for item in range(items)}
    assert len(words) > min(items, 500) / 3


@pytest.mark.parametrize(("users", "items"), [(0, None), (-1, None), (5, 9)])
def test_sizes_that_make_no_sense(tmp_path: Path, users: int, items: int | None) -> None:
    with pytest.raises(InputError, match="A sample needs at least"):
        write_sample(tmp_path, users=users, items=items)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot write the sample to"):
        write_sample(tmp_path / "file" / "below", users=5)


def test_lengths_have_the_papers_long_tail() -> None:
    lengths = draw_lengths(100_000, np.random.default_rng(0))
    assert 0.8 < (lengths < 8).mean() < 0.95
    assert (lengths >= 50).sum() > 50
    assert lengths.min() == 1
    assert 0.8 < (lengths >= 3).mean() < 0.95


def test_popularity_has_a_long_tail() -> None:
    world = build(600, 42)
    counts = np.sort(np.bincount(drawn(world).items, minlength=600))[::-1]
    assert counts[:120].sum() > 0.45 * counts.sum()
    assert counts[300:].sum() < 0.25 * counts.sum()


def drawn(world: World, users: int = 3000):
    return careers(world, users, 7, True, np.random.default_rng(1))


def test_careers_climb_so_that_early_items_differ_from_late_ones() -> None:
    world = build(600, 42)
    group = drawn(world)
    rungs = (np.searchsorted(world.starts, group.items, side="right") - 1) // world.tiers
    next_one = np.flatnonzero(np.diff(group.users) == 0)
    climb = (rungs[next_one + 1] - rungs[next_one]) % world.rungs
    assert (climb == 1).mean() > 0.35
    assert (climb == world.rungs - 1).mean() < 0.1
    assert (np.diff(group.seconds)[next_one] >= 0).all()


def test_titles_tell_what_goes_together() -> None:
    """Two items of one user share more words than two of different users."""
    world = build(600, 42)
    group = drawn(world, 500)
    words = [set(str(shop.describe(world, FORMATS["amazon-2014"], i).title).split()) for i in range(600)]
    together = np.flatnonzero(np.diff(group.users) == 0)
    overlap = [len(words[group.items[n]] & words[group.items[n + 1]]) for n in together]
    apart = [len(words[group.items[n]] & words[group.items[-n]]) for n in together]
    assert np.mean(overlap) > 1.5 * np.mean(apart)


def test_sequences_tell_more_than_popularity(workspace: Workspace, tmp_path: Path) -> None:
    """What followed an item in training predicts what follows it in the test, well above the best-sellers."""
    files = write_sample(tmp_path / "sample")
    dataset = describe(files, "amazon-2014")
    made = sequences(workspace, dataset, ingest(workspace, dataset))
    training = Histories.read(workspace.folder(made["training"]) / "histories.parquet")
    test = read_targets(workspace.folder(made["test"]) / "targets.parquet")
    count = workspace.summary(made["catalogue"])["items"] + 1
    follows = np.zeros((count, count))
    for row in training:
        np.add.at(follows, (row[:-1], row[1:]), 1)
    popular = np.bincount(training.items, minlength=count)
    last = test.inputs(training).last()
    scores = follows[last] + 1e-6 * popular
    hits = (scores > scores[np.arange(len(last)), test.items][:, None]).sum(axis=1) < 10
    best = np.isin(test.items, np.argsort(-popular)[:10])
    assert hits.mean() > 2 * best.mean()


MEMORY = """
import resource, sys
from pathlib import Path
from llmser_tasks.sample import write_sample
write_sample(Path(sys.argv[1]), users=4096, items=600)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_sample(Path(sys.argv[1]), users=20_000, items=600)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_users(tmp_path: Path) -> None:
    grown = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(grown.stdout) < 20 << 10  # KiB
