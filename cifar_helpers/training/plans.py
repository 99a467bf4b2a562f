"""Which trainings a notebook does."""

from dataclasses import replace

from cifar_helpers import models, recipes
from cifar_helpers.errors import UserError
from cifar_helpers.recipes import Recipe
from cifar_helpers.text import listed
from cifar_helpers.training.progress import write_plan


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
    entry = models.MODELS[model]
    quick = recipes.is_quick(epochs)
    if not seeds and quick:
        seeds = (0,)
    image_size = image_size or (entry.quick_image_size if quick else ())
    _check_numbers(seeds, epochs, image_size)
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


def quick_share(model: str, epochs: int) -> float:
    """The `quick` of `data.load`: a model's share in a quick pass, 0 where the epochs make it none."""
    return models.MODELS[model].quick_share if recipes.is_quick(epochs) else 0.0


def _seeds(recipe: Recipe, usual: tuple[int, ...]) -> tuple[int, ...]:
    return recipes.ABLATION_SEEDS if recipe.group == "ablations" else usual


def _check_numbers(seeds, epochs: int, image_size) -> None:
    if len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0:
        raise UserError(f"seeds must be different whole numbers from 0 up; received {seeds}.")
    if epochs < 0:
        raise UserError(f"epochs must be 1 or more, or 0 for the recipe's own; received {epochs}.")
    if min(image_size, default=32) < 32:
        raise UserError(f"image_size must hold sizes of 32 pixels or more; received {image_size}.")


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
