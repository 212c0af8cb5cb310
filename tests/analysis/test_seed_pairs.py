"""Differences paired by seed, against the textbook's paired t interval and scipy's test."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vaebench
from vaebench.analysis.comparison import compare, paired, parse_side
from vaebench.analysis.frame import load_with_damage, outdated_notes, tidy, without_superseded
from vaebench.cli.console import comparison_text, store_text
from vaebench.errors import NotComparable
from vaebench.findings.evidence import rows_of
from vaebench.grid.cell import Cell, cell_id
from vaebench.records.schema import CellRecord, DataFacts, Environment, Metric, Note, Status
from vaebench.records.store import Store
from vaebench.report.overview import once

A = {0: -101.5, 1: -99.0, 2: -104.25, 3: -100.0}
B = {0: -99.0, 1: -98.0, 2: -100.25, 3: -98.5}


def record(
    elbo: float | None, processor: str = "one", pack_size: int = 1, **axes: object
) -> CellRecord:
    cell = Cell(**({"likelihood": "gaussian", "sigma": 0.1} | axes))
    lost = "not finite"
    return CellRecord(
        cell_id=cell_id(cell, "ab" * 32),
        grid="pairs",
        cell=cell,
        data=DataFacts(
            name="digits",
            checksum="ab" * 32,
            shape=(1, 8, 8),
            levels=17,
            binarization="none",
            dequantize=False,
            n_train=1437,
            n_valid=0,
            n_test=360,
            support="grey",
        ),
        status=Status(state="done") if elbo is not None else Status(state="diverged", reason=lost),
        metrics={
            name: Metric.absent(name, Note.of("no_density", lost))
            if elbo is None
            else Metric.measured(name, elbo)
            for name in ("elbo", "bits_per_dim", "train_seconds")
        }
        | {"pack_size": Metric.measured("pack_size", float(pack_size))},
        comparable="mass" if cell.likelihood == "categorical" else "density",
        environment=Environment(processor=processor),
    )


def frame(values: dict[int, float | None], **axes: object) -> pd.DataFrame:
    return tidy([(record(elbo, seed=seed, **axes), "store") for seed, elbo in values.items()])


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    found = paired(frame(A), frame(B, sigma=0.3))
    assert found.apart == {"sigma": (0.1, 0.3)}
    assert found.alone == (0, 0)
    (row,) = found.frame.to_dict("records")
    reference = stats.ttest_rel(list(B.values()), list(A.values())).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(2.25)
    assert (row["low"], row["high"]) == pytest.approx((reference.low, reference.high))
    assert (row["a"], row["b"]) == pytest.approx((np.mean([*A.values()]), np.mean([*B.values()])))
    assert (row["n"], row["cells"]) == (4, 4)


def test_what_a_seed_does_to_both_sides_falls_out() -> None:
    wild = {seed: 1000.0 * seed for seed in range(4)}
    shifted = {seed: value + 1.0 + 0.01 * seed for seed, value in wild.items()}
    (row,) = paired(frame(wild), frame(shifted, sigma=0.3)).frame.to_dict("records")
    assert row["difference"] == pytest.approx(1.015)
    assert row["high"] - row["low"] < 0.1


def test_seeds_are_matched_by_number_and_not_by_place() -> None:
    backwards = {seed: A[seed] + seed for seed in reversed(A)}
    (row,) = paired(frame(A), frame(backwards, sigma=0.3)).frame.to_dict("records")
    assert row["difference"] == pytest.approx(1.5)


def test_a_seed_without_a_value_or_partner_is_left_out_and_counted() -> None:
    found = paired(frame({**A, 7: -1.0}), frame({**B, 1: None}, sigma=0.3))
    (row,) = found.frame.to_dict("records")
    assert (row["n"], row["cells"]) == (3, 4)
    assert row["difference"] == pytest.approx(np.mean([B[s] - A[s] for s in (0, 2, 3)]))
    assert found.alone == (1, 0)


def test_the_time_of_a_cell_that_diverged_is_no_time_of_a_training() -> None:
    def timed(seconds: dict[int, float], diverged: int | None, **axes: object) -> pd.DataFrame:
        found = frame(dict.fromkeys(seconds, 1.0), **axes)
        found["train_seconds"] = [seconds[seed] for seed in found["seed"]]
        found.loc[found["seed"] == diverged, "status"] = "diverged"
        return found

    a = timed({0: 10.0, 1: 10.1, 2: 10.2}, None)
    b = timed({0: 8.5, 1: 8.6, 2: 0.2}, 2, sigma=0.3)
    found = paired(a, b, "train_seconds")
    row = found.frame.iloc[0]
    assert (row["difference"], row["n"]) == (pytest.approx(-1.5), 2)
    assert found.without[1] == {"the cell is diverged": 1}


def test_designs_that_were_one_pack_have_no_times_of_their_own() -> None:
    a, b = (frame(A, pack_size=4, beta=beta) for beta in (1.0, 2.0))
    found = paired(a, b, "train_seconds")
    assert found.frame.iloc[0]["n"] == 0
    assert "timed as one pack" in comparison_text(found, ("x", "y"))
    assert paired(a, b, "elbo").frame.iloc[0]["n"] == 4


def test_a_pair_without_values_says_why() -> None:
    found = paired(frame(A), frame(dict.fromkeys(B) | {0: B[0]}, sigma=0.3))
    assert found.without == ({}, {"not finite": 3})
    assert "3 records of B have no value: not finite" in comparison_text(found, ("a", "b"))


def test_a_side_without_any_value_says_why() -> None:
    lost = frame(dict.fromkeys(B), dataset="mnist")
    with pytest.raises(ValueError, match=r"no record of the second side .* elbo: not finite \(4\)"):
        paired(frame(A), lost)


def test_one_seed_has_no_interval() -> None:
    found = paired(frame({0: -1.0}), frame({0: -2.0}, sigma=0.3))
    (row,) = found.frame.to_dict("records")
    assert np.isnan([row["low"], row["high"]]).all()
    assert "one seed: no interval" in comparison_text(found, ("a", "b"))


@pytest.mark.parametrize(
    ("a", "b", "n", "difference"),
    [
        ({0: 2.0, 1: 2.0, 2: 2.0}, {0: 5.0, 1: 5.0, 2: 5.0}, 1, 3.0),
        ({0: 2.0, 1: 2.0, 2: 4.0}, {0: 5.0, 1: 5.0, 2: 6.0}, 2, 2.5),
        ({0: 2.0, 1: 2.0, 2: 2.0}, {0: 4.0, 1: 5.0, 2: 6.0}, 1, 3.0),
    ],
    ids=["two packs", "two packs and two alone", "one pack against three alone"],
)
def test_a_timing_that_seeds_share_is_one_measurement(
    a: dict[int, float | None],
    b: dict[int, float | None],
    n: int,
    difference: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The table is printed whole, however wide the terminal of the caller is.
    monkeypatch.delenv("COLUMNS", raising=False)
    packed = (frame(a, pack_size=3), frame(b, pack_size=3, sigma=0.3))
    found = paired(*packed, "train_seconds")
    (row,) = found.frame.to_dict("records")
    assert (row["n"], row["cells"]) == (n, 3)
    assert row["difference"] == pytest.approx(difference)
    assert np.isnan(row["low"]) == (n == 1)
    assert ("one measurement: no interval" in comparison_text(found, ("a", "b"))) == (n == 1)
    # Equal values of what a model is are as many measurements: nothing was shared.
    (nats,) = paired(*packed).frame.to_dict("records")
    assert nats["n"] == 3
    # Nor was it by cells that were trained alone, which may take equally long by chance.
    (alone,) = paired(frame(a), frame(b, sigma=0.3), "train_seconds").frame.to_dict("records")
    assert alone["n"] == 3


def test_designs_are_paired_where_they_are_equal_in_all_else() -> None:
    one = pd.concat([frame(A, latent_dim=z) for z in (2, 4, 8)])
    other = pd.concat([frame(B, latent_dim=z, sigma=0.3) for z in (4, 8, 16)])
    found = paired(one, other)
    assert found.frame["latent_dim"].tolist() == [4, 8]
    assert found.alone == (4, 4)


def test_a_likelihood_without_a_sigma_is_compared_with_one_that_has_it() -> None:
    found = paired(frame(A), frame(B, likelihood="categorical", sigma=None), "bits_per_dim")
    assert found.apart == {"likelihood": ("gaussian", "categorical"), "sigma": (0.1, None)}
    assert len(found.frame) == 1


@pytest.mark.parametrize(
    ("metric", "other", "words"),
    [
        ("elbo", {"likelihood": "categorical", "sigma": None}, "density and a probability mass"),
        ("train_seconds", {"processor": "two"}, "the machines differ"),
        ("elbo", {"binarization": "threshold"}, "cut at one half and pixels that were drawn"),
        ("bits_per_dim", {"binarization": "threshold"}, "cut at one half and pixels that were"),
    ],
)
def test_what_may_not_be_compared_is_refused(
    metric: str, other: dict[str, object], words: str
) -> None:
    with pytest.raises(NotComparable, match=words):
        paired(frame(A), frame(B, **other), metric)


@pytest.mark.parametrize(
    ("one", "other", "metric", "words"),
    [
        (frame(A), frame(B), "elbow", r"no metric 'elbow' \(did you mean 'elbo'\?\)"),
        (frame({0: 1.0}), frame({1: 1.0}), "elbo", "share no seed: 0 and 1"),
        (
            pd.concat([frame(A, latent_dim=z) for z in (2, 4)]),
            frame(B, latent_dim=8),
            "elbo",
            "share no latent_dim: 2, 4 and 8; select one on each side",
        ),
        (
            pd.concat([frame(A), frame(A, processor="two")]),
            frame(B, sigma=0.3),
            "elbo",
            "several of seed 0 that differ in the machine",
        ),
        (
            pd.concat([frame(A), frame(A).assign(data_checksum="other")]),
            frame(B, sigma=0.3),
            "elbo",
            "several of seed 0 that differ in the contents of their data set",
        ),
        (frame(A).iloc[:0], frame(B), "elbo", "side a has none"),
        (
            # The epochs are those of each side's designs, but of no design are they both's.
            pd.concat([frame(A, epochs=5), frame(A, latent_dim=2, epochs=9)]),
            pd.concat([frame(B, epochs=9), frame(B, latent_dim=2, epochs=5)]),
            "elbo",
            r"the closest two differ in (epochs \(5 and 9\)|latent_dim \(8 and 2\))",
        ),
    ],
)
def test_sides_without_pairs_say_why(
    one: pd.DataFrame, other: pd.DataFrame, metric: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        paired(one, other, metric)


@pytest.mark.parametrize(
    ("b", "verdict"),
    [
        ({s: v + 5 for s, v in B.items()}, "B is better"),
        ({s: v - 9 for s, v in B.items()}, "A is better"),
        ({0: -99.0, 1: -101.0, 2: -104.0, 3: -101.5}, "no difference shown"),
        ({s: v + 1 for s, v in A.items()}, "no spread between pairs"),
        (A, "equal"),
    ],
)
def test_the_verdict_follows_the_interval(b: dict[int, float], verdict: str) -> None:
    assert verdict in comparison_text(paired(frame(A), frame(b, sigma=0.3)), ("x", "y"))


def test_what_the_records_warn_of_is_told_beside_the_verdict() -> None:
    warned = frame(A).assign(warnings="a density on data with repeated exact values")
    text = comparison_text(paired(warned, frame(B, sigma=0.3)), ("x", "y"))
    assert "warning (4 cells): a density on data with repeated exact values" in text


def test_lower_bits_are_better() -> None:
    found = paired(frame(A), frame({s: v - 9 for s, v in B.items()}, sigma=0.3), "bits_per_dim")
    assert "B is better" in comparison_text(found, ("x", "y"))


@pytest.mark.parametrize(
    ("text", "store", "chosen"),
    [
        ("results/quick", "results/quick", {}),
        ("a:b/c", "a:b/c", {}),
        ("a:b/c:beta=2", "a:b/c", {"beta": 2.0}),
        (
            "r:hidden=[64,32],likelihood=gaussian,seed=1",
            "r",
            {"hidden": (64, 32), "likelihood": "gaussian", "seed": 1},
        ),
    ],
)
def test_a_side_is_a_folder_and_a_selection(
    text: str, store: str, chosen: dict[str, object]
) -> None:
    assert parse_side(text) == (Path(store), chosen)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("r:sigmas=1", "did you mean 'sigma'"),
        ("r:sigma=1,2", "one value per axis"),
        ("r:sigma=-1", "sigma: must be a number above 0"),
    ],
)
def test_a_wrong_selection_says_what_is_meant(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_side(text)


def test_stores_are_compared_by_their_paths(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    with store.writing():
        for seed in A:
            store.write(record(A[seed], seed=seed))
            store.write(record(B[seed], seed=seed, sigma=0.3))
    found = vaebench.compare(f"{store.root}:sigma=0.1", f"{store.root}:sigma=0.3")
    assert found.frame["difference"].item() == pytest.approx(2.25)
    with pytest.raises(ValueError, match=r"selects no record.*sigma there are 0\.1, 0\.3"):
        vaebench.compare(f"{store.root}:sigma=0.2", store.root)


def test_packs_of_different_sizes_have_no_common_time() -> None:
    """A pack's memory is that of all its cells."""
    alone, packed = frame({0: 3.0, 1: 4.0}), frame({0: 1.0, 1: 1.5}, sigma=0.3, pack_size=6)
    assert paired(alone, frame({0: 1.0, 1: 1.5}, sigma=0.3), "train_seconds").frame["n"].item() == 2
    with pytest.raises(NotComparable, match=r"between packs of 1 and 6 cells.*--pack 1"):
        paired(alone, packed, "train_seconds")
    assert paired(alone, packed, "elbo").frame["n"].item() == 2
    mixed = pd.concat([frame({0: 1.0}, sigma=0.3), frame({1: 1.5}, sigma=0.3, pack_size=2)])
    turned = pd.concat([frame({0: 3.0}, pack_size=2), frame({1: 4.0})])
    with pytest.raises(NotComparable, match="between packs of 2 and 1 cells"):
        paired(turned, mixed, "train_seconds")


