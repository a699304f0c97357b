"""Reads TensorBoard's event files as TensorBoard does."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every tag of a TensorBoard run with its points ``(step, value)`` in the order in which they were written."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:  # the writer started again from here
            found = {tag: [point for point in points if point[0] < event.step] for tag, points in found.items()}
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def events(folder: Path) -> Iterator[Event]:
    """All events of a run: records of length (uint64), its checksum, content, its checksum (4 bytes each)."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        with open(path, "rb") as file:
            while head := file.read(12):
                (length,) = struct.unpack("<Q", head[:8])
                yield Event.FromString(file.read(length))
                file.read(4)
