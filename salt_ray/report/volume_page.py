"""``report.html`` of a folder of ``volume predict``: where the salt is, where not to trust it, and how it was made.

Like the page of a run (``salt_ray.report.page``) it opens offline and loads nothing.
"""

from __future__ import annotations

from pathlib import Path

from salt_ray.artifacts import RunDirectory
from salt_ray.report.page import environment
from salt_ray.report.predicted_volume import PredictedVolume
from salt_ray.report.volume_parts import PARTS
from salt_ray.storage import write_atomically
from salt_ray.volume.labels import LabelVolume
from salt_ray.volume.volume import Volume


def write_volume_report(to: Path, volume: Volume | None = None, labels: LabelVolume | None = None) -> Path:
    """Write ``report.html``, whole or not at all.

    Args:
        to: a folder of a finished prediction.
        volume: the file that was predicted, where it is open already.
        labels: shown in the pictures; joined with the results (``salt_ray.volume.labels.join_labels``).

    Raises:
        RunError: the prediction is not finished.
    """
    path = RunDirectory(to).report
    write_atomically(path, render_volume(PredictedVolume.load(to, volume, labels)))
    return path


def render_volume(predicted: PredictedVolume) -> str:
    """The page."""
    content = {name: (heading, make(predicted)) for name, (heading, make) in PARTS.items()}
    template = environment().get_template("volume_page.html")
    return template.render(name=predicted.source.name, volume=predicted, parts=content)
