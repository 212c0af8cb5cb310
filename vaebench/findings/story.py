"""The latent-dimension story in words that are made from the numbers of the records."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import numpy as np
import pandas as pd

from vaebench.analysis.summary import number, summarise
from vaebench.findings.evidence import Evidence, over_seeds, select, values_of
from vaebench.findings.finding import Assessed
from vaebench.findings.latent import below_plateau, plateau_of
from vaebench.findings.verdict import Untested

__all__ = ["latent_story", "superfluous_kl"]


def _row(table: pd.DataFrame, size: int) -> pd.Series:
    return table[table["latent_dim"] == size].iloc[0]


def _told(row: pd.Series, unit: str = "nats") -> str:
    half = (float(row["high"]) - float(row["low"])) / 2
    spread = f" ± {number(half, half)}" if np.isfinite(half) and half > 0 else ""
    return f"{number(float(row['mean']), half)}{spread} {unit}"


def _spread(values: "pd.Series[float]", unit: str = "nats") -> str:
    """A mean over seeds with its interval, in the words of `_told`."""
    found = over_seeds(values, unit)
    return _told(pd.Series({"mean": found.value, "low": found.low, "high": found.high}), unit)


def _seeds(table: pd.DataFrame) -> str:
    few, many = int(table["n"].min()), int(table["n"].max())
    if few == many:
        return f"{many} seed{'s' * (many > 1)}"
    return f"{few} to {many} seeds a size"


def _by_size(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean ELBO of each latent size that has one."""
    table = summarise(rows, ["latent_dim"], "elbo")
    there = table[table["n"] > 0]
    if there.empty:
        raise Untested("no record has a value of elbo")
    return there


def _best(table: pd.DataFrame) -> pd.Series:
    return table.iloc[int(table["mean"].to_numpy(float).argmax())]


def _curve(rows: pd.DataFrame) -> str:
    table = _by_size(rows)
    best, first, last = _best(table), table.iloc[0], table.iloc[-1]
    return (
        f"After {_epochs(int(rows['epochs'].iloc[0]))} ({_seeds(table)}) the ELBO "
        f"goes from {_told(first)} at latent size {first['latent_dim']:,} to its highest, "
        f"{_told(best)}, at {best['latent_dim']:,}; at {last['latent_dim']:,} it is "
        f"{_told(last)}, {_below(rows, best, last)} below the best."
    )


def _below(rows: pd.DataFrame, best: pd.Series, other: pd.Series) -> str:
    """What one latent size loses against another, paired by seed."""
    sizes = [best["latent_dim"], other["latent_dim"]]
    if sizes[0] == sizes[1]:
        return "0 nats"
    table = values_of(rows, "latent_dim", "elbo", sizes)
    return _spread(table[sizes[0]] - table[sizes[1]])


def _few(rows: pd.DataFrame) -> str:
    table = _by_size(rows)
    best, few = _best(table), table[table["latent_dim"] < 4]
    if few.empty:
        return ""
    losses = [f"{_below(rows, best, row)} with {row['latent_dim']}" for _, row in few.iterrows()]
    return f"Fewer than four latents lose, against the best: {', '.join(losses)}."


def _parts(rows: pd.DataFrame) -> str:
    plateau, last = plateau_of(rows)[0], int(rows["latent_dim"].max())
    told = []
    for metric, words in (("kl", "rate"), ("reconstruction_error", "distortion")):
        table = summarise(rows, ["latent_dim"], metric)
        low, high = _told(_row(table, plateau)), _told(_row(table, last))
        told.append(f"the {words} goes from {low} to {high}")
    return f"From {plateau:,} to {last:,} latents {told[0]} and {told[1]}."


def superfluous_kl(
    evidence: Evidence, rows: pd.DataFrame, size: int
) -> tuple["pd.Series[float]", int] | None:
    """KL, in nats, outside the strongest dimensions of the largest model, and their number.

    As many dimensions count as strong as the plateau's first size has. A number a seed; None where
    no record keeps the KL of each dimension.
    """
    strong = plateau_of(rows)[0]
    shares = {}
    for cell, seed in rows.loc[rows["latent_dim"] == size, ["cell_id", "seed"]].to_numpy():
        kept = evidence.arrays(str(cell))
        if "kl_per_dimension" in kept:
            ordered = np.sort(np.asarray(kept["kl_per_dimension"], dtype=float))[::-1]
            shares[int(seed)] = float(ordered[strong:].sum())
    return (pd.Series(shares), strong) if shares else None


