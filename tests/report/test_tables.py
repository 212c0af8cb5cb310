"""Tables: what they hold, and that data can never become markup, a formula or a command."""

import csv
import io
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import cells, diverged, failed, fill, record

from vaebench.analysis.frame import load_with_damage, tidy
from vaebench.cli.console import store_text
from vaebench.errors import UsageError
from vaebench.grid.cell import Cell
from vaebench.records.schema import Metric, Note, Status
from vaebench.records.store import Store
from vaebench.report.export import export
from vaebench.report.narrative import sentences
from vaebench.report.overview import (
    code_tables,
    cost_tables,
    hidden_sigma_table,
    result_tables,
    shared_settings,
    spent_table,
    unfinished,
    warnings_table,
)
from vaebench.report.report import make_report
from vaebench.report.tables import Table, csv_text, latex, markdown, paper_latex, shortened

GAUSSIAN = {"likelihood": "gaussian", "sigma": 0.1}

ODD = Note.of("data", "odd")


def table_of(text: str) -> Table:
    return Table("t", text, ("a", "b"), ("", "nats"), ((text, "1"),), (False, True), (text,))


@pytest.mark.parametrize("text", ["a|b", "`x`", "<script>", "[x](http://e.org)", "*b*", "a\n# b"])
def test_markdown_of_data_is_plain_text(text: str) -> None:
    lines = markdown(table_of(text)).splitlines()
    row = lines[4]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert not re.search(r"(?<!\\)[`<*\[]", row)
    assert "://" not in row
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("50% & _ # $", r"50\% \& \_ \# \$"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("[1]*", "{[}1{]}{*}"),
    ],
)
def test_latex_of_data_forms_no_command(text: str, safe: str) -> None:
    assert f"{safe} & 1 \\\\" in latex(table_of(text))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@sum", "\tx", "\r=1", "  =x"])
def test_csv_text_is_no_formula(text: str) -> None:
    frame = pd.DataFrame({"name": [text], "value": [-1.5]})
    (row,) = list(csv.DictReader(io.StringIO(csv_text(frame), newline="")))
    assert row["name"] == "'" + text.replace("\r", "\n")
    assert row["value"] == "-1.5"


def test_csv_numbers_come_back_exactly() -> None:
    frame = pd.DataFrame({"x": [0.1 + 0.2, None, -1e-300], "b": [True, False, True]})
    rows = list(csv.DictReader(io.StringIO(csv_text(frame))))
    assert [row["x"] for row in rows] == ["0.30000000000000004", "", "-1e-300"]
    assert [row["b"] for row in rows] == ["true", "false", "true"]


def test_results_stand_in_one_table_for_what_may_be_compared() -> None:
    designs = [GAUSSIAN, {"likelihood": "bernoulli"}, {"likelihood": "categorical"}]
    tables = result_tables(tidy([(record(cell), "s") for cell in cells(designs)]))
    assert [len(each.rows) for each in tables] == [2, 2, 2]
    assert "density" in tables[0].title
    by_name = dict(zip(tables[0].header, tables[0].units, strict=True))
    assert by_name["ELBO"] == "nats/image"


def test_a_missing_metric_is_na_with_its_reason_below() -> None:
    (one,) = result_tables(tidy([(record(cell), "s") for cell in cells([{}], [2])]))
    entry = one.rows[0][one.header.index("bits per dim")]
    assert entry == "n/a [1]"
    assert one.notes[0] == "[1] a Bernoulli on grey pixels is not a likelihood of these data"


def test_a_design_whose_seeds_all_diverged_keeps_its_row() -> None:
    made = cells([GAUSSIAN], sizes=[2, 8], seeds=2)
    records = [diverged(c) if c.latent_dim == 2 else record(c) for c in made]
    (one,) = result_tables(tidy([(each, "s") for each in records]))
    assert one.rows[0][one.header.index("ELBO")] == "div. 2/2"
    assert one.numbers["elbo_n"].tolist() == [0, 2]


def test_a_long_table_is_shown_in_part_with_the_notes_of_that_part() -> None:
    rows = (("a", "n/a [1]"), ("b", "2"), ("c", "n/a [2]"))
    made = Table("t", "T", ("x", "y"), ("", ""), rows, (False, True), ("[1] one", "[2] two"))
    assert shortened(made, 3) is made
    part = shortened(made, 2)
    assert part.rows == rows[:2]
    assert part.notes[1:] == ("[1] one",)
    assert part.notes[0].startswith("The first 2 of 3 rows; all are in the CSV")


