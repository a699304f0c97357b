"""The Argus baseline in full: both trainings, eleven models averaged, thresholds, and all seven mosaic rules.

Hypothesis: the averaged models of both trainings, corrected by their neighbours, reach the published place.
Command:    python launch.py pipeline --experiment experiments/argus.py
Cost:       random_folds_cosine and mosaic_folds.
Score:      not yet measured with ImageNet weights on a GPU; see README.md beside this file.
"""

from experiments.mosaic_folds import experiment as mosaic_folds
from experiments.random_folds_cosine import experiment as random_folds_cosine
from salt_ray.config import Experiment, Postprocessing, Prediction


def experiment() -> Experiment:
    parent = random_folds_cosine()
    return parent.replace(
        name="argus",
        trainings=(*parent.trainings, *mosaic_folds().trainings),
        decision="argus",
        prediction=Prediction(mask_threshold=0.4, salt_threshold=0.5, flip=True),
        postprocessing=Postprocessing(rules="argus"),  # rules="evidence" keeps only those that help
    )
