"""Recommendations on planted frames: what is best, what is as good, and what is missing."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import cells, record

import vaebench
from vaebench.analysis.frame import Results, tidy
from vaebench.analysis.recommendation import Recommendation, recommend
from vaebench.errors import UsageError
from vaebench.records.store import Store

GAUSSIAN = {"likelihood": "gaussian", "sigma": 0.1}
NOISE = (0.0, 3.0, -2.0, 1.0, -1.0)
"""What a seed does to every design alike."""


def results(
    scores: Mapping[int, float],
    seeds: int = 3,
    spread: float = 0.01,
    curve: Sequence[float] = (9.0, 3.0, 1.0, 0.2, 0.01, 0.0),
    **columns: Any,
) -> Results:
    """Designs of these latent sizes with these ELBOs, on selection and held-out images."""
    made = [record(cell) for cell in cells([GAUSSIAN], list(scores), seeds)]
    frame = tidy([(each, "s") for each in made]).assign(outdated=False)
    own = [
        scores[int(z)] + NOISE[int(seed)] + spread * np.sin(7 * z + 11 * seed)
        for z, seed in zip(frame["latent_dim"], frame["seed"], strict=True)
    ]
    frame = frame.assign(elbo=own, elbo_selection=own, elbo_held_out=own, **columns)
    return Results(frame, {name: {"train_loss": curve} for name in frame["cell_id"]}, lambda _: {})


def bound(given: Results) -> Recommendation:
    return next(each for each in recommend(given) if each.purpose == "bound")


def codes(found: Recommendation) -> set[str]:
    return {gap.code for gap in found.gaps}


def test_the_best_design_and_its_equals() -> None:
    found = bound(results({2: -110.0, 4: -100.0, 8: -100.001, 16: -105.0}))
    assert found.design["latent_dim"] in (4, 8)
    assert len(found.equals) == 1
    worse = [each for each in found.contrasts if each.worse]
    assert [round(each.loss.mean) for each in worse] == [5, 10]
    assert codes(found) == set()


def test_it_follows_when_a_record_changes() -> None:
    given = results({2: -110.0, 4: -100.0, 8: -104.0})
    assert bound(given).design["latent_dim"] == 4
    column = given.frame["elbo_selection"]
    worse = given.frame.assign(elbo_selection=column - 50.0 * (given.frame["latent_dim"] == 4))
    assert bound(Results(worse, given.series, given.arrays)).design["latent_dim"] == 8


def test_a_design_is_chosen_on_selection_images_and_scored_on_the_others() -> None:
    given = results({2: -110.0, 4: -100.0, 8: -104.0})
    frame = given.frame.assign(elbo_held_out=given.frame["elbo"] - 7.0)
    found = bound(Results(frame, given.series, given.arrays))
    assert found.design["latent_dim"] == 4
    assert found.score.mean == pytest.approx(-107.0 + np.mean(NOISE[:3]), abs=0.05)
    assert "optimistic" not in codes(found)
    without = frame.drop(columns=["elbo_selection", "elbo_held_out"])
    assert "optimistic" in codes(bound(Results(without, given.series, given.arrays)))


def test_the_seeds_own_effect_is_paired_away() -> None:
    """Seeds differ by nats, designs by a tenth: only pairing shows it."""
    found = bound(results({4: -100.0, 8: -100.1, 16: -100.2}, spread=0.001))
    assert found.design["latent_dim"] == 4
    assert found.equals == ()


@pytest.mark.parametrize(
    ("scores", "seeds", "missing"),
    [
        ({4: -100.0}, 3, "one design"),
        ({4: -100.0, 8: -101.0, 16: -102.0}, 1, "one seed"),
        ({4: -101.0, 8: -100.0, 16: -102.0}, 2, "two seeds"),
        ({4: -100.0, 8: -101.0}, 3, "two values"),
        ({4: -102.0, 8: -101.0, 16: -100.0}, 3, "end of range"),
        ({4: -100.0, 8: -101.0, 16: -102.0}, 3, "end of range"),
    ],
)
def test_what_is_missing_is_said(scores: dict[int, float], seeds: int, missing: str) -> None:
    found = bound(results(scores, seeds))
    assert codes(found) == {missing} | ({"end of range"} if missing == "one seed" else set())
    assert found.lines()[-1]


def test_one_seed_shows_nothing_to_be_worse() -> None:
    found = bound(results({4: -100.0, 8: -150.0, 16: -200.0}, 1))
    assert len(found.equals) == 2
    assert found.more_seeds is None


def test_how_many_more_seeds_would_settle_it() -> None:
    found = bound(results({4: -100.0, 8: -100.05, 16: -200.0}, spread=0.1))
    assert found.more_seeds is not None
    assert found.more_seeds > 0
    assert f"{found.more_seeds} more seeds" in " ".join(found.lines())


@pytest.mark.parametrize(
    ("curve", "code"),
    [
        ([9.0, 8.0, 7.0, 6.0, 5.0], {"not converged"}),
        ([9.0, 8.0], {"convergence unknown"}),
        ([9.0, 1.0, 0.01, 0.001, 0.0], set()),
    ],
)
def test_whether_training_had_converged(curve: list[float], code: set[str]) -> None:
    assert codes(bound(results({4: -101.0, 8: -100.0, 16: -102.0}, curve=curve))) == code


def test_a_lucky_seed_does_not_win_against_several() -> None:
    given = results({4: -100.0, 8: -101.0})
    frame = given.frame
    lucky = frame["elbo_selection"].where(frame["latent_dim"] == 4, -1.0)
    frame = frame.assign(elbo_selection=lucky)
    frame = frame[(frame["latent_dim"] == 4) | (frame["seed"] == 0)]
    assert bound(Results(frame, given.series, given.arrays)).design["latent_dim"] == 4


def test_families_are_ranked_by_bits_and_never_by_the_bound() -> None:
    designs = [GAUSSIAN, {"likelihood": "categorical"}]
    made = [record(cell) for cell in cells(designs, [8], 3)]
    frame = tidy([(each, "s") for each in made])
    found = recommend(Results(frame, {}, lambda _: {}))
    for each in found:
        compared = {label.split(",")[0] for label in each.labels.values()}
        assert len(compared) == (2 if each.purpose in ("bits", "codes", "speed") else 1), each


def test_the_fastest_is_one_of_those_that_are_as_good() -> None:
    speed = {4: 100.0, 8: 300.0, 16: 900.0}
    given = results({4: -100.0, 8: -100.001, 16: -140.0}, pack_size=1.0)
    frame = given.frame.assign(
        samples_per_second=given.frame["latent_dim"].map(speed), bits_per_dim=np.nan
    )
    found = recommend(Results(frame, given.series, given.arrays))
    fastest = next(each for each in found if each.purpose == "speed")
    assert fastest.design["latent_dim"] == 8


def test_diverged_and_collapsed_designs_are_left_out() -> None:
    given = results({4: -100.0, 8: -101.0, 16: -102.0})
    frame = given.frame
    lost = frame["status"].where((frame["latent_dim"] != 4) | (frame["seed"] > 0), "diverged")
    found = bound(Results(frame.assign(status=lost), given.series, given.arrays))
    assert found.design["latent_dim"] == 8
    assert "left out" in codes(found)
    collapsed = frame["warning_codes"].where(frame["latent_dim"] != 4, "collapsed")
    found = bound(Results(frame.assign(warning_codes=collapsed), given.series, given.arrays))
    assert found.design["latent_dim"] == 8


def test_no_record_has_no_recommendation() -> None:
    assert recommend(Results(pd.DataFrame(), {}, lambda _: {})) == ()


def test_best_reads_a_store_and_refuses_an_unknown_purpose(tmp_path: Path) -> None:
    with Store(tmp_path / "runs").writing() as store:
        for cell in cells([GAUSSIAN], [2, 4, 8], 3):
            store.write(record(cell))
    found = vaebench.best(tmp_path / "runs", "bound")
    assert [each.purpose for each in found] == ["bound"]
    assert "<strong>" in found[0]._repr_html_()
    with pytest.raises(UsageError, match="one of bound, bits"):
        vaebench.best(tmp_path / "runs", "size")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(FileNotFoundError):
        vaebench.best(tmp_path / "nowhere")


def test_a_design_that_is_best_in_something_else_says_that_its_bound_is_worse() -> None:
    accuracy = {2: 0.5, 4: 0.7, 8: 0.9}
    given = results({2: -110.0, 4: -100.0, 8: -180.0})
    frame = given.frame.assign(knn_accuracy=given.frame["latent_dim"].map(accuracy))
    found = recommend(Results(frame, given.series, given.arrays))
    code = next(each for each in found if each.purpose == "codes")
    assert code.design["latent_dim"] == 8
    (told,) = [gap.text for gap in code.gaps if gap.code == "worse bound"]
    assert "ELBO is 80.0" in told
    assert "z 4" in told
    best = next(each for each in found if each.purpose == "bound")
    assert "worse bound" not in codes(best)
    equal = frame.assign(knn_accuracy=given.frame["latent_dim"].map({2: 0.5, 4: 0.9, 8: 0.7}))
    again = recommend(Results(equal, given.series, given.arrays))
    assert all("worse bound" not in codes(each) for each in again if each.purpose == "codes")


def test_designs_that_are_left_out_are_named_where_they_would_have_been_compared() -> None:
    given = results({2: -110.0, 4: -100.0, 8: -104.0})
    lost = (given.frame["latent_dim"] == 4) & (given.frame["seed"] == 1)
    frame = given.frame.assign(status=given.frame["status"].mask(lost, "diverged"))
    found = bound(Results(frame, given.series, given.arrays))
    (told,) = [gap.text for gap in found.gaps if gap.code == "left out"]
    assert "1 design is left out" in told
    assert "z 4" in told
    other = frame.assign(data_checksum=frame["data_checksum"].mask(frame["latent_dim"] == 4, "x"))
    elsewhere = bound(Results(other, given.series, given.arrays))
    assert "left out" not in codes(elsewhere)


def test_a_recommendation_is_plain_json() -> None:
    for seeds in (1, 3):
        found = bound(results({2: -110.0, 4: -100.0, 8: -104.0}, seeds))
        document = json.loads(json.dumps(found.document(), allow_nan=False))
        assert document["label"] == found.label
        assert document["score"]["n"] == seeds
        assert (document["score"]["low"] is None) == (seeds == 1)
        assert [each["worse"] for each in document["others"]] == [seeds == 3] * 2
        assert {gap["code"] for gap in document["gaps"]} == codes(found)


def test_notebooks_show_text_and_tables(tmp_path: Path) -> None:
    with Store(tmp_path).writing() as store:
        for cell in cells([GAUSSIAN, {"likelihood": "gaussian", "sigma": "learned"}], [2, 8], 2):
            store.write(record(cell))
    answers = vaebench.best(tmp_path)
    shown = answers._repr_html_()
    assert all(escape(each.label) in shown for each in answers)
    compared = vaebench.compare(f"{tmp_path}:sigma=0.1", f"{tmp_path}:sigma=learned")._repr_html_()
    assert "elbo [nats/image]" in compared
    assert compared.count("<tr") >= 3
    assert "sigma: 0.1 (a), learned (b)" in compared
