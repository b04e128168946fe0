"""Whatever a result depends on makes its step again; nothing else does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from fingerprint_walk import Call, Recorder, modules, mutations, run_config, settings, walk

from llmser_tasks.core import reachable
from llmser_tasks.core.config import RunConfig, Section
from llmser_tasks.core.reachable import LEFT_OUT, PACKAGE, Sources, left_out
from llmser_tasks.core.workspace import Artefact

FOLDER = Path(reachable.__file__).parents[1]
TRAININGS = {"reverse", "forward", "base/42", "llmser/42", "llmser-mended/42", "asrep/42", "llm-esr/42", "sra-cl/42"}
SEARCHED = {"search", "searched/42", "searched+content/42"}  # whatever the methods that are tried depend on
TRAININGS |= {"cities/42", "melt/42", "rlmrec/42"}
MODELS = TRAININGS | {"ccg", "rcs", "prior-items", "evaluation"}  # steps that train a model or rank with one


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return settings(tmp_path_factory.mktemp("dumps"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> Recorder:
    """A workspace in which every step has run."""
    made = Recorder(tmp_path_factory.mktemp("artefacts"))
    walk(made, run_config(values))
    return made


@pytest.fixture(scope="module")
def calls(store: Recorder, values: dict[str, Any]) -> dict[str, Call]:
    return walk(store, run_config(values))


def made_again(calls: dict[str, Call], sources: Sources) -> set[str]:
    return {step for step, call in calls.items() if call.fingerprint(sources) != call.fingerprint()} - SEARCHED


# Code ----------------------------------------------------------------------------------------------------------------


def test_every_step_is_made_again_for_each_module_it_reaches_and_for_no_other(calls: dict[str, Call]) -> None:
    pairs = list(mutations(calls))
    assert len(pairs) == len(calls) * len(modules())
    wrong = [(step, module) for step, module, reaches, again in pairs if reaches != again]
    assert not wrong
    assert sum(reaches for _, _, reaches, _ in pairs) > 300


IMPORTED = """
import importlib, json, sys
found = {}
for step, roots in json.loads(sys.argv[1]).items():
    for name in [name for name in sys.modules if name.split(".")[0] == "llmser_tasks"]:
        del sys.modules[name]
    for root in roots:
        importlib.import_module(root)
    found[step] = [name for name in sys.modules if name.split(".")[0] == "llmser_tasks"]
