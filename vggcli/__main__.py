"""The entry point of `vgg` and of `python -m vggcli`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from vggcli.cli.app import run
    from vggcli.cli.streams import prepare_streams

    prepare_streams()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
