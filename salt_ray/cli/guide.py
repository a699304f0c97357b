"""Help texts besides the commands' own: groups of commands by task, and examples.

``tests/cli/test_guide.py`` parses every example.
"""

import typer

#: Commands by task, in the order in which a user needs them.
TASKS = {
    "Get started": ("doctor", "demo", "synth"),
    "Run an experiment": ("pipeline", "tune"),
    "Single steps of a run": ("prepare", "mosaic", "train", "predict", "postprocess", "submit", "score", "report"),
    "Use a trained run": ("apply", "volume"),
    "Inspect runs": ("status", "study", "compare"),
    "Measure speed": ("bench",),
}

#: Examples by command, without the program's name.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "doctor": ("doctor", "doctor --json", "doctor --clear"),
    "demo": ("demo", "demo --engine local --run-dir runs/demo"),
    "synth": ("synth survey --tiles 500 --seed 1",),
    "pipeline": (
        "pipeline --data data --experiment experiments/random_folds_cosine.py --run-dir runs/cosine",
        "pipeline --data data --run-dir runs/cosine --folds 0",
        "pipeline --data data --run-dir runs/cosine --seeds 3",
    ),
    "tune": ("tune --data data --trials 50", "tune --data data --set tune.sampler=gp --run-dir runs/gp"),
    "prepare": ("prepare --data data", "prepare --data data --skip-bad --run-dir runs/own"),
    "mosaic": ("mosaic --data data --run-dir runs/cosine",),
    "train": (
        "train --data data --run-dir runs/cosine --folds 0 --folds 1",
        "train --data data --set network.encoder=resnet34 --run-dir runs/resnet34",
        "train --data data --address http://127.0.0.1:8265",
    ),
    "predict": ("predict --data data --run-dir runs/cosine",),
    "postprocess": ("postprocess --data data --run-dir runs/cosine --set postprocessing.rules=none",),
    "submit": ("submit --data data --run-dir runs/cosine --probabilities",),
    "score": ("score --data data --run-dir runs/cosine --json",),
    "report": ("report runs/demo", "report runs/cosine --data data"),
    "status": ("status runs/cosine", "status runs/cosine --json"),
    "study": ("study runs/tune",),
    "compare": ("compare runs/cosine runs/resnet34", "compare runs/a runs/b --on holdout --picture difference.png"),
    "apply": ("apply runs/cosine --data survey --to runs/new-section",),
    "bench": ("bench rle --json rle.json",),
    "volume scan": ("volume scan cube.sgy",),
    "volume tiles": ("volume tiles cube.sgy --labels labels.sgy --to survey",),
    "volume predict": ("volume predict runs/demo --data cube.sgy --to runs/cube --inlines 100:500",),
    "volume score": ("volume score runs/cube --labels labels.sgy",),
    "volume synth": ("volume synth made --inlines 60",),
    "volume demo": ("volume demo --engine local",),
}


def guide(app: typer.Typer) -> None:
    """Attach its task and examples to every command of a program and its groups."""
    for group in app.registered_groups:
        _guide(group.typer_instance, "")


def _guide(commands: typer.Typer, before: str) -> None:
    for command in commands.registered_commands:
        name = before + (command.name or command.callback.__name__)
        command.rich_help_panel = None if before else task_of(name)
        command.epilog = epilog(EXAMPLES[name])
    for group in commands.registered_groups:
        group.rich_help_panel = task_of(group.name)
        _guide(group.typer_instance, f"{group.name} ")


def task_of(name: str) -> str:
    """The task of a command."""
    return next(task for task, names in TASKS.items() if name in names)


def epilog(examples: tuple[str, ...]) -> str:
    """Examples as Markdown."""
    noun = "Example" if len(examples) == 1 else "Examples"
    return "\n\n".join([f"{noun}:", *(f"- `salt-ray {example}`" for example in examples)])
