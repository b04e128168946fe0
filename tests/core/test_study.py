"""Studies' files and the cells that they come to: what is refused, and with which words; order, names, sameness."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmser_tasks.core import environment
from llmser_tasks.core.cells import Cell, cells_of
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.study import Study, path_of_study, read_study, ready_names
from llmser_tasks.warehouse.tables import runs

SMALL: dict[str, Any] = {
    "title": "small",
    "datasets": {"beauty": {"reviews": "r.json", "items": "m.json"}, "yelp": {}},
    "backbones": ["sasrec", "gru4rec"],
    "methods": ["base", "asrep", "llmser"],
    "seeds": [42, 43],
    "settings": {"epochs": 3},
    "vary": {
        "M": {"settings": [{"pseudo_items": 4}, {"pseudo_items": 8}], "methods": ["llmser"], "datasets": ["yelp"]}
    },
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path / "home"))


def read(tmp_path: Path, *, name: str = "small", only: dict[str, Any] | None = None, **changed: Any) -> Study:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(SMALL | changed))
    return read_study(path, only)


def cells(tmp_path: Path, **changed: Any) -> list[Cell]:
    return cells_of(read(tmp_path, **changed))


def told(cell: Cell) -> tuple[Any, ...]:
    return cell.part, cell.dataset, cell.backbone, cell.method, cell.seed, *cell.changed.values()


def test_what_tells_most_comes_first(tmp_path: Path) -> None:
    found = [told(cell) for cell in cells(tmp_path)]
    main = [("main", d, b, m) for d in ("beauty", "yelp") for b in ("sasrec", "gru4rec") for m in ("asrep", "llmser")]
    varied = [("M", "yelp", b, "llmser", seed, m) for seed in (42, 43) for m in (4, 8) for b in ("sasrec", "gru4rec")]
    assert found == [*((*each, 42) for each in main), *((*each, 43) for each in main), *varied]


def test_the_file_may_ask_for_another_order(tmp_path: Path) -> None:
    parts = [(cell.part, cell.seed) for cell in cells(tmp_path, order=["M", "main"])]
    assert list(dict.fromkeys(parts)) == [("M", 42), ("M", 43), ("main", 42), ("main", 43)]


def test_a_cell_is_a_run_that_anybody_could_start(tmp_path: Path) -> None:
    every = {cell.run_id: cell for cell in cells(tmp_path)}
    cell = every["small.yelp.gru4rec.llmser.pseudo_items:8.seed43"]
    made = cell.config
    assert (made.dataset.name, made.dataset.source, made.recommender.backbone) == ("yelp", "yelp", "gru4rec")
    assert (made.augmentation.pseudo_items, made.recommender.epochs) == (8, 3)
    assert made.methods == ["base", "llmser"], "the reference is in every run"
    assert made.evaluation.seeds == (42, 43), "what comes before the trainings has the first seed, whichever is new"
    assert cell.title == "yelp, GRU4Rec, LLMSeR, seed 43, pseudo_items 8"
    for run_id in every:
        runs.check_id(run_id)


def test_more_seeds_and_methods_only_add_cells(tmp_path: Path) -> None:
    before = {cell.run_id: cell.values for cell in cells(tmp_path)}
    after = {
        cell.run_id: cell.values
        for cell in cells(tmp_path, seeds=[42, 43, 44], methods=["base", "asrep", "llmser", "sra-cl"])
    }
    assert before.items() <= after.items() and len(after) > len(before)


def test_the_reference_has_a_cell_only_where_it_is_alone(tmp_path: Path) -> None:
    found = cells(tmp_path, methods=["base"], vary={})
    assert {cell.method for cell in found} == {"base"} and len(found) == 8


def test_what_comes_to_the_base_is_no_cell_of_its_own(tmp_path: Path) -> None:
    vary = {"M": {"settings": [{"pseudo_items": 12}, {"pseudo_items": 4}], "methods": ["llmser"]}}
    assert {cell.changed["pseudo_items"] for cell in cells(tmp_path, vary=vary) if cell.changed} == {4}


def test_a_preset_stands_for_its_settings_and_leaves_methods_and_seeds_alone(tmp_path: Path) -> None:
    vary = {"released": {"settings": [{"preset": "released-llm-esr", "layers": 1}], "seeds": 1}}
    varied = [cell for cell in cells(tmp_path, vary=vary) if cell.part == "released"]
    assert {cell.seed for cell in varied} == {42}
    made = varied[0].config
    assert (made.recommender.loss, made.recommender.max_length, made.recommender.layers) == ("bce", 200, 1)
    assert made.methods == ["base", "asrep"] and made.recommender.epochs == 200
    assert varied[0].run_id == "small.beauty.sasrec.asrep.preset:released-llm-esr~layers:1.seed42"


def test_other_datasets_take_the_place_of_the_files(tmp_path: Path) -> None:
    study = read(tmp_path, only={"mine": {"reviews": "/d/r.csv"}, "beauty": {"items": "/d/m.csv"}})
    assert study.settings("mine")["reviews"] == "/d/r.csv"
    beauty = study.settings("beauty")
    assert (beauty["reviews"], beauty["items"]) == ("r.json", "/d/m.csv")
    assert {cell.dataset for cell in cells_of(study) if cell.part == "M"} == {"mine"}, "the first, without its own"


HOSTILE = "<b>'; drop table runs; --\u202e/../{{ 1 }}\x1b[2J" + "x" * 200


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"backbones": ["sasrek"]}, r"backbones → number 1: it cannot be 'sasrek': Input should be 'sasrec', "),
        ({"methods": ["base", "nosuch"]}, r"methods → number 2: it cannot be 'nosuch': name base, "),
        ({"seeds": []}, r"seeds: it cannot be \[\]: "),
        ({"seeds": [1, 1]}, r"seeds: .*it names 1 twice"),
        ({"seeds": [-1]}, r"seeds → number 1: it cannot be -1"),
        ({"datasets": {}}, r"datasets: it cannot be "),
        ({"datasets": {"../beauty": {}}}, r"datasets → \.\./beauty: .*it may be up to 63 of a–z"),
        ({"settings": {"epoch": 3}}, r"settings: .*there is no setting 'epoch'; docs/settings.md lists them"),
        ({"settings": {"seeds": [1]}}, r"settings: .*seeds cannot be set here; list them in seeds"),
        ({"settings": {"beta": 7}}, r"main, beauty, SASRec, ASReP, seed 42: Setting beta \(--beta\) cannot be 7"),
        ({"preset": "relased"}, r"preset: .*there is no preset 'relased'; there are: released, released-llm-esr"),
        ({"vary": {"M": {"settings": [{}]}}}, r"vary → M → settings: .*an entry changes nothing"),
        ({"vary": {"M": {"settings": [{"publish": "base"}]}}}, r"vary → M → settings: .*publish cannot be set here"),
        ({"vary": {"M": {"settings": [{"beta": 1}], "seeds": 3}}}, r"vary → M → seeds: the study has 2 seeds, no more"),
        (
            {"vary": {"M": {"settings": [{"beta": 1}], "metods": []}}},
            r"vary → M → metods: there is nothing of this name",
        ),
        (
            {"vary": {"M": {"settings": [{"pool": 3}]}}},
            r"M, beauty, .*: The settings do not fit together: pseudo_items",
        ),
        ({"vary": {"main": {"settings": [{"beta": 1}]}}}, r"vary: .*main is a part of every study"),
        ({"order": ["M", "N"]}, r"order: 'N' is no part of it; its parts are: main, seeds, M\."),
        ({"titel": "x"}, r"titel: there is nothing of this name"),
        ({"title": ""}, r"title: it cannot be ''"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_place(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"^Study small \(.*small\.json\), {sentence}") as caught:
        cells(tmp_path, **changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"datasets": [HOSTILE]},
        {"backbones": [HOSTILE]},
        {"methods": [HOSTILE]},
        {"settings": {HOSTILE: 1}},
        {"settings": {"noun": HOSTILE}},
        {"vary": {HOSTILE: {"settings": [{"beta": 1}]}}},
        {"order": [HOSTILE]},
        {HOSTILE: 1},
        {"datasets": 3},
        {"vary": [1]},
        {"title": None},
    ],
)
def test_hostile_and_odd_contents_are_refused_as_any_other(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^Study small "):
        cells(tmp_path, **changed)


def test_a_hostile_setting_stays_out_of_run_ids(tmp_path: Path) -> None:
    nouns = [{"noun": "{{ 1 }}/../<b>"}, {"noun": "{{ 2 }}/../<b>"}]
    found = [cell for cell in cells(tmp_path, vary={"nouns": {"settings": nouns}}) if cell.changed]
    assert len({cell.run_id for cell in found}) == len(found) == 32
    for cell in found:
        runs.check_id(cell.run_id)
        assert not re.search(r"[{}<>/]", cell.run_id)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not JSON"),
        (b"[]", "must hold one JSON object of title, datasets, backbones, methods and seeds"),
        (b"\xff\xfe{}", "is not UTF-8; save it as that"),
        (b'{"title": "a", "title": "b"}', "says 'title' twice; take one of them out"),
        (b"[" * 100_000, "is not JSON: it is nested too deeply"),
    ],
)
def test_a_file_that_is_none_says_so(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "small.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_study(path)


def test_a_study_is_called_as_its_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="A study is called as its file, and 'My study!' cannot be a name"):
        read(tmp_path, name="My study!")


def test_a_study_that_is_not_there_names_those_that_ship(tmp_path: Path) -> None:
    for name in ("nosuch", str(tmp_path / "nosuch.json"), "a\0b", "~nobody-here/x"):
        with pytest.raises(InputError, match=r"quick|is no path"):
            path_of_study(name)


@pytest.mark.parametrize("name", ready_names())
def test_those_that_ship_can_be_run(name: str) -> None:
    study = read_study(path_of_study(name))
    found = cells_of(study)
    assert found and all(runs.check_id(cell.run_id) is None for cell in found)
    assert set(study.asked.datasets) <= {
        path.stem for folder in environment.dataset_folders() for path in folder.glob("*.json")
    }


def test_the_papers_studies_have_what_their_figures_need() -> None:
    llmser, esr = (cells_of(read_study(path_of_study(name))) for name in ("paper-llmser", "paper-llm-esr"))
    assert {cell.changed["pseudo_items"] for cell in llmser if cell.part == "M"} >= {2, 4, 6, 8, 10}
    assert {cell.changed["beta"] for cell in llmser if cell.part == "beta"} >= {0.1, 0.3, 0.8}
    for found, preset in ((llmser, "released"), (esr, "released-llm-esr")):
        assert {cell.changed.get("preset") for cell in found} == {None, preset}
        assert {(cell.backbone, cell.seed) for cell in found if cell.part == "main"} == {
            (backbone, seed) for backbone in ("sasrec", "gru4rec", "bert4rec") for seed in (42, 43, 44)
        }
    assert {cell.changed["esr_neighbours"] for cell in esr if cell.part == "N"} == {2, 6, 14, 18}
