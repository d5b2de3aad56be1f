"""The folder of a study: read as it was written, merged, refused where it is damaged."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedjax_ecgr import InputError
from fedjax_ecgr.reports import merge, read
from fedjax_ecgr.reports.results import COLUMNS, by_member
from tests.reports.studies import grid, member, results, write_study

AXES = ["regulator", "seed"]


def two(**changed):
    """Returns a study of two members, one of them changed."""
    first = member(seed=0, curve=[0.1, math.nan, 0.5])
    return results(AXES, [first, member(**{"seed": 1, "curve": [0.2, math.nan, 0.4], **changed})])


def same(one, other):
    assert one.axes == other.axes
    for mine, its in zip((one.members, one.history), (other.members, other.history), strict=True):
        assert list(mine) == list(its)
        for name in mine:
            np.testing.assert_array_equal(mine[name], its[name], err_msg=name)
            assert mine[name].dtype == its[name].dtype, name


def test_a_folder_reads_back_as_it_was_written(tmp_path):
    made = two()
    read_ = read(write_study(tmp_path / "study", made))
    order = np.argsort(made.history["member"].astype(str), kind="stable")
    same(read_, made._replace(history={n: c[order] for n, c in made.history.items()}))
    assert read_.members["model.hidden"][0] == (64,)
    assert read_.members["partition_seed"][0] is None
    assert set(read_.options) == set(made.members) - {"member", "status", "diverged_in_round"}


def test_rounds_are_in_order_whatever_the_order_in_the_file(tmp_path):
    made = two()
    shuffled = np.random.default_rng(0).permutation(len(made.history["round"]))
    mixed = made._replace(history={n: c[shuffled] for n, c in made.history.items()})
    same(read(write_study(tmp_path / "mixed", mixed)), read(write_study(tmp_path / "sorted", made)))


def test_shards_merge_and_a_member_counts_once():
    whole = grid(seeds=range(4))
    left, right = grid(seeds=range(3)), grid(seeds=range(2, 4))
    merged = merge([left, right])
    assert merged.axes == whole.axes
    assert set(merged.members["member"]) == set(whole.members["member"])
    assert len(merged.members["member"]) == len(whole.members["member"])
    mine, its = by_member(merged), by_member(whole)
    for name in mine:
        for column in COLUMNS:
            np.testing.assert_array_equal(mine[name][column], its[name][column])


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_member_that_one_folder_has_further_the_longer_history_counts(order):
    finished = two()
    stopped = two(status="running", curve=[0.2, math.nan])
    stopped.members["member"] = finished.members["member"]  # the same configuration
    stopped.history["member"] = finished.history["member"][:5]
    merged = merge([finished, stopped][::order])
    assert list(merged.members["status"]) == ["finished", "finished"]
    assert len(merged.history["round"]) == 6


def test_histories_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="differ from one folder to another"):
        merge([two(), two(curve=[0.2, math.nan, 0.41])])
    with pytest.raises(InputError, match="differ from one folder to another"):
        merge([two(), two(curve=[0.2, math.nan, 0.4, 0.5])])


def test_what_differs_from_folder_to_folder_becomes_an_axis():
    merged = merge([two(), two(rounds=50)])
    assert merged.axes == ("regulator", "seed", "rounds")


def test_a_folder_that_is_none_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(
            InputError, match=r"must be a recorded study: it has no members.parquet"
        ):
            read(folder)


def damaged(tmp_path, *, drop=None, axes='["seed"]', text=None, members=None):
    """Returns a study's folder without a column, or otherwise not as it should be."""
    folder = write_study(tmp_path / "study", members or two())
    table = pq.read_table(folder / "members.parquet").replace_schema_metadata({"axes": axes})
    pq.write_table(table.drop_columns(drop or []), folder / "members.parquet")
    if text is not None:
        (folder / "history.parquet").write_bytes(text)
    return folder


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"drop": ["status"]}, r"members.parquet: the column 'status' is missing"),
        ({"axes": "nonsense"}, "its metadata must have axes"),
        ({"axes": '["sed"]'}, "its metadata must have axes"),
        ({"axes": '{"seed": 1}'}, "its metadata must have axes"),
        ({"text": b"PAR1"}, "history.parquet: cannot be read as Parquet"),
        ({"text": b""}, "history.parquet: cannot be read as Parquet"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path, how, said):
    with pytest.raises(InputError, match=said) as refused:
        read(damaged(tmp_path, **how))
    assert "\n" not in str(refused.value)


def test_rounds_of_nobody_and_members_twice_are_refused(tmp_path):
    made = two()
    twice = made._replace(members={n: np.repeat(c[:1], 2) for n, c in made.members.items()})
    with pytest.raises(InputError, match="a member is there twice"):
        read(write_study(tmp_path / "twice", twice))
    one = made._replace(members={n: c[:1] for n, c in made.members.items()})
    with pytest.raises(InputError, match="rounds of a member that is not known"):
        read(write_study(tmp_path / "one", one))


def test_text_where_numbers_belong_is_refused(tmp_path):
    folder = write_study(tmp_path / "study", two())
    table = pq.read_table(folder / "history.parquet")
    at = table.column_names.index("drift")
    text = table.set_column(at, "drift", pa.array(["far"] * len(table)))
    pq.write_table(text, folder / "history.parquet")
    with pytest.raises(InputError, match="the column 'drift' must hold numbers"):
        read(folder)
    assert json.loads(pq.read_schema(folder / "members.parquet").metadata[b"axes"]) == AXES
