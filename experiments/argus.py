"""The seed's full recipe: the first training with both stages, averaged with a second one on mosaic folds.

Hypothesis: the averaged models of both trainings reach the seed's place.
Command:    python launch.py pipeline --experiment experiments/argus.py
Cost:       random_folds_cosine; the second training needs mosaics, which salt-ray does not assemble yet.
Score:      not yet measured with ImageNet weights on a GPU; see README.md beside this file.
"""

from experiments.random_folds_cosine import experiment as parent
from salt_ray.config import Experiment, Prediction


def experiment() -> Experiment:
    return parent().replace(name="argus", prediction=Prediction(mask_threshold=0.4, salt_threshold=0.5, flip=True))
