"""The Argus baseline's first training with its stage 2: cosine restarts from every fold's best checkpoint.

Hypothesis: six cosine cycles with equal loss weights lift each fold above its plateau.
Command:    python launch.py pipeline --experiment experiments/random_folds_cosine.py
            after random_folds, with --run-dir runs/random_folds, only stage 2 is trained
Cost:       random_folds, and 5 folds x 300 epochs.
Score:      not yet measured with ImageNet weights on a GPU; see README.md beside this file.
"""

from experiments.random_folds import experiment as parent
from salt_ray.config import Cosine, Experiment, Stage

STAGE_2 = Stage(
    name="cosine",
    epochs=300,
    batch_size=16,
    lr=0.005,
    lovasz_weight=0.5,
    bce_weight=0.5,
    schedule=Cosine(epochs_per_cycle=50, min_lr=0.0005),
)


def experiment() -> Experiment:
    (training,) = parent().trainings
    return parent().replace(
        name="random_folds_cosine", trainings=(training.replace(stages=(*training.stages, STAGE_2)),)
    )