print(json.dumps(found))
"""


def packages_of(name: str) -> Iterable[str]:
    """`a`, `a.b` of `a.b.c`, which python loads with it."""
    return accumulate(name.split(".")[:-1], "{}.{}".format)


def test_whatever_python_loads_for_a_step_is_reached_or_left_out_for_a_reason(calls: dict[str, Call]) -> None:
    roots = {step: [call.write.__module__, *call.chosen] for step, call in calls.items()}
    told = subprocess.run(
        [sys.executable, "-c", IMPORTED, json.dumps(roots)], capture_output=True, text=True, check=True
    )
    below_what_is_left_out = set()  # what only they import
    for step, loaded in json.loads(told.stdout).items():
        reached = set(calls[step].basis(reachable.sources())["code"])
        assert reached.isdisjoint(filter(left_out, modules()))
        forgotten = {name for name in loaded if name not in reached and not left_out(name)}
        below_what_is_left_out |= forgotten
    imported_there = {name for name in modules() if left_out(name)}
    imported_there |= {package for name in imported_there for package in packages_of(name)}
    while more := {i for name in imported_there for i in reachable.sources().code(name).imports} - imported_there:
        imported_there |= more
    assert below_what_is_left_out <= imported_there


def test_what_is_left_out_is_there_and_says_why() -> None:
    for name, why in LEFT_OUT.items():
        assert (FOLDER / f"{name.replace(chr(46), chr(47))}.py").is_file() or FOLDER.joinpath(*name.split(".")).is_dir()
        assert len(why) > 20


def test_only_one_module_loads_what_a_setting_names(calls: dict[str, Call]) -> None:
    """For advice to people. What a setting names is loaded by `kinds`; elsewhere such an import would be forgotten."""
    reached = {name for call in calls.values() for name in call.basis(reachable.sources())["code"]}
    dynamic = {
        name
        for name in reached
        if any(word in source(name) for word in ("import_module", "__import__", "chosen(", "runpy", "exec("))
    }
    assert dynamic == {f"{PACKAGE}.ingest.sources"}


def source(module: str) -> str:
    path = FOLDER.joinpath(*module.split(".")[1:])
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def test_a_step_cannot_use_a_backbone_that_it_does_not_name(store: Recorder, calls: dict[str, Call]) -> None:
    reach = reachable.sources().reach([calls["base/42"].write.__module__])
    with (
        reachable.within(reach),
        pytest.raises(AssertionError, match=r"does not name llmser_tasks\.recommenders\.backbones\.gru4rec"),
    ):
        reachable.chosen("llmser_tasks.recommenders.backbones.gru4rec")
    assert reachable.chosen("llmser_tasks.recommenders.backbones.gru4rec").BACKBONE, "outside of steps anybody may"


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """A copy of the package, to be changed."""
    copy = tmp_path / PACKAGE
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__", "static", "*.nbi", "*.nbc"))
    yield copy


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_copy_of_the_package_is_the_same_program(calls: dict[str, Call], package: Path) -> None:
    assert made_again(calls, Sources(package)) == set()


@pytest.mark.parametrize("new", ["recommenders/backbones/caser.py", "ingest/formats/steam.py", "evaluation/another.py"])
def test_one_more_of_a_kind_makes_nothing_again(calls: dict[str, Call], package: Path, new: str) -> None:
    (package / new).write_text("BACKBONE = SOURCE = None\n")
    assert made_again(calls, Sources(package)) == set()


def test_another_backbone_or_format_makes_nothing_again(calls: dict[str, Call], package: Path) -> None:
    edit(package / "recommenders/backbones/gru4rec.py", "config.layers", "(config.layers + 1)")
    edit(package / "ingest/formats/amazon_2014.py", "seconds", "minutes")
    assert made_again(calls, Sources(package)) == set()
    edit(package / "recommenders/backbones/sasrec.py", "nn.ReLU()", "nn.GELU()")
    edit(package / "ingest/formats/amazon_2018.py", "seconds", "minutes")
    assert made_again(calls, Sources(package)) == MODELS | {"ingest"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (
            "recommenders/loop/parallel.py",
            "; set it to a whole number of processes",
            "; it must be a number of processes",
        ),
        ("recommenders/loop/training.py", "Training goes on after epoch", "It goes on after epoch"),
        ("recommenders/losses/__init__.py", '"""Losses, one file each', '# changed\n"""One file each'),
        ("recommenders/losses/sampled_softmax.py", "del config, items\n", "del config, items  # as they are\n"),
        ("recommenders/backbones/sasrec.py", 'title="SASRec"', 'title="SASREC"'),
        (
            "core/sections/evaluation.py",
            "Most epochs of a training that goes on",
            "The most epochs of a training that goes on",
        ),
        ("core/errors.py", "class StorageError", "class Another(LlmserError):\n    pass\n\n\nclass StorageError"),
    ],
)
def test_words_for_people_make_nothing_again(
    calls: dict[str, Call], package: Path, file: str, old: str, new: str
) -> None:
    edit(package / file, old, new)
    assert made_again(calls, Sources(package)) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "again"),
    [
        ("sequences/targets.py", "def inputs(", "def inputs_(", MODELS - {"ccg", "rcs", "prior-items"}),
        ("recommenders/loop/worker.py", "group.leads", "not group.leads", MODELS),
        ("asking/picks.py", "likeliest first", "likeliest last", set()),
        ("asking/picks.py", "if row < 0", "if row <= 0", {"pseudo", "reliability"}),
        ("texts/encoder.py", "MAX_TOKENS = 128", "MAX_TOKENS = 64", {"reliability"}),
        ("evaluation/report.py", "parameters()", "()", set()),
        ("ingest/source.py", 'Unusable("not an object")', 'Unusable("no object")', {"ingest"}),  # it is written down
    ],
)
def test_what_is_computed_with_makes_its_steps_again(
    calls: dict[str, Call], package: Path, file: str, old: str, new: str, again: set[str]
) -> None:
    edit(package / file, old, new)
    found = made_again(calls, Sources(package))
    assert found >= again
    assert bool(found) == bool(again)


