"""The command `forge`: one verb a file of this folder, and the exit codes that scripts can use.

A verb is a module with a `SUMMARY`, `configure(parser)` and `run(args) -> exit code`; modules without a `SUMMARY`
serve the verbs. Results go to stdout, everything else to stderr. Exit codes: 0 done; 2 wrong usage; those of
`forge.errors` (3 bad file, 4 unsupported, 5 missing package, 6 device, 7 memory, 1 any other); 70 a defect of Forge;
130 interrupted; 141 the reader of stdout went away.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from forge import __version__
from forge.cli import streams
from forge.cli.terminal import aside, note, plain_warnings
from forge.errors import ForgeError, MissingDependencyError
from forge.extensions import register

DEFECT, INTERRUPTED, BROKEN_PIPE = 70, 130, 141
DEBUG = "--debug"  # taken anywhere on the line


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; `argv` is by default the process's own arguments."""
    streams.prepare()
    words = list(sys.argv[1:] if argv is None else argv)
    flags = words[: words.index("--")] if "--" in words else words
    debug = DEBUG in flags
    try:
        code = _run([word for word in flags if word != DEBUG] + words[len(flags) :], debug)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        streams.give_up_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        note("interrupted")
        return INTERRUPTED
    except Exception as error:  # a defect of ours, if it is of no kind that is known: one line, and not our stack
        if debug:
            aside(traceback.format_exc())
        known = _known(error)
        if known is not None:
            note(f"error: {known}")
            return known.exit_code
        note(f"error: {type(error).__name__}: {error}")
        note("  this is a defect of Forge: run again with --debug and report what it prints")
        return DEFECT


def _run(words: list[str], debug: bool) -> int:
    try:
        args = _parser().parse_args(words)
    except SystemExit as end:  # argparse has already said why
        return end.code if isinstance(end.code, int) else 0
    for source in args.register:
        register(source)
    args.debug = debug
    with plain_warnings():
        code: int = args.run(args)
    return code


def _known(error: Exception) -> ForgeError | None:
    """The error as one of ours, where it tells of the user's machine and not of a defect."""
    if isinstance(error, ForgeError):
        return error
    if isinstance(error, ImportError) and (package := (error.name or "").partition(".")[0]) != "forge":
        return MissingDependencyError(
            f"{package or 'a package'} cannot be imported: {error}",
            remedy=f"pip install {package}; forge doctor tells what else is missing",
        )
    if isinstance(error, OSError):
        if error.errno is None:
            return None
        if error.filename is None and error.errno in streams.UNWRITABLE:
            streams.give_up_stdout()
            return ForgeError(
                f"the output cannot be written: {error.strerror}", remedy="free space, or write elsewhere"
            )
        where = "" if error.filename is None else str(error.filename)
        return ForgeError(f"the system says: {error.strerror}", where=where, remedy="look at the disk and your rights")
    return None


def verbs() -> dict[str, ModuleType]:
    """Every verb by name. A file that does not import is reported as itself."""
    modules = (m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    found = {name: importlib.import_module(f"{__name__}.{name}") for name in modules}
    return {name: module for name, module in found.items() if hasattr(module, "SUMMARY")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="forge", description="Run language models from GGUF files.")
    parser.add_argument("--version", action="version", version=f"forge {__version__}")
    parser.add_argument(
        "--register", action="append", default=[], metavar="FILE", help="a file of ops, types or models of your own"
    )
    parser.add_argument(DEBUG, action="store_true", help="print the traceback of an error; may stand anywhere")
    commands = parser.add_subparsers(metavar="VERB", required=True)
    for name, module in verbs().items():
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.configure(command)
        command.set_defaults(run=module.run)
    return parser
