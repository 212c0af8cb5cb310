"""From words to verdicts: choosing findings, one small real run, the page and the exit codes."""

import math
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from planted import evidence

import vaebench.runner.reproduce as reproducing
from vaebench.cli.main import main
from vaebench.cli.reproduce import reproduce, verdict_table
from vaebench.data import catalog
from vaebench.errors import DataMissing, UnknownFinding
from vaebench.findings.evidence import over_seeds, rows_of
from vaebench.findings.finding import Assessed, Counts, Finding, assess
from vaebench.findings.registry import FINDINGS, families, finding_lines, select_findings
from vaebench.findings.story import latent_rows, latent_story
from vaebench.findings.verdict import Judgement, Margin, Statistic
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.report.findings_page import measured_text, write_findings_page


def test_there_are_thirty_findings_with_a_rule_for_a_budget():
    assert len(FINDINGS) >= 30
    for finding in FINDINGS.values():
        for budget in ("quick", "full"):
            assert (budget in finding.margins) or (budget in finding.untested)
        assert finding.source
        assert finding.least_seeds >= 1


def test_the_quick_budget_is_digits_alone_and_full_is_said_to_cost_more():
    for finding in FINDINGS.values():
        if "quick" not in finding.untested:
            small = {"digits", "linear-gaussian"}
            assert {cell.dataset for cell in finding.cells("quick")} <= small
    assert "minutes each" in FINDINGS["latent-three"].cost
    assert FINDINGS["iwae-whole-schedule"].cost == (
        "quick: not tested; full: 1 cell of mnist, hours each on a CPU"
    )
    assert FINDINGS["mdl-bits"].cost == "mathematics, seconds, no cells"


def test_the_full_latent_findings_run_the_packaged_grid():
    sizes = {cell.latent_dim for cell in FINDINGS["latent-ten-thousand"].cells("full")}
    assert {1, 2, 3, 4, 8, 16, 32, 100, 1000, 10_000} <= sizes


def test_names_and_families_choose_findings():
    assert [f.name for f in select_findings(["mdl-bits"])] == ["mdl-bits"]
    assert {f.family for f in select_findings(["latent-dim"])} == {"latent-dim"}
    assert select_findings("latent-dim") == select_findings(["latent-dim"])
    assert len(select_findings()) == len(FINDINGS)
    assert len(select_findings(["sigma", "sigma-lowers-rate"])) == len(select_findings(["sigma"]))
    assert "latent-dim" in families()


def test_a_budget_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="budget must be 'quick' or 'full'; got 'huge'"):
        reproducing.reproduce("theory", "huge", Store(tmp_path / "store"))  # type: ignore[arg-type]  # wrong on purpose
    assert not list(tmp_path.iterdir())


def test_all_unknown_words_are_named_with_what_was_meant():
    with pytest.raises(UnknownFinding, match=r"'laten-dim' \(did you mean 'latent-dim'\?\), 'xyz'"):
        select_findings(["laten-dim", "xyz"])


def test_the_list_shows_source_and_cost():
    lines = dict(line.split(maxsplit=1) for line in finding_lines())
    assert set(lines) == set(FINDINGS)
    assert "Doersch 2016, Sec. 4.1" in lines["latent-three"]
    assert "mathematics, seconds" in lines["mdl-bits"]


def tiny(low):
    """A finding of two small cells: their squared error against a margin."""

    def mean_error(evidence):
        return over_seeds(evidence.by_seed("mse"), "pixel²")

    def cells(budget):
        base = {"train_size": 128, "test_size": 64, "hidden": (8,), "latent_dim": 2, "epochs": 1}
        return tuple(Cell(**base, binarization="dynamic", seed=s, tsne_points=0) for s in (0, 1))

    return Finding(
        mean_error,
        name="tiny",
        family="latent-dim",
        claim="A claim with <b>markup</b>",
        source="a source",
        statements=("T0",),
        measure="mean squared error",
        margins={"quick": Margin(low=low)},
        cells=cells,
        least_seeds=2,
        of_data=True,
        proxy="two cells",
    )


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    return tmp_path_factory.mktemp("findings") / "store"


