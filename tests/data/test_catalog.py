"""Where data are looked for, what identifies them, and what is said when they are not there."""

import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from miniature_files import Miniature

from vaebench.data import catalog
from vaebench.data.catalog import fingerprint, kind_of, locate
from vaebench.data.places import places
from vaebench.data.sources import SOURCES
from vaebench.errors import DataMissing
from vaebench.grid.axes import DATASETS


def test_places_are_searched_in_the_order_of_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "variable"))
    named = tmp_path / "named"
    cache = tmp_path / "cache" / "vaebench"
    assert places(named) == (named, tmp_path / "variable", cache)
    assert places(None) == (tmp_path / "variable", cache)


@pytest.mark.parametrize("layout", ["MNIST/raw", "mnist"])
@pytest.mark.parametrize("zipped", [False, True])
def test_files_are_found_raw_and_zipped(
    miniature: Miniature, tmp_path: Path, layout: str, zipped: bool
) -> None:
    folder = miniature.write(tmp_path / layout, zipped=zipped)
    located = locate("mnist", tmp_path)
    assert located.folder == folder
    ending = ".gz" if zipped else ""
    assert [path.name for path in located.paths] == [n + ending for n in miniature.contents]


def test_the_first_complete_folder_is_taken(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "variable"))
    complete = miniature.write(tmp_path / "variable" / "MNIST" / "raw")
    partial = miniature.write(tmp_path / "named" / "MNIST" / "raw")
    assert locate("mnist", tmp_path / "named").folder == partial
    (partial / "train-labels-idx1-ubyte").unlink()
    assert locate("mnist", tmp_path / "named").folder == complete


def test_a_raw_file_of_the_wrong_size_gives_way_to_the_zipped_one(
    miniature: Miniature, tmp_path: Path
) -> None:
    folder = miniature.write(tmp_path / "mnist")
    name = "train-labels-idx1-ubyte"
    (folder / name).write_bytes(b"cut")
    (folder / f"{name}.gz").write_bytes(gzip.compress(miniature.contents[name]))
    assert folder / f"{name}.gz" in locate("mnist", tmp_path).paths


def test_missing_data_name_each_place_and_both_ways_out(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "variable"))
    incomplete = miniature.write(tmp_path / "variable" / "mnist")
    (incomplete / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataMissing) as raised:
        locate("mnist", tmp_path / "named")
    text = str(raised.value)
    for folder in (tmp_path / "named", tmp_path / "variable", tmp_path / "cache" / "vaebench"):
        assert f"{folder / 'MNIST' / 'raw'} (no such folder)" in text
    assert f"{incomplete} (without t10k-images-idx3-ubyte)" in text
    assert "vaebench data fetch mnist" in text
    assert "vaebench data add mnist PATH" in text


def test_a_systems_folder_is_the_last_place(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = miniature.write(tmp_path / "system", zipped=True)
    facts = replace(catalog.FILE_SETS["mnist"], system_folders=(str(system),))
    monkeypatch.setattr(catalog, "FILE_SETS", {"mnist": facts})
    assert locate("mnist").folder == system
    own = miniature.write(tmp_path / "cache" / "vaebench" / "mnist")
    assert locate("mnist").folder == own


def test_debians_folder_is_known() -> None:
    assert catalog.FILE_SETS["fashion-mnist"].system_folders == (
        "/usr/share/datasets/fashion-mnist",
    )


def test_only_sets_of_files_are_located() -> None:
    with pytest.raises(ValueError, match="digits is built in and needs no files"):
        locate("digits")


def test_every_choice_has_a_source_and_a_fingerprint_of_its_own() -> None:
    assert set(SOURCES) == set(DATASETS)
    prints = {fingerprint(name) for name in DATASETS}
    assert len(prints) == len(DATASETS)
    assert all(len(checksum) == 64 for checksum in prints)


def test_a_set_without_a_checksum_is_told_where_to_add_it() -> None:
    with pytest.raises(KeyError, match=r"data/catalog\.py; 'unheard-of' has neither"):
        fingerprint("unheard-of")


def test_pinned_fingerprints_do_not_move() -> None:
    # They are part of every cell's identity: a change orphans all records made so far.
    assert fingerprint("digits")[:16] == "aed5b7b6ba1abbe7"
    assert fingerprint("mnist")[:16] == "58054e851a8a9cb1"
    assert fingerprint("fashion-mnist")[:16] == "e39aeaf445a50f01"
    assert fingerprint("linear-gaussian")[:16] == "f60f2e7140796d24"


def test_an_unknown_set_is_told_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"'fashion_mnist' \(did you mean 'fashion-mnist'\?\)"):
        kind_of("fashion_mnist")
    with pytest.raises(DataMissing, match=r"path of an \.npz, \.csv or"):
        kind_of(str(tmp_path / "absent.npz"))
    with pytest.raises(DataMissing, match="cannot open"):
        kind_of("x" * 5000)


def test_kinds_of_paths(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", train=np.zeros((2, 2, 2), np.uint8))
    assert kind_of(str(tmp_path)) == "folder"
    assert kind_of(str(tmp_path / "own.npz")) == "npz"
    assert kind_of("digits") == "packaged"


def test_the_catalog_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from vaebench.data import catalog\n"
        "print(len(catalog.fingerprint('mnist')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "64\n"
    assert catalog.FILE_SETS
