"""A training that goes on from a checkpoint ends as one that was never stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from tiny_runs import Run, cell, generator, made, pixels_of

from vaebench.grid.cell import Cell
from vaebench.training.checkpoint import Checkpoint
from vaebench.training.loop import Generators, Stopped, train


class Ended(Exception):
    """The process was ended here."""


def trained(
    *cells: Cell,
    checkpoint: Checkpoint | None,
    each: Callable[[int], None] = lambda _: None,
    compiled: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Run:
    """``each`` is called with an epoch's number before the checkpoint of that epoch."""
    pixels = pixels_of(cells[0])
    vae = made(cells, pixels.levels)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]

    def progress(epoch: int, _: int, losses: Sequence[float]) -> None:
        each(epoch)

    training = train(
        vae, cells, pixels, sources, progress, compiled=compiled, checkpoint=checkpoint, stop=stop
    )
    return Run(vae, training)


def stop_at(last: int) -> Callable[[int], None]:
    """End the training in this epoch, of which nothing is kept."""

    def each(epoch: int) -> None:
        if epoch == last:
            raise Ended

    return each


def at(folder: Path, *, identity: str = "these cells", every: float = 0.0) -> Checkpoint:
    return Checkpoint(folder / "it.checkpoint", identity, every)


def assert_same(one: Run, other: Run) -> None:
    for name, value in one.vae.state_dict().items():
        torch.testing.assert_close(
            other.vae.state_dict()[name], value, rtol=0, atol=0, equal_nan=True, msg=name
        )
    assert other.training.series == one.training.series
    assert other.training.divergence == one.training.divergence
    assert other.training.images == one.training.images
    assert len(other.training.step_seconds) == len(one.training.step_seconds)


BERNOULLI = {"likelihood": "bernoulli", "sigma": None, "binarization": "dynamic"}


@pytest.mark.parametrize("stop_after", [2, 3, 5])
@pytest.mark.parametrize(
    "cells",
    [
        [cell(seed=3, sigma="learned", learning_rate_schedule="cosine")],
        [cell(seed=3, sigma="optimal", dequantize=True)],
        [cell(seed=seed, weight_decay=0.1, **BERNOULLI) for seed in (3, 4)],
        [cell(seed=3), cell(seed=4, prior_scale=1e-25)],
        [cell(seed=3, optimizer="sgd")],
        [cell(seed=3, optimizer="adamw", adam_beta1=0.0, weight_decay=0.1)],
        [cell(seed=3, free_bits=0.2, beta_schedule="cyclical:2")],
        [cell(seed=3, prior="vamp", prior_components=4, beta_schedule="linear:3")],
    ],
    ids=["learned", "optimal", "pack", "one diverges", "sgd", "adamw", "cyclical", "vamp"],
)
def test_it_is_bitwise_the_training_without_a_stop(
    tmp_path: Path, cells: list[Cell], stop_after: int
) -> None:
    whole = trained(*cells, checkpoint=None)
    with pytest.raises(Ended):
        trained(*cells, checkpoint=at(tmp_path), each=stop_at(stop_after))
    rest = trained(*cells, checkpoint=at(tmp_path))
    assert rest.training.resumed_after == stop_after - 1
    assert_same(whole, rest)


def test_a_compiled_training_goes_on_too(tmp_path: Path) -> None:
    one, copied = cell(seed=3), at(tmp_path / "copied")
    copied.path.parent.mkdir()

    def copy(epoch: int) -> None:
        if epoch == 3:
            copied.path.write_bytes(at(tmp_path).path.read_bytes())

    whole = trained(one, checkpoint=at(tmp_path), each=copy, compiled=True)
    # The kind of step is the one that the training began with, whatever is asked for now.
    rest = trained(one, checkpoint=copied, compiled=False)
    assert rest.training.note is None
    assert rest.training.step_kind == "compiled"
    assert rest.training.resumed_after == 2
    assert rest.training.compile_seconds > whole.training.compile_seconds
    assert_same(whole, rest)


def test_a_training_that_is_asked_to_stop_is_kept_and_ends_as_one_that_was_not(
    tmp_path: Path,
) -> None:
    one, asked = cell(), iter([False, True])
    whole = trained(one, checkpoint=None)
    with pytest.raises(Stopped):
        trained(one, checkpoint=at(tmp_path, every=1000.0), stop=lambda: next(asked))
    rest = trained(one, checkpoint=at(tmp_path, every=1000.0))
    assert rest.training.resumed_after == 2
    assert_same(whole, rest)


def test_without_a_place_to_keep_it_a_training_goes_on(tmp_path: Path) -> None:
    assert_same(
        trained(cell(), checkpoint=None, stop=lambda: True), trained(cell(), checkpoint=None)
    )


