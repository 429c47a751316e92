"""The command line: `python -m pipeline COMMAND`, from `run` to `schema`."""

import argparse
import gc
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline import __version__
from pipeline.common import signals as interrupts
from pipeline.common.addresses import masked
from pipeline.common.errors import RunError, UserError, first_line
from pipeline.common.text import count, printable, shorten

if TYPE_CHECKING:
    from pipeline.config import Config

Action = Callable[[argparse.Namespace], int | None]

COMMAND = "optimizer-search"
DEFAULT_CONFIG = "configs/default.yaml"

SOME_REJECTED = 3  # of `predict`
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

# Allocations before Python looks for garbage, which by default are 700. torch, MLflow and SciPy
# bring a million objects that stay; looking at them again and again is a tenth of a short run.
_ALLOCATIONS = 50_000

_LONGEST_ERROR = 2000  # characters: a column's name may have a million


# What a command needs is imported where it is needed: `--help` answers at once, a wrong
# configuration before torch and MLflow are loaded, which takes seconds.


def _read(arguments: argparse.Namespace) -> "Config":
    from pipeline import config as configuration
    from pipeline.config.shipped import path_of

    return configuration.load(path_of(arguments.config), _overrides(arguments))


def _overrides(arguments: argparse.Namespace) -> list[str]:
    from pipeline.config import split_overrides

    return list(chain.from_iterable(map(split_overrides, arguments.overrides)))


def _stage(arguments: argparse.Namespace) -> None:
    config = _read(arguments)
    from pipeline.commands import run

    if arguments.name == "run":
        run.run_all(config, arguments.command, arguments.fresh).show()
    elif arguments.name == "prepare":
        run.prepare_alone(config, arguments.command)
    elif arguments.name == "train":
        run.train_alone(config, arguments.command, arguments.fresh).show()
    else:
        run.evaluate_alone(config, arguments.command).show()


def _sweep(arguments: argparse.Namespace) -> int:
    from pipeline.config.variants import variants

    found = variants(arguments.configs, _overrides(arguments))
    from pipeline.commands import sweep

    jobs = sweep.default_jobs() if arguments.jobs is None else arguments.jobs
    return int(sweep.sweep(found, arguments.experiment or found[0].config.experiment, jobs) > 0)


def _predict(arguments: argparse.Namespace) -> int:
    model = arguments.model or f"models:/{_read(arguments).registry.name}@champion"
    from pipeline.commands.predict import predict

    scored = predict(
        model,
        arguments.input,
        Path(arguments.output),
        keep=[name for name in arguments.keep if name],
        threshold=arguments.threshold,
        rejected=Path(arguments.rejected) if arguments.rejected else None,
    )
    of = "" if scored.positive is None else f" (probability is that of {scored.positive!r})"
    print(f"{count(scored.rows, 'row')} scored by {model}: {Path(arguments.output).absolute()}{of}")
    if not scored.rejected:
        return 0
    left_out = f"{count(scored.rejected, 'row')} could not be read, so without a prediction"
    print(f"warning: {left_out}: {scored.rejected_path}", file=sys.stderr)
    return SOME_REJECTED


def _stored(arguments: argparse.Namespace) -> None:
    config = _read(arguments) if arguments.name == "gc" else None
    from pipeline.commands import searches

    searches.status(arguments.json) if config is None else searches.gc(config)


def _study(arguments: argparse.Namespace) -> None:
    config = _read(arguments)
    from pipeline.commands.study import write_study

    write_study(config, arguments.storage, arguments.study_name)


def _schema(_: argparse.Namespace) -> None:
    from pipeline import config as configuration

    print(configuration.schema_text(), end="")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(masked(message))


