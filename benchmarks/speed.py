"""How fast the study trains beside what a user would otherwise pick, measured on this machine.

Variants of the same work alternate, round after round, and ratios are taken within a round, so that
a machine that is shared or warms up does not favour one of them. PyTorch takes part where it is
installed (`pip install -e ".[benchmarks]"`). `--quick` compares trainings alone, in under four
minutes; everything takes about half an hour. What is measured replaces what this machine's entry of
the JSON held of it; `--page` measures nothing and writes the JSON into docs/speed.md.
"""

import argparse
import json
import statistics
from functools import partial
from importlib import util
from pathlib import Path

import page
import parts
from timing import Work, alternate, ratio
from variants import ours, stock
from works import TASKS, Task, Worker

from cifar_helpers import files, hardware, training
from cifar_helpers.recipes import PRECISIONS, precision_name

JSON = Path(__file__).resolve().parent / "speed.json"
# Against what a variant has to hold its own to be timed in full.
RIVALS = {
    "ours in float32": "ours",
    "ours in bfloat16": "ours",
    "PyTorch bfloat16": "PyTorch float32",
    "PyTorch float32, compiled": "PyTorch float32",
    "PyTorch bfloat16, compiled": "PyTorch bfloat16",
}
QUICK = ("baseline_cnn", "vgg10", "resnet20", "lite0_96", "lite0_96_last_30")
BESIDE = ("baseline_cnn", "vgg10", "resnet20", "lite0_96")


def main() -> None:
    """The command line: what to measure, how many rounds, where the JSON goes."""
    measured = {
        "training": training_speed,
        "beside": beside,
        "input": parts.input_speed,
        "feeding": parts.feeding_share,
        "transfer": parts.transfer_speed,
        "units": parts.unit_speed,
        "growth": parts.growth,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=measured, default=list(measured))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds of training, without torch.compile"
    )
    parser.add_argument("--out", type=Path, default=JSON, help="where the JSON goes")
    parser.add_argument("--page", action="store_true", help="put the JSON into docs/speed.md")
    arguments = parser.parse_args()
    machines = json.loads(arguments.out.read_text("utf-8")) if arguments.out.exists() else {}
    if arguments.page:
        page.write(machines)
        return
    if arguments.quick:
        arguments.parts, arguments.rounds = ["training"], 3
        arguments.tasks = [name for name in arguments.tasks if name in QUICK]
    name, entry = this_machine()
    print(name)
    if {key: machines.get(name, {}).get(key) for key in entry} == entry:
        entry = machines[name]
    machines[name] = entry
    for part in arguments.parts:
        print(f"\n{part}", flush=True)
        for key, found in measured[part](arguments):
            entry.setdefault(part, {})[key] = found
            files.write_json(arguments.out, machines)  # at once, since all take a while
    print(f"\nwritten to {arguments.out}")


def this_machine() -> tuple[str, dict]:
    """A readable name that tells processors apart, and what is computed with."""
    found = hardware.describe_hardware()
    name = hardware.hardware_label(found)
    return name, {"hardware": found, "versions": hardware.versions()}


# Training


def training_speed(arguments):
    """Images a second of one step after another, on ready-made batches, task by task."""
    workers = {
        # TensorFlow turns oneDNN on or off by itself where nobody has said a word.
        "newcomer": Worker({"TF_ENABLE_ONEDNN_OPTS": ""}),
        "pytorch": Worker({}) if util.find_spec("torch") else None,
    }
    if not workers["pytorch"]:
        print("  PyTorch is not installed: left out")
    for name in arguments.tasks:
        task = TASKS[name]
        works, policies = _works(name, workers, everything=not arguments.quick)
        steps = max(1, task.steps // 3) if arguments.quick else task.steps
        rivals = {work: RIVALS[work] for work in works if work in RIVALS}
        taken = alternate(works, steps, arguments.rounds, rivals)
        rows = {
            work: {
                "precision": precision_name(policies[work]),
                "images": steps * task.batch,
                "seconds": rounds,
            }
            for work, rounds in taken.items()
        }
        for work, row in rows.items():
            _print_row(task, work, row, rows["ours"])
        yield name, rows
    for worker in filter(None, workers.values()):
        worker.close()


def _works(name: str, workers: dict[str, Worker | None], *, everything: bool):
    """What takes part in a task, and the policy of each."""
    task = TASKS[name]
    fastest = training.fastest_precision(task.model)
    works: dict[str, Work] = {"ours": ours(task, fastest)}
    policies = {"ours": fastest}
    if task.model != "transfer":
        works["stock Keras"] = stock(task, fastest)
        works["newcomer"] = workers["newcomer"].work("newcomer", name, "float32")
        policies |= {"stock Keras": fastest, "newcomer": "float32"}
        if everything:
            other = next(policy for policy in PRECISIONS.values() if policy != fastest)
            works[f"ours in {precision_name(other)}"] = ours(task, other)
            policies[f"ours in {precision_name(other)}"] = other
    kinds = {"pytorch": ""} | ({"pytorch compiled": ", compiled"} if everything else {})
    for precision, policy in PRECISIONS.items():
        for kind, suffix in kinds.items() if workers["pytorch"] else ():
            work = f"PyTorch {precision}{suffix}"
            works[work] = workers["pytorch"].work(kind, name, policy)
            policies[work] = policy
    return works, policies


def _print_row(task: Task, work: str, row: dict, ours: dict) -> None:
    if not row["seconds"]:
        print(f"  {task.label:28s} {work:28s} given up early: over 3 times slower")
        return
    speed = row["images"] / statistics.median(row["seconds"])
    print(
        f"  {task.label:28s} {work:28s} {speed:8,.0f} images/s in {row['precision']:8s}  "
        f"ours is {ratio(row['seconds'], ours['seconds']):.2f} times as fast",
        flush=True,
    )


# Trainings beside each other


def beside(arguments):
    """Images a second of one training on all cores and of two at once on half of them each."""
    for name in BESIDE:
        if name not in arguments.tasks:
            continue
        task = TASKS[name]
        request = ("ours", name, training.fastest_precision(task.model))
        single = Worker({})
        halves = hardware.thread_variables(hardware.cores() // 2)
        pair = [Worker(halves) for _ in range(2)]
        works = {"one": partial(_together, [single], request)}
        works["two"] = partial(_together, pair, request)
        taken = alternate(works, 2 * task.steps, arguments.rounds)
        for worker in (single, *pair):
            worker.close()
        images = 2 * task.steps * task.batch
        gain = 2 * ratio(taken["one"], taken["two"])
        print(
            f"  {task.label:28s} one {images / statistics.median(taken['one']):8,.0f} images/s, "
            f"two {2 * images / statistics.median(taken['two']):8,.0f}: {gain:.2f} times as many",
            flush=True,
        )
        yield name, {"images": images, "seconds": taken}


def _together(workers: list[Worker], request: tuple[str, str, str], steps: float) -> None:
    """Each does so many steps, all at once; over when the last one is done."""
    for worker in workers:
        worker.begin(*request, steps)
    for worker in workers:
        worker.end()


if __name__ == "__main__":
    main()
