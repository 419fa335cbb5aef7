"""Tensors sharded over four real processes: every rank draws its own part, and together it is the one tensor."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("sharding_worker.py")
RANKS = range(4)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What each rank saw, in the order of the ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in RANKS]


def chosen(facts, part, **wanted):
    """Key to the facts of all ranks, for the keys law|what|placement whose fields are among those wanted."""
    found = {}
    for key in facts[0][part]:
        fields = dict(zip(("law", "what", "placement"), key.split("|"), strict=True))
        if all(fields[field] in values for field, values in wanted.items()):
            found[key] = [rank[part][key] for rank in facts]
    assert found
    return found


STRUCTURED = ("orthogonal_", "delta_orthogonal_")
DRAWN = ("normal_", "uniform_", "trunc_normal_", "he_normal_")
PLACEMENTS = ("rows", "columns", "last", "replicated", "both", "both turned", "rows twice", "hybrid")


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("law", [*DRAWN, "constant_", *STRUCTURED])
def test_the_sharded_tensor_is_the_whole_one(facts, law, placement):
    for key, ranks in chosen(facts, "seeded", law=[law], placement=[placement]).items():
        assert all(fact["equal"] and fact["same"] for fact in ranks), key


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_rank_draws_its_own_part_alone(facts, placement):
    """Counted at the innermost functions of `fills`: not one element more than the rank holds."""
    for key, ranks in chosen(facts, "seeded", law=DRAWN, placement=[placement]).items():
        assert [fact["drawn"] for fact in ranks] == [fact["local"] for fact in ranks], key


def test_the_parts_make_up_the_whole(facts):
    sizes = {"even": 96, "uneven": 35, "fewer than ranks": 6, "kernel": 180}
    for what, size in sizes.items():
        for key, ranks in chosen(facts, "seeded", what=[what], placement=("rows", "columns", "last", "both")).items():
            assert sum(fact["local"] for fact in ranks) == size, key


def test_a_constant_draws_nothing(facts):
    for ranks in chosen(facts, "seeded", law=["constant_"]).values():
        assert {fact["drawn"] for fact in ranks} == {0}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_without_a_seed_all_ranks_take_that_of_the_first(facts, placement):
    """Though the ranks' generators differ: the values are those that rank 0 would draw alone."""
    ranks = [rank["unseeded"][placement] for rank in facts]
    for fact in ranks:
        assert fact["moved"]
        for index in range(3):  # first draw, second draw, a generator of one's own
            assert torch.equal(fact["wholes"][index], ranks[0]["wholes"][index])
            assert torch.equal(fact["wholes"][index], fact["alone"][index])
        assert not torch.equal(fact["wholes"][0], fact["wholes"][1])


@pytest.mark.parametrize("placement", ["rows", "columns", "both"])
@pytest.mark.parametrize("what", ["transposed grouped", "transposed", "grouped", "lstm", "attention"])
def test_sharded_parameters_of_modules(facts, what, placement):
    for key, ranks in chosen(facts, "modules", what=[what], placement=[placement]).items():
        assert all(fact["equal"] and fact["same"] for fact in ranks), key
        if key.startswith("xavier") and what != "transposed grouped":  # whose shards are no rectangles
            assert [fact["drawn"] for fact in ranks] == [fact["local"] for fact in ranks], key


@pytest.mark.parametrize("what", ["bfloat16", "meta", "untouched"])
def test_other_precisions_meta_tensors_and_mistakes(facts, what):
    assert [rank["others"][what] for rank in facts] == [True] * 4
    assert not any("refused" in rank["others"] for rank in facts)


def test_a_tensor_that_is_a_sum_over_ranks_is_refused_or_right(facts):
    """A Partial placement adds the ranks' parts, so the whole in each of them would be four times too large."""
    assert [rank["others"]["partial"] for rank in facts] == [True] * 4
