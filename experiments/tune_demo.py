"""A search in minutes on two CPU cores: a small network's first stage, twelve short trials.

Hypothesis: the best of twelve is at least as good as its own settings, which are the first.
Command:    python launch.py tune --data runs/demo/survey --experiment experiments/tune_demo.py
            (the survey is the one that python launch.py demo makes)
Cost:       7.4 minutes on two CPU cores.
Score:      fold 0: 0.5884 with its own settings, 0.5932 the best, 0.5416 ± 0.0653 the nine complete ones (1 search).
"""

from experiments.from_scratch import experiment as parent
from experiments.tune import PARAMETERS, STAGES
from salt_ray.config import Experiment, FloatRange, IntRange, Tune

EPOCHS = 8
#: Off as in experiments/tune.py, until they are switched on.
INGREDIENTS = {"optimizer", "lovasz", "average"}


def experiment() -> Experiment:
    (training,) = parent().trainings
    stage = training.stages[0].replace(epochs=EPOCHS)
    return parent().replace(
        name="tune_demo",
        trainings=(training.replace(stages=(stage,)),),
        tune=Tune(
            parameters=(
                FloatRange(name="lovasz_weight", fields=(f"{STAGES}.lovasz_weight",), low=0.0, high=0.3),
                FloatRange(
                    name="pixel_bce_weight", fields=(f"{STAGES}.pixel_bce_weight",), low=0.3, high=2.0, log=True
                ),
                FloatRange(name="bce_weight", fields=(f"{STAGES}.bce_weight",), low=0.02, high=1.0, log=True),
                FloatRange(name="lr", fields=(f"{STAGES}.lr",), low=0.03, high=0.3, log=True),
                IntRange(name="patience", fields=(f"{STAGES}.schedule.patience",), low=0, high=4),
                FloatRange(name="factor", fields=(f"{STAGES}.schedule.factor",), low=0.3, high=0.9),
                *(parameter for parameter in PARAMETERS if parameter.name in INGREDIENTS),
            ),
            trials=12,
            startup_trials=5,
            grace_epochs=4,
            reduction_factor=2,
        ),
    )
