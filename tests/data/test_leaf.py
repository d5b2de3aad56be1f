"""LEAF's files against the examples that were written into them."""

import json

import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.data.datasets import femnist, shakespeare
from fedjax_ecgr.data.datasets.shakespeare import CHARACTERS
from tests.data.sources import write_leaf, writer


def test_femnist_is_what_was_written_by_writer(tmp_path):
    users = {"f2": writer([61, 0, 7], 1), "f0": writer([3, 36], 2), "f1": ([], [])}
    test = {"f9": writer([5], 3), "f2": writer([9], 4)}
    write_leaf(tmp_path, {"train": users, "test": test})
    data = femnist(data_path=str(tmp_path))
    assert data.spec == fx.Spec((28, 28, 1), 62)
    for part, held in (("train", users), ("test", test)):
        examples = getattr(data, part)
        pixels = np.concatenate([x for x, _ in held.values() if x]) * 255
        np.testing.assert_array_equal(examples.inputs.reshape(-1, 784), np.rint(pixels))
        np.testing.assert_array_equal(
            examples.labels, [label for _, y in held.values() for label in y]
        )
    np.testing.assert_array_equal(data.train.owners, [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(data.test.owners, [2, 1])  # f9 trains on nothing
    assert fx.partition.natural(data.train).sizes.tolist() == [2, 3]


def test_shakespeare_is_what_was_written_by_role(tmp_path):
    lines = [
        "To be, or not to be, that is the question:".ljust(80),
        "Words, words, words.".rjust(80),
    ]
    write_leaf(tmp_path, {part: {"HAMLET": (lines, ["\n", "Z"])} for part in ("train", "test")})
    data = shakespeare(data_path=str(tmp_path))
    assert data.spec == fx.Spec((80,), 80, vocabulary=80, target_shape=(80,))

    def text(tokens):
        return "".join(CHARACTERS[token] for token in tokens)

    for row, (line, after) in enumerate(zip(lines, "\nZ", strict=True)):
        assert text(data.train.inputs[row]) == line
        assert text(data.train.labels[row]) == line[1:] + after
    last = shakespeare(data_path=str(tmp_path), every_position=False)
    assert last.spec.target_shape == ()
    assert text(last.test.labels) == "\nZ"
    np.testing.assert_array_equal(last.train.inputs, data.train.inputs)


def test_a_run_on_characters_learns_them(tmp_path):
    """What follows "a" is "b", for one role in two; its accuracy is nothing like chance."""
    text = "ab" * 50
    lines = [text[at : at + 80] for at in range(12)], [text[at + 80] for at in range(12)]
    write_leaf(tmp_path, {part: {"A": lines, "B": lines} for part in ("train", "test")})
    data = shakespeare(data_path=str(tmp_path))
    history = fx.simulate(
        fx.fedavg(learning_rate=0.5, regulator=fx.ecgr()),
        fx.models.gru(data.spec, embedding=4, hidden=(8,)),
        fx.partition.natural(data.train),
        test=data.test,
        rounds=6,
        batch_size=4,
        placement="scan",
        seed=1,
    )
    assert history.table["test_accuracy"][-1] > 0.95


@pytest.mark.parametrize(
    ("source", "held", "message"),
    [
        (femnist, {"x": [[0.5]], "y": [1]}, "user 'u': images of shape .*, they must be of 784"),
        (femnist, {"x": [[0.5001] * 784], "y": [1]}, "no whole number of 255ths"),
        (femnist, {"x": [[1.5] * 784], "y": [1]}, "no whole number of 255ths"),
        (femnist, {"x": [[1.0] * 784], "y": [62]}, "a label that is no whole number from 0 to 61"),
        (femnist, {"x": [[1.0] * 784], "y": []}, "1 inputs, 0 labels"),
        (femnist, {"x": [[1.0] * 784]}, "user 'u': 'y' is missing"),
        (shakespeare, {"x": ["a" * 79], "y": ["b"]}, "79 characters and 1 behind"),
        (shakespeare, {"x": ["é" * 80], "y": ["b"]}, "'é' is none of the 80 characters"),
        (shakespeare, {"x": [], "y": []}, "no examples"),
    ],
)
def test_what_is_wrong_with_an_example_names_file_and_user(tmp_path, source, held, message):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.json").write_text(json.dumps({"user_data": {"u": held}}))
    with pytest.raises(fx.InputError, match=message) as error:
        source(data_path=str(tmp_path))
    assert str(tmp_path / "train") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"user_data": 3}', '{"users": []}', "[" * 9999])
def test_what_is_no_file_of_leafs(tmp_path, content):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.json").write_text(content)
    with pytest.raises(fx.InputError, match=r"a\.json: not a file of LEAF's"):
        femnist(data_path=str(tmp_path))


def test_a_missing_part(tmp_path):
    write_leaf(tmp_path, {"train": {"f0": writer([3])}})
    with pytest.raises(fx.InputError, match=r"holds no test/\*\.json"):
        femnist(data_path=str(tmp_path))
    with pytest.raises(fx.InputError, match="data_path: None is not allowed"):
        shakespeare()
