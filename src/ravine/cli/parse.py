"""First pass of the command line: names, numbers, units and paths, without JAX.

Options with a dot (`--problem.viscosity 0.01`) belong to classes that are not loaded yet; they are kept as text for the
second pass (bench/options.py). Every mistake is one sentence with the nearest valid choice.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..bench.limits import parse_memory, parse_wall
from ..checks import nearest
from ..driver.seed import check_seed
from ..registry import KINDS

COMMANDS = {
    "list": "problems, methods, models, samplers and rivals (optimizers of other libraries) by name",
    "solve": "one method on one problem",
    "compare": "several methods on one or several problems, and a report",
    "resume": "go on with a run that was stopped",
    "report": "one HTML file and a table from any runs",
    "export": "curves of runs as a parquet file, or problems and methods as a benchopt benchmark",
}
_DOTTED = ("--problem.", "--model.")
EXPORTS = ("parquet", "benchopt")

_EPILOG = """\
exit status: 0 target reached, converged, or budget spent with no target set; 1 stalled, diverged, failed, or target
unmet; 2 wrong usage; 130 interrupted. `compare` reports how its runs ended and exits 1
only if one of them failed or was left undone (a worker of a cluster with another version).

Compiled programs are kept in JAX's persistent cache, so a second run starts faster: in $JAX_COMPILATION_CACHE_DIR if
that is set, else under the user's cache directory (~/.cache/ravine). Deleting it is safe."""

_SOLVE = """\
options of the parts, arguments of their Python classes (python -c "import ravine; help(ravine.problems.Burgers1D)"):
  --problem.NAME VALUE     an option of the problem, such as --problem.viscosity 0.01
  --model.NAME VALUE       an option of the model, such as --model.width 32
  --set PART.NAME=VALUE    an option of a method or sampler, such as --set lm.damping=1e-3
  a learning rate may be a schedule: --set adam.learning_rate=cosine:1e-2,1e-5,20000 (constant, exponential, step,
  cosine, warmup, warmup-cosine, inverse-sqrt, piecewise); any method may be averaged: --set adam.average=ema:0.999
  (ema, polyak, swa)
"""

_EXPORT = """\
  ravine export parquet RUN ... [--out FILE.parquet]
      RUN: folders of comparisons or runs, or files of results (results.jsonl)
  ravine export benchopt DIR [PROBLEM,...] [--methods METHOD,...]
      DIR: a new or empty folder; all problems and all methods unless some are named

"""


class Usage(Exception):
    """Wrong usage, as one sentence."""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **words: Any):
        super().__init__(**words)
        self.register("action", None, _Once)

    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message}; see `{self.prog} --help`.")


class _Once(argparse.Action):
    """Keep the value, as argparse does without being told; but an option with two values would lose the first."""

    def __call__(self, parser, namespace, values, option_string=None):
        if option_string is not None:
            first = vars(namespace).setdefault("given", {}).setdefault(self.dest, values)
            _differ(option_string, first, values)
        setattr(namespace, self.dest, values)


def _differ(option: str, first: Any, second: Any) -> None:
    if first != second:
        raise Usage(f"{option} is given twice, as {first} and as {second}; give one of them.")


def parse(argv: Sequence[str]) -> argparse.Namespace | int:
    """The request, or an exit status when the answer (help, version) was printed already. Raises Usage."""
    if not argv or argv[0] in ("-h", "--help", "--version"):
        print(f"ravine {__version__}" if argv and argv[0] == "--version" else _overview())
        return 0
    command = argv[0]
    if command not in COMMANDS:
        kind = "option" if command.startswith("-") else "command"
        raise Usage(f"there is no {kind} {command!r}; {nearest(command, [*COMMANDS, '--help', '--version'])}")
    parser = _parser(command)
    if any(word in ("-h", "--help") for word in argv[1:]):
        parser.print_help()
        return 0
    words, dotted = _take_dotted(command, argv[1:])
    request, rest = parser.parse_known_args(_glue(words))
    _refuse(parser, rest)
    request.command, request.dotted = command, dotted
    request.line = shlex.join(["ravine", *argv])
    return request


