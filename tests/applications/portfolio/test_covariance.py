"""Covariances given by hand: refused, or repaired by the least that makes them one."""

import numpy as np
import pandas as pd
import pytest

from applications.portfolio.covariance import InvalidCovarianceError, check_covariance

NAMES = ["AAA", "BBB", "CCC"]
# Correlations no three assets can have: A and B like C, but not like each other.
IMPOSSIBLE = np.array([[1.0, -0.9, 0.9], [-0.9, 1.0, 0.9], [0.9, 0.9, 1.0]])


def named(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, NAMES, NAMES)


def test_a_covariance_is_returned_as_it_is() -> None:
    covariance = named(np.diag([1.0, 2.0, 3.0]) + 0.1)
    found, notices = check_covariance(covariance)
    pd.testing.assert_frame_equal(found, covariance)
    assert notices == ()


def test_a_negative_variance_is_refused_with_eigenvalue_portfolio_and_distance() -> None:
    # By hand: eigenvalues 1.9 twice and 1 - 2 * 0.9 = -0.8 along (1, 1, -1) / sqrt(3).
    with pytest.raises(InvalidCovarianceError) as refusal:
        check_covariance(named(IMPOSSIBLE))
    says = str(refusal.value)
    assert "smallest eigenvalue -0.8 (largest 1.9)" in says
    assert "0.58" in says
    assert f"0.8 away, {0.8 / np.sqrt(2 * 1.9**2 + 0.8**2):.2%} of its norm" in says


def test_the_repair_is_the_nearest_covariance_and_is_told() -> None:
    found, (notice,) = check_covariance(named(IMPOSSIBLE), repair=True)
    along = np.array([1, 1, -1]) / np.sqrt(3)
    np.testing.assert_allclose(found, IMPOSSIBLE + 0.8 * np.outer(along, along), atol=1e-14)
    assert "replaced by the nearest covariance, 0.8 away" in notice


def test_a_singular_covariance_is_kept_with_a_notice() -> None:
    covariance = named(np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]))
    found, (notice,) = check_covariance(covariance)
    pd.testing.assert_frame_equal(found, covariance)
    assert "singular to round-off" in notice


@pytest.mark.parametrize(
    ("covariance", "says"),
    [
        (named(IMPOSSIBLE).iloc[:, [1, 0, 2]], "same order, got 'AAA' and 'BBB'"),
        (named(IMPOSSIBLE).iloc[:2], "got 2 rows and 3 columns"),
        (named(np.where(np.eye(3) > 0, 1, [[0, 0, np.nan]])), "of AAA and CCC is nan"),
        (named(np.diag([1.0, 0.0, 1.0])), "the variance of BBB is 0; expected a number > 0"),
        (named(np.eye(3) + np.triu(np.full((3, 3), 0.2), 2)), "AAA with CCC is 0.2, but CCC"),
    ],
)
def test_entries_that_no_covariance_has_are_named(covariance: pd.DataFrame, says: str) -> None:
    with pytest.raises(InvalidCovarianceError, match=says):
        check_covariance(covariance)
