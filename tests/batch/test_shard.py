"""Shards: every input is in exactly one, whatever the order in which it was found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.batch import Shard
from mroi.batch.tasks import Exists, Input, plan_tasks
from mroi.errors import UsageError

names = st.lists(st.text("abc/.", min_size=1, max_size=5), unique=True, max_size=30)


@given(names, st.integers(1, 12), st.randoms())
def test_every_input_is_in_one_shard_whatever_the_order(inputs, count, random) -> None:
    shards = [Shard(k, count).part_of(inputs, str) for k in range(1, count + 1)]
    assert sorted(one for shard in shards for one in shard) == sorted(inputs)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    other = list(inputs)
    random.shuffle(other)
    for k, shard in enumerate(shards, 1):
        assert set(Shard(k, count).part_of(other, str)) == set(shard)


@given(names, st.integers(1, 5))
def test_inputs_with_one_key_stay_together(inputs, count) -> None:
    shards = [Shard(k, count).part_of(inputs, lambda name: name[0]) for k in range(1, count + 1)]
    for letter in "abc/.":
        assert sum(any(name[0] == letter for name in shard) for shard in shards) <= 1


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1", "1/", "-1/3", "1/3/3", "a/b", "1/0", "1/99999999"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="shard"):
        Shard.parse(text)


def test_two_inputs_with_one_output_are_told_in_their_shard(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.nii", "a.nii.gz", "b.nii", "c.nii"):
        (tmp_path / name).write_bytes(b"x")

    def rename(entry: Input) -> str:
        return entry.below.name.partition(".")[0] + ".mroi"

    problems = [
        task.problem
        for k in (1, 2, 3)
        for task in plan_tasks([str(tmp_path)], [".nii", ".nii.gz"], "out/", rename, Exists.ERROR,
                               endings=[".mroi"], shard=Shard(k, 3), share=rename)
    ]  # fmt: skip
    assert len(problems) == 4
    assert sum(problem is not None for problem in problems) == 2


def test_files_of_a_shard_have_it_in_their_names() -> None:
    assert Shard(3, 10).own("logs/run.jsonl").endswith("run.3-of-10.jsonl")