def _called() -> str:
    """What people type to start this program."""
    return COMMAND if Path(sys.argv[0]).stem == COMMAND else "python -m pipeline"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_called(),
        description="Which optimizer, and which learning rate? A tracked search over both.",
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, action: Action, summary: str, configured: bool
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(action=action, name=name)
        if configured:
            text = "YAML file, or the name of a shipped one (default: %(default)s)"
            added.add_argument("--config", default=DEFAULT_CONFIG, metavar="FILE", help=text)
            overridden(added, "override a key of the file, e.g. search.trials=8")
        return added

    def overridden(added: argparse.ArgumentParser, text: str) -> None:
        several: Any = {"action": "extend", "nargs": "*", "default": [], "dest": "overrides"}
        added.add_argument("--set", metavar="KEY=VALUE", help=text, **several)

    run = command("run", _stage, "all stages: prepare, train, evaluate", True)
    command("prepare", _stage, "read the table, split it, write its rows", True)
    train = command("train", _stage, "search optimizer and learning rate", True)
    for added in (run, train):
        text = "start a new search even where one can go on or is finished"
        added.add_argument("--fresh", action="store_true", help=text)
    command("evaluate", _stage, "score the best trial on the test rows and register it", True)
    sweep = command("sweep", _sweep, "many searches, and what they say together", False)
    overridden(sweep, "override a key, or set it to several values in turn, e.g. seed=0..4")
    text = "YAML files, patterns of them, or names of shipped ones (default: %(default)s)"
    sweep.add_argument("configs", nargs="*", default=[DEFAULT_CONFIG], metavar="CONFIG", help=text)
    text = "of all the searches (default: the first configuration's)"
    sweep.add_argument("--experiment", default="", metavar="NAME", help=text)
    text = "searches at a time (default: one for each core)"
    sweep.add_argument("--jobs", type=int, metavar="N", help=text)
    scoring = command("predict", _predict, "score the rows of a file with a registered model", True)
    for option, metavar, text in (
        ("--model", "URI", "default: the configuration's @champion"),
        ("--input", "FILE", "csv, tsv or parquet; where the model takes arrays .npz or a folder"),
        ("--output", "FILE", "csv, tsv or parquet"),
        ("--rejected", "FILE", "rows that cannot be read, and why (default: OUTPUT.rejected.csv)"),
    ):
        required = option in ("--input", "--output")
        scoring.add_argument(option, default="", metavar=metavar, required=required, help=text)
    text = "copy a column, such as an id, into the output; may be given several times"
    scoring.add_argument("--keep", action="append", default=[], metavar="COLUMN", help=text)
    text = "two labels: the positive one from this probability on (default: the model's own)"
    scoring.add_argument("--threshold", type=float, metavar="P", help=text)
    status = command("status", _stored, "list the searches of the tracking store", False)
    status.add_argument("--json", action="store_true", help="as JSON, for programs")
    command("gc", _stored, "delete models of trials that tracking.keep_models does not keep", True)
    study = command("study", _study, "write a search as a study of Optuna", True)
    text = "such as sqlite:///study.db"
    study.add_argument("--storage", required=True, metavar="URI", help=text)
    text = "of the study (default: the experiment)"
    study.add_argument("--name", dest="study_name", default="", metavar="NAME", help=text)
    command("schema", _schema, "print the JSON Schema of the configuration", False)
    return parser


def _say(problem: str) -> None:
    """As an error without secrets; what data and names hold cannot act on the terminal."""
    stores = [os.environ.get(name, "") for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")]
    text = shorten(printable(masked(problem, *stores)), _LONGEST_ERROR)
    print(f"error: {text}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 wrong input, 3 done but for rows that
    could not be read (`predict`), 1 anything else."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks shall not fail
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    arguments.command = masked(f"{_called()} {shlex.join(argv)}")
    interrupts.end_in_good_order()
    try:
        status: int | None = arguments.action(arguments)
    except UserError as error:
        for problem in error.problems:
            _say(problem)
        return 2
    except MemoryError:
        _say("there is not enough memory for this table with this configuration")
        return 1
    except Exception as error:
        # The disk, the network or the tracking store failed, and not this program.
        library = type(error).__module__.partition(".")[0]
        known = isinstance(error, OSError) or library in ("mlflow", "sqlalchemy", "requests")
        if not known and not isinstance(error, RunError):
            raise
        _say(first_line(error) if known else str(error))
        return 1
    except (KeyboardInterrupt, SystemExit) as error:
        if not interrupts.ended_by_signal(error):
            raise
        print(f"interrupted; to go on: {arguments.command}", file=sys.stderr)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else TERMINATED
    return status or 0


def start() -> NoReturn:
    """The command line as a process of its own."""
    gc.set_threshold(_ALLOCATIONS)
    sys.exit(main())


if __name__ == "__main__":
    start()
