"""The main results in sentences, all of which follow from the records."""

import math
from typing import Any

import pandas as pd

from vaebench.analysis.columns import unit
from vaebench.analysis.comparability import Group, groups, is_bound
from vaebench.analysis.contrasts import contrasts, score_table
from vaebench.analysis.kinds import named_designs, warned
from vaebench.analysis.labels import design_label, plain, reading_order, value_text, varying
from vaebench.analysis.summary import design_summaries, number, summarise, summary_text
from vaebench.grid.choices import LIKELIHOODS
from vaebench.plots.figures import split, split_places
from vaebench.records.metrics import METRICS
from vaebench.records.schema import NOT_A_LIKELIHOOD

__all__ = ["sentences"]


def _ranked(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The designs with their mean and interval, best first."""
    axes = sorted(
        dict.fromkeys([*varying(frame), "likelihood", "sigma", "latent_dim"]), key=reading_order
    )
    parts = split_places(frame, axes)
    found = design_summaries(frame, [rows for _, rows in parts], [metric])
    table = pd.DataFrame([each[metric] for each in found])
    table["label"] = [plain(design_label(axes, key)) for key, _ in parts]
    table["design"] = [frame["design"].iloc[rows[0]] for _, rows in parts]
    table = table[table["n"] > 0]
    rising = METRICS[metric].better != "higher"
    return table.sort_values("mean", ascending=rising, kind="stable")


def _value(row: "pd.Series[Any]", metric: str) -> str:
    seeds = f"{int(row['n'])} seeds" if row["n"] > 1 else "1 seed, so no interval"
    text = summary_text(row["mean"], row["low"], row["high"], row["n"], row["n"], 0)
    return f"{text} {unit(metric)} ({seeds})"


def _runner_up(frame: pd.DataFrame, table: pd.DataFrame, metric: str) -> str:
    """The second design, with the paired difference that shows it worse or does not."""
    if len(table) < 2:
        return "."
    first, second = table.iloc[0], table.iloc[1]
    scores = score_table(frame[frame["design"].isin(table["design"])], metric)
    (found,) = (
        each
        for each in contrasts(scores, first["design"], metric)
        if each.design == second["design"]
    )
    if math.isnan(found.p):
        return f"; {second['label']} is second."
    half = (found.loss.high - found.loss.low) / 2
    shown = "is worse" if found.worse else "is not shown to be worse"
    spread = f" ± {number(half, half)}" if half > 0 else ""
    return (
        f"; {second['label']} is second and {shown}: paired over {found.loss.n} seeds the "
        f"difference is {number(found.loss.mean, half)}{spread} {unit(metric)}, adjusted p = "
        f"{number(found.p)}."
    )


def _score(group: Group) -> str:
    return "ELBO" if is_bound(group.frame) else "score (not a bound on log p(x) of these data)"


def _best(group: Group) -> str | None:
    table = _ranked(group.frame, "elbo")
    if table.empty:
        return None
    first = table.iloc[0]
    designs = f"{len(table)} designs compared" if len(table) > 1 else "one design"
    return (
        f"On {group.label} ({designs}), {first['label']} has the highest {_score(group)}: "
        f"{_value(first, 'elbo')}{_runner_up(group.frame, table, 'elbo')}{_caveat(group)}"
    )


def _caveat(group: Group) -> str:
    if not warned(group.frame, "unbounded_density").any():
        return ""
    return (
        " Such a density can grow without bound on these pixels; use bits per dimension to rank "
        "families."
    )


def _latent(group: Group) -> str | None:
    axes = varying(group.frame, without=["latent_dim"])
    parts = split(group.frame, axes)
    most = max(rows["latent_dim"].nunique() for _, rows in parts)
    swept = [
        (key, rows, table[table["n"] > 0])
        for key, rows in parts
        if rows["latent_dim"].nunique() == most
        for table in (summarise(rows, ["latent_dim"], "elbo"),)
    ]
    swept = [each for each in swept if len(each[2]) >= 3]
    if not swept:
        return None
    key, rows, table = max(swept, key=lambda each: float(each[2]["mean"].max()))
    best = table.iloc[int(table["mean"].to_numpy(float).argmax())]
    last = table.iloc[-1]
    names = sorted(dict.fromkeys(["likelihood", "sigma", *axes]), key=reading_order)
    fixed = dict(zip(axes, key, strict=True))
    label = design_label(names, [fixed.get(name, rows[name].iloc[0]) for name in names])
    text = (
        f"For {plain(label)} ({group.label}) with latent sizes {table.iloc[0]['latent_dim']:,} to "
        f"{last['latent_dim']:,}, the {_score(group)} is highest at {best['latent_dim']:,}: "
        f"{_value(best, 'elbo')}{_rivals(rows, best['latent_dim'])}"
    )
    return text + _active(rows, last["latent_dim"])


def _rivals(rows: pd.DataFrame, best: int) -> str:
    """The other latent sizes that are not shown to be worse."""
    design = rows.loc[rows["latent_dim"] == best, "design"].iloc[0]
    sizes = rows.drop_duplicates("design").set_index("design")["latent_dim"]
    rivals = [
        int(sizes[str(each.design)])
        for each in contrasts(score_table(rows, "elbo"), design, "elbo")
        if not math.isnan(each.p) and not each.worse
    ]
    if not rivals:
        return ""
    verb = "are" if len(rivals) > 1 else "is"
    return f"; {', '.join(f'{size:,}' for size in sorted(rivals))} {verb} not shown to be worse"


def _active(rows: pd.DataFrame, size: object) -> str:
    widest_rows = rows[rows["latent_dim"] == size]
    units = summarise(widest_rows, ["latent_dim"], "active_units").iloc[0]
    if units["n"] == 0:
        return "."
    count = summary_text(units["mean"], units["low"], units["high"], units["n"], units["n"], 0)
    return f". At {size:,}, {count} latent dimensions are active units."


def _bits(frame: pd.DataFrame) -> list[str]:
    made = []
    for group in groups(frame, "bits_per_dim"):
        table = _ranked(group.frame, "bits_per_dim")
        if group.frame["likelihood"].nunique() > 1 and len(table) > 1:
            first = table.iloc[0]
            made.append(
                f"Across likelihood families ({group.label}), {first['label']} needs the fewest "
                f"bits per dimension: {_value(first, 'bits_per_dim')}"
                f"{_runner_up(group.frame, table, 'bits_per_dim')}"
            )
    return made


def _collapse(done: pd.DataFrame, lost: "pd.Series[bool]") -> list[str]:
    count = int(lost.sum())
    if not count:
        return []
    cells = "cell" if len(done) == 1 else "cells"
    return [
        f"{count} of {len(done)} finished {cells} collapsed or hardly trained: the decoder "
        "reconstructs no better than one that ignores the code "
        f"({named_designs(done, done[lost])}). Designs with such a cell are not ranked here."
    ]


def _warnings(frame: pd.DataFrame) -> list[str]:
    made = []
    counts = frame["status"].value_counts()
    lost = [f"{counts[s]} {value_text(s)}" for s in sorted(counts.index) if s != "done"]
    if lost:
        text = f"Not every cell finished: {', '.join(lost)} of {len(frame)}; see the last section."
        if "diverged" in counts:
            text += " Designs with a diverged cell are not ranked here."
        made.append(text)
    if frame["seed"].nunique() == 1:
        made.append("There is only one seed, so the results have no intervals over seeds.")
    if not is_bound(frame):
        names = sorted(set(frame.loc[frame["comparable"] == NOT_A_LIKELIHOOD, "likelihood"]))
        known = ", ".join(name for name in names if name in LIKELIHOODS)
        made.append(
            f"On these pixels {known} is a cross-entropy, not a likelihood, so its scores are "
            "reported separately."
        )
    return made


def sentences(frame: pd.DataFrame) -> list[str]:
    """Return what the records say, the main results first."""
    done = frame[frame["status"] == "done"]
    if done.empty:
        return ["No cell finished, so there is no result to compare.", *_warnings(frame)]
    lost = warned(done, "collapsed")
    # All seeds of a design are kept or left out together: the successful ones alone would mislead.
    unranked = {*done.loc[lost, "design"], *frame.loc[frame["status"] == "diverged", "design"]}
    ranked = done[~done["design"].isin(unranked)]
    made: list[str | None] = []
    for group in groups(ranked, "elbo"):
        made += [_best(group), _latent(group)]
    found = [text for text in made if text] + _bits(ranked)
    return found + _collapse(done, lost) + _warnings(frame)
