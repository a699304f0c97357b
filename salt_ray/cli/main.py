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
    epilog="Exit codes: 0 success; 1 error, explained on standard error; 2 invalid command line; 130, 143 and 129 "
    "interrupted by Ctrl-C, SIGTERM and SIGHUP.",
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
        bool, typer.Option("--debug", help="Show tracebacks of errors. Must come before the command.")
    ] = False,
) -> None:
    """Options of the program itself; ``main`` reads them."""


def main() -> None:
    """Run a command; errors that a user can fix are printed as one message on standard error."""
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
            _end(f"error: {_message(error)}")


def _message(error: SaltRayError | MemoryError | OSError) -> str:
    """What is wrong and how to fix it."""
    if isinstance(error, MemoryError):
        from salt_ray.survey.memory import out_of_memory

        return out_of_memory("this command", error)
    if isinstance(error, OSError):
        obstacle = incurable(error)
        return f"{obstacle}, then run the same command again to resume" if obstacle else refusal(error)
    return str(error)


def _end(message: str, code: int = EXIT_ERROR) -> NoReturn:
    """Exit with a message on standard error."""
    print(_printable(message), file=sys.stderr)
    sys.exit(code)


def _show_note(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """Print warnings for users on one line; drop those of libraries."""
    if issubclass(category, RemovedField):
        print(f"note: {_printable(str(message))}", file=sys.stderr)


def _printable(text: str) -> str:
    """A message without escape sequences, as it may quote a damaged file."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)
