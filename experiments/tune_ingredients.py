"""A search over ingredients of training in half an hour on two CPU cores: around the demo's recipe.

Hypothesis: twelve trials find better settings than the demo's own, which are the first trial; fold 1, which judges no
            trial, says what the best of them is worth.
Command:    python launch.py tune --data runs/demo/survey --experiment experiments/tune_ingredients.py
            (the survey is the one that python launch.py demo makes)
Cost:       12 trials of 8 epochs, two at once, and two more to confirm: 23 minutes on two CPU cores.
Score:      fold 1: 0.8051 by the best trial, 0.7447 by the demo's own settings (1 run each, empty head from 0.02 on).
            The demo has the best trial's since; LOG.md beside this file.
"""

from experiments.demo import experiment as parent
from experiments.tune import STAGES
from salt_ray.config import Choice, Experiment, FloatRange, Tune


def experiment() -> Experiment:
    return parent().replace(
        name="tune_ingredients",
        tune=Tune(
            parameters=(
                FloatRange(name="lr", fields=(f"{STAGES}.lr",), low=0.0005, high=0.005, log=True),
                FloatRange(name="lovasz_weight", fields=(f"{STAGES}.lovasz_weight",), low=0.1, high=1.0),
                FloatRange(name="bce_weight", fields=(f"{STAGES}.bce_weight",), low=0.005, high=0.5, log=True),
                Choice(name="lovasz", fields=(f"{STAGES}.lovasz",), values=("hinge", "symmetric")),
                Choice(name="average", fields=(f"{STAGES}.average",), values=(0.0, 0.9, 0.98)),
                FloatRange(
                    name="weight_decay",
                    fields=(f"{STAGES}.optimizer.weight_decay",),
                    low=0.001,
                    high=0.1,
                    log=True,
                ),
            ),
            trials=12,
            startup_trials=5,
            grace_epochs=4,
            reduction_factor=2,
            confirm=1,
        ),
    )
