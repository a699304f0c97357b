"""The command line: every command is one call into salt_ray. ``salt-ray COMMAND --help`` explains it."""

import sys
import warnings
from typing import Annotated, NoReturn

import typer

from salt_ray.cli import benchmarks, doctor, results, steps, surveys, volumes
from salt_ray.cli.guide import guide
from salt_ray.errors import Interrupted, SaltRayError, incurable, refusal
from salt_ray.home import provide_home
from salt_ray.interruption import Interruption
from salt_ray.section import RemovedField
from salt_ray.streams import make_output_safe

EXIT_ERROR = 1

app = typer.Typer(
    help="K-fold training, tuning, prediction and submission for salt segmentation in seismic tiles, on Ray.",
    epilog="Exit codes: 0 done; 1 a message on standard error says what to do; 2 wrong command line; 130, 143 and 129 "
    "ended by Ctrl-C, SIGTERM and SIGHUP.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for _group in (doctor, surveys, steps, results, volumes, benchmarks):
    app.add_typer(_group.commands)
guide(app)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; give it before the command.")
    ] = False,
) -> None:
    """Read by ``main``; what a command does is the same."""


def main() -> None:
    """Run a command; what a person can put right is one message on standard error."""
    debug = sys.argv[1:2] == ["--debug"]
    make_output_safe()
    warnings.filterwarnings("once", category=RemovedField)
    warnings.showwarning = _show_note
    with Interruption() as interruption:
        try:
            if (line := provide_home()) is not None:
                print(_printable(line), file=sys.stderr)
            app()
        except Interrupted as error:
            _end(f"interrupted: {error}", interruption.exit_code)
        except (SystemExit, KeyboardInterrupt):
            if interruption.number is None:
                raise
            _end("interrupted: run the same command again to resume", interruption.exit_code)
        except (SaltRayError, MemoryError, OSError) as error:
            if debug:
                raise
            _end(f"error: {_sentence(error)}")


def _sentence(error: SaltRayError | MemoryError | OSError) -> str:
    """What is wrong, and what to do about it."""
    if isinstance(error, MemoryError):
        from salt_ray.survey.memory import out_of_memory

        return out_of_memory("this command", error)
    if isinstance(error, OSError):
        obstacle = incurable(error)
        return f"{obstacle}, then run the same command again to resume" if obstacle else refusal(error)
    return str(error)


def _end(message: str, code: int = EXIT_ERROR) -> NoReturn:
    """End with a message on standard error."""
    print(_printable(message), file=sys.stderr)
    sys.exit(code)


def _show_note(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """Warnings for people are one line; those of libraries are for whoever debugs them."""
    if issubclass(category, RemovedField):
        print(f"note: {_printable(str(message))}", file=sys.stderr)


def _printable(text: str) -> str:
    """A message without escape sequences, which a terminal would obey: it may hold text of a damaged file."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)
