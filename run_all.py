"""Runs the study: the five notebooks in order, into a run folder with an HTML report."""

import io
import sys

from cifar_helpers.runner import options, run

EXAMPLES = """\
examples:
  python run_all.py                         every reference and improved row, for all its epochs
  python run_all.py --epochs 5              a quick pass over everything
  python run_all.py --notebooks 01 03       two models only
  python run_all.py --recipes improved --seeds 0 1 2
                                            three seeds of the improved recipes
  python run_all.py --dataset toy --epochs 1
                                            without CIFAR-10, to see that all works

The same command again continues an interrupted run and skips what is finished.
Exit status: 0 all notebooks ran; 1 a notebook failed, the disk filled up, or --check-published found a
disagreement; 2 refused, for its arguments, data or folder; 130 interrupted.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the study by a command line, None for `sys.argv`; gives the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in a code page that lacks "≈" it becomes "?"
            stream.reconfigure(errors="replace")
    return run(options.parse(arguments, description=__doc__, epilog=EXAMPLES))


if __name__ == "__main__":
    sys.exit(main())
