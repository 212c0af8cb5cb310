"""The latent-dimension story: sentences made from the numbers of the records."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import numpy as np
import pandas as pd

from vaebench.analysis.kinds import warned
from vaebench.analysis.summary import number, summarise
from vaebench.findings.evidence import Evidence, over_seeds, rows_of, select, values_of
from vaebench.findings.finding import Assessed
from vaebench.findings.latent import PLATEAUS, latent_tests, loss, unused_kl
from vaebench.findings.settings import Budget
from vaebench.findings.verdict import Statistic, Untested

__all__ = ["latent_rows", "latent_story"]

_LEAST_SAMPLES = 10
"""Effective importance samples below which k is called too small."""


def latent_rows(evidence: Evidence, budget: Budget) -> pd.DataFrame:
    """The finished rows of the longest sweep with at least three latent sizes, or of an older grid.

    A sweep that has only begun does not take the place of a whole one.
    """
    for cells in latent_tests(budget):
        with suppress(Untested):
            rows = select(rows_of(evidence.frame, cells))
            if rows.loc[rows["epochs"] == rows["epochs"].max(), "latent_dim"].nunique() >= 3:
                return rows
    return pd.DataFrame()


def latent_story(evidence: Evidence, judged: Sequence[Assessed] = ()) -> tuple[str, ...]:
    """Sentences about the sweep of latent sizes in these rows; none where there is no sweep.

    Args:
        evidence: its frame holds the rows of the sweep alone.
        judged: findings whose numbers say what else was tried on the largest size.
    """
    try:
        frame = select(evidence.frame)
    except Untested:
        return ()
    rows = frame[frame["epochs"] == frame["epochs"].max()]
    plateau = PLATEAUS.get(str(frame["dataset"].iloc[0]), ())
    if rows["latent_dim"].nunique() < 3 or not set(plateau[:1]) & set(rows["latent_dim"]):
        return ()
    makers = (
        partial(_curve, rows),
        partial(_few, rows),
        partial(_parts, rows),
        partial(_units, evidence, rows),
        partial(_bounds, rows),
        partial(_by_training, evidence, frame),
    )
    made = []
    for make in makers:
        # In an incomplete store two sizes may have no seed in common.
        with suppress(Untested):
            made.append(make())
    return (*filter(None, made), *_tried(judged))


def _text(found: Statistic) -> str:
    half = (found.high - found.low) / 2
    spread = f" ± {number(half, half)}" if half > 0 else ""
    return f"{number(found.value, half)}{spread} {found.unit}"


def _mean(rows: pd.DataFrame, size: int, metric: str, unit: str = "nats") -> str:
    values = select(rows, latent_dim=size)[metric].dropna()
    return _text(over_seeds(values, unit))


def _lost(rows: pd.DataFrame, size: int, metric: str = "elbo") -> str:
    return _text(over_seeds(loss(rows, _sizes(rows), size, metric), "nats"))


def _sizes(rows: pd.DataFrame) -> list[int]:
    return sorted(int(size) for size in rows.loc[rows["elbo"].notna(), "latent_dim"].unique())


def _epochs(count: int) -> str:
    return f"{count:,} epoch{'' if count == 1 else 's'}"


def _curve(rows: pd.DataFrame) -> str:
    table = summarise(rows, ["latent_dim"], "elbo")
    table = table[table["n"] > 0]
    if table.empty:
        raise Untested("no record has a value of elbo")
    few, many = int(table["n"].min()), int(table["n"].max())
    seeds = f"{many} seed{'s' * (many > 1)}" if few == many else f"{few} to {many} seeds a size"
    first, last = int(table["latent_dim"].iloc[0]), int(table["latent_dim"].iloc[-1])
    best = int(table["latent_dim"].iloc[int(table["mean"].to_numpy(float).argmax())])
    pair = values_of(rows, "latent_dim", "elbo", list(dict.fromkeys([best, last])))
    below = _text(over_seeds(pair[best] - pair[last], "nats")) if best != last else "0 nats"
    return (
        f"After {_epochs(int(rows['epochs'].iloc[0]))} ({seeds}) the ELBO rises from "
        f"{_mean(rows, first, 'elbo')} at latent size {first:,} to its highest value, "
        f"{_mean(rows, best, 'elbo')}, at {best:,}; at {last:,} it is "
        f"{_mean(rows, last, 'elbo')}, {below} below the highest."
    )


def _few(rows: pd.DataFrame) -> str:
    few = [size for size in _sizes(rows) if size < 4]
    losses = [f"{_lost(rows, size)} with {size}" for size in few]
    return f"Fewer than four latents lose, against the best size: {', '.join(losses)}."


def _parts(rows: pd.DataFrame) -> str:
    start, last = PLATEAUS[str(rows["dataset"].iloc[0])][0], _sizes(rows)[-1]
    rate, distortion = (
        f"from {_mean(rows, start, metric)} to {_mean(rows, last, metric)}"
        for metric in ("kl", "reconstruction_error")
    )
    return f"From {start:,} to {last:,} latents the rate goes {rate}, the distortion {distortion}."


def _units(evidence: Evidence, rows: pd.DataFrame) -> str:
    """Active units and the effective rank, because the count depends on its threshold."""
    last = _sizes(rows)[-1]
    text = f"With {last:,} latents {_mean(rows, last, 'active_units', 'of them')} are active"
    if "effective_rank" in rows:
        with suppress(Untested):
            rank = _mean(rows, last, "effective_rank", "").strip()
            text += f", and the effective rank of the posterior means is {rank}"
    with suppress(Untested):
        own = unused_kl(evidence, select(rows, latent_dim=last))
        text += f"; the units that are not active hold {_text(over_seeds(own, 'nats'))} of KL"
    return f"{text}."


def _bounds(rows: pd.DataFrame) -> str:
    """The loss of the largest size by both bounds, and whether k is large enough for it."""
    last = _sizes(rows)[-1]
    own = select(rows, latent_dim=last)
    text = (
        f"Against the best size {last:,} latents lose {_lost(rows, last)} of ELBO and "
        f"{_lost(rows, last, 'iw_bound')} of the importance-weighted bound"
    )
    effective = float((own["iw_samples"] * own["iw_ess"]).min())
    if effective < _LEAST_SAMPLES or warned(own, "too_few_samples").any():
        text += (
            f"; k is too small there ({number(effective)} effective samples), so the second "
            "number is an upper limit of the loss of likelihood"
        )
    if "iw_shortfall" in own and own["iw_shortfall"].notna().any():
        missed = _text(over_seeds(own["iw_shortfall"].dropna(), "nats"))
        text += f"; annealed importance sampling finds {missed} above the importance-weighted bound"
    return f"{text}."


def _by_training(evidence: Evidence, frame: pd.DataFrame) -> str:
    """The loss of the largest size at each training budget."""
    size = int(frame["latent_dim"].max())
    losses = {}
    for epochs, rows in frame.groupby("epochs", sort=True):
        with suppress(Untested):
            losses[int(str(epochs))] = loss(rows, _sizes(rows), size)
    if len(losses) < 2:
        return ""
    first, *_, last = losses
    mended = over_seeds((losses[first] - losses[last]).dropna(), "nats")
    each = ", ".join(
        f"{_text(over_seeds(lost, 'nats'))} after {_epochs(epochs)}"
        for epochs, lost in losses.items()
    )
    change = f"wins back {_text(mended)}" if mended.value > 0 else "does not win that back"
    text = f"Against the best size {size:,} latents lose {each}: longer training {change}."
    with suppress(Untested):
        early, late = (
            unused_kl(evidence, select(frame, latent_dim=size, epochs=epochs))
            for epochs in (first, last)
        )
        text += (
            f" The KL of inactive units goes from {_text(over_seeds(early, 'nats'))} to "
            f"{_text(over_seeds(late, 'nats'))}."
        )
    return text


_TRIED = {
    "latent-lower-rate-mends": "a lower learning rate changes the loss of the largest size by",
    "latent-tutorial-network": "with the tutorial's own network 10,000 latents lose, against the "
    "best size,",
    "latent-tutorial-network-thousand": "with the tutorial's own network 1,000 latents lose, "
    "against the best size,",
    "latent-tutorial-network-kl": "with the tutorial's own network the inactive units of 10,000 "
    "latents hold, in KL,",
}


def _tried(judged: Sequence[Assessed]) -> Iterator[str]:
    for each in judged:
        words, found = _TRIED.get(each.finding.name), each.statistic
        if words is None or found is None:
            continue
        if each.finding.name == "latent-lower-rate-mends":
            found = Statistic(-found.value, -found.high, -found.low, found.n, found.unit)
        half = (found.high - found.low) / 2
        value, low, high = (number(end, half) for end in (found.value, found.low, found.high))
        seeds = "1 seed" if found.n == 1 else f"{found.n} seeds"
        interval = f" [{low}, {high}]" if np.isfinite(half) else ""
        budget = f" ({each.shortfall['iterations']})" if "iterations" in each.shortfall else ""
        yield f"Tried{budget}: {words} {value}{interval} nats ({seeds})."
