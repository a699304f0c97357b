"""The shape of the code, as rules: Ray at the rim, dependencies downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for folder in ("salt_ray", "experiments") for p in (ROOT / folder).rglob("*.py"))
FILES.append(ROOT / "launch.py")
CORE = {
    "artifacts",
    "compatibility",
    "config",
    "decision",
    "errors",
    "object_store",
    "record",
    "storage",
    "survey",
    "model",
    "training",
    "inference",
    "metric",
    "mosaic",
    "postprocessing",
}
# What each part may import of salt_ray, besides itself.
ALLOWED = {
    "survey": {"config", "errors", "metric", "storage"},
    "volume": {"errors", "metric", "storage", "survey"},
    "model": {"config", "errors", "storage", "torchvision_schemas"},
    "training": {"artifacts", "compatibility", "config", "decision", "errors", "metric", "storage", "survey", "model"},
    "inference": {"artifacts", "config", "decision", "errors", "metric", "storage", "survey", "model", "training"},
    "mosaic": {"config", "errors", "storage", "survey", "model", "training"},
    "postprocessing": {"config", "decision", "errors", "inference", "metric", "mosaic", "storage", "survey"},
    "metric": set(),
    "tuning": {
        "artifacts",
        "config",
        "errors",
        "experiment_file",
        "object_store",
        "storage",
        "survey",
        "model",
        "training",
    },
    "tracking": {"artifacts", "config", "errors", "storage", "training", "tuning"},
    "report": CORE | {"__version__", "experiment_file", "tuning", "volume"},
    "pipeline": CORE | {"__version__", "experiment_file", "tuning", "tracking", "report", "volume"},
    "cluster": CORE | {"tuning", "report", "pipeline"},
    "api": CORE | {"cluster", "experiment_file", "pipeline", "report", "tuning", "volume"},
    "installation": CORE | {"__version__", "cluster", "pipeline", "report"},
    "cli": CORE
    | {"installation"}
    | {"api", "cluster", "experiment_file", "home", "interruption", "pipeline", "report", "streams", "volume"},
    "__main__": {"cli"},
    "artifacts": {"compatibility", "errors", "lease", "object_store", "storage"},
    "compatibility": {"config", "decision"},
    "decision": {"config"},
    "record": {"__version__", "artifacts", "config", "errors", "storage", "survey"},
    "storage": {"errors", "object_store"},
    "lease": {"errors", "object_store"},
    "object_store": {"errors"},
    "config": set(),
    "section": {"errors", "storage"},
    "experiment_file": {"compatibility", "config", "errors", "storage"},
    "errors": set(),
    "home": {"errors"},
    "interruption": set(),
    "streams": set(),
    "torchvision_schemas": set(),
    "__init__": {"api", "config", "errors", "inference", "pipeline", "report", "volume"},  # each when it is used
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports out"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_ray_is_imported_in_one_folder_only(path: Path) -> None:
    uses_ray = any(name == "ray" or name.startswith("ray.") for name in imported(path))
    assert not uses_ray or path.parent == ROOT / "salt_ray" / "cluster"


def test_the_rule_would_notice() -> None:
    assert any(name.startswith("ray") for name in imported(ROOT / "salt_ray" / "cluster" / "session.py"))


@pytest.mark.parametrize("path", [p for p in FILES if "salt_ray" in p.parts], ids=lambda p: str(p.relative_to(ROOT)))
def test_dependencies_point_downwards(path: Path) -> None:
    part = path.relative_to(ROOT / "salt_ray").parts[0].removesuffix(".py")
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("salt_ray.")}
    parts = {"config" if name == "section" else name for name in parts}  # what config is made of
    assert parts - {part} <= ALLOWED[part]
    above = {"experiments", "benchmarks", "launch", "tests"}
    assert path.name == "benchmarks.py" or not any(name.split(".")[0] in above for name in imported(path))


#: What a command without networks loads, and those processes of Ray that only place, watch and correct.
LIGHT = [
    f"salt_ray.{name}"
    for name in (
        "cluster.engine",
        "pipeline.application",
        "pipeline.local",
        "pipeline.search",
        "pipeline.volumes",
        "report.status",
    )
]
HEAVY = {"torch", "timm", "albumentations", "matplotlib", "skimage.restoration"}


def test_who_computes_no_network_does_not_wait_for_pytorch() -> None:
    """Each takes seconds to load, in every process: a fold has three, of which one trains."""
    code = f"import sys, {', '.join(LIGHT)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(LIGHT) <= set(loaded.split()) and not HEAVY & set(loaded.split())
