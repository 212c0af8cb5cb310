"""A likelihood family is added by one class and one entry, and appears everywhere."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from vaebench.cli.listing import list_
from vaebench.grid.axes import LIKELIHOODS, LikelihoodChoice
from vaebench.grid.spec import Grid
from vaebench.model.likelihoods import SCALE_FLOOR, LocationScale
from vaebench.records.store import Store
from vaebench.report.report import write_report
from vaebench.runner.execute import execute
from vaebench.runner.messages import Task

ENTRY = LikelihoodChoice(
    "sech",
    "density on the real line proportional to 1/cosh; sigma is the standard deviation",
    kind="density",
    support="real",
    implementation=f"{__name__}:HyperbolicSecant",
    log_peak=-math.log(2),
)


class HyperbolicSecant(LocationScale):
    """The density sech(pi r / 2) / 2, whose distribution function is 2 atan(e^(pi r / 2)) / pi."""

    facts = ENTRY

    @staticmethod
    def standard_log_density(residual: Tensor) -> Tensor:
        r = math.pi / 2 * residual.abs()
        return -r - torch.log1p(torch.exp(-2 * r))

    @staticmethod
    def standard_log_interval(lower: Tensor, upper: Tensor) -> Tensor:
        a, b = (torch.exp(math.pi / 2 * each) for each in (lower, upper))
        return torch.log(2 / math.pi * torch.atan((b - a) / (1 + a * b)))

    @staticmethod
    def standard_sample(shape: torch.Size, generator: torch.Generator) -> Tensor:
        u = torch.rand(shape, generator=generator, dtype=torch.float64)
        return 2 / math.pi * torch.log(torch.tan(math.pi / 2 * u))

    @classmethod
    def optimal_scale(
        cls, residual: Tensor, dim: tuple[int, ...], *, start: Tensor | None = None, steps: int = 60
    ) -> Tensor:
        scale = residual.square().mean(dim, keepdim=True).sqrt() if start is None else start
        for _ in range(steps):
            r = math.pi / 2 * residual
            scale = (r * torch.tanh(r / scale.clamp(min=SCALE_FLOOR))).mean(dim, keepdim=True)
        return scale.clamp(min=SCALE_FLOOR)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIKELIHOODS, "sech", ENTRY)


def test_it_is_listed_and_validated() -> None:
    listed = CliRunner().invoke(list_, ["likelihoods"]).output
    (line,) = (line for line in listed.splitlines() if line.startswith("sech"))
    assert "density, has a sigma" in line
    grid = Grid.from_dict(
        {"name": "g", "axes": {"likelihood": ["sech", "bernoulli"], "sigma": [0.1, 0.2]}}
    )
    assert [cell.sigma for cell in grid.cells] == [0.1, 0.2, None]
    with pytest.raises(ValueError, match="did you mean 'sech'"):
        Grid.from_dict({"name": "g", "base": {"likelihood": "sechh"}})
    with pytest.raises(ValueError, match="only bernoulli"):
        Grid.from_dict({"name": "g", "base": {"likelihood": "sech", "pixel_clip": 0.1}})


def test_it_is_trained_scored_and_reported(tmp_path: Path) -> None:
    grid = Grid.from_dict(
        {
            "name": "families",
            "base": {
                "epochs": 1,
                "train_size": 256,
                "test_size": 64,
                "hidden": [8],
                "tsne_points": 0,
            },
            "axes": {"likelihood": ["gaussian", "sech"], "sigma": ["optimal", 0.3]},
        }
    )
    store = Store(tmp_path / "store")
    with store.writing():
        for number, cell in enumerate(grid.cells):
            (outcome,) = execute(Task((cell,), (f"cell{number}",), grid.name, None))
            store.write(outcome.record, outcome.arrays)
            record = outcome.record
            assert record.status.state == "done"
            assert record.comparable == "density"
            assert record.metrics["bits_per_dim"].value is not None
            assert record.metrics["sigma_fitted"].value is not None
    page = write_report(tmp_path / "store", tmp_path / "report")
    assert "sech" in (page if page.is_file() else page / "index.html").read_text()
    tables = list((tmp_path / "report" / "tables").glob("*.csv"))
    rows = [
        table
        for table in map(pd.read_csv, tables)
        if "sech" in table.astype(str).to_numpy().ravel()
    ]
    assert len(rows) >= 2
