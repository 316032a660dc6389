"""The entry point of `vgg` and of `python -m vggcli`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from vggcli.cli.signals import Terminated, ignore_signals, prepare_signals, received

    prepare_signals()  # before the slow imports
    try:
        from vggcli.cli.app import run
        from vggcli.cli.streams import prepare_streams

        prepare_streams()
        code = run(sys.argv[1:])
    except (KeyboardInterrupt, Terminated):  # before `run` handles errors
        print("vgg: stopped by a signal", file=sys.stderr)
        code = received() or 1
    ignore_signals()
    sys.exit(code)


if __name__ == "__main__":
    main()
