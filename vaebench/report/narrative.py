"""The remaining results in sentences, all of which follow from the records.

Which design to choose is the recommendation's matter (`analysis.recommendation`).
"""

import math

import pandas as pd

from vaebench.analysis.columns import of_data, unit
from vaebench.analysis.comparability import Group, groups, is_bound
from vaebench.analysis.contrasts import contrasts, score_table
from vaebench.analysis.kinds import named_designs, warned
from vaebench.analysis.labels import design_label, plain, reading_order, value_text, varying
from vaebench.analysis.summary import summarise, summary_text
from vaebench.grid.axes import LIKELIHOODS
from vaebench.plots.selection import split
from vaebench.records.schema import NOT_A_LIKELIHOOD


def sentences(frame: pd.DataFrame) -> list[str]:
    """Return what the records say beyond the recommendation, the main results first."""
    done = frame[frame["status"] == "done"]
    if done.empty:
        return ["No cell finished, so there is no result to compare.", *_limits(frame)]
    lost = warned(done, "collapsed")
    # All seeds of a design are kept or left out together: the successful ones alone would mislead.
    unranked = {*done.loc[lost, "design"], *frame.loc[frame["status"] == "diverged", "design"]}
    ranked = done[~done["design"].isin(unranked)]
    sizes = [text for group in groups(ranked, "elbo") if (text := _latent(group))]
    return [*sizes, *_collapse(done, lost), *_limits(frame)]


def _latent(group: Group) -> str | None:
    """The latent size with the highest score, of the best design with the most latent sizes."""
    axes = varying(group.frame, without=["latent_dim"])
    parts = split(group.frame, axes)
    most = max(rows["latent_dim"].nunique() for _, rows in parts)
    swept = []
    for key, rows in parts:
        if rows["latent_dim"].nunique() == most:
            table = summarise(rows, ["latent_dim"], "elbo")
            swept.append((key, rows, table[table["n"] > 0]))
    swept = [each for each in swept if len(each[2]) >= 3]
    if not swept:
        return None
    key, rows, table = max(swept, key=lambda each: float(each[2]["mean"].max()))
    best = table.iloc[int(table["mean"].to_numpy(float).argmax())]
    first, last = table.iloc[0]["latent_dim"], table.iloc[-1]["latent_dim"]
    names = sorted(dict.fromkeys(["likelihood", "sigma", *axes]), key=reading_order)
    fixed = dict(zip(axes, key, strict=True))
    label = design_label(names, [fixed.get(name, rows[name].iloc[0]) for name in names])
    score = "ELBO" if is_bound(group.frame) else "score (not a bound on log p(x) of these data)"
    seeds = f"{int(best['n'])} seeds" if best["n"] > 1 else "1 seed, so no interval"
    text = summary_text(best["mean"], best["low"], best["high"], best["n"], best["n"], 0)
    return (
        f"For {plain(label)} ({group.label}) with latent sizes {first:,} to {last:,}, the {score} "
        f"is highest at {best['latent_dim']:,}: {text} {of_data(unit('elbo'), rows)} ({seeds})"
        f"{_rivals(rows, best['latent_dim'])}{_active(rows, last)}"
    )


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


def _active(rows: pd.DataFrame, size: int) -> str:
    units = summarise(rows[rows["latent_dim"] == size], ["latent_dim"], "active_units").iloc[0]
    if units["n"] == 0:
        return "."
    count = summary_text(units["mean"], units["low"], units["high"], units["n"], units["n"], 0)
    return f". At {size:,}, {count} latent dimensions are active units."


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


def _limits(frame: pd.DataFrame) -> list[str]:
    """The limits of the comparisons: unfinished cells, one seed, scores that are not bounds."""
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
    if warned(frame, "unbounded_density").any():
        made.append(
            "The density of some designs can grow without bound on these pixels; use bits per "
            "dimension to rank families."
        )
    if not is_bound(frame):
        names = sorted(set(frame.loc[frame["comparable"] == NOT_A_LIKELIHOOD, "likelihood"]))
        known = ", ".join(name for name in names if name in LIKELIHOODS)
        made.append(
            f"On these pixels {known} is a cross-entropy, not a likelihood, so its scores are "
            "reported separately."
        )
    return made
