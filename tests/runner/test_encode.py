"""Kept models encode only what they were trained on, or what they have converted themselves."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small_grids import BASE, grid
from test_runs import run

import vaebench
from vaebench.cli.main import main
from vaebench.data.sources import load
from vaebench.errors import DataInvalid, UsageError
from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.encode import encode
from vaebench.runner.models import KeptModel
from vaebench.runner.prepared import prepared_for


def kept(root: Path, **axes: object) -> KeptModel:
    base = BASE | {"epochs": 1, "train_size": None, "test_size": None} | axes
    base = {axis: value for axis, value in base.items() if value is not None}
    run(Grid.from_dict({"name": "kept", "base": base}), root, keep_weights=True)
    (record,) = Store(root).read_all()[0]
    assert record.status.state == "done", record.status
    return vaebench.load_model(root, record.cell_id)


@pytest.mark.parametrize(
    ("dataset", "axes"),
    [
        ("digits", {"binarization": "threshold"}),
        ("digits", {"likelihood": "gaussian"}),
        ("linear-gaussian", {"likelihood": "gaussian"}),
    ],
)
def test_prepared_data_are_the_pixels_of_training(
    tmp_path: Path, dataset: str, axes: dict[str, object]
) -> None:
    model = kept(tmp_path, dataset=dataset, test_size=50, **axes)
    shown = load(dataset, None, test_size=50).test.images
    expected = prepared_for(model.cells[0], None).test.pixels
    whole = shown.squeeze(1)
    for given in (whole, whole.numpy()):
        prepared = model.prepare(given)
        assert torch.equal(prepared, expected[None])
    assert model.encode(prepared).mean.shape == (1, 50, 2)


def test_what_is_not_like_the_data_set_is_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", train=images)
    model = kept(tmp_path / "s", dataset=str(tmp_path / "colour.npz"), likelihood="gaussian")
    good = model.prepare(images)
    assert good.shape == (1, 60, 192)
    chosen = torch.from_numpy(images.transpose(0, 3, 1, 2).reshape(1, 60, 192)).float() / 255
    assert torch.equal(good, chosen)
    for wrong in (good[0], good[0].reshape(60, 3, 8, 8), good.repeat(2, 1, 1), good[..., :190]):
        with pytest.raises(UsageError, match=r"shape \(1, N, 192\).*model\.prepare"):
            model.encode(wrong)
    for wrong in (255 * good, good - 0.1, good * torch.nan):
        with pytest.raises(UsageError, match=r"between 0 and 1.*model\.prepare"):
            model.encode(wrong)
    with pytest.raises(UsageError, match=r"uint8.*model\.prepare"):
        model.encode(torch.from_numpy(images.reshape(1, 60, 192)))
    with pytest.raises(
        DataInvalid, match=r"float64; images of colour\.npz must be integers from 0"
    ):
        model.prepare(images / 255)
    with pytest.raises(
        DataInvalid, match=r"shape \(3, 8, 8\) .* the model was trained; .* gives \(1, 8, 8\)"
    ):
        model.prepare(images[..., 0])
    with pytest.raises(DataInvalid, match="set the other layout"):
        model.prepare(images.transpose(0, 3, 1, 2))


def test_binary_models_take_zeros_and_ones(tmp_path: Path) -> None:
    model = kept(tmp_path, binarization="static")
    with pytest.raises(UsageError, match="must be 0 or 1"):
        model.encode(torch.full((1, 2, 64), 0.5))
    with pytest.raises(DataInvalid, match=r"grey levels must be 0 \.\.\. 16 .*; got 200"):
        model.prepare(np.full((2, 8, 8), 200))


def test_images_of_two_values_become_zeros_and_ones_as_in_training(tmp_path: Path) -> None:
    images = 255 * np.random.default_rng(0).integers(0, 2, (60, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", train=images)
    model = kept(tmp_path / "s", dataset=str(tmp_path / "x.npz"))
    expected = torch.from_numpy(images > 0).float().flatten(1)[None]
    assert torch.equal(model.prepare(images), expected)
    assert torch.equal(model.prepare(images // 255), expected)
    with pytest.raises(DataInvalid, match="two values"):
        model.prepare(np.arange(16, dtype=np.uint8).reshape(1, 4, 4))


def test_binarised_images_of_declared_levels_are_cut_at_their_own_half(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 4, (60, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", train=images, levels=4)
    model = kept(tmp_path / "s", dataset=str(tmp_path / "x.npz"), binarization="threshold")
    assert torch.equal(model.prepare(images)[0], torch.from_numpy(images > 1).float().flatten(1))


def test_counts_and_real_values_have_their_own_ranges(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pd.DataFrame(draw.poisson(3, (80, 3)), columns=list("abc")).to_csv(
        tmp_path / "n.csv", index=False
    )
    pd.DataFrame(draw.normal(100, 9, (80, 3)), columns=list("abc")).to_csv(
        tmp_path / "r.csv", index=False
    )
    counts = kept(
        tmp_path / "n", dataset=str(tmp_path / "n.csv"), kind="counts", likelihood="poisson"
    )
    assert counts.encode(counts.prepare([[1, 2, 3]])).mean.shape == (1, 1, 2)
    with pytest.raises(UsageError, match="whole numbers from 0"):
        counts.encode(torch.full((1, 1, 3), 0.5))
    real = kept(tmp_path / "r", dataset=str(tmp_path / "r.csv"), likelihood="gaussian")
    assert real.encode(real.prepare([[90.0, -1e3, 3]])).mean.isfinite().all()
    with pytest.raises(UsageError, match="finite"):
        real.encode(torch.full((1, 1, 3), torch.inf))


def test_encode_keeps_the_order_of_a_file_and_draws_from_the_posterior(tmp_path: Path) -> None:
    model = kept(tmp_path / "s", likelihood="gaussian")
    images = load("digits", None).test.images.squeeze(1).numpy()
    np.savez(tmp_path / "new.npz", train=images)
    name = model.cells[0]
    (cell,) = Store(tmp_path / "s").states()
    codes = encode(tmp_path / "s", cell, str(tmp_path / "new.npz"), samples=400, seed=1)
    assert sorted(codes) == ["train_mean", "train_samples"], name
    q = model.encode(model.prepare(images))
    assert np.array_equal(codes["train_mean"], q.mean[0].numpy())
    drawn = codes["train_samples"]
    assert drawn.shape == (400, len(images), 2)
    error = (drawn.mean(0) - codes["train_mean"]) / drawn.std(0) * 20
    assert np.abs(error).max() < 6
    again = encode(tmp_path / "s", cell, str(tmp_path / "new.npz"), samples=400, seed=1)
    assert np.array_equal(again["train_samples"], drawn)


def command(*words: object) -> object:
    with pytest.raises(SystemExit) as leaving:
        main(["encode", *map(str, words)])
    return leaving.value.code


def test_the_command_writes_a_whole_file_or_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    for name in ("b", "a"):
        (photos / name).mkdir(parents=True)
        for index in range(10):
            pixels = np.random.default_rng(ord(name) + index).integers(0, 256, (6, 6), np.uint8)
            Image.fromarray(pixels).save(photos / name / f"{index}.png")
    store = tmp_path / "s"
    kept(store, dataset=str(photos), likelihood="gaussian", batch_size=4)
    (record,) = Store(store).read_all()[0]
    assert record.data is not None
    assert record.data.classes == ["a", "b"]
    out = tmp_path / "codes.npz"
    assert command(store, record.cell_id[:9], photos, "-o", out) == 0
    assert "20 codes in train_mean" in capsys.readouterr().out
    with np.load(out) as found:
        assert found["train_mean"].shape == (20, 2)
    before = out.read_bytes()
    np.savez(tmp_path / "wrong.npz", train=np.zeros((9, 5, 5), np.uint8))
    for words, code, text in (
        ((store, "nothing", photos, "-o", out), 2, "exactly one record name"),
        ((store, record.cell_id, tmp_path / "wrong.npz", "-o", out), 3, "model was trained"),
        ((store, record.cell_id, tmp_path / "none.npz", "-o", out), 3, "there is no"),
        ((store, record.cell_id, photos, "-o", tmp_path / "codes.csv"), 2, "an .npz file"),
        ((store, record.cell_id, photos, "-o", tmp_path / "no" / "c.npz"), 2, "no folder"),
        ((tmp_path / "nowhere", record.cell_id, photos, "-o", out), 2, "no folder"),
    ):
        assert command(*words) == code, words
        assert text in capsys.readouterr().err
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("codes.npz", "photos", "s", "wrong.npz")
    ]


def test_weights_that_were_not_kept_are_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(grid(seed=[0]), tmp_path / "s")
    assert command(tmp_path / "s", "digits", "digits", "-o", tmp_path / "c.npz") == 2
    assert "--keep-weights" in capsys.readouterr().err
