"""The program's entry: `edge-sser`, or `python -m edge_sser`."""

from __future__ import annotations

# What the module `signal` wraps, whose own import takes milliseconds in which Ctrl-C would print a traceback.
import _signal as signal  # type: ignore[import-not-found]
import sys


def main() -> int:
    """Runs the command line; returns the exit status.

    The modules of the command line take a while to import. Ctrl-C meanwhile ends the program as if there were no Python
    in it, without a traceback. For the same reason this module imports nothing else.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        from edge_sser import cli

        signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        from edge_sser import cli
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