def test_a_small_run_leaves_records_that_decide(small_store, monkeypatch, tmp_path):
    true, false = tiny(0.0), replace(tiny(0.9), name="tiny-false")
    chosen = (true, false, FINDINGS["mdl-bits"])
    monkeypatch.setattr(reproducing, "select_findings", lambda _: chosen)
    store = Store(small_store)
    made = reproducing.reproduce((), "quick", store, jobs=1, echo=lambda _: None)
    assert [row.judgement.verdict for row in made.rows] == [
        "reproduced",
        "contradicted",
        "reproduced",
    ]
    assert made.summary.states() == {"done": 2}
    assert store.read_fact("finding-mdl-bits").payload["finding"] == "mdl-bits"
    facts = store.read_fact("data-digits").payload
    assert len(facts["eigenvalues"]) <= 64
    assert 0 < facts["bce_floor_test"] < facts["bce_blind_test"]

    again = reproducing.reproduce((), "quick", store, jobs=1, echo=lambda _: None)
    assert again.summary.trained == {}
    assert [row.statistic for row in again.rows] == [row.statistic for row in made.rows]

    _change_a_number(store)
    changed = reproducing.reproduce((), "quick", store, jobs=1, echo=lambda _: None)
    assert [row.judgement.verdict for row in changed.rows] == [
        "reproduced",
        "reproduced",
        "contradicted",
    ]
    page = write_findings_page(changed.rows, reproducing.collected(store), tmp_path).read_text()
    assert "A claim with <b>markup</b>" not in page
    assert escape("A claim with <b>markup</b>") in page
    assert page.count('<article class="claim bad"') == 1
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def _change_a_number(store):
    """Write other numbers into a record and into a fact, as a whole new record each."""
    with store.writing():
        for record in store.read_all()[0]:
            error = record.metrics["mse"].model_copy(update={"value": 1.6 + record.cell.seed / 100})
            metrics = {**record.metrics, "mse": error}
            store.write(record.model_copy(update={"metrics": metrics}))
        fact = store.read_fact("finding-mdl-bits")
        payload = {**fact.payload, "value": 3.0, "low": 3.0, "high": 3.0}
        store.write(fact.model_copy(update={"payload": payload}))


def test_data_that_cannot_be_had_leave_their_findings_untested(tmp_path, monkeypatch):
    cells = [each.model_copy(update={"dataset": "mnist"}) for each in tiny(0.0).cells("quick")]
    finding = replace(tiny(0.0), cells=lambda _: tuple(cells))
    monkeypatch.setattr(reproducing, "select_findings", lambda _: (finding,))

    def missing(dataset, _):
        raise DataMissing(f"{dataset} is nowhere")

    monkeypatch.setattr(catalog, "locate", missing)
    made = reproducing.reproduce((), "quick", Store(tmp_path / "s"), echo=lambda _: None)
    assert made.rows[0].judgement == Judgement("not tested", "no data", "mnist is nowhere")
    assert made.summary.states() == {}


def row(verdict, statistic=None):
    return Assessed(tiny(0.0), "quick", statistic, Judgement(verdict))


@pytest.mark.parametrize(
    ("rows", "states", "code"),
    [
        pytest.param([row("reproduced")], {"a": "done"}, 0, id="good"),
        pytest.param([row("inconclusive")], {"a": "done"}, 0, id="inconclusive"),
        pytest.param([row("contradicted")], {"a": "failed"}, 6, id="contradicted"),
        pytest.param([row("not shown at this budget")], {"a": "done"}, 0, id="below the setting"),
        pytest.param([row("not tested")], {"a": "diverged"}, 1, id="a cell failed"),
    ],
)
def test_exit_codes(rows, states, code, monkeypatch, tmp_path):
    summary = reproducing.RunSummary(trained=states)
    made = reproducing.Reproduction(tuple(rows), summary)
    monkeypatch.setattr(reproducing, "reproduce", lambda *_, **__: made)
    result = CliRunner().invoke(reproduce, ["--no-report", "-o", str(tmp_path)])
    assert result.exit_code == code


