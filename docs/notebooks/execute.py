"""Run the notebooks of this folder and store what their cells show: ``make notebooks``.

Pictures are stored in 256 colours, a third of the bytes.
"""

from __future__ import annotations

import base64
import io
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
COLOURS = 256


def main() -> None:
    os.environ["PYTHONWARNINGS"] = "ignore"  # tqdm asks for ipywidgets, which nothing here uses
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(
                notebook, timeout=None, resources={"metadata": {"path": folder}}, record_timing=False
            ).execute()
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "text/html" in data:  # a table, of which the other form is not shown; and no path of this machine
                    data["text/html"] = data["text/html"].replace(f"{Path(folder).resolve()}/", "")
                    data.pop("text/plain", None)
                if "image/png" in data:
                    data["image/png"] = fewer_colours(data["image/png"])
                    data.pop("text/plain", None)  # the address of an object in memory
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
        nbformat.write(notebook, path)


def fewer_colours(picture: str) -> str:
    """A PNG in base64 with a palette."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        reduced = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    written = io.BytesIO()
    reduced.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode("ascii")


if __name__ == "__main__":
    main()
