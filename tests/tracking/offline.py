"""Reads what Weights & Biases keeps of a run without a server: LevelDB's log format, a protobuf message a record."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7  # bytes; the header of the file is as long as that of a part


def records(path: Path) -> Iterator[Any]:
    """Every record of a ``.wandb`` file; a part has checksum, length and kind (1 whole, 2 first, 3 middle, 4 last)."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = path.read_bytes(), HEADER, b""
    assert content[:4] == b":W&B"
    while place + HEADER <= len(content):
        if (left := BLOCK - place % BLOCK) < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        if kind == 0:
            break
        parts = (b"" if kind in (1, 2) else parts) + content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):
            yield Record.FromString(parts)


def points(path: Path) -> list[dict[str, Any]]:
    """What was logged, in order; its process may write a moment after the run has ended."""
    while not any(record.HasField("exit") for record in records(path)):
        time.sleep(0.1)
    found = []
    for record in records(path):
        if record.HasField("history"):
            items = record.history.item
            found.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return found