def test_scales_of_two_families_are_not_one_quantity() -> None:
    a, b = frame(A), frame(B, likelihood="laplace")
    for side in (a, b):
        side["sigma_fitted"] = 0.1
    assert len(paired(a, b, "elbo").frame) == 1
    with pytest.raises(NotComparable, match="each family's scale is another quantity"):
        paired(a, b, "sigma_fitted")


def test_a_record_of_older_numerics_gives_way_to_the_one_made_anew(tmp_path: Path) -> None:
    """Names sort by digits of a hash: neither order may decide."""
    for old in ("0", "zzz"):
        root = tmp_path / old
        with Store(root / "one").writing() as store, Store(root / "two").writing() as other:
            for seed, elbo in A.items():
                now = record(elbo, seed=seed)
                store.write(now)
                cell = {"cell_id": f"{old}-seed{seed}", "metrics": record(-999.0).metrics}
                store.write(now.model_copy(update=cell))
                other.write(record(B[seed], seed=seed, sigma=0.3))
        whole, _ = load_with_damage(root / "one")
        assert whole["outdated"].tolist().count(True) == 4
        kept = without_superseded(whole)
        assert sorted(kept["elbo"]) == sorted(A.values())
        assert sorted(once(whole, "machine")["elbo"]) == sorted(A.values())
        assert sorted(rows_of(whole, [record(0.0, seed=s).cell for s in A])["elbo"]) == sorted(
            A.values()
        )
        found = compare(str(root / "one"), str(root / "two"))
        assert found.frame["a"].item() == pytest.approx(np.mean(list(A.values())))
        assert any("Left out: 4 records of an older version" in note for note in found.notes)
        assert "Left out: 4 records of an older version" in comparison_text(found, ("a", "b"))
        assert "Left out: 4 records" in store_text(root / "one")
        assert "4 done" in store_text(root / "one")
        page = vaebench.write_report(root / "one", root / "report").read_text(encoding="utf-8")
        assert "Left out: 4 records of an older version" in page
        assert "measured in 4 cells (4 done)" in page


