"""Which trainings a notebook does, and on what."""

from dataclasses import replace

from cifar_helpers import data, models, recipes, results
from cifar_helpers.errors import UserError
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Recipe
from cifar_helpers.text import listed
from cifar_helpers.training.progress import write_plan

_UNASKED = 5  # epochs a phase of the quick pass that stands in for published records


def plan(
    model: str,
    wanted: list[str],
    *,
    seeds: list[int] | tuple[int, ...] = (),
    epochs: int = 0,
    train_size: int = 0,
    image_size: list[int] | tuple[int, ...] = (),
    backbone: str = "",
    out: str = "",
) -> list[tuple[Recipe, int]]:
    """The trainings of a notebook: each wanted recipe with each seed, in the table's order.

    Args:
        model: one of `models.MODELS`.
        wanted: names of recipes and words of `recipes.GROUPS`.
        seeds: one training each; empty for the model's own seeds, for ablations
            `recipes.ABLATION_SEEDS`, in a quick pass for seed 0.
        epochs: cap on the epochs of every phase; 0 for the recipes' own. See `recipes.is_quick`.
        train_size: as of `data.load`. A quick pass that is left to choose has few images, and
            for some models smaller batches, so that they make enough steps.
        image_size: for transfer learning, sizes in pixels of the first and the last reference
            recipe, the smaller one first. Other recipes shrink as the first one does, and are no
            larger than the last. Empty for the recipes' own, in a quick pass for the model's
            smaller ones.
        backbone: for transfer learning, the one that `backbones.resolve` found: reference rows are
            fine-tuned otherwise where it is not the published one.
        out: the run's folder; the plan is left there for whoever shows progress.

    Returns:
        Pairs of recipe and seed.

    Raises:
        UserError: for an unknown recipe, no recipe at all, or a number out of range.
    """
    recipes.check_model(model)
    entry = models.MODELS[model]
    _check_numbers(seeds, epochs, image_size)
    quick = recipes.is_quick(epochs)
    seeds = [int(seed) for seed in seeds]  # NumPy's have no JSON
    if not seeds and quick:
        seeds = [0]
    image_size = image_size or (entry.quick_image_size if quick else ())
    chosen = [
        recipes.for_backbone(recipe, backbone).capped(epochs)
        for recipe in recipes.select(model, wanted)
    ]
    if not chosen:
        known = listed(recipe.name for recipe in recipes.of_model(model))
        raise UserError(
            f"recipes must name at least one of {model} ({known}, or {listed(recipes.GROUPS)} "
            f"for all such); received {wanted}."
        )
    if quick and not train_size and entry.quick_batch_size:
        chosen = [recipe.in_batches(entry.quick_batch_size) for recipe in chosen]
    if image_size:
        chosen = [_resized(recipe, image_size) for recipe in chosen]
    pairs = [(recipe, seed) for recipe in chosen for seed in seeds or _seeds(recipe, entry.seeds)]
    if out:
        write_plan(out, model, pairs)
    return pairs


def prepare(
    model: str,
    dataset: str = "auto",
    *,
    data_dir: str = "",
    train_size: int = 0,
    epochs: int = 0,
    train_anew: bool = False,
) -> tuple[data.Splits, int]:
    """The images of a notebook, fewer in a quick pass, and its cap on the epochs.

    The published records are of CIFAR-10. With other images, a notebook that was not asked to train
    would train for hours: unless told how long, it makes a quick pass.

    Args:
        model: one of `models.MODELS`.
        dataset: as of `data.load`.
        data_dir: as of `data.load`.
        train_size: as of `data.load`.
        epochs: as of `plan`.
        train_anew: whether the notebook was asked to train.

    Returns:
        The images, and the epochs for `plan`.
    """
    recipes.check_model(model)
    splits = data.load(dataset, data_dir=data_dir, train_size=train_size)
    if not (epochs or train_anew or splits.source.real):
        epochs = _UNASKED
    entry = data.dataset_by_label(splits.source.name)
    if recipes.is_quick(epochs) and entry and not train_size:
        size = models.MODELS[model].quick_images(entry.quick_train_size)
        splits = splits.resplit(0.1, train_size=size)
    return splits, epochs


def backbone_weights(
    backbone: str = "auto", weights_file: str = "", *, train_anew: bool = True
) -> backbones.Weights:
    """A backbone's weights, as of `backbones.resolve`.

    For a notebook that was not asked to `train_anew`, "auto" is what the published records used.
    """
    if backbone == "auto" and not weights_file and not train_anew:
        used = [each.record["backbone"] for each in results.published() if each.record["backbone"]]
        backbone = used[0]["backbone"] if used else backbone
    return backbones.resolve(backbone, weights_file)


def _seeds(recipe: Recipe, usual: tuple[int, ...]) -> tuple[int, ...]:
    return recipes.ABLATION_SEEDS if recipe.group == "ablations" else usual


def _check_numbers(seeds, epochs: int, image_size) -> None:
    for name, values in (("seeds", seeds), ("image_size", image_size)):
        if not isinstance(values, list | tuple | range):
            raise UserError(f"{name} must be a list, such as [{values}]; received {values!r}.")
    if not isinstance(epochs, int) or epochs < 0:
        raise UserError(
            f"epochs must be 1 or more, or 0 for the recipe's own; received {epochs!r}."
        )
    if seeds:
        recipes.check_seeds(seeds)
    if image_size:
        recipes.check_image_size(image_size)


def _resized(recipe: Recipe, image_size: list[int] | tuple[int, ...]) -> Recipe:
    rows = [row for row in recipes.of_model(recipe.model) if row.group == "reference"]
    first, last = image_size[0], image_size[-1]
    sizes = {rows[-1].name: last, rows[0].name: first} if rows else {}
    # The others shrink as the first reference recipe does, to a multiple of 32 pixels.
    share = min(1, first / rows[0].image_size) if rows else 1
    shrunk = max(32, 32 * int(share * recipe.image_size / 32))
    size = sizes.get(recipe.name, min(shrunk, last))
    if size == recipe.image_size:
        return recipe
    changes = recipe.changes.replace(f"{recipe.image_size} px", f"{size} px")
    phases = tuple(
        replace(phase, image_size=min(phase.image_size, size)) for phase in recipe.phases
    )
    return replace(recipe, image_size=size, phases=phases, changes=changes)