def test_cost_needs_one_machine_a_table() -> None:
    first, second = cells([GAUSSIAN], [2], 2)
    other = record(second).environment.model_copy(update={"processor": "M4"})
    frame = tidy([(record(first), "s"), (record(second, environment=other), "s")])
    assert len(cost_tables(frame)) == 2


def test_where_the_time_went_is_told_a_machine() -> None:
    first, second, third = cells([GAUSSIAN], [2], 3)
    spent = {"train_seconds": 6.0, "evaluation_seconds": 4.0, "tsne_seconds": 3.0}
    metrics = {name: Metric.measured(name, value) for name, value in spent.items()}
    other = record(third).environment.model_copy(update={"processor": "M4"})
    records = [
        record(first).model_copy(update={"metrics": metrics}),
        record(second).model_copy(update={"metrics": metrics}),
        record(third, environment=other).model_copy(update={"metrics": metrics}),
    ]
    table = spent_table(tidy([(each, "s") for each in records]))
    assert table is not None
    assert sorted(row[1:] for row in table.rows) == [
        ("1", "6.0 (60%)", "3.0 (30%)", "1.0 (10%)"),
        ("2", "12.0 (60%)", "6.0 (30%)", "2.0 (10%)"),
    ]
    silent = {"train_seconds": metrics["train_seconds"]}
    lost = Status(state="diverged", reason="not finite")
    old = records[1].model_copy(update={"metrics": silent})
    diverged = records[2].model_copy(update={"metrics": silent, "status": lost})
    notes = spent_table(tidy([(each, "s") for each in (records[0], old, diverged)])).notes
    assert "1 more were recorded before evaluation was timed." in notes
    assert "Not counted: 1 that did not reach evaluation." in notes
    untold = [each.model_copy(update={"metrics": {}}) for each in records]
    assert spent_table(tidy([(each, "s") for each in untold])) is None


def test_the_two_parts_of_the_code_add_up_to_the_bits_of_the_image() -> None:
    frame = tidy([(record(cell), "s") for cell in cells([GAUSSIAN], [2, 8], 1)])
    (overview,) = code_tables(frame)
    table, numbers = overview, overview.numbers
    assert table.units[-3:] == ("bits/image",) * 3
    parts = numbers["bits_for_z"] + numbers["bits_for_x_given_z"]
    np.testing.assert_allclose(parts, numbers["bits_for_x"], rtol=1e-12)
    for line, row in zip(table.rows, frame.sort_values("latent_dim").itertuples(), strict=True):
        z, x_given_z, x = (float(entry) for entry in line[-3:])
        assert z == pytest.approx(row.kl / math.log(2), rel=1e-3)
        assert x == pytest.approx(row.bits_per_dim * row.data_pixels, rel=1e-3)
        assert z + x_given_z == pytest.approx(x, rel=2e-3)


def test_a_delta_posterior_has_no_code() -> None:
    frame = tidy([(record(Cell(likelihood="gaussian", posterior="delta")), "s")])
    frame["bits_per_dim"] = math.nan
    assert code_tables(frame) == []


def test_the_hidden_sigmas_are_those_of_the_audit() -> None:
    table = hidden_sigma_table()
    found = {(row[0], row[1]): row[3] for row in table.rows}
    assert found["PyTorch-VAE", "64x64 colour, training"] == "1.239"
    assert table.units[3] == "pixel"


def test_unfinished_cells_and_warnings_are_listed() -> None:
    first, second, third = cells([GAUSSIAN], [2], 3)
    made = [failed(first), record(second, warnings=[ODD]), record(third, warnings=[ODD])]
    frame = tidy([(each, "s") for each in made])
    lost, warned = unfinished(frame), warnings_table(frame)
    assert lost is not None
    assert lost.rows == (("failed", "out of memory", "1", "gaussian, σ 0.1, z 2"),)
    assert warned is not None
    assert warned.rows == (("odd", "2"),)
    named = warnings_table(frame, named=True)
    assert named is not None
    assert named.rows == (("odd", "2", "gaussian, σ 0.1, z 2"),)
    assert unfinished(tidy([(record(Cell()), "s")])) is None


