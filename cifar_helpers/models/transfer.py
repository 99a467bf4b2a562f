"""Transfer learning: an ImageNet backbone under a new head, frozen or fine-tuned."""

from cifar_helpers.backend import keras
from cifar_helpers.models import backbones
from cifar_helpers.models.layers import CLASSES, classifier, fold_norms, image_input, is_head

layers = keras.layers


def transfer(
    weights: backbones.Weights | str,
    *,
    image_size: int = 96,
    classes: int = CLASSES,
    dropout: float = 0.3,
) -> keras.Model:
    """A frozen ImageNet backbone under a new head; 6,255,962 parameters with EfficientNetV2B0.

    The backbone is built as `backbones.build` does it. Everything below the head is frozen;
    `fine_tune` unfreezes its last layers.

    Reference: Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298,
    ICML 2021.

    Args:
        weights: as of `backbones.build`.
        image_size: height and width that the images are resized to (bilinear), in pixels.
        classes: number of classes.
        dropout: rate before each of the head's dense layers.
    """
    images = image_input()
    x = layers.Resizing(image_size, image_size, name="resize")(images)
    x = backbones.build(x, weights)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = layers.BatchNormalization(name="head_bn1")(x)
    x = layers.Dropout(dropout, name="head_dropout1")(x)
    x = layers.Dense(256, activation="relu", name="head_dense")(x)
    x = layers.BatchNormalization(name="head_bn2")(x)
    x = layers.Dropout(dropout, name="head_dropout2")(x)
    model = keras.Model(images, classifier(x, classes), name="transfer")
    fine_tune(model, layers=0)
    return model


def backbone_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a `transfer` model between the resized images and the head, in order."""
    names = [layer.name for layer in model.layers]
    return [layer for layer in model.layers[names.index("resize") + 1 :] if not is_head(layer)]


def fine_tune(model: keras.Model, *, layers: int | None) -> None:
    """Freeze a `transfer` model's backbone but for its last layers; the head stays trainable.

    Unfrozen batch norms train their scale and offset and keep their moving statistics: those of the
    backbone never leave inference mode. Compile the model anew afterwards.

    Args:
        model: changed in place.
        layers: how many of the last backbone layers to train, all where it has fewer; 0 freezes
            all, None unfreezes all.
    """
    backbone = backbone_layers(model)
    count = len(backbone) if layers is None else layers
    for position, layer in enumerate(backbone):
        layer.trainable = position >= len(backbone) - count


def split(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a `transfer` model in two below its first layer that trains.

    What the frozen part makes of an image never changes, so it can be computed once; with the whole
    backbone frozen it is the pooled features `(batch, 1280)`. The cut is made where a single tensor
    crosses it, which may leave a few frozen layers above it.

    Returns:
        Images -> activations, and activations -> probabilities. Both share the model's layers.

    Raises:
        ValueError: if the first layer with weights trains, so that nothing is frozen below it.
    """
    position = {layer.name: index for index, layer in enumerate(model.layers)}
    trains = next(index for index, layer in enumerate(model.layers) if layer.trainable_weights)
    reads = [0] + [
        min(position[tensor._keras_history.operation.name] for tensor in keras.tree.flatten(inputs))
        for inputs in (layer.input for layer in model.layers[1:])
    ]
    # Where the layers above read nothing from further below.
    cuts = [index for index in range(trains) if min(reads[index + 1 :]) == index]
    if not cuts or not any(layer.weights for layer in model.layers[: cuts[-1] + 1]):
        raise ValueError("split needs a frozen part below the first layer that trains; found none.")
    activations = model.layers[cuts[-1]].output
    trunk = keras.Model(model.input, activations, name="trunk")
    return trunk, keras.Model(activations, model.output, name="tail")


def fold_frozen(model: keras.Model) -> keras.Model:
    """A `transfer` model for fine-tuning, faster: its frozen part a copy by `fold_norms`.

    All that trains is the model's own layers, so training the result trains the model. A model
    without a frozen part is returned as it is.
    """
    try:
        trunk, tail = split(model)
    except ValueError:
        return model
    images = image_input()
    return keras.Model(images, tail(fold_norms(trunk)(images)), name=model.name)