def _overview() -> str:
    lines = [f"  ravine {name:<9}{text}" for name, text in COMMANDS.items()]
    return (
        "usage: ravine COMMAND ...\n\n"
        "Optimizers for scientific machine learning: run them, compare them, read why they stopped.\n\n"
        + "\n".join(lines)
        + "\n\n`ravine COMMAND --help` tells more.\n\n"
        + _EPILOG
    )


def _parser(command: str) -> _Parser:
    epilog = (_SOLVE + "\n" if command in ("solve", "compare") else _EXPORT if command == "export" else "") + _EPILOG
    parser = _Parser(
        prog=f"ravine {command}",
        description=COMMANDS[command],
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options = {
        "list": _list,
        "solve": _solve,
        "compare": _compare,
        "resume": _resume,
        "report": _report,
        "export": _export,
    }
    options[command](parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output only (JSON), on stdout")
    return parser


def _list(parser: _Parser) -> None:
    parser.add_argument("kind", nargs="?", metavar="|".join(KINDS), help="one kind only")


def _solve(parser: _Parser) -> None:
    parser.add_argument("problem", metavar="PROBLEM", help="a name from `ravine list problems`")
    parser.add_argument("--method", default="auto", help="a name, or stages such as adam:500+lm (default: auto)")
    parser.add_argument("--seed", type=_seed, default=0, help="initial parameters and points (0)")
    parser.add_argument("--name", help="name of the run (default: PROBLEM-METHOD)")
    _run_options(parser)


def _compare(parser: _Parser) -> None:
    parser.add_argument("problems", metavar="PROBLEM[,...]", help="names from `ravine list problems`")
    parser.add_argument("--methods", required=True, help="separated by commas: adam:500+lm,lm,ssbroyden,scipy/trf")
    parser.add_argument("--seeds", type=_integer("--seeds", 1), default=3, help="runs of each, seeds from 0 on (3)")
    parser.add_argument(
        "--workers",
        type=_integer("--workers", 1),
        help="runs at a time, each in a process of its own and on one thread if there are several (1)",
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="make the runs on the workers of this Dask scheduler")
    parser.add_argument("--memory", type=_sentence(parse_memory), help="end a run that holds more, such as 4GiB (none)")
    parser.add_argument("--wall", type=_sentence(parse_wall), help="end a run that takes longer, such as 10min (none)")
    _run_options(parser)
    parser.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="with --out: make only those runs that the comparison in DIR does not hold finished",
    )
    parser.add_argument("--retry-failed", action="store_true", help="with --continue: make failed runs again as well")
    parser.add_argument(
        "--any-version", action="store_true", help="with --continue: take runs that another version of ravine made"
    )
    parser.add_argument(
        "--tune",
        metavar="N",
        type=_integer("--tune", 1),
        help="tune every method by N trials over its search space, then compare with the settings found",
    )
    parser.add_argument(
        "--tune-seeds",
        metavar="N",
        type=_integer("--tune-seeds", 1),
        help="with --tune: runs of each trial, from seeds that are not compared (3)",
    )


def _run_options(parser: _Parser) -> None:
    several = "60s, 5m, 2000steps or 1e5evaluations; of several, joined by commas, the first one spent ends a run (60s)"
    parser.add_argument("--budget", default="60s", help=several)
    parser.add_argument("--target", type=_positive("--target"), help="stop once the relative L2 error is this small")
    guarded = "a name from `ravine list samplers` (default: guard where points can be drawn anew, else fixed)"
    parser.add_argument("--sampler", help=guarded)
    parser.add_argument("--set", action="append", default=[], metavar="PART.NAME=VALUE", help="see below; repeatable")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=_path("runs/mine"),
        help="a new or empty folder (default: runs/NAME, numbered if taken)",
    )


