"""The command `forge`: one verb a file of this folder, and the exit codes that scripts can use.

A verb is a module with a `SUMMARY`, `configure(parser)` and `run(args) -> exit code`; modules without a `SUMMARY`
serve the verbs. Results go to stdout, everything else to stderr. Exit codes: 0 done; 2 wrong usage; those of
`forge.errors` (3 bad file, 4 unsupported, 5 missing package, 6 device, 7 memory, 1 any other); 70 a defect of Forge;
130 interrupted; 141 the reader of stdout went away.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from forge import __version__
from forge.errors import ForgeError
from forge.extensions import register

DEFECT, INTERRUPTED, BROKEN_PIPE = 70, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; `argv` is by default the process's own arguments."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has already said why
        return end.code if isinstance(end.code, int) else 0
    try:
        for source in args.register:
            register(source)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except ForgeError as error:
        _trace(args)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it exits
        return BROKEN_PIPE
    except Exception as error:  # a defect of ours, whatever it is: the user gets one line and not our stack
        _trace(args)
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  this is a defect of Forge: run again with --debug and report what it prints", file=sys.stderr)
        return DEFECT


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
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="print the traceback of an error")
    commands = parser.add_subparsers(metavar="VERB", required=True)
    for name, module in verbs().items():
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__, parents=[debug])
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.configure(command)
        command.set_defaults(run=module.run)
    return parser


def _trace(args: argparse.Namespace) -> None:
    if args.debug:
        traceback.print_exc(file=sys.stderr)
