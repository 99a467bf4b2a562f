import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_study import ROOT

from cifar_helpers import metrics, models, narrative, predict, results, training
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.training.records import save_model, weights_digest

PROGRAM = """
import sys
from cifar_helpers import predict

model = predict.load_model(sys.argv[1], "resnet20", "improved", seed=2)
print(model.count_params())
"""


@pytest.fixture
def run_with_network(tmp_path):
    path = results.model_path(tmp_path, "resnet20", "improved", 2)
    path.parent.mkdir(parents=True)
    model = models.resnet20()
    save_model(model, path)
    return tmp_path, model


def test_a_runs_network_predicts_as_it_did(run_with_network, images):
    out, model = run_with_network
    loaded = predict.load_model(out, "resnet20", "improved", seed=2)
    one, other = (training.predict(network, images) for network in (model, loaded))
    np.testing.assert_array_equal(one, other)


def test_a_network_loads_without_any_other_import(run_with_network):
    out, _ = run_with_network
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "274826", ran.stderr


def test_a_network_that_the_run_does_not_hold_is_refused_by_name(tmp_path):
    words = r"--notebooks 02 --recipes base --seeds 1\."
    with pytest.raises(UserError, match=f"it has no vgg10-base-seed1.keras. Train it: .*{words}"):
        predict.load_model(tmp_path, "vgg10", "base", seed=1)
    (tmp_path / "run.json").touch()
    with pytest.raises(UserError, match=f"--seeds 1 --out {re.escape(shlex.quote(str(tmp_path)))}"):
        predict.load_model(tmp_path, "vgg10", "base", seed=1)
    record = results.record_path(tmp_path, "vgg10", "base", 1)
    record.parent.mkdir(parents=True)
    record.touch()  # a training that has one is not done again
    with pytest.raises(
        UserError, match=f"Remove its record, {re.escape(str(record))}, and train it"
    ):
        predict.load_model(tmp_path, "vgg10", "base", seed=1)
    with pytest.raises(UserError, match="received 'vgg'. Did you mean vgg10"):
        predict.load_model(tmp_path, "vgg", "base")


def test_a_damaged_network_is_refused(run_with_network):
    out, _ = run_with_network
    path = results.model_path(out, "resnet20", "improved", 2)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="could not be read"):
        predict.load_model(out, "resnet20", "improved", seed=2)


# Where a network looks


def _recorded(model, images, **arrays):
    """A record of the network's seed 2 with its predictions, half of them wrong."""
    probabilities = training.predict(model, images)
    labels = probabilities.argmax(axis=1)
    labels[::2] = (labels[::2] + 1) % 10
    record = {"model": "resnet20", "recipe": "improved", "seed": 2}
    record["weights_sha256"] = weights_digest(model)
    return results.Result(record, {"probabilities": probabilities, "labels": labels, **arrays})


def test_heat_maps_are_by_the_network_of_the_run_where_it_is_at_hand(run_with_network, images):
    out, model = run_with_network
    kept = {"heat_maps": np.zeros((1, 8, 8)), "heat_map_images": np.array([3])}
    result = _recorded(model, images, **kept)
    maps = training.heat_maps(result, images, out, count=2)
    chosen = metrics.examples(result.labels, result.probabilities, 2)
    assert sorted(maps) == sorted(np.concatenate(list(chosen.values())))
    at = next(iter(maps))
    expected = training.grad_cam(model, images[[at]])[0]
    np.testing.assert_allclose(maps[at], expected, atol=1e-4)


def test_heat_maps_beside_the_record_stand_in_for_the_network(run_with_network, images, tmp_path):
    _, model = run_with_network
    kept = {"heat_maps": np.full((1, 8, 8), 0.5), "heat_map_images": np.array([3])}
    maps = training.heat_maps(_recorded(model, images, **kept), images)
    assert list(maps) == [3] and (maps[3] == 0.5).all()


def test_a_network_of_other_weights_is_not_looked_into(run_with_network, images):
    out, model = run_with_network
    result = _recorded(model, images)
    result.record["weights_sha256"] = "0" * 64
    assert training.heat_maps(result, images, out) == {}


# Pictures


def _half_and_half(mode="RGB", size=(64, 64)):
    """The left half red, the right half blue."""
    pixels = np.zeros((size[1], size[0], 3), "uint8")
    pixels[:, : size[0] // 2, 0] = pixels[:, size[0] // 2 :, 2] = 255
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "gif", "webp", "jpg"])
def test_common_formats_are_read(ending, tmp_path):
    path = tmp_path / f"picture.{ending}"
    _half_and_half().save(path, **({"lossless": True} if ending == "webp" else {}))
    seen = predict.read_picture(path)
    assert seen.shape == (32, 32, 3) and seen.dtype == np.uint8
    np.testing.assert_allclose(seen[16, 4], [255, 0, 0], atol=10)
    np.testing.assert_allclose(seen[16, 28], [0, 0, 255], atol=10)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "I;16", "F", "YCbCr"])
