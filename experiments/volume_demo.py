"""The whole way of a volume in minutes: windows of twenty labelled lines, two folds, the demo's network and losses.

Hypothesis: 5 % of the lines of a volume are enough to pick the rest of it, if they are spread over it.
Command:    python launch.py volume demo
Cost:       three to five minutes on one CPU core (n = 3).
Score:      IoU of salt 0.817 ± 0.010 on the 380 lines without labels (3 seeds of training, one volume), with both
            directions 0.876 ± 0.013; 0.641 ± 0.012 out of fold (560 windows), where "all empty" has 0.300.
"""

from experiments.demo import experiment as parent
from salt_ray.config import Experiment, Folds, Labels, Prediction, Training


def experiment() -> Experiment:
    base = parent()
    ((stage,),) = (training.stages for training in base.trainings)
    lines = Training(name="lines", folds=Folds(kind="lines", count=2), stages=(stage.replace(epochs=12),))
    return base.replace(
        name="volume_demo",
        labels=Labels(),
        prediction=Prediction(flip=False),  # a volume has many windows, and a flip doubles them
        trainings=(lines,),
    )
