"""``two_cores`` on folds that keep neighbours together: what its score is where no model saw a neighbour's label.

Hypothesis: lower than on folds by depth, by what neighbours give away; assembled mosaics do not hold all neighbours, so
            the difference is a lower bound.
Command:    python launch.py pipeline --experiment experiments/two_cores_mosaic.py
            python launch.py compare runs/two_cores runs/two_cores_mosaic
Cost:       as two_cores.
Score:      README.md beside this file.
"""

from experiments.two_cores import experiment as parent
from salt_ray.config import Experiment, Folds


def experiment() -> Experiment:
    (training,) = parent().trainings
    training = training.replace(name="mosaic", folds=Folds(kind="mosaic", count=training.folds.count))
    return parent().replace(name="two_cores_mosaic", trainings=(training,))