def test_texts_that_differ_in_numbers_alone_are_one_kind() -> None:
    designs = [{"likelihood": "gaussian", "sigma": i / 10} for i in range(1, 8)]
    made = cells(designs, sizes=[2], seeds=1)
    texts = [f"error of {100 + i / 7:.3f} nats above 120.1" for i in range(len(made))]
    warned = [
        record(c, warnings=[Note.of("data", t), ODD]) for c, t in zip(made, texts, strict=True)
    ]
    table = warnings_table(tidy([(each, "s") for each in warned]), named=True)
    assert table is not None
    assert [row[:2] for row in table.rows] == [
        ("error of 100.000 to 100.857 nats above 120.1", "7"),
        ("odd", "7"),
    ]
    assert table.rows[0][2].startswith("gaussian, σ 0.1, z 2; gaussian, σ 0.2, z 2; ")
    assert table.rows[0][2].endswith("; and 2 more")
    stopped = [diverged(c, f"not finite at step 2; after {i}.5") for i, c in enumerate(made)]
    lost = unfinished(
        tidy([(each, "s") for each in [*stopped, failed(made[0].model_copy(update={"seed": 9}))]])
    )
    assert lost is not None
    assert [row[:3] for row in lost.rows] == [
        ("diverged", "not finite at step 2; after 0.5 to 6.5", "7"),
        ("failed", "out of memory", "1"),
    ]


def test_collapsed_designs_are_counted_and_not_ranked() -> None:
    made = cells([GAUSSIAN], sizes=[1, 4, 16], seeds=3)
    frame = tidy([(record(cell), "s") for cell in made])
    best = frame.groupby("latent_dim")["elbo"].mean().idxmax()
    first = (frame["latent_dim"] == best) & (frame["seed"] == 0)
    frame.loc[first, "warning_codes"] = "data collapsed"
    told = sentences(frame)
    assert not [text for text in told if f"highest at {best}:" in text]
    (sentence,) = [text for text in told if "collapsed" in text]
    assert sentence.startswith("1 of 9 finished cells collapsed")
    assert f"(gaussian, σ 0.1, z {best})" in sentence
    every = sentences(frame.assign(warning_codes="collapsed"))
    assert not [text for text in every if "highest" in text or "fewest" in text]


def test_a_design_with_a_diverged_cell_is_not_ranked_by_its_lucky_seeds() -> None:
    made = cells([GAUSSIAN], sizes=[1, 4, 16], seeds=3)
    frame = tidy([(record(cell), "s") for cell in made])
    best = frame.groupby("latent_dim")["elbo"].mean().idxmax()
    lost = (frame["latent_dim"] == best) & (frame["seed"] > 0)
    frame.loc[lost, ["status", "elbo"]] = ["diverged", math.nan]
    told = sentences(frame)
    assert not [text for text in told if f"highest at {best}:" in text]
    (sentence,) = [text for text in told if "diverged" in text]
    assert "2 diverged of 9" in sentence
    assert sentence.endswith("Designs with a diverged cell are not ranked here.")


def test_a_cell_that_diverged_has_no_part_in_the_cost() -> None:
    made = cells([GAUSSIAN], [2], 3)
    frame = tidy([(record(cell), "s") for cell in made])
    frame.loc[0, ["samples_per_second", "status"]] = [0.01, "diverged"]
    (one,) = cost_tables(frame)
    expected = frame.loc[1:, "samples_per_second"].mean()
    assert one.numbers["samples_per_second"].tolist() == pytest.approx([expected])


def test_results_say_over_how_many_images_they_are() -> None:
    frame = tidy([(record(cell), "s") for cell in cells([GAUSSIAN], [2])])
    frame = frame.assign(iw_bound=-1.0, iw_bound_n=100.0, posterior_gap=0.5, posterior_gap_n=100.0)
    (one,) = result_tables(frame)
    note = one.notes[-2]
    assert "ELBO, distortion, rate (KL): 360; IW bound, posterior gap: 100" in note
    long = replace(one, rows=one.rows * 3)
    assert note in shortened(long, 1).notes


def test_sentences_name_the_best_latent_size_with_its_interval() -> None:
    made = [record(cell) for cell in cells([GAUSSIAN], sizes=[1, 4, 16], seeds=3)]
    frame = tidy([(each, "s") for each in made])
    best = frame.groupby("latent_dim")["elbo"].mean().idxmax()
    first = sentences(frame)[0]
    assert f"the ELBO is highest at {best}: " in first
    assert "(3 seeds)" in first
    assert "±" in first