def test_every_colour_mode_is_read(mode, tmp_path):
    path = tmp_path / ("picture.tiff" if mode in ("CMYK", "F", "YCbCr") else "picture.png")
    if mode in ("I;16", "F"):
        values = np.linspace(0, 60_000, 64)[None].repeat(64, axis=0)
        Image.fromarray(values.astype("uint16" if mode == "I;16" else "float32")).save(path)
    else:
        _half_and_half(mode).save(path)
    seen = predict.read_picture(path).astype(int)
    assert seen.shape == (32, 32, 3)
    if mode in ("I;16", "F"):  # from black on the left to white on the right
        assert seen[16, 0].max() < 10 and seen[16, 31].min() > 245
    elif mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
        assert seen[16, 4].argmax() == 0 and seen[16, 28].argmax() == 2


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    picture, exif = _half_and_half(), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    picture.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    seen = predict.read_picture(tmp_path / "photo.jpg").astype(int)
    assert seen[4, 16].argmax() == 0 and seen[28, 16].argmax() == 2


def test_the_middle_of_a_wide_picture_is_seen(tmp_path):
    pixels = np.zeros((32, 320, 3), "uint8")
    pixels[:, 144:176] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert predict.read_picture(tmp_path / "wide.png").min() == 255


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "empty.png")
    assert predict.read_picture(tmp_path / "empty.png").min() == 255


def _write_text(path):
    path.write_text("no picture")


def _write_half(path):
    _half_and_half(size=(200, 200)).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:120])


@pytest.mark.parametrize("write", [_write_text, _write_half, lambda path: path.mkdir()])
def test_what_is_no_picture_is_refused_with_status_2(write, tmp_path, capsys):
    write(tmp_path / "picture.png")
    assert predict.main([str(tmp_path / "picture.png")]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("predict: error: picture.png must be a picture") and not shown.out


def test_a_picture_that_its_decoder_gives_up_on_is_refused(tmp_path, monkeypatch):
    def give_up(path):
        raise RuntimeError("Failed to decode image")

    monkeypatch.setattr(predict.Image, "open", give_up)
    with pytest.raises(UserError, match="Failed to decode image"):
        predict.read_picture(tmp_path / "picture.avif")


def test_a_picture_that_is_not_there_is_refused_with_status_2(tmp_path, capsys):
    assert predict.main([str(tmp_path / "none.jpg")]) == 2
    assert "there is no" in capsys.readouterr().err


# Answers


def test_without_a_run_the_best_published_network_answers(tmp_path, capsys):
    _half_and_half().save(tmp_path / "picture.png")
    assert predict.main([str(tmp_path / "picture.png")]) == 0
    result, path = predict.best_network()
    assert path.is_file()
    assert result.record in [each.record for each in results.published()]
    shown = capsys.readouterr().out
    assert results.row_label(result) in shown and "takes every picture for one of them" in shown
    (answer,) = predict.classify([tmp_path / "picture.png"])
    for name, confidence in zip(answer.classes, answer.confidences, strict=True):
        assert f"{name:12s} {100 * confidence:5.1f} %" in shown
    assert answer.confidences == sorted(answer.confidences, reverse=True)


def test_confidences_are_calibrated_by_the_records_temperature(tmp_path):
    _half_and_half().save(tmp_path / "picture.png")
    result, path = predict.best_network()
    network = keras.saving.load_model(path, compile=False)
    raw = training.predict(network, predict.read_picture(tmp_path / "picture.png")[None])
    temperature = result.record["temperature_scaling"]["temperature"]
    expected = np.sort(metrics.temperature_scale(raw, temperature)[0])[::-1][:3]
    (answer,) = predict.classify([tmp_path / "picture.png"])
    np.testing.assert_allclose(answer.confidences, expected, atol=1e-6)


def test_a_run_without_networks_is_refused(tmp_path, capsys):
    _half_and_half().save(tmp_path / "picture.png")
    assert predict.main([str(tmp_path / "picture.png"), "--run", str(tmp_path)]) == 2
    assert "must hold a trained network; it has none" in capsys.readouterr().err


def test_a_notebook_shows_what_a_network_sees_in_a_picture(run_with_network, tmp_path):
    """The picture as it sees it, and three classes, the most probable one on top."""
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    figure = narrative.plot_own_picture(str(tmp_path / "red.png"))
    picture, bars = figure.axes
    assert picture.images[0].get_array().shape == (32, 32, 3)
    widths = [bar.get_width() for bar in bars.patches]
    assert len(widths) == 3 and widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(
    "picture, said", [("", "Set `picture`"), ("missing.jpg", "there is no missing.jpg")]
)
def test_a_notebook_without_a_picture_says_what_to_do(picture, said):
    assert said in narrative.plot_own_picture(picture).data


def test_a_notebook_says_what_its_network_cannot_know():
    assert "takes every picture for one of them" in narrative.describe_picture_network("").data
