"""The order is a function of (seed, epoch, step), whatever step a dataset starts at."""

import numpy as np
import pytest

from tf_dicom_ce.data.datasets import StepOrder, evaluation_dataset, training_dataset
from tf_dicom_ce.data.preprocessing import standardise

SIZE = (32, 32)
FRAMES = np.random.default_rng(0).integers(0, 256, (11, *SIZE, 1), dtype=np.uint8)
Y = np.eye(11, 3, dtype=np.float32)


def read(rows):
    return FRAMES[rows]


@pytest.fixture
def order():
    return StepOrder(np.arange(11), batch_size=4, seed=5)


def test_an_epoch_draws_no_row_twice_and_epochs_differ(order):
    assert order.steps_per_epoch == 2
    epochs = [np.concatenate([order.rows_at(2 * e), order.rows_at(2 * e + 1)]) for e in range(20)]
    assert all(len(set(rows)) == 8 for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 20
    assert set(np.concatenate(epochs)) == set(range(11))


def test_fewer_rows_than_a_batch_make_one_step():
    order = StepOrder(np.arange(3), batch_size=8, seed=0)
    assert order.steps_per_epoch == 1
    assert sorted(order.rows_at(7)) == [0, 1, 2]


@pytest.mark.parametrize("augment", [False, True])
def test_starting_late_gives_what_an_unbroken_run_sees(order, augment):
    unbroken = list(training_dataset(read, Y, order, SIZE, 5, augment).take(6))
    resumed = list(training_dataset(read, Y, order, SIZE, 5, augment, first_step=3).take(3))
    for (x, y), (x_late, y_late) in zip(unbroken[3:], resumed, strict=True):
        np.testing.assert_array_equal(x, x_late)
        np.testing.assert_array_equal(y, y_late)


def test_batches_are_the_standardised_rows_with_their_tags(order):
    x, y = next(iter(training_dataset(read, Y, order, SIZE, 5)))
    rows = order.rows_at(0)
    np.testing.assert_array_equal(x, standardise(FRAMES[rows]))
    np.testing.assert_array_equal(y, Y[rows])


def test_augmentation_changes_each_image_by_its_own_numbers():
    same = np.repeat(FRAMES[:1], 4, axis=0)
    order = StepOrder(np.arange(4), batch_size=4, seed=0)
    x, _ = next(iter(training_dataset(lambda rows: same[rows], Y, order, SIZE, 0, augment=True)))
    assert len({image.tobytes() for image in x.numpy()}) == 4
    np.testing.assert_allclose(x.numpy().std((1, 2, 3)), 1, atol=1e-3)


def test_evaluation_passes_once_in_order():
    rows = np.array([7, 2, 9])
    batches = list(evaluation_dataset(read, Y, rows, 2, SIZE))
    assert [len(x) for x, _ in batches] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), Y[rows])
