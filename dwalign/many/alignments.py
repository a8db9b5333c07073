"""Alignments of many pairs on disk: Parquet, a row a pair, that any tool for tables reads.

A folder of `pairs-00012.parquet` beside `alignments.json`. Columns: `a`, `b` (which networks), `before`, `after` (their
distance over all weights), and for each group a list of its permutation, `[*batch, n]` row after row.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dwalign import extras
from dwalign.files import FileError, reading
from dwalign.files.atomic import whole
from dwalign.files.described import check_sizes, read_described
from dwalign.symmetry import PermutationSpec

ABOUT = "alignments.json"


class Alignments(NamedTuple):
    """Attributes:
    folder: where they lie.
    spec: of the networks.
    parts: the numbers of pairs in each file.
    """

    folder: Path
    spec: PermutationSpec
    parts: tuple[int, ...]

    def part(self, number: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The pairs of one file: the columns `a`, `b`, `before` and `after`, and permutations `[pairs, *batch, n]`.

        Raises:
          FileError: the file is missing (nobody has aligned these yet) or damaged.
        """
        file = self.folder / part_name(number)
        if not file.exists():
            raise FileError(f"{file} is missing: its pairs are not aligned yet; run align_many again")
        with reading(file, "whole Parquet"):
            table = extras.load("pyarrow.parquet").read_table(file, page_checksum_verification=True)
            if table.num_rows != self.parts[number]:
                raise FileError(f"{file} must hold {self.parts[number]} pairs, found {table.num_rows}; make it again")
            plain = {name: table[name].to_numpy() for name in ("a", "b", "before", "after")}
            spec, perms = self.spec, {}
            for group, n in spec.sizes.items():
                flat = table[f"perm:{group}"].combine_chunks().flatten().to_numpy()
                perms[group] = flat.reshape(table.num_rows, *spec.batch_shape(group), n)
        return plain, perms

    def missing(self) -> list[int]:
        """The parts that are not there yet."""
        return [k for k in range(len(self.parts)) if not (self.folder / part_name(k)).exists()]


def open_alignments(folder: str | Path) -> Alignments:
    """Alignments that `align_many` wrote, or is writing.

    Raises:
      FileError: the folder holds none, or their description is damaged.
    """
    folder = Path(folder)
    about = read_described(folder / ABOUT)
    if about is None:
        raise FileError(f"{folder} must hold alignments, found no {ABOUT}; align_many writes it")
    with reading(folder / ABOUT, "the description of alignments"):
        return Alignments(folder, PermutationSpec.from_json(about["spec"]), check_sizes(folder / ABOUT, about["parts"]))


def write_part(folder: Path, number: int, columns: Mapping[str, np.ndarray], perms: Mapping[str, np.ndarray]) -> None:
    """A file of pairs, whole or not at all."""
    arrow, parquet = extras.load("pyarrow"), extras.load("pyarrow.parquet")
    fields = {name: arrow.array(column) for name, column in columns.items()}
    for group, perm in perms.items():
        flat = np.ascontiguousarray(perm, np.int32).reshape(len(perm), -1)
        fields[f"perm:{group}"] = arrow.FixedSizeListArray.from_arrays(arrow.array(flat.ravel()), flat.shape[1])
    with whole(folder / part_name(number)) as temporary:
        parquet.write_table(arrow.table(fields), temporary, write_page_checksum=True)


def part_name(number: int) -> str:
    return f"pairs-{number:05d}.parquet"