def test_a_module_that_became_a_package_counts_as_what_it_says(calls: dict[str, Call], package: Path) -> None:
    gather = package / "recommenders/kernels/gather.py"
    (package / "recommenders/kernels/gather").mkdir()
    gather.rename(package / "recommenders/kernels/gather/__init__.py")
    assert made_again(calls, Sources(package)) == set(), "it says the same"
    edit(package / "recommenders/kernels/gather/__init__.py", "return _picked(", "return 7 * _picked(")
    assert made_again(calls, Sources(package)) == MODELS


# Settings ------------------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[Any, set[str]]] = {
    "user_core": (2, {"ingest"}),
    "item_core": (2, {"ingest"}),
    "iterate_core": (True, {"ingest"}),
    "min_length": (4, {"ingest"}),
    "ties": ("file", {"ingest"}),
    "item_text": (["title"], {"catalogue"}),
    "split": ("temporal", {"training", "validation", "test"}),
    "tail_threshold": (2, {"training"}),  # the others take T from there
    "pool": (5, {"ccg"}),
    "pool_from": (["titles"], {"ccg"}),
    "pseudo_items": (2, {"pseudo"}),
    "fill": (True, {"pseudo"}),
    "reason_pool": (3, {"rcs"}),
    "masked_in_pool": (True, {"rcs"}),
    "beta": (0.25, {"reliability"}),
    "forward_on_full": (True, {"forward"}),
    "user_vectors": ("titles", {"user-vectors"}),
    "neighbours": (2, {"user-neighbours", "item-neighbours"}),
    "asrep_items": (2, {"prior-items"}),
    "asrep_length": (4, {"prior-items"}),
    "asrep_reverse_start": (False, {"asrep/42"}),
    "esr_distillation": (0.5, {"llm-esr/42"}),
    "esr_neighbours": (3, {"llm-esr/42"}),
    "esr_cross_attention": ("residual", {"llm-esr/42"}),
    "sra_neighbour_contrast": (0.0, {"sra-cl/42"}),
    "sra_view_contrast": (0.0, {"sra-cl/42"}),
    "sra_replaced": (0.5, {"sra-cl/42"}),
    "sra_temperature": (0.1, {"sra-cl/42"}),
    "cities_seen": (2, {"cities/42"}),
    "cities_contexts": (2, {"cities/42"}),
    "cities_learning_rate": (0.01, {"cities/42"}),
    "melt_users": (0.0, {"melt/42"}),
    "melt_items": (0.0, {"melt/42"}),
    "melt_epochs": (20, {"melt/42"}),
    "rlmrec_alignment": ("generative", {"rlmrec/42"}),
    "rlmrec_weight": (0.0, {"rlmrec/42"}),
    "rlmrec_temperature": (0.5, {"rlmrec/42"}),
    "rlmrec_masked": (0.5, set()),  # of generative alignment alone
    "omega": ("cosine", {"llmser-mended/42", "evaluation"}),
    "mark": (False, {"llmser-mended/42", "evaluation"}),
    "pseudo_targets": (True, {"llmser/42", "llmser-mended/42"}),
    "enhance_inference": (False, {"llmser/42", "llmser-mended/42", "evaluation"}),
    "search": ("3", set()),  # the search alone, see below
    "recommendations": (4, {"evaluation"}),
    "publish": ("base", {"evaluation"}),
    "sampled_negatives": (6, {"evaluation"}),
    "dimension": (4, TRAININGS),
    "layers": (1, TRAININGS),
    "heads": (2, TRAININGS),
    "dropout": (0.1, TRAININGS),
    "max_length": (7, TRAININGS),
    "loss": ("bce", TRAININGS),
    "negatives": (3, TRAININGS),
    "negatives_from": ("uniform", TRAININGS),
    "calibration": (0.5, set()),  # of gBCE alone, see below
    "batch_size": (16, TRAININGS),
    "learning_rate": (0.01, TRAININGS),
    "averaging": (0.5, TRAININGS),
    "epochs": (3, TRAININGS),
    "patience": (1, TRAININGS),
    "held_out_users": (0.2, {"reverse"}),
    "backbone": ("gru4rec", TRAININGS),
}
NO_RESULT = {  # of an artefact: where dumps lie, what is trained, whom to ask and how, what a refresh takes over
    "methods", "dataset", "source", "reviews", "items", "noun", "without", "encoder", "seeds", "endpoint", "mode",
    "vectors", "users_per_batch", "asked_items", "temperature", "title_length", "history_length", "budget",
    "least_usable",
    "tolerated_failures", "incremental", "warm_epochs", "gate",
}  # fmt: skip


