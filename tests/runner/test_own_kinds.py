"""Tables of real numbers and of counts, trained, scored and reported in their own unit."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

import vaebench
from vaebench.analysis.frame import read_results
from vaebench.cli.console import record_text
from vaebench.errors import GridError, UsageError
from vaebench.grid.spec import Grid
from vaebench.plots.images import KINDS, blocks, class_names
from vaebench.plots.pictures import columns, tsne_maps
from vaebench.records.schema import CellRecord
from vaebench.records.store import Store
from vaebench.report.report import write_report
from vaebench.runner.execute import execute
from vaebench.runner.messages import Task
from vaebench.runner.models import load_model
from vaebench.runner.plan import make_plan
from vaebench.truth.ppca import LinearVAE, fit

UNITS = np.array([1_000.0, 0.02, 3.0, 50.0, 1.0])


def real_table(path: Path, rows: int = 600) -> Path:
    """Five columns of very different units, drawn from a linear Gaussian model."""
    draw = np.random.default_rng(0)
    W = draw.normal(size=(5, 2))
    x = draw.normal(size=(rows, 2)) @ W.T + 0.4 * draw.normal(size=(rows, 5)) + 2
    pd.DataFrame(x * UNITS, columns=list("abcde")).to_csv(path, index=False)
    return path


def count_table(path: Path) -> Path:
    draw = np.random.default_rng(1)
    rate = np.exp(draw.normal(size=(500, 2)) @ draw.normal(size=(2, 4)) * 0.5 + 2)
    pd.DataFrame(draw.poisson(rate)).to_parquet(path)
    return path


BASE = {
    "architecture": "linear",
    "latent_dim": 2,
    "batch_size": 50,
    "learning_rate": 0.02,
    "tsne_points": 0,
}


def trained(dataset: Path, store: Path, **axes: object) -> CellRecord:
    grid = Grid.from_dict({"name": "own", "base": BASE | axes | {"dataset": str(dataset)}})
    plan = make_plan(grid, {})
    (planned,) = plan.todo
    task = Task((planned.cell,), (planned.cell_id,), "own", None, keep_weights=True)
    (outcome,) = execute(task)
    with Store(store).writing() as held:
        held.write(outcome.record, outcome.arrays, outcome.weights)
    assert outcome.record.status.state == "done"
    return outcome.record


def value(record: CellRecord, name: str) -> float:
    found = record.metrics[name].value
    assert found is not None
    return found


def splits(record: CellRecord, dataset: Path) -> tuple[np.ndarray, np.ndarray]:
    from vaebench.data.own_data import Reading
    from vaebench.data.sources import load

    data = load(str(dataset), reading=Reading.of(record.cell.model_copy(update={"kind": "real"})))
    train, test = (s.images.flatten(1).double().numpy() for s in (data.train, data.test))
    return train, test


@pytest.mark.parametrize("sigma", ["learned", "optimal", "per_pixel"])
def test_a_real_table_has_the_likelihood_of_its_linear_twin(tmp_path: Path, sigma: str) -> None:
    """The ELBO of a linear VAE approaches log p(x) of pPCA in the data's own unit."""
    dataset = real_table(tmp_path / "air.csv")
    axes = {"sigma": sigma, "epochs": 150, "eval_samples": 100}
    record = trained(dataset, tmp_path / "s", likelihood="gaussian", **axes)
    train, test = splits(record, dataset)
    scale = train.std(0)
    twin = LinearVAE.optimum(fit(train / scale), 2)
    expected = twin.log_likelihood(test / scale).mean() - np.log(scale).sum()
    exact = value(record, "exact_log_likelihood")
    if sigma == "per_pixel":  # factor analysis, which is at least as good as pPCA
        assert exact > expected - 0.15
    else:
        assert exact == pytest.approx(expected, abs=0.15)
        assert value(record, "elbo") > exact - 0.1
    assert value(record, "elbo") <= exact + 0.03
    assert record.data is not None
    assert (record.data.support, record.comparable) == ("real", "density")
    assert record.data.columns == list("abcde")
    assert record.data.scale == pytest.approx(scale, rel=1e-4)
    assert record.data.shift == pytest.approx(train.mean(0), rel=1e-4)
    # In the unit of the data: the root mean square of five sigmas, mostly that of column a.
    assert 100 < value(record, "sigma_fitted") < 500
    assert record.metrics["bits_per_dim"].reason_code == "no_levels"
    assert [note.code for note in record.warnings] == ["data"]  # a fifth is held out


def test_the_exact_log_likelihood_is_a_gaussians_density(tmp_path: Path) -> None:
    """Against scipy's multivariate normal, with the trained weights."""
    dataset = real_table(tmp_path / "air.csv", rows=100)
    record = trained(dataset, tmp_path / "s", likelihood="gaussian", epochs=3)
    vae = load_model(tmp_path / "s", record.cell_id)
    unit = vae.data_scale.flatten().double().numpy()
    W = vae.decoder.weight[0].double().numpy() * unit[:, None]
    mu = vae.data_shift.flatten().double().numpy() + unit * vae.decoder.bias[0].double().numpy()
    scale = vae.scale()
    assert scale is not None
    covariance = W @ W.T + np.diag(scale.flatten().double().numpy() ** 2)
    _, test = splits(record, dataset)
    law = stats.multivariate_normal(mu, covariance)
    assert value(record, "exact_log_likelihood") == pytest.approx(law.logpdf(test).mean(), abs=1e-4)