def test_a_checkpoint_is_written_only_when_it_is_due(tmp_path: Path) -> None:
    trained(cell(), checkpoint=at(tmp_path, every=1000.0))
    assert not list(tmp_path.iterdir())


def a_stopped_training(folder: Path) -> Path:
    with pytest.raises(Ended):
        trained(cell(), checkpoint=at(folder), each=stop_at(3))
    return at(folder).path


def test_a_damaged_checkpoint_is_not_taken_up(tmp_path: Path) -> None:
    for path in two_checkpoints(tmp_path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    checkpoint = at(tmp_path, every=1000.0)
    result = trained(cell(), checkpoint=checkpoint)
    assert result.training.resumed_after == 0
    assert checkpoint.note == "a checkpoint was there and not used: it was damaged"
    assert_same(trained(cell(), checkpoint=None), result)


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 200])
def test_nor_is_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    checkpoint = at(tmp_path)
    checkpoint.path.write_bytes(content)
    assert checkpoint.load() is None
    assert "it was damaged" in str(checkpoint.note)


def test_nor_is_that_of_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_stopped_training(tmp_path)
    other = at(tmp_path, identity="other cells")
    assert other.load() is None
    assert "another training" in str(other.note)
    assert at(tmp_path).load() is not None
    monkeypatch.setattr(torch, "__version__", "3.0.0")
    newer = at(tmp_path)
    assert newer.load() is None
    assert "another training, torch or vaebench" in str(newer.note)


def test_nor_is_one_of_an_older_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vaebench.training.checkpoint._FORMAT", "1")
        a_stopped_training(tmp_path)
    old = at(tmp_path, every=1000.0)
    result = trained(cell(), checkpoint=old)
    assert result.training.resumed_after == 0
    assert "not used" in str(old.note)
    assert_same(trained(cell(), checkpoint=None), result)


def test_training_goes_on_where_none_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    checkpoint = Checkpoint(tmp_path / "file" / "it.checkpoint", "these cells", 0.0)
    result = trained(cell(), checkpoint=checkpoint)
    assert str(checkpoint.note).startswith("the last checkpoint could not be written: ")
    assert_same(trained(cell(), checkpoint=None), result)


def two_checkpoints(folder: Path) -> tuple[Path, Path]:
    """The newest, after epoch 2, and the one before it."""
    a_stopped_training(folder)
    newest = at(folder)
    assert newest.previous.exists()
    return newest.path, newest.previous


def test_a_torn_newest_checkpoint_leaves_the_one_before_it(tmp_path: Path) -> None:
    newest, _ = two_checkpoints(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-1])
    checkpoint = at(tmp_path, every=1000.0)
    result = trained(cell(), checkpoint=checkpoint)
    assert result.training.resumed_after == 1
    assert "damaged" in str(checkpoint.note)
    assert_same(trained(cell(), checkpoint=None), result)


def malformed(path: Path) -> Iterator[bytes]:
    """Checkpoints with a right checksum whose content is not a state of the training."""
    tensors = load(path.read_bytes()[64:])
    books = json.loads(bytes(tensors["books"].tolist()))
    for name in tensors:
        yield sealed({key: value for key, value in tensors.items() if key != name})
        if tensors[name].ndim > 1:
            yield sealed(tensors | {name: tensors[name][..., :1].clone()})
    for name in books:
        for value in (None, "text", []):
            text = json.dumps(books | {name: value}).encode()
            yield sealed(tensors | {"books": torch.frombuffer(bytearray(text), dtype=torch.uint8)})
    for text in (b"[1]", b"null", b"{", b'"a"', b"\xff"):
        yield sealed(tensors | {"books": torch.frombuffer(bytearray(text), dtype=torch.uint8)})


def sealed(tensors: dict[str, torch.Tensor]) -> bytes:
    content = save(tensors)
    return hashlib.sha256(content).hexdigest().encode() + content


def test_a_signed_but_malformed_checkpoint_is_refused(tmp_path: Path) -> None:
    newest, previous = two_checkpoints(tmp_path)
    sound = newest.read_bytes()
    previous.unlink()
    whole = trained(cell(epochs=3), checkpoint=None)
    refused = 0
    for content in malformed(newest):
        newest.write_bytes(content)
        checkpoint = at(tmp_path, every=1000.0)
        result = trained(cell(epochs=3), checkpoint=checkpoint)
        if result.training.resumed_after == 0:
            refused += 1
            assert "not used" in str(checkpoint.note)
            assert_same(whole, result)
        newest.write_bytes(sound)
    assert refused >= 20
