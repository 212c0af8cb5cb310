"""`vaebench advise` against random search and the full grid, replayed from a table of scores.

`python -m benchmarks.advise train mnist` trains every candidate of a data set with three seeds and
four numbers of epochs, once, and condenses the scores into `benchmarks/tables/mnist.csv`.
`python -m benchmarks.advise` replays all tables and prints what it costs to find the best design.

The truth of a table is the mean of a design over its three seeds, on the held-out images, after the
largest number of epochs. A repetition draws new seeds from the spread that the table shows (a
normal distribution with the covariance over epochs of each design; what a seed does to all designs
alike is drawn once), so that no method sees the noise that the truth was measured with.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaebench.analysis.contrasts import contrasts
from vaebench.runner.search import (
    MOST_SEEDS,
    Price,
    Trial,
    first_stage,
    next_trials,
    outcome,
    stages,
)

TABLES: Final = Path(__file__).parent / "tables"
EPOCHS: Final = {"digits": (8, 16, 32, 64), "mnist": (1, 2, 4, 8)}
EPOCHS["fashion-mnist"] = (4, 8, 16, 32)
_LARGE: Final[dict[str, list[object]]] = {
    "train_size": [10_000],
    "valid_size": [2_000],
    "test_size": [2_000],
    "hidden": [[64]],
    "likelihood": ["gaussian", "laplace", "logistic"],
    "learning_rate": [0.003],
}
SETTINGS: Final = {"digits": {"hidden": [[128]]}, "mnist": _LARGE, "fashion-mnist": _LARGE}
SEEDS: Final = (0, 1, 2)
SHARES: Final = (0.05, 0.1, 0.2, 0.4)
"""Costs at which the methods are compared, of the full grid's."""
REPETITIONS: Final = 200
Floats = NDArray[np.float64]


def train(dataset: str, store: Path, table: Path, jobs: int) -> None:
    """Train what the table of a data set lacks, and write the table."""
    from vaebench.analysis.frame import load_results
    from vaebench.grid.spec import Grid
    from vaebench.records.store import Store
    from vaebench.runner.advise import candidates
    from vaebench.runner.run import run

    found = candidates(dataset, SETTINGS[dataset])
    for note in found.notes:
        print(note)
    last = max(EPOCHS[dataset])
    cells = [
        design.model_copy(
            update={"epochs": epochs, "seed": seed, "tsne_points": 0}
            | ({} if epochs == last else {"test_size": min(500, found.facts.test_images)})
        )
        for design in found.cells
        for epochs in EPOCHS[dataset]
        for seed in SEEDS
    ]
    run(Grid.of("advise-table", cells), Store(store), jobs=jobs)
    frame = load_results(store)
    columns = {
        "likelihood": frame["likelihood"],
        "sigma": frame["sigma"].fillna(""),
        "latent_dim": frame["latent_dim"],
        "learning_rate": frame["learning_rate"],
        "epochs": frame["epochs"],
        "seed": frame["seed"],
        "selection": frame["bits_per_dim_selection"].round(5),
        "held_out": frame["bits_per_dim_held_out"].round(5),
        "train_seconds": frame["train_seconds"].round(3),
        "evaluation_seconds": frame["evaluation_seconds"].round(3),
    }
    table.parent.mkdir(parents=True, exist_ok=True)
    ordered = pd.DataFrame(columns).sort_values(list(columns)[:6], key=lambda c: c.astype(str))
    ordered.to_csv(table, index=False)
    print(f"{len(ordered)} rows: {table}")


class Result(NamedTuple):
    """What one method reached in one repetition."""

    regret: float
    covered: bool
    size: int
    cost: float


