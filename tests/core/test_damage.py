"""A power cut leaves an artefact whole or unused; a damaged one is noticed, named, set aside and made again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmser_tasks.commands import doctor
from llmser_tasks.core import manifest
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.workspace import Artefact, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "artefacts")


def write(folder: Path) -> dict[str, Any]:
    pq.write_table(pa.table({"x": range(1000)}), folder / "x.parquet")
    (folder / "parts").mkdir()
    pq.write_table(pa.table({"y": range(1000)}), folder / "parts" / "y.parquet")
    (folder / "report.json").write_text('{"lines": 7}', encoding="utf-8")
    return {"rows": 1000}


def produce(workspace: Workspace) -> Artefact:
    return workspace.produce("step", "sample", write, inputs={}, config={})


def test_data_reach_the_disk_before_the_folder_and_it_before_the_manifest_and_that_before_the_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    rename, renamed = Path.rename, []

    def noted_rename(self: Path, target: Path) -> Path:
        renamed.append(len(synced))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", noted_rename)
    folder = workspace.folder(produce(workspace))
    (at,) = renamed
    before = [Path(path).name if ".partial-" in Path(path).parent.name else path for path in synced[:at]]
    private = next(path for path in synced if Path(path).name.startswith(".partial-"))
    data = {"x.parquet", "report.json", f"{private}/parts/y.parquet"}
    first_folder = before.index(private)
    assert data <= set(before[:first_folder])
    assert before.index("parts") < first_folder
    written = next(place for place, path in enumerate(before) if path.startswith(".manifest.json."))
    assert first_folder < written < len(before) - 1 - before[::-1].index(private), "the manifest's name, too"
    assert synced[at:] == [str(folder.parent), str(folder.parent.parent), str(workspace.root)]


def test_the_manifest_says_what_the_files_are(workspace: Workspace) -> None:
    noted = workspace.manifest(produce(workspace))
    assert set(noted["files"]) == {"x.parquet", "parts/y.parquet", "report.json"}
    folder = workspace.folder(produce(workspace))
    for name, facts in noted["files"].items():
        assert facts == {"bytes": (folder / name).stat().st_size, "sha256": manifest.file_digest(folder / name)}
    assert "tests" not in str(noted["code"])


def truncated(folder: Path) -> str:
    os.truncate(folder / "parts" / "y.parquet", 0)
    return "parts/y.parquet has 0 bytes instead of"


def missing(folder: Path) -> str:
    (folder / "report.json").unlink()
    return "report.json is missing"


def altered(folder: Path) -> str:
    with (folder / "x.parquet").open("r+b") as file:
        file.seek(20)
        file.write(b"\0\0\0\0\0\0\0\0\0\0\0\0")
    return "x.parquet does not hold what was written"


def emptied_manifest(folder: Path) -> str:
    os.truncate(folder / "manifest.json", 0)
    return "manifest.json is missing or no manifest"


DAMAGES = [truncated, missing, altered, emptied_manifest]


@pytest.fixture
def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what was made before had been made by another process."""
    monkeypatch.setattr(manifest, "_seen", set())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("another_process")
def test_a_damaged_artefact_is_made_again(
    workspace: Workspace, damage: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = produce(workspace)
    monkeypatch.setattr(manifest, "_seen", set())
    what = damage(workspace.root / first.path)
    again = produce(workspace)
    assert not again.unchanged and (again.path, again.content) == (first.path, first.content)
    assert f"Artefact {first.path} is damaged: {what}" in caplog.text
    (aside,) = workspace.folder(again).parent.glob(".damaged-*")
    assert (aside / "x.parquet").is_file(), "nothing is deleted"
    assert produce(workspace).unchanged


@pytest.mark.parametrize("damage", DAMAGES)
def test_who_reads_a_damaged_artefact_is_told_which_step_to_rerun(
    workspace: Workspace, damage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = produce(workspace)
    monkeypatch.setattr(manifest, "_seen", set())
    what = damage(workspace.root / artefact.path)
    with pytest.raises(
        StorageError, match=r"was damaged \(.*\) and is set aside; rerun the step step, which makes it again"
    ) as told:
        workspace.folder(artefact)
    assert what in str(told.value)
    assert not (workspace.root / artefact.path).exists()
    assert not produce(workspace).unchanged


def test_a_large_artefact_is_compared_by_size_and_by_the_doctor_byte_by_byte(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = produce(workspace)
    monkeypatch.setattr(manifest, "_seen", set())
    monkeypatch.setattr(manifest, "CHEAP", 100)
    what = altered(workspace.root / artefact.path)
    assert produce(workspace).unchanged
    assert list(workspace.damage()) == [(artefact.path, what)]
    assert (workspace.root / artefact.path).is_dir(), "the doctor changes nothing"


def test_an_artefact_of_an_earlier_release_is_read_as_it_is(workspace: Workspace) -> None:
    """Its manifest knows nothing of its files."""
    artefact = produce(workspace)
    path = workspace.root / artefact.path / "manifest.json"
    old = json.loads(path.read_text(encoding="utf-8"))
    del old["files"]
    path.write_text(json.dumps(old), encoding="utf-8")
    assert workspace.summary(artefact) == {"rows": 1000}
    assert list(workspace.damage()) == [(artefact.path, None)]


def test_the_doctor_names_what_is_damaged(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_ARTEFACTS", str(workspace.root))
    assert [finding.text for finding in doctor.artefacts()] == [f"0 looked at in {workspace.root}"]
    artefact = produce(workspace)
    what = altered(workspace.root / artefact.path)
    damaged, all_of_them = doctor.artefacts()
    assert damaged.text == f"{artefact.path}: {what}" and "made anew" in damaged.remedy
    assert all_of_them.text == f"1 looked at in {workspace.root}" and not all_of_them.remedy
    monkeypatch.setattr(manifest, "_seen", set())
    produce(workspace)
    (sound,) = doctor.artefacts()
    assert sound.text == f"1 looked at in {workspace.root}; 1 damaged ones lie aside"


def test_what_cannot_be_read_just_now_is_not_set_aside(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = produce(workspace)
    monkeypatch.setattr(manifest, "_seen", set())

    def away(path: Path) -> str:
        raise OSError(116, "Stale file handle", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(manifest, "file_digest", away)
        for look in (lambda: produce(workspace), lambda: workspace.folder(artefact)):
            with pytest.raises(StorageError, match=r"cannot be read \(Stale file handle\); check .* then rerun"):
                look()
        assert list(workspace.damage()) == [(artefact.path, "cannot be read (Stale file handle)")]
    assert produce(workspace).unchanged