def _where(evidence: Evidence, rows: pd.DataFrame) -> str:
    last = int(rows["latent_dim"].max())
    units = _row(summarise(rows, ["latent_dim"], "active_units"), last)
    held = superfluous_kl(evidence, rows, last)
    text = f"With {last:,} latents {_told(units, 'of them')} are active"
    if held is None:
        return text + "."
    total = float(_row(summarise(rows, ["latent_dim"], "kl"), last)["mean"])
    share = float(held[0].mean()) / total if total > 0 else 0.0
    return (
        f"{text}; all but the strongest {held[1]} hold {_spread(held[0])}, {share:.1%} of the KL."
    )


def _by_training(evidence: Evidence, frame: pd.DataFrame) -> str:
    """What the largest size loses against the plateau, after the shortest and longest training."""
    epochs = sorted(set(frame["epochs"]))
    size = int(frame["latent_dim"].max())
    sizes = {*plateau_of(frame), size}
    parts = [frame[frame["epochs"] == count] for count in (epochs[0], epochs[-1])]
    if len(epochs) < 2 or any(not sizes <= set(rows["latent_dim"]) for rows in parts):
        return ""
    losses = [below_plateau(rows, size) for rows in parts]
    mended = (losses[0] - losses[1]).dropna()
    if mended.empty:
        raise Untested("no seed was trained for both")
    change = f"wins back {_spread(mended)}" if mended.mean() > 0 else "does not mend that"
    return (
        f"Against the mean of the plateau {_spread(losses[0])} are lost with {size:,} latents "
        f"after {_epochs(epochs[0])} and {_spread(losses[1])} after {epochs[-1]}: longer training "
        f"{change}.{_superfluous_over_training(evidence, parts, size)}"
    )


def _epochs(count: int) -> str:
    return f"{count:,} epoch{'' if count == 1 else 's'}"


def _superfluous_over_training(evidence: Evidence, parts: Sequence[pd.DataFrame], size: int) -> str:
    held = [superfluous_kl(evidence, rows, size) for rows in parts]
    early, late = held
    if early is None or late is None:
        return ""
    return (
        f" Meanwhile the KL outside the strongest {late[1]} codes went from {_spread(early[0])} to "
        f"{_spread(late[0])}."
    )


def latent_story(evidence: Evidence, judged: Sequence[Assessed] = ()) -> tuple[str, ...]:
    """Sentences about the sweep of latent sizes in these rows; none where there is no sweep.

    ``judged``: findings whose measured numbers tell what else was tried on the largest size.
    """
    sentences = tuple(text for text in _sentences(evidence) if text)
    return (*sentences, *_tried(judged)) if sentences else ()


_TRIED = {
    "latent-lower-rate-mends": "half the learning rate moves the ELBO of the largest size by",
    "latent-tutorial-network": "with the tutorial's own network the largest size loses, against "
    "the plateau,",
    "latent-tutorial-network-kl": "with the tutorial's own network the KL of the largest size is "
    "above that of the plateau by",
}


def _tried(judged: Sequence[Assessed]) -> Iterator[str]:
    for each in judged:
        words, statistic = _TRIED.get(each.finding.name), each.statistic
        if words is not None and statistic is not None:
            half = (statistic.high - statistic.low) / 2
            value, low, high = (
                number(each, half) for each in (statistic.value, statistic.low, statistic.high)
            )
            epochs = max(cell.epochs for cell in each.finding.cells(each.budget))
            yield (
                f"After {_epochs(epochs)} {words} {value} [{low}, {high}] nats "
                f"({statistic.n} seeds)."
            )


def _sentences(evidence: Evidence) -> Iterator[str]:
    try:
        frame = select(evidence.frame)
        plateau = plateau_of(frame)
    except Untested:
        return
    rows = frame[frame["epochs"] == frame["epochs"].max()]
    if rows["latent_dim"].nunique() < 3 or plateau[0] not in set(rows["latent_dim"]):
        return
    makers = (
        partial(_curve, rows),
        partial(_few, rows),
        partial(_parts, rows),
        partial(_where, evidence, rows),
        partial(_by_training, evidence, frame),
    )
    for make in makers:
        # Of a store that is not complete two sizes may have no seed in common.
        with suppress(Untested):
            yield make()
