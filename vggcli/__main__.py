"""The entry point of `vgg` and of `python -m vggcli`."""

import gc
import sys

GARBAGE = 10_000  # new objects: at fewer, as Python has it, importing torch takes a tenth longer


def main() -> None:
    """Run the command line and leave with its exit code."""
    from vggcli.cli.signals import Terminated, ignore_signals, prepare_signals, received

    prepare_signals()  # before the slow imports
    gc.set_threshold(GARBAGE)
    try:
        from vggcli.cli.app import run
        from vggcli.cli.streams import prepare_streams

        prepare_streams()
        code = run(sys.argv[1:])
    except (KeyboardInterrupt, Terminated):  # before `run` handles errors
        print("vgg: stopped by a signal", file=sys.stderr)
        code = received() or 1
    ignore_signals()
    gc.freeze()  # nor is there anything for it to find at the end, which would take a third of a second
    sys.exit(code)


if __name__ == "__main__":
    main()
