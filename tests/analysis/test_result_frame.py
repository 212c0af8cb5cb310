"""Records into a tidy frame."""

import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import cells, diverged, failed, fill, metrics, record

from vaebench.analysis.columns import AXIS_COLUMNS, METRIC_COLUMNS
from vaebench.analysis.frame import load_results, read_results, tidy
from vaebench.analysis.labels import varying
from vaebench.grid.cell import Cell
from vaebench.records.schema import CellRecord, Metric, Note

GAUSSIAN = {"likelihood": "gaussian", "sigma": 0.1}


def test_a_row_holds_every_axis_and_every_metric_of_its_record() -> None:
    cell = Cell(likelihood="gaussian", sigma=0.1, latent_dim=4, seed=3)
    one = record(cell)
    row = tidy([(one, "store")]).iloc[0]
    assert (row["cell_id"], row["status"], row["grid"]) == (one.cell_id, "done", "quick")
    assert row["latent_dim"] == 4
    assert row["sigma"] == 0.1
    for name, metric in one.metrics.items():
        if metric.value is not None:
            assert row[name] == metric.value
    assert row["elbo_se"] == 0.4
    assert row["kl_n"] == 360
    assert row["iw_samples"] == cell.iw_samples
    assert row["machine"] == "AMD EPYC 9B14, 2 cores, 1 thread a cell"


def test_every_column_of_the_contract_is_there() -> None:
    frame = tidy([(record(Cell()), "store")])
    assert set(AXIS_COLUMNS) <= set(frame)
    assert set(METRIC_COLUMNS) <= set(frame)
    assert {f"{name}_reason" for name in METRIC_COLUMNS} <= set(frame)
    assert not frame.columns.duplicated().any()


def test_a_missing_value_keeps_its_reason() -> None:
    values = metrics(Cell()) | {
        "kl": Metric.absent("kl", Note.of("no_density", "the encoder is a point"))
    }
    row = tidy([(record(Cell(), metrics=values), "store")]).iloc[0]
    assert row["kl"] != row["kl"]
    assert row["kl_reason"] == "the encoder is a point"


def test_a_diverged_cell_has_no_numbers_and_says_so() -> None:
    row = tidy([(diverged(Cell()), "store")]).iloc[0]
    assert row["elbo"] != row["elbo"]
    assert row["elbo_reason"] == "the cell is diverged"
    assert row["status_reason"] == "the loss was not finite"


def test_a_failed_cell_belongs_to_the_data_of_its_neighbours() -> None:
    first, second = cells([GAUSSIAN], sizes=[2], seeds=2)
    frame = tidy([(record(first), "store"), (failed(second), "store")])
    assert frame["data_checksum"].nunique(dropna=False) == 1
    assert set(frame["data_levels"]) == {17.0}
    assert set(frame["data_support"]) == {"grey"}


def test_the_same_cell_in_two_stores_counts_once_and_the_finished_one_wins() -> None:
    cell = Cell()
    frame = tidy(
        [
            (failed(cell).model_copy(update={"environment": record(cell).environment}), "a"),
            (record(cell), "b"),
        ]
    )
    assert list(frame["status"]) == ["done"]


def test_the_frame_does_not_depend_on_the_order_of_the_records() -> None:
    made = [(record(cell), "store") for cell in cells([GAUSSIAN, {}])]
    assert tidy(made).equals(tidy(made[::-1]))


def test_damaged_records_and_arrays_are_listed_and_not_used(tmp_path: Path) -> None:
    one, two, three = (record(cell) for cell in cells([GAUSSIAN], sizes=[2], seeds=3))
    root = fill(tmp_path / "store", [one, two, three])
    file = root / "cells" / one.cell_id / "record.json"
    file.write_bytes(file.read_bytes()[:-9])
    (root / "cells" / two.cell_id / "arrays.npz").write_bytes(b"torn")
    results = read_results([root])
    assert sorted(each.name for each in results.damaged) == sorted([one.cell_id, two.cell_id])
    assert set(results.frame["cell_id"]) == {two.cell_id, three.cell_id}
    assert not results.arrays(two.cell_id)
    assert "tsne" in results.arrays(three.cell_id)


