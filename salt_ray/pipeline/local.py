"""An engine without Ray, for notebooks, debuggers and tests: everything runs sequentially in this process."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Resources
from salt_ray.pipeline.engine import Failed, Piece, Work
from salt_ray.pipeline.fold import Outcome, try_fold
from salt_ray.pipeline.trial import SearchStopped, SearchWork, try_trial
from salt_ray.pipeline.workplace import workplace
from salt_ray.postprocessing.selection import LeakError
from salt_ray.report.trials import TrialView
from salt_ray.section import ExperimentError
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.task import FoldTask
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import Step, trial_name

if TYPE_CHECKING:
    import torch


class LocalEngine:
    """Runs all work with as many threads as a Ray worker on this machine has (``pipeline.engine``)."""

    def places(self, experiment: Experiment) -> int:
        return 1

    def train(
        self,
        tasks: Sequence[FoldTask],
        tiles: TrainingTiles,
        run: RunDirectory,
        report: Callable[[Progress | StepProgress], None],
        say: Callable[[str], None],
    ) -> list[Outcome]:
        experiment = tasks[0].experiment
        with workplace(experiment, len(experiment.all_folds)) as device:

            def outcome(task: FoldTask) -> Outcome:
                return try_fold(task, tiles, run, lambda: device, report, lambda line: say(f"{task.name}: {line}"))

            return [outcome(task) for task in tasks]

    def predict(self, pieces: Sequence[Piece], work: Work[Piece], say: Callable[[str], None]) -> Iterator[Piece]:
        write: Callable[[Piece], None] | None = None
        for piece in pieces:
            with workplace(work.experiment) as device:  # not around the yield, which would change the caller's threads
                write = write or work.begin(device, say)
                write(piece)
            yield piece

    def tasks(self, task: Callable[[int], Callable[[], Any]], run: RunDirectory, beside: Resources) -> LocalTasks:
        return LocalTasks(task)

    def search(self, study: Study, work: SearchWork, tiles: TrainingTiles, view: TrialView) -> None:
        with workplace(work.experiment) as device:
            while (trial := study.ask()) is not None:
                view.begin(trial.number, trial.params)
                try:
                    study.begin(trial)
                    self._run_trial(study, trial.number, work, tiles, device, view)
                except _Pruned:
                    study.prune(trial.number)
                except ExperimentError as error:
                    study.fail(trial.number, str(error))
                view.end(study.frozen(trial.number))

    def _run_trial(
        self,
        study: Study,
        number: int,
        work: SearchWork,
        tiles: TrainingTiles,
        device: torch.device,
        view: TrialView,
    ) -> None:
        """Run one trial to its end and record it in the study.

        Raises:
            _Pruned: it is to be pruned.
            SearchStopped: an error would affect all trials.
        """

        def judge(step: Step) -> None:
            view.step(number, step)
            if study.record(number, step):
                raise _Pruned

        def say(line: str) -> None:
            view.say(f"{trial_name(number)}: {line}")

        end = try_trial(work, number, study.frozen(number).params, tiles, lambda: device, judge, say)
        if end.obstacle is not None:
            raise SearchStopped(end.obstacle)
        if end.failure is not None:
            study.fail(number, end.failure)
        else:
            study.complete(number)


class _Pruned(Exception):
    """A trial is to be pruned."""


class LocalTasks:
    """Tasks that run when their answers are requested (``pipeline.engine.Tasks``)."""

    def __init__(self, task: Callable[[int], Callable[[], Any]]) -> None:
        self._task, self._waiting = task, deque()

    def add(self, number: int) -> None:
        self._waiting.append(number)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def answers(self, wait: bool) -> Iterator[tuple[int, Any]]:
        for _ in range(len(self._waiting)):
            number = self._waiting.popleft()
            yield number, attempt(self._task(number))


def attempt(task: Callable[[], Any]) -> Any:
    """A task's answer, or ``Failed`` for any error except a leak, which is raised."""
    try:
        return task()
    except LeakError:
        raise
    except Exception as error:
        return Failed(traceback.format_exception_only(error)[-1].strip())
