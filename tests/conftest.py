"""What many tests share: a tiny experiment, tiny tiles, a cache of their own, and a survey for the command line."""

from __future__ import annotations

import gc
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from pyarrow.fs import FileSystem
from scipy import ndimage

from salt_ray.config import Cosine, Experiment, Folds, Fpn, Labels, Network, Plateau, Resources, Stage, Training
from salt_ray.survey.folds import FoldTable, depth_folds
from salt_ray.survey.padding import frame_for, operator
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.survey.synthetic import write_survey

if TYPE_CHECKING:
    from road import Road

# The same examples every time, however busy the machine is; --hypothesis-profile=default looks for new ones.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("repeatable")


def pytest_collection_finish() -> None:
    """What is imported stays: every training collects garbage, and took half a second to look at all that."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # other tests are running beside these
        torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    refused = sum(("input", "refused") in report.user_properties for report in terminalreporter.getreports("passed"))
    if refused:
        terminalreporter.write_line(f"{refused} damaged inputs were each refused with an error message")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches of the tests, away from the user's and shared by all of them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SALT_RAY_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """``s3://`` and the name of an empty bucket, on an S3 server on loopback that this process and its children use."""
    from moto.server import ThreadedMotoServer  # here, because it takes seconds to load

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store, name = FileSystem.from_uri("s3://salt?allow_bucket_creation=true")
        store.create_dir(name)
        yield f"s3://{name}"
    server.stop()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: the same result to the bit, and no waiting for threads where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    """Both kinds of stage, two folds, seconds on one core."""
    weights = {"lovasz_weight": 0.75, "bce_weight": 0.25, "batch_size": 4}
    plateau = Stage(name="plateau", epochs=3, lr=0.02, schedule=Plateau(patience=0), early_stopping=5, **weights)
    cosine = Stage(name="cosine", epochs=2, lr=0.01, schedule=Cosine(epochs_per_cycle=2), **weights)
    return Experiment(
        name="tiny",
        seed=7,
        labels=Labels(full_tiles="empty"),  # small surveys have too few labels to tell
        precision="fp32",  # the golden values hold on every processor
        network=Network(
            encoder="mnasnet_small",
            pretrained=False,
            decoder=Fpn(widths=(8, 8, 8, 8, 8), pyramid_widths=(2, 2, 2, 2, 2)),
            mask_head_width=4,
        ),
        trainings=(Training(name="random", folds=Folds(count=2), stages=(plateau, cosine)),),
    )


@pytest.fixture(scope="session")
def tiny_tiles(tiny: Experiment, own_cache: Path) -> TrainingTiles:
    """24 tiles of 33 px whose salt is bright, a quarter of them empty."""
    random = np.random.default_rng(3)
    fields = ndimage.gaussian_filter(random.normal(size=(24, 33, 33)), (0, 5, 5))
    masks = fields > np.quantile(fields, 0.7, axis=(1, 2), keepdims=True)
    masks[::4] = False
    images = np.clip(90 + 90 * masks + random.normal(0, 20, masks.shape), 0, 255).astype(np.uint8)
    frame = frame_for(33, tiny.geometry)
    padding = operator(frame)
    ids = np.array([f"tile{i:02d}" for i in range(len(masks))])
    return TrainingTiles("key", ids, padding.images(images), padding.masks(masks), frame)


@pytest.fixture(scope="session")
def tiny_folds(tiny_tiles: TrainingTiles) -> FoldTable:
    return depth_folds(tiny_tiles.ids, np.arange(len(tiny_tiles.ids)), 2)


@pytest.fixture(scope="session")
def ray_directory() -> Iterator[Path]:
    """A short path of its own: Ray's socket names are limited, and no other Ray's files are in the way."""
    with tempfile.TemporaryDirectory(prefix="salt") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


@pytest.fixture(scope="session")
def rays_seen() -> set[str]:
    return set()


@pytest.fixture(autouse=True)
def ray_needs_the_machine(request: pytest.FixtureRequest, ray_directory: Path, rays_seen: set[str]) -> Iterator[None]:
    """Whoever starts Ray says so with the marker ``alone``: its processes take the cores from tests beside it."""
    yield
    begun = {path.name for path in ray_directory.glob("ray/session_2*")} - rays_seen
    rays_seen |= begun
    if begun and not request.node.get_closest_marker("alone"):
        pytest.fail("this test starts Ray: mark it alone", pytrace=False)


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("survey") / "tiles"
    write_survey(directory, 60, seed=1, tile_px=33)
    return directory


@pytest.fixture(scope="session")
def experiment_file(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With one core a fold on every machine: other threads give other bytes."""
    path = tmp_path_factory.mktemp("experiment") / "tiny.json"
    path.write_text(tiny.replace(resources=Resources(cpus_per_fold=1)).model_dump_json())
    return path


@pytest.fixture(scope="session")
def road(survey: Path, experiment_file: Path, ray_directory: Path) -> Road:
    """The command line on that survey and experiment."""
    from road import Road  # Ray: seconds that most tests need not wait for

    return Road(survey, experiment_file, ray_directory)


@pytest.fixture(scope="session")
def undisturbed(survey: Path, experiment_file: Path, own_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from its beginning to its end that nobody disturbed, made without Ray: what others are compared with."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.experiment_file import load_experiment
    from salt_ray.pipeline import steps
    from salt_ray.pipeline.local import LocalEngine
    from salt_ray.pipeline.run import Run
    from salt_ray.report.terminal import Terminal

    path, experiment = tmp_path_factory.mktemp("undisturbed"), load_experiment(experiment_file)
    with Run(experiment, survey, RunDirectory(path), Terminal(quiet=True)).held() as run:
        steps.pipeline(run, LocalEngine())
    return path


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, and other signals end a process, in processes begun from here too; where a shell
    began pytest in the background, or nohup did, they would be ignored.
    """
    handlers = dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    handlers[signal.SIGINT] = signal.default_int_handler
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
