"""The checks of single values: what is taken, in which form, and what is refused."""

import math
import re

import pytest

from vaebench.grid.cell import AXES
from vaebench.grid.values import closest, shown

TAKEN = [
    ("latent_dim", 1, 1),
    ("latent_dim", 1_000_000, 1_000_000),
    ("seed", 2**63 - 1, 2**63 - 1),
    ("sigma", 1, 1.0),
    ("sigma", 2.0**-126, 2.0**-126),
    ("sigma", "per_pixel", "per_pixel"),
    ("sigma", None, None),
    ("beta", 0, 0.0),
    ("hidden", [400, 200], (400, 200)),
    ("hidden", [], ()),
    ("dequantize", True, True),
    ("pixel_clip", 0.01, 0.01),
    ("train_size", None, None),
    ("dataset", "photos.npz", "photos.npz"),
    ("dataset", "./photos", "./photos"),
    ("dataset", "/data/my photos", "/data/my photos"),
    ("architecture", "my_package.nets:build", "my_package.nets:build"),
    ("device", "cuda:1", "cuda:1"),
    ("device", "available", "available"),
]

REFUSED = [
    ("latent_dim", 0, "whole number from 1 to 1,000,000, not 0"),
    ("latent_dim", -1, "not -1"),
    ("latent_dim", 1.5, "not 1.5"),
    ("latent_dim", 8.0, "not 8.0"),
    ("latent_dim", "8", "not '8'; write the number without quotes"),
    ("latent_dim", True, "not true"),
    ("latent_dim", 10**9, "not 1000000000"),
    ("latent_dim", None, "not None"),
    ("seed", -1, "not -1"),
    ("seed", 2**63, "not 9223372036854775808"),
    ("seed", 2**64, "not 18446744073709551616"),
    ("seed", 0.0, "not 0.0"),
    ("sigma", 0, "number above 0"),
    ("sigma", 0.0, "number above 0"),
    ("sigma", -0.1, "not -0.1"),
    ("sigma", math.nan, "not nan"),
    ("sigma", math.inf, "not inf"),
    ("sigma", 10**400, "number above 0"),
    ("sigma", 1e39, "number above 0"),
    ("sigma", 1e-40, "denormal in float32"),
    ("sigma", True, "not true"),
    ("sigma", "1e-3", "not '1e-3'; write the number without quotes"),
    ("sigma", "lerned", "did you mean 'learned'"),
    ("likelihood", "gausian", "did you mean 'gaussian'"),
    ("likelihood", "Bernoulli", "did you mean 'bernoulli'"),
    ("likelihood", "cauchy", "one of bernoulli, continuous_bernoulli, gaussian"),
    ("likelihood", 3, "not 3"),
    ("device", "gpu", "cpu, cuda, mps, available, or cuda:N, not 'gpu'$"),
    ("device", "cuda:x", "cuda:N, not 'cuda:x'"),
    ("device", "cuda:01", "not 'cuda:01'"),
    ("device", "CUDA", "did you mean 'cuda'"),
    ("dataset", "mnsit", "did you mean 'mnist'"),
    ("dataset", "photos", "image folder"),
    ("dataset", "a/b\0c", "one of digits"),
    ("architecture", "os.system", "package.module:factory"),
    ("architecture", "a:b:c", "package.module:factory"),
    ("hidden", 400, "each value as a list"),
    ("hidden", [400, 0], "whole numbers from 1"),
    ("hidden", [True], "whole numbers from 1"),
    ("hidden", [1] * 17, "at most 16"),
    ("dequantize", 1, "true or false, not 1"),
    ("dequantize", "true", "true or false, not 'true'"),
    ("pixel_clip", 0.5, "below 0.5"),
    ("beta", -1e-9, "at least 0"),
    ("tsne_points", 2001, "from 0 to 2,000"),
]


@pytest.mark.parametrize(("axis", "raw", "canonical"), TAKEN)
def test_takes(axis: str, raw: object, canonical: object) -> None:
    value = AXES[axis].check(raw)
    assert value == canonical
    assert type(value) is type(canonical)


@pytest.mark.parametrize(("axis", "raw", "message"), REFUSED)
def test_refuses(axis: str, raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AXES[axis].check(raw)


def test_minus_zero_is_zero() -> None:
    assert math.copysign(1.0, AXES["beta"].check(-0.0)) == 1.0


def test_a_long_value_is_cut() -> None:
    assert len(shown("x" * 1000)) == 60


def test_closest_names_only_what_is_near() -> None:
    assert closest("latent_dmi", AXES) == " (did you mean 'latent_dim'?)"
    assert closest("zzz", AXES) == ""


def test_every_axis_says_what_it_is_and_takes() -> None:
    for axis in AXES.values():
        assert axis.summary
        assert "\n" not in axis.summary
        assert re.match(r"(one|a|true)\b", axis.check.text)
        assert axis.check(axis.default) == axis.default