def test_an_unknown_word_is_a_usage_error_before_anything_starts(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["reproduce", "latent-dimm", "-o", str(tmp_path / "s")])
    assert left.value.code == 2
    assert "did you mean 'latent-dim'?" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_there_is_nothing_to_judge_by_where_there_is_no_store(tmp_path):
    result = CliRunner().invoke(reproduce, ["--no-train", "-o", str(tmp_path / "s")])
    assert result.exit_code == 2
    assert "there is no folder" in result.output
    assert not (tmp_path / "s").exists()


def test_a_malformed_device_is_a_usage_error(tmp_path):
    result = CliRunner().invoke(reproduce, ["--device", "gpu", "-o", str(tmp_path / "s")])
    assert result.exit_code == 2
    assert "--device" in result.output


def test_records_of_another_device_count_once():
    finding = FINDINGS["sigma-lowers-rate"]
    cells = finding.cells("quick")
    on_gpu = [cell.model_copy(update={"device": "cuda"}) for cell in cells]
    both = replace(finding, cells=lambda _: (*cells, *on_gpu))
    frame = evidence(both, lambda _: {}).frame
    assert len(frame) == 2 * len(cells)
    assert len(rows_of(frame, cells)) == len(cells)
    assert len(rows_of(frame[frame["device"] == "cuda"], cells)) == len(cells)


def test_without_training_nothing_is_run_or_written(tmp_path, monkeypatch):
    chosen = (tiny(0.0), FINDINGS["mdl-bits"])
    monkeypatch.setattr(reproducing, "select_findings", lambda _: chosen)
    store = Store(tmp_path / "s")
    with store.writing():  # another run's lock is no hindrance
        made = reproducing.reproduce((), "quick", Store(tmp_path / "s"), train=False)
    assert made.summary.states() == {}
    assert [each.judgement.verdict for each in made.rows] == ["not tested", "reproduced"]
    assert not store.read_facts()[0]


def test_the_table_says_number_interval_n_margin_and_truncation():
    told = verdict_table([row("reproduced", Statistic(1.234, 1.1, 1.4, 3, "nats"))])
    assert "1.23 [1.10, 1.40] nats, n = 3, margin at least 0; measured: two cells" in told
    assert told.endswith(
        Counts.of([row("reproduced", Statistic(1.234, 1.1, 1.4, 3, "nats"))]).text()
    )
    assert "1 claim: 1 reproduced. 1 of these verdicts rests" in told
    assert measured_text(Statistic(1.5, math.nan, math.nan, 1, "nats")) == "1.5 nats"


def latents(largest):
    def numbers(cell):
        lost = {1: 5.0, 2: 2.0, 3: 1.0, 1000: largest}.get(cell.latent_dim, 0.1)
        return {"elbo": -18 - lost - 2 * (cell.epochs == 20)}

    return numbers


def test_the_story_is_made_from_the_numbers(tmp_path):
    finding = FINDINGS["latent-ten-thousand"]
    curve = {
        "kl_per_dimension": np.full(1000, 0.002, np.float32),
        "posterior_mean_variance": np.full(1000, 0.001, np.float32),
    }
    told = {
        largest: " ".join(latent_story(evidence(finding, latents(largest), arrays=lambda _: curve)))
        for largest in (3.0, 7.0)
    }
    assert "2.9 nats below the highest" in told[3.0]
    assert "6.9 nats below the highest" in told[7.0]
    assert "the units that are not active hold 2 nats of KL" in told[3.0]
    assert "longer training does not win that back" in told[3.0]
    assert "The KL of inactive units goes from 2 nats to 2 nats" in told[3.0]


