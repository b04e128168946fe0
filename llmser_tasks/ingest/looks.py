"""What a file that is no dump is instead, going by its first bytes, and what to do about it: one sentence each."""

from __future__ import annotations

import re
from pathlib import Path

from llmser_tasks.core.errors import InputError

START = 4096  # bytes that give it away

_COMPRESSED = {  # read are .gz and Parquet's own ways
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\x1f\x9d": "compress",
}
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}
_OTHERS = {
    b"version https://git-lfs.github.com/spec": "a Git LFS pointer, which stands for the file; fetch that with "
    "`git lfs pull`",
    b"%PDF": "a PDF; take the dump itself",
    b"SQLite format 3\x00": "a SQLite database; export its table as CSV",
    b"\x89HDF": "an HDF5 file; write its table as Parquet or CSV",
    b"\x93NUMPY": "a NumPy array; write its table as Parquet or CSV",
    b"ARROW1": "an Arrow file; write its table as Parquet",
    b"ORC": "an ORC file; write its table as Parquet",
    b"Obj\x01": "an Avro file; write its table as Parquet",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save its table as CSV",
    **{
        bytes((0x80, protocol)): "a pickle, which is never opened because it can run anything; write its table as "
        "Parquet or CSV"
        for protocol in (2, 3, 4, 5)
    },
}
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|head|body|\?xml|error)\b", re.I)
_WIDE = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def refuse(path: Path, start: bytes) -> None:
    """Refuse a file that cannot be a dump, saying what it is by its first bytes (decompressed ones as well).

    Raises:
        InputError: it is of a kind that is known not to be one.
    """
    for magic, name in _ARCHIVES.items():
        if start.startswith(magic):
            raise InputError(f"{path} is a {name} archive; unpack it, or pack it as .gz.")
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise InputError(f"{path} is compressed with {name}; unpack it, or pack it as .gz.")
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            raise InputError(f"{path} is {what}.")
    text = start.removeprefix(b"\xef\xbb\xbf")
    if _MARKUP.match(text):
        raise InputError(
            f"{path} is a web page or an error message in XML, not a dump: the address it came from may want a "
            "login or have moved; fetch it again and look at what comes."
        )
    if encoding := _wide(start):
        raise InputError(f"{path} is in {encoding}; convert it: iconv -f {encoding} -t UTF-8 FILE > CONVERTED.")


def refuse_address(given: str, what: str) -> None:
    """Refuse a path that is an address; the address itself may hold a key and is not repeated.

    Raises:
        InputError: it is.
    """
    if found := _ADDRESS.match(given):
        scheme = found[1].lower()
        how = {"s3": "aws s3 cp", "gs": "gcloud storage cp", "hf": "hf download"}.get(scheme, "curl -LO")
        raise InputError(
            f"The {what} dump is given as an address ({scheme}://…), and dumps are read from disk: download it first, "
            f"with `{how}` say, and give the file's path."
        )


def _wide(start: bytes) -> str | None:
    """UTF-16 or UTF-32, by their mark, or by the zeros that ASCII has in them."""
    for mark, encoding in _WIDE:
        if start.startswith(mark):
            # a line of JSON in UTF-16 has a zero in every second byte; what is mere noise has not
            return encoding if len(start) < 8 or start.count(0) * 4 > len(start[:START]) else None
    for zeros, encoding in ((start[1::2], "UTF-16LE"), (start[::2], "UTF-16BE")):
        if len(start) >= 8 and zeros.count(0) * 10 > 9 * len(zeros) and start.count(0) * 3 < 2 * len(start):
            return encoding
    return None