def test_the_sentence_on_latent_sizes_is_of_the_best_design_and_names_its_rivals() -> None:
    worse = {"likelihood": "gaussian", "sigma": 1.0}
    made = [record(cell) for cell in cells([worse, GAUSSIAN], sizes=[1, 4, 16], seeds=3)]
    frame = tidy([(each, "s") for each in made])
    frame.loc[frame["sigma"] == 1.0, "elbo"] -= 1000.0
    told = next(text for text in sentences(frame) if "with latent sizes" in text)
    assert "σ 0.1" in told
    assert "not shown to be worse" not in told
    close = frame["elbo"].where(frame["latent_dim"] == 1, 100.0 + frame["seed"])
    told = next(text for text in sentences(frame.assign(elbo=close)) if "with latent sizes" in text)
    assert "; 16 is not shown to be worse" in told


def test_a_density_without_bound_is_not_praised_without_a_word() -> None:
    frame = tidy([(record(cell), "s") for cell in cells([GAUSSIAN], sizes=[4], seeds=3)])
    warned = frame.assign(warning_codes="unbounded_density")
    assert any("grow without bound" in text for text in sentences(warned))
    assert not any("without bound" in text for text in sentences(frame))


def test_sentences_without_a_result_say_so() -> None:
    (first, second, *_) = sentences(tidy([(failed(Cell()), "s")]))
    assert first == "No cell finished, so there is no result to compare."
    assert "1 failed of 1" in second


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_export_holds_every_column(tmp_path: Path, ending: str) -> None:
    frame = tidy([(record(cell), "s") for cell in cells([GAUSSIAN, {}])])
    file = export(frame, tmp_path / f"table.{ending}")
    back = pd.read_csv(file) if ending == "csv" else pd.read_parquet(file)
    assert list(back) == list(frame)
    assert back["elbo"].tolist() == frame["elbo"].tolist()
    assert [str(v) for v in back["sigma"] if v == v and v is not None] == ["0.1"] * 4
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.csv or \.parquet file; got 'x.xls'"):
        export(tidy([(record(Cell()), "s")]), tmp_path / "x.xls")
    assert not list(tmp_path.iterdir())


def test_a_score_that_is_no_bound_is_not_called_elbo(tmp_path: Path) -> None:
    """A cross entropy of grey pixels bounds nothing, and is shown all the same."""
    grey, binary = (
        {"likelihood": "bernoulli"},
        {"likelihood": "bernoulli", "binarization": "static"},
    )
    with Store(tmp_path).writing() as store:
        for cell in cells([grey, binary], [2], 2):
            store.write(record(cell))
    tables = {made.title: made for made in result_tables(load_with_damage(tmp_path)[0])}
    (lawless,) = (table for title, table in tables.items() if "not a likelihood" in title)
    assert "score, no bound" in lawless.header
    assert "ELBO" not in lawless.header
    assert sum("ELBO" in table.header for table in tables.values()) == 1
    assert "score, no bound" in store_text(tmp_path)


def test_of_reasons_whose_numbers_differ_one_is_told_in_its_own_words(tmp_path: Path) -> None:
    with Store(tmp_path).writing() as store:
        for cell in cells([GAUSSIAN], [2, 3], 1):
            store.write(failed(cell, f"it must give (16, {cell.latent_dim}); it gave (16, 8)"))
        store.write(failed(Cell(latent_dim=9), "out of memory"))
    text = store_text(tmp_path)
    assert "2: it must give (16, 2 to 3); it gave (16, 8)\n     for instance " in text
    assert re.search(r"for instance \S+-z2-\S+: it must give \(16, 2\); it gave \(16, 8\)", text)
    assert re.search(r"1: out of memory\n     for instance \S+-z9-\S+$", text, re.MULTILINE)


def test_latex_has_minus_signs_quotes_and_lines_that_break() -> None:
    sentence = "“odd” is what " + "many " * 20
    table = Table("t", "t", ("n", "why"), ("", ""), (("-1.5 ± 0.2", sentence),), (True, False))
    text = latex(table)
    assert r"$-$1.5 $\pm$ 0.2 & ``odd'' is" in text
    assert r"\begin{tabular}{rp{0.5\linewidth}}" in text
    assert "?" not in text