def test_a_sweep_that_has_only_begun_does_not_replace_a_whole_one():
    cells = [*FINDINGS["latent-two"].cells("full"), *Grid.load("latent-dim").cells]
    both = replace(FINDINGS["latent-two"], cells=lambda _: tuple(cells))
    world = evidence(both, latents(3.0), budget="full")
    frame = world.frame
    assert set(latent_rows(world, "full")["epochs"]) == {1, 6, 30, 100}
    begun = frame[(frame["batch_size"] == 128) | frame["latent_dim"].isin([2, 32])]
    assert set(latent_rows(replace(world, frame=begun), "full")["batch_size"]) == {128}
    most = frame[(frame["epochs"] < 100) | frame["latent_dim"].isin([2, 32])]
    assert set(latent_rows(replace(world, frame=most), "full")["epochs"]) == {1, 6, 30}


def test_the_story_says_where_the_second_bound_is_too_loose():
    world = evidence(FINDINGS["latent-ten-thousand"], latents(3.0))
    own = world.frame.assign(iw_bound=world.frame["elbo"] + 1, iw_samples=100.0, iw_ess=0.5)
    told = " ".join(latent_story(replace(world, frame=own)))
    assert "k is too small" not in told
    for columns in ({"iw_ess": 0.05}, {"warning_codes": "too_few_samples"}):
        told = " ".join(latent_story(replace(world, frame=own.assign(**columns))))
        assert "k is too small" in told
    told = " ".join(latent_story(replace(world, frame=own.assign(iw_shortfall=4.0))))
    assert "annealed importance sampling finds 4 nats above" in told


def test_the_story_leaves_out_what_an_incomplete_store_cannot_tell():
    world = evidence(FINDINGS["latent-ten-thousand"], latents(3.0))
    rows = world.frame
    # The largest size and all the others have no seed in common.
    part = rows[(rows["latent_dim"] == 1000) == (rows["seed"] == 0)]
    told = " ".join(latent_story(replace(world, frame=part)))
    assert "below the best" not in told
    assert "Against the best size" not in told
    assert "latents the rate goes from" in told


def test_the_story_says_nothing_of_trainings_without_a_common_seed():
    world = evidence(FINDINGS["latent-ten-thousand"], latents(3.0))
    rows = world.frame
    short = rows["epochs"] == rows["epochs"].min()
    told = " ".join(latent_story(replace(world, frame=rows[short == (rows["seed"] == 0)])))
    assert "longer training" not in told


def test_the_story_goes_on_where_one_size_has_no_value():
    world = evidence(FINDINGS["latent-ten-thousand"], latents(3.0))
    rows = world.frame.copy()
    rows.loc[rows["latent_dim"] == 64, "elbo"] = math.nan
    told = " ".join(latent_story(replace(world, frame=rows)))
    assert "2.9 nats below the highest" in told
    assert "Fewer than four latents lose" in told


def test_the_story_tells_what_else_was_tried_from_what_was_measured():
    finding = FINDINGS["latent-lower-rate-mends"]
    world = evidence(FINDINGS["latent-ten-thousand"], latents(3.0))
    for moved in (-2.5, 4.5):
        statistic = Statistic(moved, moved - 1, moved + 1, 3, "nats/image")
        judged = Assessed(finding, "quick", statistic, Judgement("contradicted", ""))
        told = latent_story(world, [judged])
        assert f"changes the loss of the largest size by {-moved:.1f} " in told[-1]
    untested = Assessed(finding, "quick", None, Judgement("not tested", ""))
    assert latent_story(world, [untested]) == latent_story(world)


def test_the_page_says_which_records_were_judged_in_a_smaller_test_too(tmp_path):
    """Their data and machine are facts of the page, though the whole test has no record."""
    finding = FINDINGS["latent-two"]
    six_epochs = replace(finding, cells=lambda _: Grid.load("latent-dim").cells)
    world = evidence(six_epochs, latents(3.0), budget="full")
    page = write_findings_page([assess(finding, world, "full")], world, tmp_path).read_text()
    assert "60,000 training and 360 test images" in page


def test_the_page_shows_the_latent_story(tmp_path):
    finding = FINDINGS["latent-ten-thousand"]
    world = evidence(finding, latents(3.0))
    page = write_findings_page([assess(finding, world, "quick")], world, tmp_path).read_text()
    assert "2.9 nats below the highest" in page
    assert page.count("<figure") >= 3
