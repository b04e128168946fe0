"""What is passed on, under which terms, and that whatever is installed is checked against a hash."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = sorted(ROOT.glob("*.lock"))
APACHE_2 = "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"  # sha256 of the text as it is handed out


def test_the_license_is_the_whole_text_and_the_notice_names_what_is_inside() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    foreign = [path for path in (ROOT / "llmser_tasks").rglob("vendor/*") if path.suffix not in {".md", ".txt"}]
    assert foreign, "Chart.js"
    for path in foreign:
        assert str(path.relative_to(ROOT)) in notice
    assert "Apache License, Version 2.0, as the README inside that package says" in notice


def test_a_wheel_carries_license_notice_and_its_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "llmser_tasks"):
        (source / name).symlink_to(ROOT / name)
    program = f"""
import os
os.chdir({str(source)!r})
from setuptools.build_meta import build_wheel
print(build_wheel({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = wheel.namelist()
        metadata = next(wheel.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert "License-Expression: Apache-2.0" in metadata
    for name in ("LICENSE", "NOTICE", "chart-LICENSE.md"):
        assert any("/licenses/" in entry and entry.endswith(f"/{name}") for entry in names), name
    assert "llmser_tasks/page/static/vendor/chart-4.6.1.umd.min.js" in names


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_line_of_a_lock_has_hashes(lock: Path) -> None:
    text = re.sub(r"^#.*\n", "", lock.read_text(encoding="utf-8"), flags=re.M)
    for entry in re.split(r"\n(?=[a-zA-Z])", text.strip()):
        assert re.match(r"[\w.\[\]-]+==[\w.+!]+( ;[^\\]*)? \\\n +--hash=sha256:[0-9a-f]{64}", entry), entry[:80]


def test_nothing_is_installed_past_its_hash() -> None:
    """`-e .` alone has none: it is this checkout."""
    made = (ROOT / "Makefile").read_text(encoding="utf-8") + (ROOT / "Dockerfile").read_text(encoding="utf-8")
    installs = re.findall(r"pip install .*", made)
    assert len(installs) == 7
    for line in installs:
        assert "--require-hashes" in line or line.rstrip().endswith("-e ."), line
        assert "--no-deps" in line
    versions = {line.split()[0] for line in (ROOT / "torch.lock").read_text(encoding="utf-8").splitlines()}
    assert next(need for need in PROJECT["dependencies"] if need.startswith("torch==")) in versions
    known = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    cuda = re.findall(r"^([\w-]+)==", (ROOT / "torch-cuda.lock").read_text(encoding="utf-8"), re.M)
    assert "triton" in cuda and not [name for name in cuda if f"\n{name}==" in known], "one place for each"