def test_a_change_of_unit_shifts_the_bound_by_its_jacobian(tmp_path: Path) -> None:
    dataset = real_table(tmp_path / "air.csv", rows=200)
    other = tmp_path / "other.csv"
    frame = pd.read_csv(dataset)
    (frame * 8 + 64).to_csv(other, index=False)
    axes = {"likelihood": "student_t", "sigma": "learned", "epochs": 2}
    one = trained(dataset, tmp_path / "s", **axes)
    two = trained(other, tmp_path / "t", **axes)
    shift = 5 * math.log(8)
    assert value(two, "elbo") == pytest.approx(value(one, "elbo") - shift, abs=1e-2)
    assert value(two, "sigma_fitted") == pytest.approx(8 * value(one, "sigma_fitted"), rel=1e-3)
    assert value(two, "mse") == pytest.approx(64 * value(one, "mse"), rel=1e-3)


def test_without_standardising_sigma_is_in_the_unit_of_the_data(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    path = tmp_path / "x.csv"
    pd.DataFrame(draw.normal(3, 2, (300, 3))).to_csv(path, index=False)
    axes = {"likelihood": "gaussian", "epochs": 5, "standardize": False}
    plain = trained(path, tmp_path / "s", sigma=2.0, **axes)
    assert value(plain, "sigma_fitted") == 2
    assert plain.data is not None
    assert plain.data.scale is None
    # A fixed sigma has the unit of the data, standardised or not.
    scaled = trained(path, tmp_path / "t", sigma=2.0, likelihood="gaussian", epochs=5)
    assert value(scaled, "sigma_fitted") == 2


@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
def test_a_count_table(tmp_path: Path, family: str) -> None:
    """Codes raise the bound above that of a Poisson with the mean of each column."""
    dataset = count_table(tmp_path / "n.parquet")
    record = trained(dataset, tmp_path / "s", likelihood=family, kind="counts", epochs=60)
    assert record.data is not None
    assert (record.data.support, record.comparable) == ("counts", "mass")
    counts = pd.read_parquet(dataset).to_numpy()
    blind = stats.poisson(counts.mean(0)).logpmf(counts).sum(1).mean()
    assert value(record, "elbo") > blind + 1
    bits = -value(record, "elbo") / (4 * math.log(2))
    assert value(record, "bits_per_dim") == pytest.approx(bits, rel=1e-4)
    assert record.metrics["sigma_fitted"].reason_code == "no_scale"


def test_they_are_reported_without_pictures(tmp_path: Path) -> None:
    dataset = real_table(tmp_path / "air.csv", rows=100)
    trained(dataset, tmp_path / "s", likelihood="gaussian", epochs=2)
    write_report(tmp_path / "s", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "air.csv" in page or "own" in page
    results = pd.read_csv(tmp_path / "report" / "tables" / "results.csv")
    assert results["exact_log_likelihood"].notna().all()
    assert not list((tmp_path / "report" / "figures").glob("reconstructions*"))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"likelihood": "bernoulli"}, "real values, which need a density on the real line"),
        ({"likelihood": "gaussian", "dequantize": True}, "leave dequantize at its default"),
        ({"likelihood": "gaussian", "architecture": "conv"}, "reduce a 1x5 image to nothing"),
        ({"likelihood": "poisson"}, "a likelihood of counts need each other"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_by_the_plan(
    tmp_path: Path, axes: dict[str, object], message: str
) -> None:
    dataset = real_table(tmp_path / "air.csv", rows=100)
    with pytest.raises(GridError, match=message):
        make_plan(
            Grid.from_dict({"name": "own", "base": BASE | {"dataset": str(dataset)} | axes}), {}
        )


def test_a_conv_that_is_too_deep_for_the_digits_is_refused_by_the_plan() -> None:
    grid = Grid.from_dict(
        {"name": "deep", "base": {"architecture": "conv", "hidden": [8, 8, 8, 8]}}
    )
    with pytest.raises(GridError, match="at most 3 channels"):
        make_plan(grid, {})


def test_images_of_two_levels_are_one_cell_whatever_binarises_them(tmp_path: Path) -> None:
    images = (np.random.default_rng(3).random((200, 4, 4)) > 0.5) * np.uint8(255)
    np.savez(tmp_path / "x.npz", train=images, test=images)
    grid = Grid.from_dict(
        {
            "name": "two",
            "base": {"dataset": str(tmp_path / "x.npz")},
            "axes": {"binarization": ["none", "threshold", "static"]},
        }
    )
    plan = make_plan(grid, {})
    assert len(plan.todo) == 1
    assert plan.repeated == 2


def test_arrays_from_python_are_trained(tmp_path: Path) -> None:
    images = np.random.default_rng(4).integers(0, 256, (120, 4, 4), dtype=np.uint8)
    grid = {
        "name": "arrays",
        "base": BASE
        | {"epochs": 1, "batch_size": 20, "dataset": "mnist", "likelihood": "gaussian"},
    }
    summary = vaebench.run(
        grid, tmp_path / "s", data={"train": images}, data_dir=tmp_path / "data", jobs=1
    )
    assert summary.states() == {"done": 1}
    (record,) = Store(tmp_path / "s").read_all()[0]
    assert record.data is not None
    assert (record.data.n_train, record.data.n_test, record.data.levels) == (96, 24, 256)
    assert str(tmp_path) not in record.model_dump_json()
    with pytest.raises(UsageError, match="cannot be given with a Grid object"):
        vaebench.run(Grid.from_dict(grid), tmp_path / "s", data={"train": images})


def test_tables_have_rows_and_a_unit_instead_of_images_and_pixels(tmp_path: Path) -> None:
    dataset = real_table(tmp_path / "air.csv", rows=100)
    for latent_dim in (1, 2):
        trained(dataset, tmp_path / "s", likelihood="gaussian", epochs=2, latent_dim=latent_dim)
    write_report(tmp_path / "s", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    before_metrics = page.partition('id="units"')[0]
    for word in ("nats/image", "test images", "pixel²", "[pixel]"):
        assert word not in before_metrics, word
    assert "nats/row" in before_metrics
    (table,) = (tmp_path / "report" / "tables").glob("results-*.md")
    assert "nats/row" in table.read_text()
    assert "squared data unit" in table.read_text()
    records, _ = Store(tmp_path / "s").read_all()
    assert "nats/row" in record_text(records[0])
    assert vaebench.load_results(tmp_path / "s").attrs["units"]["elbo"] == "nats/row"
    one, two = (f"{tmp_path / 's'}:latent_dim={size}" for size in (1, 2))
    assert vaebench.compare(one, two).unit == "nats/row"
    assert all(
        "image" not in line for best in vaebench.best(tmp_path / "s") for line in best.lines()
    )


def test_the_lines_of_a_run_on_a_table_count_rows(tmp_path: Path) -> None:
    lines: list[str] = []
    table = real_table(tmp_path / "air.csv", rows=60)
    base = BASE | {"dataset": str(table), "likelihood": "gaussian", "epochs": 1, "batch_size": 8}
    vaebench.run({"name": "t", "base": base}, tmp_path / "s", jobs=1, echo=lines.append)
    (line,) = (line for line in lines if line.startswith("[1/1]"))
    assert "nats/row" in line


def test_a_map_names_the_classes_of_a_folder(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("heron", "swan"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for index in range(40):
            pixels = draw.integers(0, 256, (6, 6), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "birds" / name / f"{index}.png")
    axes = {"likelihood": "gaussian", "batch_size": 16, "epochs": 1, "tsne_points": 16}
    record = trained(tmp_path / "birds", tmp_path / "s", **axes)
    assert record.data is not None
    assert record.data.classes == ["heron", "swan"]
    write_report(tmp_path / "s", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert '"family":{"of":["swan","heron"]' in page  # the rows of the map
    assert '"families":[["heron",' in page  # its legend
    results = read_results([tmp_path / "s"])
    shown = blocks(results.frame, results.arrays, KINDS["tsne"])
    assert class_names(shown) == {0: "heron", 1: "swan"}
    figure = tsne_maps(results.frame, results.arrays)
    assert figure is not None
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["heron", "swan"]


def test_columns_show_the_mean_of_each_number_against_the_data(tmp_path: Path) -> None:
    dataset = real_table(tmp_path / "air.csv", rows=100)
    record = trained(dataset, tmp_path / "s", likelihood="gaussian", epochs=2)
    results = read_results([tmp_path / "s"])
    kept = results.arrays(record.cell_id)
    model = load_model(tmp_path / "s", record.cell_id)
    x = model.prepare(kept["rows"])
    means = model.decode(model.encode(x).mean.unsqueeze(1)).mean[0, 0].numpy()
    assert kept["row_means"] == pytest.approx(means, rel=1e-4)
    _, test = splits(record, dataset)
    assert kept["rows"] == pytest.approx(test, rel=1e-5)
    figure = columns(results.frame, results.arrays, "Columns")
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == list("abcde")
    for index, axes in enumerate(panels):
        drawn = np.asarray(axes.collections[0].get_offsets())
        assert drawn == pytest.approx(np.column_stack((test[:, index], means[:, index])), rel=1e-4)
    write_report(tmp_path / "s", tmp_path / "report")
    assert list((tmp_path / "report" / "figures").glob("columns-*.png"))
    assert "Reconstruction by column" in (tmp_path / "report" / "index.html").read_text()