def test_seeds_of_two_versions_of_the_numerics_are_never_averaged(tmp_path: Path) -> None:
    made = [record(elbo, seed=seed) for seed, elbo in A.items()]
    old = [each.model_copy(update={"cell_id": f"old-{each.cell.seed}"}) for each in made[1:]]
    frame = tidy((each, "s") for each in [made[0], *old])
    kept = without_superseded(frame)
    assert kept["seed"].tolist() == [0]
    assert outdated_notes(frame)[0].startswith("Left out: 3 records")
    other = tidy((each, "s") for each in [record(-1.0, sigma=0.3), *old])
    assert len(without_superseded(other)) == 4, "another design has no say"


def test_records_of_older_numerics_alone_are_used_and_told_of(tmp_path: Path) -> None:
    with Store(tmp_path / "old").writing() as store:
        for seed, elbo in A.items():
            made = record(elbo, seed=seed)
            store.write(made.model_copy(update={"cell_id": f"old-seed{seed}"}))
    frame, _ = load_with_damage(tmp_path / "old")
    assert sorted(without_superseded(frame)["elbo"]) == sorted(A.values())
    page = vaebench.write_report(tmp_path / "old", tmp_path / "report").read_text(encoding="utf-8")
    for told in (page, store_text(tmp_path / "old")):
        assert "of an older version of the numerics" in told
        assert "4 records of 4" in told


def test_own_data_are_selected_by_the_name_in_the_grid() -> None:
    """A record names the file, not where it lies."""
    told = {
        parse_side(f"s:dataset={name}")[1]["dataset"] for name in ("a.npz", "./a.npz", "/b/a.npz")
    }
    assert told == {"./a.npz"}
    assert parse_side("s:dataset=mnist")[1] == {"dataset": "mnist"}


def test_a_comparison_of_one_seed_has_no_p_value() -> None:
    found = paired(frame({0: 2.0}), frame({0: 5.0}, sigma=0.3), "elbo")
    text = comparison_text(found, ("a", "b"))
    assert "one seed: no interval" in text
    assert "nan" not in text
