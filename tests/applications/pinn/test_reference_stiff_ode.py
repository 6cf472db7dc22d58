"""The stiff systems against published values and closed forms."""

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from applications.pinn.reference import relative_difference, stored, van_der_pol
from applications.pinn.reference.stiff_ode import (
    MOST_RISE,
    ROBERTSON,
    StiffOde,
    ode_reference,
    radau,
    van_der_pol_arc,
    van_der_pol_oscillator,
)


def test_robertson_at_the_time_of_the_literature() -> None:
    # Hairer & Wanner (1996) and the Bari test set for initial value problems, at t = 10^11.
    late = StiffOde(ROBERTSON.unknowns, ROBERTSON.initial, 1e11, ROBERTSON.rate, ROBERTSON.jacobian)
    _, y = radau(late, 1e-10, np.array([40.0, 1e11]))
    np.testing.assert_allclose(
        y[:, 1], [0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050], rtol=1e-8
    )
    # To the digits that are customarily printed.
    np.testing.assert_allclose(y[:, 0], [0.7158, 9.185e-6, 0.2842], rtol=2e-4)


def test_the_concentrations_of_robertson_sum_to_one() -> None:
    values = stored("robertson").values
    np.testing.assert_allclose(values["y1"] + values["y2"] + values["y3"], 1, atol=1e-13)
    assert min(y.min() for y in values.values()) >= 0


def test_van_der_pol_at_the_time_of_the_literature() -> None:
    # Bari test set, in the time scale t / 1000: x = 1.70616..., dx/d(t/1000) = -0.89280... at 2.
    _, y = radau(van_der_pol_oscillator(1000, 2000), 1e-9, np.array([2000.0]))
    np.testing.assert_allclose(y[:, 0], [0.1706167732170483e1, -0.8928097010247975e-3], rtol=1e-11)


def test_the_stored_van_der_pol_resolves_its_jumps() -> None:
    reference = stored("van_der_pol")
    t, x = reference.axes["t"], reference.values["x"]
    assert (len(t), t[0], t[-1]) == (len(x), 0, 2000)
    assert len(t) < 2000
    assert np.abs(np.diff(x)).max() < 0.2
    jumps = t[1:][np.diff(np.sign(x)) != 0]
    # Two jumps; half a period apart, (3 - 2 log 2) mu for large mu, less than 1 % from here.
    assert len(jumps) == 2
    assert np.diff(jumps)[0] == pytest.approx((3 - 2 * np.log(2)) * 1000 / 2, rel=0.01)


@pytest.mark.slow
def test_a_new_computation_gives_the_stored_van_der_pol() -> None:
    """At the stored times: those that Radau chooses may depend on the last bits of the machine."""
    reference = stored("van_der_pol")
    again = ode_reference(van_der_pol_oscillator(1000, 2000), reference.axes["t"])
    assert relative_difference(again.values, reference.values) <= reference.error_bar


def test_along_its_arc_the_oscillator_is_where_it_is_at_that_time() -> None:
    arc, timed = stored("van_der_pol_arc"), stored("van_der_pol")
    x_at = CubicHermiteSpline(timed.axes["t"], timed.values["x"], timed.values["v"])
    t, x = 2000 * arc.values["time"], arc.values["x"]
    apart = np.abs(x_at(t) - x)
    assert apart.max() < 1e-4
    assert np.median(apart) < 1e-6
    # y from x and v = x'; in a jump the spline knows v less well than x.
    y = x_at(t, 1) / 1000 + x**3 / 3 - x
    assert np.median(np.abs(y - arc.values["y"])) < 1e-6


def test_the_arc_is_as_long_as_it_says_but_where_time_speeds_up_and_its_pace_is_times_share() -> (
    None
):
    arc = stored("van_der_pol_arc")
    names = ("time", "x", "y", "pace")
    curve = np.stack([arc.values[name] for name in names], axis=1)
    speeds = CubicSpline(arc.axes["s"], curve)(arc.axes["s"], 1)
    rise = speeds[:, 3]
    rest = (rise + np.sqrt(rise**2 + 1)) / (2 * MOST_RISE)
    length = np.square(speeds[:, :3]).sum(axis=1)
    # But for the corners where it begins to jump, which are sharper than the points are dense.
    assert np.quantile(np.abs(length + rest - 1), 0.9) < 1e-4
    assert np.quantile(np.abs(speeds[:, 0] - 1 / (1 + np.exp(-arc.values["pace"]))), 0.9) < 1e-6
    assert rise.max() < MOST_RISE * (1 + 1e-4)
    falling = rise < -10
    assert falling.any() and length[falling].min() > 0.99


@pytest.mark.parametrize(
    "state", [[0.1, 1.5, -0.37, -1.2], [0.4, 0.5, -0.66, -13.0], [0.4, -1.9, -0.6669, -14.0]]
)
def test_the_jacobian_of_the_arc_is_that_of_differences(state: list[float]) -> None:
    ode, at = van_der_pol_arc(1000, 2000, 12.0), np.array(state)
    columns = [(ode.rate(at + 1e-7 * e) - ode.rate(at - 1e-7 * e)) / 2e-7 for e in np.eye(4)]
    jacobian = ode.jacobian(at)
    largest = np.abs(jacobian).max()
    np.testing.assert_allclose(jacobian, np.stack(columns, axis=1), rtol=0, atol=1e-8 * largest)


def test_a_mild_oscillator_nearly_keeps_its_amplitude() -> None:
    """For small stiffness x is close to 2 cos t."""
    reference = van_der_pol(stiffness=1e-3, end_time=6.0)
    exact = 2 * np.cos(reference.axes["t"])
    np.testing.assert_allclose(reference.values["x"], exact, atol=1e-2)


def test_the_error_bar_covers_the_error() -> None:
    """y' = -1000 (y - 1) + its slow companion z' = -z, both in closed form."""
    matrix = np.array([[-1000.0, 0.0], [0.0, -1.0]])
    ode = StiffOde(
        unknowns=("y", "z"),
        initial=(2.0, 1.0),
        end_time=3.0,
        rate=lambda y: matrix @ (y - np.array([1.0, 0.0])),
        jacobian=lambda y: matrix,
    )
    t = np.concatenate([[0.0], np.geomspace(1e-4, 3, 50)])
    reference = ode_reference(ode, t, tolerance=1e-9)
    y, z = 1 + np.exp(-1000 * t), np.exp(-t)
    error = max(
        np.linalg.norm(reference.values["y"] - y) / np.linalg.norm(y),
        np.linalg.norm(reference.values["z"] - z) / np.linalg.norm(z),
    )
    assert error <= reference.error_bar < 1e-6


def test_a_stiffness_of_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="stiffness is -1"):
        van_der_pol(-1.0)
