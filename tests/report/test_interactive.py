"""The charts of a page hold the numbers of the tables, with one name and colour per design."""

import altair as alt
import jsonschema
import pytest
from synthetic import cells, record

from vaebench.analysis.comparability import groups
from vaebench.analysis.frame import tidy
from vaebench.analysis.summary import summarise
from vaebench.plots.keys import Keys
from vaebench.report.interactive import Designs, curves, making, ranking, scatter

SWEEPS = [{"likelihood": "gaussian", "sigma": 0.1}, {"likelihood": "laplace", "sigma": "learned"}]


@pytest.fixture(scope="module")
def designs() -> Designs:
    made = cells(SWEEPS, sizes=[2, 4, 16], seeds=3)
    return Designs(tidy([(record(cell), "s") for cell in made]), Keys())


def test_rows_hold_means_and_intervals_over_seeds(designs: Designs) -> None:
    (group,) = groups(designs.frame, "elbo")
    chart = scatter(designs, group, "z", ["elbo"])
    assert chart is not None
    own = group.frame[group.frame["likelihood"] == "laplace"]
    expected = summarise(own, ["latent_dim"], "elbo")
    rows = [row for row in chart.rows if row["family"] == "laplace, σ learned"]
    for end, column in (("", "mean"), ("_low", "low"), ("_high", "high")):
        found = [row[f"elbo{end}"] for row in rows]
        assert found == pytest.approx(expected[column].tolist(), rel=1e-4)
    assert [row["z"] for row in rows] == [2, 4, 16]


def test_a_design_has_one_name_and_colour_in_all_charts(designs: Designs) -> None:
    (group,) = groups(designs.frame, "elbo")
    shown = [scatter(designs, group, "z", ["elbo"]), scatter(designs, group, "kl", ["mse"])]
    shown.append(ranking(designs, group, ["bits_per_dim"]))
    legends = [set(chart.families) for chart in shown if chart is not None]
    assert len(legends) == 3
    assert legends[0] == legends[1] == legends[2]
    assert len({colour for _, colour, _ in legends[0]}) == 2


def test_families_that_differ_in_one_late_axis_have_different_names() -> None:
    """However long their names are, and though sizes that follow from others are left out."""
    common = {"likelihood": "bernoulli", "hidden": (1000, 500, 250), "weight_decay": 5e-4}
    every = [{**common, "learning_rate": rate, "batch_size": 100} for rate in (1e-3, 5e-4)]
    every.append({"likelihood": "bernoulli", "hidden": (64,), "epochs": 3})
    frame = tidy([(record(cell), "s") for cell in cells(every, [2, 8], 1)])
    found = Designs(frame, Keys()).names
    assert len({name.family for name in found.values()}) == 3
    assert len({name.design for name in found.values()}) == 6


def test_specifications_follow_the_schema(designs: Designs) -> None:
    (group,) = groups(designs.frame, "elbo")
    keys = list(dict.fromkeys(designs.frame["design"]))[:2]
    some = {key: [(1.0, 2.0), (2.0, 1.0)] for key in keys}
    with making():
        made = [
            scatter(designs, group, "z", ["elbo"]),
            scatter(designs, group, "sigma", ["elbo"]),
            scatter(designs, group, "kl", ["mse"], ["kl", "mse"]),
            ranking(designs, group, ["bits_per_dim"]),
            curves(designs, some, ("x", "y"), log=True),
        ]
    for chart in made:
        assert chart is not None
        alt.LayerChart.from_dict(dict(chart.spec))
    with pytest.raises(jsonschema.ValidationError):
        alt.LayerChart.from_dict({**chart.spec, "layer": [{"mark": "no such mark"}]})


def test_what_the_records_lack_has_no_chart(designs: Designs) -> None:
    (group,) = groups(designs.frame, "elbo")
    assert scatter(designs, group, "z", ["iw_bound"]) is None
    one = group.frame[group.frame["latent_dim"] == 2]
    (alone,) = groups(one, "elbo")
    assert scatter(Designs(one, Keys()), alone, "z", ["elbo"]) is None
    assert curves(designs, {}, ("x", "y"), log=False) is None


def test_curves_are_thinned_and_labelled_at_their_end(designs: Designs) -> None:
    some = list(dict.fromkeys(designs.frame["design"]))[:2]
    points = [(float(x), 1.0 / x) for x in range(1, 1001)]
    chart = curves(designs, dict.fromkeys(some, points), ("rank", "KL"), log=True, bottom=1e-4)
    assert chart is not None
    for design in some:
        own = [row for row in chart.rows if row["design"] == designs.names[design].design]
        assert 10 < len(own) <= 40
        assert [row["x"] for row in own if "end" in row] == [1000.0]