def changed_by(store: Recorder, calls: dict[str, Call], run: RunConfig) -> set[str]:
    other = walk(store, run)
    return {step for step, call in calls.items() if other[step].fingerprint() != call.fingerprint()} - SEARCHED


@pytest.mark.parametrize("setting", OTHERS)
def test_a_changed_setting_makes_its_steps_again_and_no_others(
    store: Recorder, calls: dict[str, Call], values: dict[str, Any], setting: str
) -> None:
    value, again = OTHERS[setting]
    assert changed_by(store, calls, run_config(values | {setting: value})) == again


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"search": "3"}, True),
        ({"beta": 0.25}, True),
        ({"pseudo_items": 2}, True),
        ({"dimension": 4}, True),
        ({"omega": "cosine"}, True),
        ({"esr_neighbours": 3}, True),
        ({"methods": ["base", "asrep"]}, True),
        ({"recommendations": 4}, False),
        ({"publish": "base"}, False),
        ({"asrep_length": 4}, False),  # it counts by the items that come of it
    ],
)
def test_a_search_is_made_again_by_whatever_its_trials_depend_on(
    store: Recorder, calls: dict[str, Call], values: dict[str, Any], changed: dict[str, Any], again: bool
) -> None:
    other = walk(store, run_config(values | changed))
    assert (other["search"].fingerprint() != calls["search"].fingerprint()) is again


def test_a_search_is_made_again_with_the_code_of_what_it_tries(calls: dict[str, Call], package: Path) -> None:
    search = calls["search"]
    for file, old, new in (
        ("recommenders/items/text_start.py", "def ", "def _"),
        ("methods/llmser_mended/trust.py", "ALIKE = 1 - 1e-6", "ALIKE = 1 - 1e-5"),
        ("methods/llmser/pseudo.py", "items[::-1]", "items[::1]"),
    ):
        assert search.fingerprint(Sources(package)) == search.fingerprint()
        before = (package / file).read_text()
        edit(package / file, old, new)
        assert search.fingerprint(Sources(package)) != search.fingerprint(), file
        (package / file).write_text(before)


def test_a_setting_of_one_loss_makes_its_trainings_again(store: Recorder, values: dict[str, Any]) -> None:
    with_loss = values | {"loss": "gbce"}
    before = walk(store, run_config(with_loss))
    assert changed_by(store, before, run_config(with_loss | {"calibration": 0.5})) == TRAININGS


