"""The statistics against SciPy, slow literal oracles, and simulations with a stated false-alarm rate."""

import math
from fractions import Fraction
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fanin.stats import compare_paired, kaplan_meier, majority_bound, smallest_p, worst_for_failures

ALARM = 1e-5
"""False-alarm rate of each simulation; seeds are fixed, so a passing one stays passing."""
quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)


def one(differences):
    """The comparison of a single row with a baseline of zeros."""
    differences = np.asarray(differences, float)
    return compare_paired(differences[None], np.zeros(len(differences)))[0]


def tables(least_seeds=4):
    """Whole numbers (so that ties are exact): up to 7 comparisons at up to 8 seeds."""
    return st.integers(least_seeds, 8).flatmap(
        lambda seeds: st.lists(st.lists(st.integers(-6, 8), min_size=seeds, max_size=seeds), min_size=1, max_size=7)
    )


# --------------------------------------------------------------------------------------------- sign-flip p
@pytest.mark.parametrize("seeds", [2, 5, 8, 10])
@pytest.mark.parametrize("ties", [False, True])
def test_p_is_scipys_exact_one(seeds, ties):
    rng = np.random.default_rng(seeds)
    differences = rng.integers(-3, 6, seeds).astype(float) if ties else rng.normal(0.5, 1, seeds)
    exact = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert one(differences).p == pytest.approx(exact.pvalue, abs=1e-12)


@quick
@given(st.lists(st.integers(-360, 360), min_size=1, max_size=9))
def test_ties_of_accuracies_are_ties(counts):
    # Accuracies on 360 examples: sums that are equal as fractions must count as equal in floating point.
    observed = abs(sum(counts))
    flipped = [
        abs(sum(sign * count for sign, count in zip(signs, counts, strict=True)))
        for signs in product((1, -1), repeat=len(counts))
    ]
    baseline = np.full(len(counts), 0.1)
    result = compare_paired((baseline + np.array(counts) / 360)[None], baseline)[0]
    assert result.p == sum(value >= observed for value in flipped) / len(flipped)


def test_no_difference_is_no_evidence():
    result = one(np.zeros(8))
    assert (result.difference, result.low, result.high, result.p, result.p_adjusted) == (0, 0, 0, 1, 1)


@pytest.mark.parametrize(("seeds", "least"), [(1, 1.0), (6, 1 / 32), (8, 1 / 128), (14, 1 / 8192), (15, 1 / 16384)])
def test_smallest_p(seeds, least):
    assert smallest_p(seeds) == least
    if seeds <= 10:
        assert one(np.arange(1, seeds + 1)).p == least


# ------------------------------------------------------------------------------------------------ interval
def subset_means(differences):
    exact = [Fraction(float(value)) for value in differences]
    return sorted(sum(s) / len(s) for size in range(1, len(exact) + 1) for s in combinations(exact, size))


@pytest.mark.parametrize("seeds", [6, 7, 8, 9])
def test_the_interval_is_hartigans(seeds):
    differences = np.random.default_rng(seeds).standard_cauchy(seeds)
    means = subset_means(differences)
    cut = 2**seeds // 40  # 2.5 % of the 2**seeds pieces
    result = one(differences)
    assert result.low == pytest.approx(float(means[cut - 1]), rel=1e-12)
    assert result.high == pytest.approx(float(means[-cut]), rel=1e-12)
    assert result.difference == pytest.approx(differences.mean(), rel=1e-12)
    assert result.seeds == seeds


@pytest.mark.parametrize("seeds", range(1, 6))
def test_below_six_seeds_there_is_no_interval(seeds):
    result = one(np.arange(1.0, seeds + 1))
    assert (result.low, result.high) == (-math.inf, math.inf)
    assert result.p > 0.05


@pytest.mark.parametrize("seeds", [6, 7])
def test_the_interval_holds_what_the_test_does_not_reject(seeds):
    differences = np.random.default_rng(seeds).normal(1, 1, seeds)
    means = [float(mean) for mean in subset_means(differences)]
    centres = [means[0] - 1, *((a + b) / 2 for a, b in pairwise(means)), means[-1] + 1]
    result = one(differences)
    inside = [result.low <= centre <= result.high for centre in centres]
    assert inside == [one(differences - centre).p > 0.05 for centre in centres]
    assert 0 < sum(inside) < len(inside)


