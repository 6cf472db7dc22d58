"""The file format, and every file of `data/` against a new computation."""

import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from applications.pinn.reference import (
    STORED,
    Reference,
    path_of,
    relative_difference,
    stored,
)

README = (path_of("kdv").parent / "README.md").read_text()


def small() -> Reference:
    return Reference(
        {"x": np.array([0.0, 0.5, 1.0]), "t": np.array([0.0, 2.0])},
        {"u": np.arange(6.0).reshape(3, 2), "v": np.ones((3, 2))},
        error_bar=1e-9,
    )


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    small().save(tmp_path / "small.npz")
    again = Reference.load(tmp_path / "small.npz")
    assert list(again.axes) == ["x", "t"]
    assert list(again.values) == ["u", "v"]
    assert again.error_bar == 1e-9
    np.testing.assert_array_equal(again.values["u"], small().values["u"])
    np.testing.assert_array_equal(again.axes["t"], small().axes["t"])


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.npz", "two.npz"):
        small().save(tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


X, T = np.linspace(0, 1, 3), np.linspace(0, 2, 2)


@pytest.mark.parametrize(
    ("axes", "values", "error_bar", "message"),
    [
        ({"x": X, "t": T}, {"u": np.ones((2, 3))}, 0.0, r"'u' has shape \(2, 3\).*\(3, 2\)"),
        ({"x": X[::-1], "t": T}, {"u": np.ones((3, 2))}, 0.0, "axis 'x'.*strictly increasing"),
        ({"x": X[None], "t": T}, {"u": np.ones((3, 2))}, 0.0, r"axis 'x' of shape \(1, 3\)"),
        ({"x": X}, {"u": np.array([1, np.nan, 1])}, 0.0, "'u' has values that are not finite"),
        ({"x": X}, {"u": np.ones(3)}, -1.0, "error_bar is -1.0"),
        ({"x": X}, {}, 0.0, "at least one axis and one unknown"),
    ],
)
def test_what_does_not_fit_is_refused(
    axes: dict[str, np.ndarray], values: dict[str, np.ndarray], error_bar: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Reference(axes, values, error_bar)


def test_another_archive_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", u=X)
    with pytest.raises(ValueError, match=r"other.npz is no reference solution.*got u"):
        Reference.load(tmp_path / "other.npz")
    np.savez(tmp_path / "stray.npz", error_bar=0.0, u=X)
    with pytest.raises(ValueError, match=r"stray.npz holds 'u'"):
        Reference.load(tmp_path / "stray.npz")
    arrays = {"error_bar": np.zeros(()), "axis.x": X, "value.u": T}
    np.savez(tmp_path / "shape.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"shape.npz: 'u' has shape \(2,\)"):
        Reference.load(tmp_path / "shape.npz")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no reference solution 'heat'; there are burgers"):
        stored("heat")


@pytest.mark.parametrize("name", STORED)
def test_a_stored_file_is_small_precise_and_documented(name: str) -> None:
    assert path_of(name).stat().st_size < 1e6
    reference = stored(name)
    assert reference.error_bar < 1e-5
    (documented,) = re.findall(rf"`{name}\.npz` \|[^|]*\|[^|]*\| (\S+) \|", README)
    assert float(documented) == pytest.approx(reference.error_bar, rel=0.06)
    assert f"{sha256(path_of(name).read_bytes()).hexdigest()}  {name}.npz" in README


CHEAP = {"burgers_viscosity_0.01_over_pi", "burgers_viscosity_0.01", "reaction_diffusion"}
# Whose times depend on the last bits of the machine; see test_reference_stiff_ode.py.
ELSEWHERE = {"van_der_pol"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in CHEAP else pytest.mark.slow)
        for name in STORED
        if name not in ELSEWHERE
    ],
)
def test_a_new_computation_gives_what_is_stored(name: str) -> None:
    reference, again = stored(name), STORED[name]()
    for axis, values in reference.axes.items():
        np.testing.assert_allclose(again.axes[axis], values, rtol=1e-14)
    difference = relative_difference(again.values, reference.values)
    assert difference <= max(reference.error_bar, 1e-13)