def _resume(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a run, of `solve` or inside a comparison")


def _report(parser: _Parser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs or comparisons")
    beside = "the HTML file (default: report.html beside what it shows)"
    parser.add_argument("--out", metavar="FILE", type=_path("report.html"), help=beside)


def _export(parser: _Parser) -> None:
    parser.add_argument("kind", metavar="|".join(EXPORTS), help="what to write")
    parser.add_argument("words", nargs="*", metavar="...", help="see below")
    parser.add_argument("--methods", help="benchopt: the solvers, separated by commas (default: all methods)")
    beside = "parquet: the file (default: curves.parquet beside what it holds)"
    parser.add_argument("--out", metavar="FILE", type=_path("curves.parquet"), help=beside)


def _integer(name: str, least: int):
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise Usage(f"{name} {text}: must be a whole number, at least {least}.")
        return value

    return convert


def _sentence(check: Callable[[str], Any]):
    """`check`, whose ValueError is a sentence."""

    def convert(text: str) -> Any:
        try:
            return check(text)
        except ValueError as error:
            raise Usage(str(error)) from None

    return convert


def _path(example: str):
    def convert(text: str) -> str:
        if not text.strip():
            raise Usage(f"--out {text!r}: names nothing; write a path, such as {example}, or leave --out away.")
        return text

    return convert


def _seed(text: str) -> int:
    try:
        number: int | str = int(text)
    except ValueError:
        number = text
    try:
        return check_seed(number, "--seed ")
    except ValueError as error:
        raise Usage(str(error)) from None


def _positive(name: str):
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < float("inf"):
            raise Usage(f"{name} {text}: must be a positive finite number, such as 1e-6.")
        return value

    return convert


def settings(pairs: Sequence[str]) -> dict[str, dict[str, str]]:
    """{part: {name: value}} from `--set part.name=value`. Raises Usage."""
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        part, dot, name = path.partition(".")
        if not (part and dot and name and equals and value):
            raise Usage(f"--set {pair}: write PART.NAME=VALUE, such as lm.damping=1e-3.")
        named, name = found.setdefault(part.strip().lower(), {}), name.strip()
        _differ(f"--set {part.strip().lower()}.{name}", named.setdefault(name, value.strip()), value.strip())
    return found


def _take_dotted(command: str, words: Sequence[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The words without `--problem.x v` and `--model.x v`, and those options as text."""
    rest: list[str] = []
    dotted: dict[str, dict[str, str]] = {prefix.strip("-."): {} for prefix in _DOTTED}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        prefix = next((p for p in _DOTTED if word.startswith(p)), None)
        if prefix is None or command not in ("solve", "compare"):
            rest.append(word)
            continue
        name, equals, value = word.removeprefix(prefix).partition("=")
        if not equals:
            if not queue or queue[0].startswith("--"):
                raise Usage(f"{word} needs a value, such as {word} 0.1.")
            value = queue.pop(0)
        named = dotted[prefix.strip("-.")]
        _differ(prefix + name, named.setdefault(name.replace("-", "_"), value), value)
    return rest, dotted


def _glue(words: list[str]) -> list[str]:
    """`--budget -5s` as `--budget=-5s`: argparse would take the value for an option and blame the wrong thing."""
    glued: list[str] = []
    for word in words:
        negative = len(word) > 1 and word[0] == "-" and (word[1].isdigit() or word[1] == ".")
        if negative and glued and glued[-1].startswith("--") and "=" not in glued[-1]:
            glued[-1] += f"={word}"
        else:
            glued.append(word)
    return glued


def _refuse(parser: _Parser, rest: Sequence[str]) -> None:
    if not rest:
        return
    options: list[Any] = [o for action in parser._actions for o in action.option_strings if o.startswith("--")]
    wrong = rest[0].partition("=")[0]
    if wrong.startswith("-"):
        raise Usage(f"{parser.prog} has no option {wrong}; {nearest(wrong, options)}")
    raise Usage(f"{parser.prog} does not know what to do with {wrong!r}; see `{parser.prog} --help`.")