@pytest.mark.parametrize("draw", ["normal", "laplace", "standard_cauchy"])
def test_the_interval_covers_as_often_as_it_says(draw):
    rng, trials = np.random.default_rng(5), 400
    missed = 0
    for _ in range(trials):
        result = one(3 + getattr(rng, draw)(size=8))
        missed += not result.low <= 3 <= result.high
    # 6 of 256 pieces are left out on each side: for a continuous law that is the rate exactly.
    assert stats.binomtest(missed, trials, 12 / 256).pvalue > ALARM


# ------------------------------------------------------------------------------------- many comparisons
def holm(p):
    order = np.argsort(p, kind="stable")
    adjusted, highest = np.empty(len(p)), 0.0
    for rank, j in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[j]))
        adjusted[j] = highest
    return adjusted


def slow_min_p(rows):
    """Westfall and Young's step-down min-p, algorithm 2.8, as it is written down; whole numbers, so exact."""
    patterns = list(product((1, -1), repeat=len(rows[0])))
    sums = [[abs(sum(s * d for s, d in zip(signs, row, strict=True))) for signs in patterns] for row in rows]
    p = [[sum(other >= value for other in row) / len(patterns) for value in row] for row in sums]
    observed = [row[0] for row in p]
    order = sorted(range(len(rows)), key=lambda j: observed[j])
    adjusted, highest = [0.0] * len(rows), 0.0
    for rank, j in enumerate(order):
        smaller = sum(min(p[k][b] for k in order[rank:]) <= observed[j] for b in range(len(patterns)))
        highest = max(highest, smaller / len(patterns))
        adjusted[j] = highest
    return observed, adjusted


@settings(quick, max_examples=25)
@given(tables())
def test_adjusted_p_is_the_literal_step_down(rows):
    rows = [row[:6] for row in rows]  # 64 patterns at most keep the oracle quick
    p, adjusted = slow_min_p(rows)
    results = compare_paired(np.array(rows, float), np.zeros(len(rows[0])))
    assert [result.p for result in results] == p
    assert [result.p_adjusted for result in results] == adjusted


