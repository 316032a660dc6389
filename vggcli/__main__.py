"""The entry point of `vgg` and of `python -m vggcli`."""

import gc
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from vggcli.cli.app import run
    from vggcli.cli.streams import prepare_streams

    prepare_streams()
    code = run(sys.argv[1:])
    gc.collect()  # what an error kept alive, decoding processes too, ends here, not in the interpreter's last moments
    sys.exit(code)


if __name__ == "__main__":
    main()
