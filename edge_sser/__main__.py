"""The program's entry, `edge-sser` or `python -m edge_sser`: interrupts, errors and the exit status.

Exit status: 0 done, 1 a failure at run time, 2 wrong usage or configuration, 130 on Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edge_sser.errors import EdgeSserError, UsageError

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130


def main() -> int:
    """Runs the command line; returns the exit status.

    The modules of the command line take a while to import. Ctrl-C meanwhile ends the program as if there were no Python
    in it, without a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        from edge_sser import cli

        signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        from edge_sser import cli
    return cli.main()


def run_program(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit status. An error that a user can cause is one line on standard error.

    Args:
        app: with the commands.
        arguments: without the program's name.
    """
    import typer

    from edge_sser.sinks.stdout import OutputClosedError

    parse_error: type[Exception] = typer.BadParameter.__bases__[0]  # of click, which typer carries under another name
    if sys.stdout is None:  # closed by the program that started this one
        return _fail("standard output is closed: open it, or send it to /dev/null", EdgeSserError.exit_status)
    try:
        status = run_command(app, "edge-sser", arguments)
        sys.stdout.flush()
    except OutputClosedError as error:  # as `head` does: no failure, but worth a line
        _discard_output()
        print(f"edge-sser: {error}", file=sys.stderr)
        return 0
    except EdgeSserError as error:
        return _fail(str(error), error.exit_status)
    except parse_error as error:
        return _fail(_usage_text(error), UsageError.exit_status)
    except OSError as error:
        _discard_output()
        # Only the standard streams have no name: they were opened by the program that started this one.
        name = "standard output cannot be written" if error.filename is None else str(error.filename)
        return _fail(f"{name}: {error.strerror or error}", EdgeSserError.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return status


def run_command(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Runs a command without handling its errors; returns its exit status.

    Args:
        app: with the commands.
        name: of the program, for usage messages.
        arguments: without the program's name.
    """
    import typer

    status = typer.main.get_command(app).main(args=list(arguments), prog_name=name, standalone_mode=False)
    return status if isinstance(status, int) else 0


@contextmanager
def default_interrupt() -> Iterator[None]:
    """Lets Ctrl-C end the program at once, while there is nothing to clean up.

    KeyboardInterrupt can get lost: pydantic catches one that comes while it makes the schema of a default that it
    cannot serialise, warns, and goes on.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _discard_output() -> None:
    """Redirects what is still buffered to /dev/null: the interpreter would fail to write it at exit, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _usage_text(error: Any) -> str:
    context = error.ctx
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"a command is missing: {context.command_path} --help shows them"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message}: {context.command_path if context else 'edge-sser'} --help shows what there is"


def _fail(message: str, status: int) -> int:
    from edge_sser.daemon.log import ERROR_PREFIX, goes_to_journal

    prefix = ERROR_PREFIX if goes_to_journal(sys.stderr) else ""
    print(f"{prefix}edge-sser: error: {' '.join(message.splitlines())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
