"""The latent-dimension story in words that are made from the numbers of the records."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from vaebench.analysis.summary import number, summarise
from vaebench.findings.evidence import Evidence, select
from vaebench.findings.finding import Assessed
from vaebench.findings.latent import plateau_of
from vaebench.findings.verdict import Untested

__all__ = ["latent_story", "superfluous_kl"]


def _row(table: pd.DataFrame, size: int) -> pd.Series:
    return table[table["latent_dim"] == size].iloc[0]


def _told(row: pd.Series, unit: str = "nats") -> str:
    half = (float(row["high"]) - float(row["low"])) / 2
    spread = f" ± {number(half, half)}" if np.isfinite(half) and half > 0 else ""
    return f"{number(float(row['mean']), half)}{spread} {unit}"


def _curve(rows: pd.DataFrame) -> str:
    table = summarise(rows, ["latent_dim"], "elbo")
    best = table.iloc[int(table["mean"].to_numpy(float).argmax())]
    first, last = table.iloc[0], table.iloc[-1]
    lost = float(best["mean"]) - float(last["mean"])
    return (
        f"After {_epochs(int(rows['epochs'].iloc[0]))} ({rows['seed'].nunique()} seeds) the ELBO "
        f"goes from {_told(first)} at latent size {first['latent_dim']:,} to its highest, "
        f"{_told(best)}, at {best['latent_dim']:,}; at {last['latent_dim']:,} it is "
        f"{_told(last)}, {number(lost)} nats below the best."
    )


def _few(rows: pd.DataFrame) -> str:
    table = summarise(rows, ["latent_dim"], "elbo")
    best = float(table["mean"].max())
    few = table[(table["latent_dim"] < 4) & (table["n"] > 0)]
    if few.empty:
        return ""
    losses = [
        f"{best - float(row['mean']):.1f} with {row['latent_dim']}" for _, row in few.iterrows()
    ]
    return f"Fewer than four lose, against the best: {', '.join(losses)} (nats)."


def _parts(rows: pd.DataFrame) -> str:
    plateau, last = plateau_of(rows)[0], int(rows["latent_dim"].max())
    told = []
    for metric, words in (("kl", "rate"), ("reconstruction_error", "distortion")):
        table = summarise(rows, ["latent_dim"], metric)
        low, high = _told(_row(table, plateau)), _told(_row(table, last))
        told.append(f"the {words} goes from {low} to {high}")
    return f"From {plateau:,} to {last:,} latents {told[0]} and {told[1]}."


def superfluous_kl(evidence: Evidence, rows: pd.DataFrame, size: int) -> tuple[float, int] | None:
    """KL, in nats, outside the strongest dimensions of the largest model, and their number.

    As many dimensions count as strong as the plateau's first size has. The mean over seeds; None
    where no record keeps the KL of each dimension.
    """
    strong = plateau_of(rows)[0]
    shares = []
    for cell in rows.loc[rows["latent_dim"] == size, "cell_id"]:
        kept = evidence.arrays(str(cell))
        if "kl_per_dimension" in kept:
            ordered = np.sort(np.asarray(kept["kl_per_dimension"], dtype=float))[::-1]
            shares.append(float(ordered[strong:].sum()))
    return (float(np.mean(shares)), strong) if shares else None


def _where(evidence: Evidence, rows: pd.DataFrame) -> str:
    last = int(rows["latent_dim"].max())
    units = _row(summarise(rows, ["latent_dim"], "active_units"), last)
    held = superfluous_kl(evidence, rows, last)
    text = f"With {last:,} latents {_told(units, 'of them')} are active"
    if held is None:
        return text + "."
    total = float(_row(summarise(rows, ["latent_dim"], "kl"), last)["mean"])
    share = held[0] / total if total > 0 else 0.0
    return (
        f"{text}; all but the strongest {held[1]} hold {number(held[0])} nats, "
        f"{share:.0%} of the KL."
    )


def _by_training(evidence: Evidence, frame: pd.DataFrame) -> str:
    """What the largest size loses against the plateau, after the shortest and longest training."""
    epochs = sorted(set(frame["epochs"]))
    size = int(frame["latent_dim"].max())
    sizes = {*plateau_of(frame), size}
    parts = [frame[frame["epochs"] == count] for count in (epochs[0], epochs[-1])]
    if len(epochs) < 2 or any(not sizes <= set(rows["latent_dim"]) for rows in parts):
        return ""
    tables = [summarise(rows, ["latent_dim"], "elbo") for rows in parts]
    losses = [_lost(table, plateau_of(frame), size) for table in tables]
    mended = losses[0] - losses[1]
    change = f"wins back {mended:.1f} of them" if mended > 0 else "does not mend that"
    return (
        f"Against the mean of the plateau {losses[0]:.1f} nats are lost with {size:,} latents "
        f"after {_epochs(epochs[0])} and {losses[1]:.1f} after {epochs[-1]}: longer training "
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
        f" Meanwhile the KL outside the strongest {late[1]} codes went from {number(early[0])} to "
        f"{number(late[0])} nats."
    )


def _lost(table: pd.DataFrame, plateau: tuple[int, ...], size: int) -> float:
    best = [float(_row(table, each)["mean"]) for each in plateau]
    return float(np.mean(best)) - float(_row(table, size)["mean"])


def latent_story(evidence: Evidence, judged: Sequence[Assessed] = ()) -> tuple[str, ...]:
    """Sentences about the sweep of latent sizes in these rows; none where there is no sweep.

    ``judged``: findings whose measured numbers tell what else was tried on the largest size.
    """
    sentences = tuple(text for text in _sentences(evidence) if text)
    return (*sentences, *_tried(judged)) if sentences else ()


_TRIED = {
    "latent-lower-rate-mends": "Half the learning rate moves the ELBO of the largest size by",
    "latent-tutorial-network": "With the tutorial's own network the largest size loses, against "
    "the plateau,",
}


def _tried(judged: Sequence[Assessed]) -> Iterator[str]:
    for each in judged:
        words, statistic = _TRIED.get(each.finding.name), each.statistic
        if words is not None and statistic is not None:
            half = (statistic.high - statistic.low) / 2
            value, low, high = (
                number(each, half) for each in (statistic.value, statistic.low, statistic.high)
            )
            yield f"{words} {value} [{low}, {high}] nats ({statistic.n} seeds)."


def _sentences(evidence: Evidence) -> Iterator[str]:
    try:
        frame = select(evidence.frame)
        plateau = plateau_of(frame)
    except Untested:
        return
    rows = frame[frame["epochs"] == frame["epochs"].max()]
    if rows["latent_dim"].nunique() < 3 or plateau[0] not in set(rows["latent_dim"]):
        return
    yield _curve(rows)
    yield _few(rows)
    yield _parts(rows)
    yield _where(evidence, rows)
    yield _by_training(evidence, frame)
