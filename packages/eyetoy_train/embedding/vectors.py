"""Files of vectors that grow by a few rows at a time: Parquet, or NumPy's format with a table of names beside it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eyetoy_train.utils.files import beside

Vectors = NDArray[np.float32]
HEAD_BYTES = 128
GROUP_ROWS = 1024
"""Rows of a group of a Parquet file: its foot, kept in memory, describes every group."""
MAGIC = b"\x93NUMPY\x01\x00"
SUFFIXES = (".parquet", ".npy")


class Row(NamedTuple):
    """A file whose vector is written."""

    file: str
    """Its path in the folder, with slashes."""
    label: str = ""
    """The class folder that it is in; empty without."""
    split: str = ""
    """The split that it is in, or held out for; empty without."""


class VectorFile:
    """Vectors of one length in NumPy's format, float32, which are added and read a few rows at a time.

    Rows are read and not mapped: what a process maps counts as its memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_rows = self.num_channels = 0
        self._file: Any = path.open("w+b")
        self._file.write(b"\0" * HEAD_BYTES)

    def append(self, vectors: Vectors) -> None:
        """Add rows, `[rows, channels]`."""
        self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        self.num_rows += len(vectors)
        self.num_channels = vectors.shape[1]

    def read(self, start: int, stop: int) -> Vectors:
        """Return the rows from `start` on and before `stop`, `[rows, channels]`."""
        self._file.seek(HEAD_BYTES + 4 * self.num_channels * start)
        content = self._file.read(4 * self.num_channels * (max(min(stop, self.num_rows) - start, 0)))
        return np.frombuffer(content, "<f4").reshape(-1, self.num_channels)

    def close(self) -> None:
        """Write the head, which tells the number of rows."""
        told = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self.num_rows}, {self.num_channels}), }}"
        length = HEAD_BYTES - len(MAGIC) - 2
        self._file.seek(0)
        self._file.write(MAGIC + length.to_bytes(2, "little") + f"{told:<{length - 1}}\n".encode())
        self._file.close()


class Table(Protocol):
    """A file to which rows and their vectors are added."""

    def append(self, rows: Sequence[Row], vectors: Vectors) -> None:
        """Add rows, and their vectors `[rows, channels]`."""

    def close(self) -> None:
        """Finish the file."""


class ParquetTable:
    """Parquet with the columns file, label, split, and vector, a list of fixed length."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: Any = None
        self._rows: list[Row] = []
        self._vectors: list[Vectors] = []

    def append(self, rows: Sequence[Row], vectors: Vectors) -> None:
        """Add rows, which are written some at a time."""
        self._rows += rows
        self._vectors.append(np.array(vectors, np.float32))
        if len(self._rows) >= GROUP_ROWS:
            self._write()

    def close(self) -> None:
        """Write the rest, and the foot."""
        if self._rows:
            self._write()
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = {key: [_text(getattr(row, key)) or None for row in self._rows] for key in Row._fields}
        columns: dict[str, Any] = {key: pa.array(values, pa.string()) for key, values in names.items()}
        vectors = np.concatenate(self._vectors)
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        group = pa.table(columns)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, group.schema)
        self._writer.write_table(group)
        self._rows, self._vectors = [], []


class NameTable:
    """CSV with the columns file, label and split; their vectors are in a `VectorFile`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8", errors="backslashreplace")
        self._writer = csv.writer(self._file)
        self._writer.writerow(Row._fields)

    def append(self, rows: Sequence[Row], vectors: Vectors) -> None:
        """Add rows; their vectors are the other file's."""
        self._writer.writerows(rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Output:
    """Where rows go: the files that a user asked for, and vectors that can be read again."""

    def __init__(self, table: Table, vectors: VectorFile) -> None:
        self.table, self.vectors = table, vectors
        self.rows: list[Row] = []

    def append(self, rows: Sequence[Row], vectors: Vectors) -> None:
        """Add rows, and their vectors `[rows, channels]`."""
        self.table.append(rows, vectors)
        self.vectors.append(vectors)
        self.rows += rows


def files_of(output: Path) -> list[Path]:
    """Return the files that `written` makes for an output: itself, and a table of names beside NumPy's."""
    return [output, output.with_suffix(".csv")] if output.suffix == ".npy" else [output]


@contextmanager
def written(output: Path) -> Iterator[Output]:
    """Give the `Output` of a .parquet or a .npy file. Both are in place when the block ends, and not before.

    Raises:
        ValueError: it has another suffix.
        OSError: it cannot be written.
    """
    if output.suffix not in SUFFIXES:
        raise ValueError(f"--output must end in {' or '.join(SUFFIXES)}; got {output}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as aside:
        vectors = VectorFile(Path(aside) / "vectors.npy")
        partial = [vectors.path] if output.suffix == ".npy" else []
        partial.append(beside(Path(aside) / output.name, "table"))
        table: Table = (NameTable if output.suffix == ".npy" else ParquetTable)(partial[-1])
        try:
            yield Output(table, vectors)
        finally:
            table.close()
            vectors.close()
        for made, path in zip(partial, files_of(output), strict=True):
            if made.is_file():  # there is no Parquet without a row
                made.replace(path)


def _text(name: str) -> str:
    """Return a name in UTF-8, with escapes for bytes of a file's name that are none."""
    return name.encode("utf-8", "backslashreplace").decode()