@quick
@given(tables())
def test_adjusted_p_lies_between_p_and_holms(rows):
    results = compare_paired(np.array(rows, float), np.zeros(len(rows[0])))
    p, adjusted = (np.array([getattr(result, name) for result in results]) for name in ("p", "p_adjusted"))
    assert (p <= adjusted).all()
    assert (adjusted <= holm(p) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


@quick
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_comparisons_does_not_matter(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    values, baseline = np.array(rows, float), np.zeros(len(rows[0]))
    results = compare_paired(values, baseline)
    assert compare_paired(values[order], baseline) == [results[j] for j in order]


def test_seven_comparisons_at_eight_seeds_can_be_significant():
    # What Holm cannot reach: 7 / 128 = .055.
    strong = np.random.default_rng(0).normal(10, 1, (7, 8))
    results = compare_paired(strong, np.zeros(8))
    assert {result.p for result in results} == {1 / 128}
    assert {result.p_adjusted for result in results} == {1 / 128}
    assert min(holm(np.full(7, 1 / 128))) > 0.05


def draw_null(rng, law, shape):
    if law == "rare failures":
        return np.where(rng.random(shape) < 0.1, 0.1, np.round(rng.normal(0.9, 0.01, shape) * 360) / 360)
    return getattr(rng, law)(size=shape)


def family_wise_errors(law, repetitions, seed):
    """How often 7 initializers and a baseline that are all the same give at least one verdict, at 8 seeds."""
    rng, wrong = np.random.default_rng(seed), 0
    for _ in range(repetitions):
        values = draw_null(rng, law, (8, 8))
        wrong += any(result.p_adjusted <= 0.05 for result in compare_paired(values[1:], values[0]))
    return wrong


NULLS = ["normal", "exponential", "rare failures"]


@pytest.mark.parametrize("law", NULLS)
def test_family_wise_error(law):
    assert family_wise_errors(law, 300, seed=1) <= stats.binom.isf(ALARM, 300, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("law", NULLS)
def test_family_wise_error_at_length(law):
    assert family_wise_errors(law, 5000, seed=2) <= stats.binom.isf(ALARM, 5000, 0.05)


# --------------------------------------------------------------------------------------------- many seeds
@pytest.fixture(scope="module")
def sixteen():
    differences = np.random.default_rng(3).normal(0.35, 1, 16)
    signs = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
    return differences, signs


def exact_p(differences, signs):
    sums = np.abs(signs @ differences)
    return (sums >= sums[0] - 1e-9).mean()


def sampling_error(p):
    """Of a share of 2**14 drawn patterns, one of them the observed."""
    return stats.norm.isf(ALARM / 2) * math.sqrt(p * (1 - p) / 2**14) + 2**-14


def test_sampled_patterns_estimate_the_exact_p(sixteen):
    differences, signs = sixteen
    p = exact_p(differences, signs)
    assert 0.02 < p < 0.98
    assert one(differences).p == pytest.approx(p, abs=sampling_error(p))
    assert one(differences) == one(differences)
    assert one(np.arange(1, 17)).p >= smallest_p(16) == 2**-14


def test_the_sampled_interval_ends_where_the_exact_test_turns(sixteen):
    differences, signs = sixteen
    result = one(differences)
    assert result.low < result.difference < result.high
    for end in (result.low, result.high):
        # Each end is a sample quantile at .025; the two-sided p there is twice a share with that error.
        assert exact_p(differences - end, signs) == pytest.approx(0.05, abs=2 * sampling_error(0.025))


def test_sampled_adjustment_keeps_its_order():
    values = np.random.default_rng(4).normal([[0], [0.3], [0.8], [2]], 1, (4, 20))
    results = compare_paired(values, np.zeros(20))
    p, adjusted = ([getattr(result, name) for result in results] for name in ("p", "p_adjusted"))
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert (np.array(adjusted) <= holm(np.array(p)) + 1e-12).all()
    assert adjusted[3] <= 0.05


# ----------------------------------------------------------------------------------------------- the rest
def test_the_baseline_is_taken_off_seed_by_seed():
    baseline = np.array([1.0, 5, 2, 8, 3, 9])
    results = compare_paired(np.stack([baseline + 1, baseline - 2]), baseline)
    assert [result.difference for result in results] == [1, -2]
    assert [(result.low, result.high) for result in results] == [(1, 1), (-2, -2)]


def test_failures_are_put_last_and_kept():
    assert worst_for_failures([0.5, math.nan, math.inf, -math.inf], 0.1).tolist() == [0.5, 0.1, 0.1, 0.1]
    assert worst_for_failures([2, 3], 9.0).tolist() == [2, 3]


@pytest.mark.parametrize(("share", "examples"), [(0.1, 360), (0.5, 20), (0.9, 7), (1.0, 5), (0.3, 1)])
def test_majority_bound_is_the_binomial_one(share, examples):
    count = round(majority_bound(share, examples) * examples)
    assert count / examples == majority_bound(share, examples)
    assert stats.binom.cdf(count, examples, share) >= 0.95
    assert stats.binom.cdf(count - 1, examples, share) < 0.95


def test_kaplan_meier_by_hand():
    # At risk 6, 5, 3: survival 5/6, then 4/5 of it, then (after one left unseen at 8) 2/3 of that.
    times, shares = kaplan_meier([12, 8, 5, 8, 15, 20], [True, True, True, False, False, False])
    assert times == [5, 8, 12]
    assert shares == pytest.approx([1 / 6, 1 / 3, 5 / 9])


def test_kaplan_meier_at_its_ends():
    assert kaplan_meier([10, 20], [False, False]) == ([], [])
    assert kaplan_meier([], []) == ([], [])
    times, shares = kaplan_meier([3, 1, 3], [True, True, True])
    assert times == [1, 3]
    assert shares == pytest.approx([1 / 3, 1])