def test_arrays_and_curves_are_those_of_the_record_that_the_row_is_of(tmp_path: Path) -> None:
    (cell,) = cells([GAUSSIAN], sizes=[2], seeds=1)
    good = record(cell)
    bad = failed(cell).model_copy(update={"environment": good.environment, "series": {}})
    roots = [fill(tmp_path / "a", [bad]), fill(tmp_path / "b", [good])]
    alike = [fill(tmp_path / "x" / "s", [bad]), fill(tmp_path / "y" / "s", [good])]
    for order in (roots, roots[::-1], alike[::-1]):
        results = read_results(order)
        assert list(results.frame["store"]) in (["b"], ["s"])
        assert results.series[good.cell_id] == good.series
        assert good.series
        assert "tsne" in results.arrays(good.cell_id)


def test_records_that_are_left_out_are_warned_of(tmp_path: Path) -> None:
    one, two = (record(cell) for cell in cells([GAUSSIAN], sizes=[2], seeds=2))
    root = fill(tmp_path / "store", [one, two])
    file = root / "cells" / one.cell_id / "record.json"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=f"1 record of .* cannot be used.*{one.cell_id}"):
        frame = load_results(root)
    assert list(frame["cell_id"]) == [two.cell_id]


def test_an_empty_folder_gives_an_empty_frame(tmp_path: Path) -> None:
    frame = load_results(tmp_path)
    assert frame.empty
    assert "elbo" in frame


def test_analysis_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "class Refused:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refused())\n"
        "import vaebench.report.report, vaebench.report.export"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_frame_of_a_folder_has_units_text_for_sigma_and_no_empty_column(tmp_path: Path) -> None:
    designs = [
        GAUSSIAN,
        {"likelihood": "gaussian", "sigma": "learned"},
        {"likelihood": "bernoulli"},
    ]
    root = fill(tmp_path / "store", map(record, cells(designs, sizes=[2], seeds=1)))
    frame = load_results(root)
    assert sorted(frame["sigma"].dropna()) == ["0.1", "learned"]
    assert {type(value) for value in frame["sigma"].dropna()} == {str}
    assert frame["sigma"].isna().sum() == 1
    units = frame.attrs["units"]
    assert (units["elbo"], units["elbo_se"], units["mse"]) == ("nats/image", "nats/image", "pixel²")
    assert set(units) <= set(frame)
    assert not frame.isna().all().any()
    assert "iw_bound" not in frame
    whole = load_results(root, empty=True)
    assert whole["iw_bound"].isna().all()
    assert set(frame) < set(whole)


def external(name: str, seed: int, digest: str) -> CellRecord:
    cell = Cell(architecture=f"external:{name}", seed=seed, epochs=7)
    return record(cell, network_sha256=digest * 64, cell_id=f"{name}-{seed}-{digest}")


def test_what_is_not_known_of_an_external_model_is_empty() -> None:
    trained = record(Cell(epochs=20, learning_rate=1e-3))
    frame = tidy((each, "s") for each in (trained, external("m", 0, "a"), external("m", 1, "b")))
    rows = frame[frame["architecture"] == "external:m"]
    assert len(rows) == 2, "weights of two seeds are one design"
    assert rows["design"].nunique() == 1
    for axis in ("epochs", "learning_rate", "optimizer", "hidden", "beta"):
        assert rows[axis].isna().all(), axis
    assert set(rows["latent_dim"]) == {8}
    (known,) = frame.loc[frame["architecture"] == "mlp", "epochs"]
    assert known == 20
    assert isinstance(known, int)
    assert varying(frame) == ("architecture",)


def test_two_models_of_one_name_and_seed_are_told_apart() -> None:
    frame = tidy((each, "s") for each in (external("m", 0, "a"), external("m", 0, "b")))
    assert set(frame["architecture"]) == {"external:m@aaaaaa", "external:m@bbbbbb"}
    assert frame["design"].nunique() == 2
