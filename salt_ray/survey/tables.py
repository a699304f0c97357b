"""A survey's CSV files: two columns, one row a tile; read, and compared with the tiles."""

from __future__ import annotations

import csv
import io
import math

from salt_ray.survey.layout import DEPTHS_CSV, ID, ID_RULE, SUBMISSION_CSV, TRAIN_CSV, Entry
from salt_ray.survey.problems import Problem

#: A table of a million masks stays below.
MAX_TABLE_BYTES = 256 << 20
#: Rows of each table that is there, by its name: text by id.
Tables = dict[str, dict[str, str]]


def read_tables(entries: dict[str, Entry], problems: list[Problem]) -> Tables:
    """The tables that can be used; what is wrong with others, or with rows, joins the problems."""
    tables = {}
    for name, column in ((TRAIN_CSV, "rle_mask"), (DEPTHS_CSV, "z"), (SUBMISSION_CSV, "rle_mask")):
        if name in entries:
            try:
                if entries[name].size > MAX_TABLE_BYTES:
                    raise ValueError(f"is {entries[name].size:,} bytes long; at most {MAX_TABLE_BYTES:,} are read")
                tables[name], wrong = read_table(entries[name].read(), entries[name].place, column)
            except (OSError, ValueError) as error:
                remedy = f"expected comma-separated text with the columns id and {column}"
                problems.append(Problem(entries[name].place, str(error), remedy))
                continue
            problems += wrong
    return tables


def read_table(content: bytes, place: str, column: str = "id") -> tuple[dict[str, str], list[Problem]]:
    """The rows of one CSV file that a person made.

    Args:
        content: the whole file; its header must name 'id' and ``column``, in any order, beside any others.
        place: name of the file, for messages.
        column: name of the column of values; 'id' where the list of ids is all that counts.

    Returns:
        Text of ``column`` by id, in the order of the file (of two rows of one id the first), and problems of rows.

    Raises:
        ValueError: the file as a whole cannot be used.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # runs of a large tile are longer than csv's 131,072
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: dict[str, str] = {}
    problems = []
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in dict.fromkeys(("id", column)) if name not in header]
        if missing:
            raise ValueError(f"has no column {' and no column '.join(missing)}")
        id_at, value_at = header.index("id"), header.index(column)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(f"line {reader.line_num} has {len(row)} fields, the header {len(header)}")
            identity, value = row[id_at], row[value_at]
            if not ID.fullmatch(identity):
                what = f"line {reader.line_num} has the id {identity!r}"
                problems.append(Problem(place, what, ID_RULE, drops=()))
            elif identity in rows:
                what = f"line {reader.line_num} repeats the id {identity}"
                problems.append(Problem(place, what, "remove one of the rows", drops=(identity,)))
            else:
                rows[identity] = value
    except csv.Error as error:
        raise ValueError(f"cannot be parsed ({error})") from error
    return rows, problems


def depth_ft(text: str) -> float | None:
    """Depth in feet of a cell of depths.csv; None where it is no finite number."""
    try:
        depth = float(text)
    except ValueError:
        return None
    return depth if math.isfinite(depth) and "_" not in text else None  # float() takes 1_000 for a number


def unmatched(table: str, rows: dict[str, str], files: dict[str, Entry]) -> list[Problem]:
    """Rows without a file and files without a row."""
    return [
        Problem(table, f"lists {i}, which has no image", "add the image or remove the row", drops=())
        for i in rows
        if i not in files
    ] + [
        Problem(files[i].place, f"is not listed in {table}", "add the row or remove the image", drops=(i,))
        for i in sorted(files.keys() - rows.keys())
    ]


def depths_of(
    rows: dict[str, str] | None, train: dict[str, Entry], test: dict[str, Entry], problems: list[Problem]
) -> dict[str, float]:
    """Depth in feet by id; nothing where there is no depths.csv."""
    if rows is None:
        return {}
    strays = unmatched(DEPTHS_CSV, rows, train | test)
    # Kaggle's depths.csv has both sets; with only one of them there, it lists tiles that are not needed.
    problems += strays if train and test else [problem for problem in strays if problem.drops]
    depths = {}
    for i in rows:
        depth = depth_ft(rows[i])
        if depth is not None:
            depths[i] = depth
        elif i in train or i in test:
            what = f"the depth of {i} is {rows[i]!r}, not a number"
            problems.append(Problem(DEPTHS_CSV, what, "write its depth in feet or remove its tile", drops=(i,)))
    return depths