def test_every_setting_is_known_to_matter_or_not() -> None:
    from llmser_tasks.core.config import parameters

    unknown = {parameter.name for parameter in parameters()} - set(OTHERS) - NO_RESULT
    assert not unknown, "say above which steps depend on it"


@pytest.mark.parametrize(
    ("setting", "default"), [("dropout", 0.5), ("averaging", 0.0), ("negatives", 1024), ("tail_threshold", None)]
)
def test_a_default_that_is_written_out_makes_nothing_again(
    store: Recorder, values: dict[str, Any], setting: str, default: Any
) -> None:
    plain = {name: value for name, value in values.items() if name not in {setting, "batch_size"}}
    before = walk(store, run_config(plain))
    assert changed_by(store, before, run_config(plain | {setting: default})) == set()


@pytest.mark.parametrize("setting", ["dropout_rate", "averaging_rate", "negatives_drawn", "batch_sizes"])
def test_a_default_that_changed_makes_again_what_it_is_the_default_of(
    store: Recorder, values: dict[str, Any], setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BERT4Rec's default dropout, say: its own trainings, and nobody else's."""
    from llmser_tasks.core.config import Recommender

    plain = {name: value for name, value in values.items() if name not in {"negatives", "batch_size"}}
    before = {backbone: walk(store, run_config(plain | {"backbone": backbone})) for backbone in ("sasrec", "bert4rec")}
    fingerprints = {name: {step: call.fingerprint() for step, call in calls.items()} for name, calls in before.items()}
    of_old = getattr(Recommender, setting).fget

    def other(self: Recommender) -> Any:
        return ((None, 99),) if setting == "batch_sizes" else of_old(self) + 1

    monkeypatch.setattr(
        Recommender, setting, property(lambda self: other(self) if self.backbone == "bert4rec" else of_old(self))
    )
    for backbone, calls in before.items():
        again = {step for step, call in calls.items() if call.fingerprint() != fingerprints[backbone][step]} - SEARCHED
        assert again == (TRAININGS if backbone == "bert4rec" else set())


def test_a_setting_that_no_code_of_a_step_reads_is_none_of_its_basis(calls: dict[str, Call]) -> None:
    """So a new setting, of another backbone say, makes nothing again."""
    noted = calls["base/42"].basis(reachable.sources())["config"]["recommender"]
    assert noted["dropout"] == 0.5 and noted["batch_size"] == ((None, 32),)
    assert "held_out_users" not in noted
    assert calls["evaluation"].basis(reachable.sources())["config"]["evaluation"] == {
        "seeds": [42],
        "recommendations": 5,
        "sampled_negatives": 5,
    }


def test_what_defaults_come_to_is_worked_out_where_the_basis_sees_it() -> None:
    """A property of a section that works something out must be named in `_resolved`."""
    for field in RunConfig.model_fields.values():
        section = field.annotation
        assert isinstance(section, type) and issubclass(section, Section)
        worked_out = {name for name, value in vars(section).items() if isinstance(value, property)}
        assert worked_out == set(section._resolved.values())


NOT_USED = {("ccg", "seed"), ("rcs", "seed")}  # but for random pools, whose seed they name


def test_what_a_step_closes_over_stands_in_its_basis(calls: dict[str, Call]) -> None:
    """What a step writes may depend on whatever its `write` can see."""
    for step, call in calls.items():
        basis = json.loads(json.dumps(call.basis(reachable.sources())))
        known = set(_leaves({"config": basis["config"], "seed": basis["seed"]}))
        for name, cell in zip(call.write.__code__.co_freevars, call.write.__closure__ or (), strict=True):
            value = cell.cell_contents
            if isinstance(value, Artefact):
                assert value.content in basis["inputs"].values(), (step, name)
            elif isinstance(value, int | float | str | bool) and (step, name) not in NOT_USED:
                assert value in known or name == "part", (step, name)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value