def test_what_all_designs_share_is_said_once_and_what_differs_is_not() -> None:
    designs = [{**GAUSSIAN, "hidden": (64,), "epochs": 7, "learning_rate": 0.01}]
    frame = tidy([(record(cell), "s") for cell in cells(designs, [2, 8])])
    (told,) = shared_settings(frame, ["likelihood", "sigma"])
    assert told == "All have hidden layers 64, epochs 7, learning rate 0.01."
    (alone,) = shared_settings(frame[frame["latent_dim"] == 2], ["likelihood", "sigma"])
    assert "latent dimension 2" in alone
    (one,) = result_tables(frame)
    assert told in one.notes


def test_information_at_its_ceiling_is_said_to_be() -> None:
    frame = tidy([(record(cell), "s") for cell in cells([GAUSSIAN], [2, 8])])
    frame["mutual_information_ceiling"] = math.log(360)
    for told, near in ((5.5, False), (5.87, True)):
        (one,) = result_tables(frame.assign(mutual_information=told))
        assert any("cannot exceed ln N" in note for note in one.notes) == near


def test_designs_that_warn_keep_their_whole_names() -> None:
    """Four sizes are not one design, however much else is in their names."""
    common = {"likelihood": "bernoulli", "hidden": (1000, 500, 250), "weight_decay": 5e-4}
    other = {"likelihood": "bernoulli", "epochs": 3, "batch_size": 50, "learning_rate": 1e-4}
    warned = [record(cell, warnings=[ODD]) for cell in cells([common], [16, 32, 100, 10_000], 1)]
    frame = tidy([(each, "s") for each in [*warned, *map(record, cells([other], [2], 1))]])
    table = warnings_table(frame, named=True)
    assert table is not None
    assert all(f"z {size}" in table.rows[0][2] for size in ("16", "32", "100", "10,000"))


def test_a_table_for_a_paper_is_aligned_at_its_decimals() -> None:
    rows = (("gaussian_1", "-103.25 ± 0.86", "12"), ("laplace", "n/a [1]", "1,200.5"))
    header, units = ("likelihood", "ELBO", "MSE"), ("", "nats/image", "pixel²")
    table = Table("t", "Results on a & b", header, units, rows, (False, True, True), ("[1] why",))
    text = paper_latex(table)
    assert r"\caption{Results on a \& b.}" in text
    assert r"\label{tab:t}" in text
    assert r"{lS[table-format=-3.2]@{\,\(\pm\)\,}S[table-format=1.2]S[table-format=4.1]}" in text
    assert r"gaussian\_1 & -103.25 & 0.86 & 12 \\" in text
    assert r"laplace & {n/a {[}1{]}} & {} & 1200.5 \\" in text
    few = paper_latex(table, ["mse"])
    assert "ELBO" not in few
    assert "likelihood" in few


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_tables_and_figures_for_a_paper_compile(tmp_path: Path) -> None:
    evil = r"\input{/etc/passwd} 50% & _ # $ ~ ^ {"
    made = [
        record(cell, grid=evil) for cell in cells([GAUSSIAN, {"likelihood": "laplace"}], [2, 8])
    ]
    made[0] = failed(made[0].cell, evil)
    store = fill(tmp_path / "store", made)
    page = make_report(store, tmp_path / "report", paper=True, columns=["elbo", "kl"]).page
    folder = page.parent / "paper"
    tables = sorted(folder.glob("*.tex"))
    figures = sorted(folder.glob("*.pdf"))
    assert tables
    assert {path.stem for path in figures} == {path.stem for path in folder.glob("*.svg")}
    body = [rf"\input{{{path.name}}}" for path in tables]
    body += [rf"\includegraphics[width=3in]{{{path.name}}}" for path in figures[:2]]
    packages = r"\usepackage{booktabs,siunitx,textcomp,graphicx}"
    start = [r"\documentclass{article}", r"\usepackage[T1]{fontenc}", packages]
    lines = [*start, r"\begin{document}", *body, r"\end{document}"]
    (folder / "all.tex").write_text("\n".join(lines), encoding="utf-8")
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", "-interaction=batchmode", "all"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, (folder / "all.log").read_text(errors="replace")[-2000:]


def test_columns_are_metrics_and_belong_to_a_paper(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", [record(Cell())], pictures=False)
    with pytest.raises(UsageError, match="no metric 'elbo_'"):
        make_report(store, tmp_path / "r", paper=True, columns=["elbo_"])
    with pytest.raises(UsageError, match="add --paper"):
        make_report(store, tmp_path / "r", columns=["elbo"])
    assert not (tmp_path / "r").exists()
