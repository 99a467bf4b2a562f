"""Runs the study: the five notebooks in order, into a run folder with an HTML report."""

import argparse
import sys

from cifar_helpers.runner import options, pipeline

EXAMPLES = """\
examples:
  python run_all.py                         the full study, as published
  python run_all.py --epochs 5              a quick pass over everything
  python run_all.py --notebooks 01 03       two models only
  python run_all.py --recipes improved --seeds 0 1 2
                                            three seeds of the improved recipes
  python run_all.py --dataset toy --epochs 1
                                            without CIFAR-10, to see that all works

The same command again continues an interrupted run and skips what is finished.
Exit status: 0 all notebooks ran, 1 a notebook failed, 2 bad arguments, 130 interrupted.
"""


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line."""

    def error(self, message: str):
        """Print what is wrong and where help is, and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def whole_number(text: str) -> int:
    """An integer from the command line."""
    try:
        return int(text)
    except ValueError:
        message = f"must be a whole number; received {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def build_parser() -> argparse.ArgumentParser:
    """The command line, in four groups."""
    parser = Parser(
        prog="run_all.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_work(parser.add_argument_group("what to run"))
    _add_data(parser.add_argument_group("data and weights"))
    _add_run(parser.add_argument_group("the run's folder"))
    _add_execution(parser.add_argument_group("execution"))
    return parser


def _add_work(group) -> None:
    group.add_argument(
        "--epochs",
        type=whole_number,
        metavar="N",
        help="cap on the epochs of every training phase (default: as each recipe says); up to "
        f"{options.QUICK_EPOCHS}, each recipe has one seed, and notebook 04 works on smaller images and "
        "fewer of them",
    )
    group.add_argument(
        "--notebooks",
        nargs="+",
        default=(),
        metavar="NN",
        help="numbers or names of the notebooks to run (default: all)",
    )
    group.add_argument(
        "--recipes",
        nargs="+",
        metavar="NAME",
        help='"reference", "improved" or names of single recipes (default: reference improved)',
    )
    group.add_argument(
        "--seeds",
        nargs="+",
        type=whole_number,
        metavar="K",
        help="train each recipe once with each seed (default: as the notebook says, 0 1 2 for the "
        f"baseline and 0 for the others; 0 in all with up to {options.QUICK_EPOCHS} epochs)",
    )
    group.add_argument(
        "--precision",
        choices=options.PRECISIONS,
        help="number format that trainings compute in; auto (default): that of a record in the "
        "run's folder, else the one measured to be faster on such processors",
    )
    group.add_argument(
        "--image-size",
        nargs="+",
        type=whole_number,
        metavar="PX",
        help="input sizes of the two transfer-learning reference recipes (default: 96 224)",
    )
    group.add_argument(
        "-p",
        dest="parameters",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="any other parameter of the notebooks that are to run; may be repeated",
    )


def _add_data(group) -> None:
    group.add_argument(
        "--dataset",
        choices=options.DATASETS,
        help="auto (default): CIFAR-10, or where no copy can be had a small drawn toy set; "
        "cifar10: fail instead; toy: the toy set outright",
    )
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the official python batches, or the official archive (default: the "
        "environment variable CIFAR10_DIR, else the cache, else a download)",
    )
    group.add_argument(
        "--train-size",
        type=whole_number,
        metavar="N",
        help="training images kept at the most, as many of each class (default: all)",
    )
    group.add_argument(
        "--backbone",
        choices=options.BACKBONES,
        help="auto (default): EfficientNetV2B0 where its weights can be had, else "
        "EfficientNet-Lite0",
    )
    group.add_argument(
        "--weights-file",
        metavar="FILE",
        help="ImageNet weights of EfficientNetV2B0 without top, as Keras publishes them",
    )


def _add_run(group) -> None:
    group.add_argument(
        "--out",
        metavar="DIR",
        help="the run's folder (default: runs/NAME, the name made from the options)",
    )
    group.add_argument(
        "--fresh",
        action="store_true",
        help="begin anew; the folder of an earlier run is renamed, not deleted",
    )
    group.add_argument("--no-html", dest="html", action="store_false", help="write no HTML pages")


def _add_execution(group) -> None:
    group.add_argument(
        "--workers",
        type=whole_number,
        default=1,
        metavar="N",
        help="notebooks that run at the same time on this machine (default: 1)",
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="run the notebooks on a Dask cluster that shares this folder, such as "
        "tcp://host:8786 (needs the [cluster] extra)",
    )
    group.add_argument(
        "--cell-timeout",
        type=whole_number,
        metavar="S",
        help="seconds after which a cell that still runs fails (default: none)",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the study.

    Args:
        arguments: the command line without the program's name; None for `sys.argv`.

    Returns:
        The exit status.
    """
    return pipeline.run(options.Arguments.from_namespace(build_parser().parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