@dataclass(frozen=True)
class Table:
    """The scores of every design, in bits per dimension.

    Attributes:
        epochs: numbers of epochs, increasing, E of them.
        selection, held_out: ``(D, E, S)`` for D designs and S seeds; infinite where a training
            failed.
        seconds: of a trial by its number of epochs.
        price: of a trial.
    """

    epochs: tuple[int, ...]
    selection: Floats
    held_out: Floats
    seconds: dict[int, float]
    price: Price

    @classmethod
    def read(cls, path: Path) -> "Table":
        """Read the table of a data set."""
        frame = pd.read_csv(
            path, keep_default_na=False, na_values={"selection": "", "held_out": ""}
        )
        axes = ["likelihood", "sigma", "latent_dim", "learning_rate"]
        cost = frame["train_seconds"] + frame["evaluation_seconds"]
        first = frame[frame["epochs"] == frame["epochs"].min()]
        price = Price(
            float(first["evaluation_seconds"].mean()),
            float((frame["train_seconds"] / frame["epochs"]).mean()),
        )
        epochs = tuple(sorted(map(int, frame["epochs"].unique())))

        def cube(column: str) -> Floats:
            wide = frame.pivot(index=axes, columns=["epochs", "seed"], values=column)
            seeds = sorted(frame["seed"].unique())
            values = wide[[(e, s) for e in epochs for s in seeds]].to_numpy(float)
            return np.nan_to_num(values, nan=np.inf).reshape(len(wide), len(epochs), len(seeds))

        seconds = {int(e): float(c) for e, c in cost.groupby(frame["epochs"]).mean().items()}
        return cls(epochs, cube("selection"), cube("held_out"), seconds, price)

    @property
    def truth(self) -> Floats:
        """The mean held-out score of each design after the largest number of epochs, ``(D,)``."""
        return np.asarray(self.held_out[:, -1].mean(-1))

    def grid_seconds(self) -> float:
        """What the full grid costs."""
        return len(self.truth) * self.selection.shape[2] * self.seconds[self.epochs[-1]]

    def draw(self, rng: np.random.Generator) -> Floats:
        """Selection scores of new seeds, ``(D, E, MOST_SEEDS)``."""
        mean = self.selection.mean(-1, keepdims=True)
        with np.errstate(invalid="ignore"):
            noise = np.nan_to_num(self.selection - mean)
        common = noise.mean(0, keepdims=True)
        designs, seeds = len(noise), noise.shape[-1]
        scale = 1 / np.sqrt(seeds - 1)
        shared = common @ rng.normal(size=(1, seeds, MOST_SEEDS))
        own = (noise - common) @ rng.normal(size=(designs, seeds, MOST_SEEDS))
        return np.asarray(mean + scale * (shared + own))

    def judged(self, chosen: int, recommended: Iterable[int], cost: float) -> Result:
        """Return the result of a method."""
        held = set(recommended) | {chosen}
        best = int(np.argmin(self.truth))
        regret = float(self.truth[chosen] - self.truth[best])
        return Result(regret, best in held, len(held), cost / self.grid_seconds())


def advise(table: Table, drawn: Floats, share: float) -> Result:
    """Replay the policy of `vaebench advise`."""
    budget = share * table.grid_seconds()
    first = first_stage(len(drawn), table.price, budget, table.epochs[0], table.epochs[-1] / 2)
    plan = stages(first, table.price, budget, table.epochs[-1])
    scores: dict[Trial, float] = {}
    cost = 0.0
    while trials := next_trials(range(len(drawn)), scores, plan):
        for trial in trials:
            if cost + table.seconds[trial.epochs] > budget:
                break
            cost += table.seconds[trial.epochs]
            place = table.epochs.index(trial.epochs)
            scores[trial] = drawn[int(str(trial.design)), place, trial.seed]
        else:
            continue
        break
    found = outcome(range(len(drawn)), scores, plan)
    members = (found.best, *found.equals, *found.open)
    return table.judged(int(str(found.best)), (int(str(d)) for d in members), cost)


def random_search(table: Table, drawn: Floats, share: float, rng: np.random.Generator) -> Result:
    """Train designs drawn at random to the end, with one seed; all of them stay candidates."""
    each = table.seconds[table.epochs[-1]]
    count = min(len(drawn), max(1, int(share * table.grid_seconds() / each)))
    tried = rng.permutation(len(drawn))[:count]
    chosen = tried[np.argmin(drawn[tried, -1, 0])]
    return table.judged(int(chosen), map(int, tried), count * each)


def full_grid(table: Table, drawn: Floats) -> Result:
    """Train everything with three seeds."""
    frame = pd.DataFrame(drawn[:, -1, : len(SEEDS)].T)
    chosen = int(frame.mean().idxmin())
    against = contrasts(frame, chosen, "bits_per_dim")
    equals = (int(str(each.design)) for each in against if not each.worse)
    return table.judged(chosen, equals, table.grid_seconds())


def replay(table: Table) -> Iterator[tuple[str, list[Result]]]:
    """Yield each method at each cost with its results of all repetitions."""
    draws = [np.random.default_rng([2026, i]) for i in range(REPETITIONS)]
    drawn = [table.draw(rng) for rng in draws]
    for share in SHARES:
        pairs = list(zip(drawn, draws, strict=True))
        yield f"advise, {share:.0%}", [advise(table, each, share) for each in drawn]
        yield f"random, {share:.0%}", [random_search(table, d, share, rng) for d, rng in pairs]
    yield "full grid", [full_grid(table, each) for each in drawn]


def main() -> None:
    """Train a table, or replay all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", nargs="?", choices=["train"])
    parser.add_argument("dataset", nargs="?", choices=list(EPOCHS))
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("-j", "--jobs", type=int, default=1)
    given = parser.parse_args()
    if given.action == "train":
        store = given.output or Path("results") / f"advise-table-{given.dataset}"
        train(given.dataset, store, TABLES / f"{given.dataset}.csv", given.jobs)
        return
    for path in sorted(TABLES.glob("*.csv")):
        table = Table.read(path)
        print(f"{path.stem}: {len(table.truth)} designs, best {table.truth.min():.4f} bits per dim")
        print(f"{'method':16} {'regret':>8} {'holds best':>10} {'set size':>8} {'cost':>6}")
        for name, results in replay(table):
            regret, covered, size, cost = np.mean(results, axis=0)
            print(f"{name:16} {regret:8.4f} {covered:10.1%} {size:8.1f} {cost:6.1%}")


if __name__ == "__main__":
    main()
