"""A survey's CSV files: two columns, one row a tile."""

from __future__ import annotations

import csv
import io
import math
import re

from salt_ray.survey.problems import Problem

#: What an id may be. It names a file, so it must not be able to leave the folder; arrays of ids take four bytes times
#: the longest for each of them, so none may be long.
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
ID_RULE = "an id is letters, digits, _ and -, at most 100 of them"


def read_table(content: bytes, place: str, column: str) -> tuple[dict[str, str], list[Problem]]:
    """The rows of one CSV file.

    Args:
        content: the whole file; its header must name 'id' and ``column``, in any order, beside any others.
        place: name of the file, for messages.
        column: name of the column of values.

    Returns:
        Text of ``column`` by id, in the order of the file (of two rows of one id the first), and problems of rows.

    Raises:
        ValueError: the file as a whole cannot be used.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: dict[str, str] = {}
    problems = []
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in ("id", column) if name not in header]
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
                what = f"line {reader.line_num} has the id {identity} again"
                problems.append(Problem(place, what, "leave one of the rows", drops=(identity,)))
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
