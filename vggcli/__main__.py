"""The entry point of `vgg` and of `python -m vggcli`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from vggcli.cli.signals import ignore_signals, prepare_signals

    prepare_signals()  # before the imports that take their time
    from vggcli.cli.app import run
    from vggcli.cli.streams import prepare_streams

    prepare_streams()
    code = run(sys.argv[1:])
    ignore_signals()
    sys.exit(code)


if __name__ == "__main__":
    main()
