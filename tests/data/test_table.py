"""Columns hold exactly the objects that went in."""

import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from exits_jax.data.records import FLAG_CODES, Instance
from exits_jax.data.table import Instances, InstanceTable

ids = st.integers() | st.text(max_size=4)
lengths = st.integers(1, 99)
sides = st.floats(0, 1e6).map(lambda value: float(np.float32(value)))


@st.composite
def objects(draw, max_size=6):
    """Objects of up to three images; ids of any kind."""
    image_ids = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    images = [
        (
            image_id,
            draw(st.text(max_size=5)),
            draw(st.tuples(*[st.integers(1, 99)] * 2)),
        )
        for image_id in image_ids
    ]
    made = []
    for identity in draw(st.lists(ids, max_size=max_size, unique=True)):
        image_id, path, size = draw(st.sampled_from(images))
        points = draw(st.none() | st.lists(sides, min_size=8, max_size=8))
        flags = draw(st.sets(st.sampled_from(sorted(FLAG_CODES))))
        made.append(
            Instance(
                annotation_id=identity,
                image_id=image_id,
                category_id=draw(ids),
                image_path=path,
                image_size=size,
                extreme_points=None
                if points is None
                else np.array(points, np.float32).reshape(4, 2),
                box=tuple(draw(st.lists(st.floats(0, 1e9), min_size=4, max_size=4))),
                is_crowd=draw(st.booleans()),
                flags=tuple(sorted(flags)),
            )
        )
    return made


def example(number, **changes):
    made = Instance(
        annotation_id=number,
        image_id=number % 3,
        category_id=1,
        image_path=f"{number % 3}.jpg",
        image_size=(40, 50),
        extreme_points=np.full((4, 2), number % 40, np.float32),
        box=(0.0, 0.0, 1.0 + number, 2.0),
        is_crowd=False,
        flags=(),
    )
    return made._replace(**changes)


@settings(deadline=None, max_examples=60)
@given(made=objects())
def test_objects_come_out_as_they_went_in(made):
    columns = Instances.of(made)
    assert len(columns) == len(made)
    assert columns == made
    assert [type(item.annotation_id) for item in columns] == [
        type(item.annotation_id) for item in made
    ]


@settings(deadline=None, max_examples=30)
@given(made=objects())
def test_saved_columns_are_the_same_objects(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    saved = Instances.of(made).save(folder)
    assert saved.is_mapped and saved == made
    assert Instances.open(folder) == made


@settings(deadline=None, max_examples=40)
@given(made=objects(), data=st.data())
def test_rows_are_chosen_by_mask_index_and_slice(made, data):
    columns = Instances.of(made)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(made))), bool)
    mask = mask[: len(made)]
    chosen = [item for item, keep in zip(made, mask) if keep]
    assert columns.select(mask) == chosen
    assert columns.select(np.flatnonzero(mask)) == chosen
    assert columns[1:3] == made[1:3]
    assert columns[::-1] == made[::-1]


def test_columns_go_to_another_process_by_value_or_by_folder(tmp_path):
    columns = Instances.of([example(number) for number in range(5)])
    assert pickle.loads(pickle.dumps(columns)) == columns
    mapped = columns.save(tmp_path)
    sent = pickle.dumps(mapped)
    assert len(sent) < 400
    assert pickle.loads(sent) == columns
    assert pickle.loads(sent).is_mapped


def test_columns_are_not_made_twice():
    columns = Instances.of([example(0)])
    assert Instances.of(columns) is columns


IDS = {
    "whole numbers": [3, 1, 2, -5],
    "largest of 64 bits": [2**63 - 1, -(2**63), 0, 1],
    "just above 64 bits": [2**63, 7],
    "just below 64 bits": [-(2**63) - 1, 7],
    "far beyond 64 bits": [10**40, -(10**40), 7],
    "texts": ["a", "", '\u00e9\n"', "\ud800"],
    "numbers and texts": [1, "1", 2**70, "x"],
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_keep_their_value_and_their_kind(kind, tmp_path):
    made = [
        example(0, annotation_id=one, image_id=one, category_id=one)
        for one in IDS[kind]
    ]
    columns = Instances.of(made)
    for found in (columns, columns[::1], pickle.loads(pickle.dumps(columns))):
        assert found == made
    assert columns.save(tmp_path)[1:] == made[1:]


@pytest.mark.parametrize("flag", sorted(FLAG_CODES))
def test_every_flag_is_kept(flag):
    (item,) = Instances.of([example(0, flags=(flag,))])
    assert item.flags == (flag,)
    (item,) = Instances.of([example(0, flags=tuple(sorted(FLAG_CODES)))])
    assert item.flags == tuple(sorted(FLAG_CODES))


def test_many_objects_keep_their_order_and_their_place():
    made = [example(number) for number in range(10_000)]
    table = InstanceTable()
    for number, item in enumerate(made):
        table.add(item, 2 * number, image_position=number + 5)
    columns = table.finish()
    assert columns == made
    assert columns.position.tolist() == list(range(0, 20_000, 2))
    assert columns.image_position.tolist() == [5, 6, 7]  # where each came up first
    chosen = columns.select(columns.position >= 9_000)
    assert chosen.position[0] == 9_000 and chosen == made[4_500:]


def test_points_of_an_object_may_be_changed_without_harm():
    columns = Instances.of([example(1)])
    points = columns[0].extreme_points
    assert points is not None
    points[:] = -1
    assert columns == [example(1)]


def test_an_index_beyond_the_end_is_an_error():
    columns = Instances.of([example(0)])
    assert columns[-1].annotation_id == columns[0].annotation_id == 0
    with pytest.raises(IndexError):
        columns[1]


def test_no_objects_are_columns_too(tmp_path):
    empty = Instances.of([])
    assert len(empty) == 0 and list(empty) == []
    assert empty.save(tmp_path / "empty") == []
    assert pickle.loads(pickle.dumps(empty)) == []
    assert empty[:] == [] and empty.select(np.zeros(0, bool)) == []
    assert Instances.of([example(0)])[:0] == []
    assert empty.boxes.shape == (0, 4) and empty.points.shape == (0, 4, 2)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no columns"):
        Instances.open(tmp_path)


def test_different_objects_are_not_equal():
    columns = Instances.of([example(1)])
    assert columns != [example(2)]
    assert columns != [example(1, extreme_points=None)]
    assert columns != [example(1), example(1)]
    assert columns != [example(1, annotation_id="1")]
    assert columns != ["another thing"]
    assert columns != 5


def test_an_object_takes_about_a_hundred_bytes():
    table = InstanceTable()
    for number in range(200_000):
        table.add(example(number), number)
    columns = table.finish()
    size = sum(column.nbytes for column in columns._columns.values())
    assert size / 200_000 < 120


class Grey:
    """Every image is its own number."""

    def read(self, image, *, reduced_by=1):
        return np.full((40, 50, 3), image, np.uint8)

    def name(self, image):
        return f"record {image}"


def test_pixels_may_come_from_elsewhere_by_the_place_in_the_file():
    table = InstanceTable()
    table.add(example(0), 0, image_position=7)
    columns = table.finish().with_images(Grey())
    assert (columns.read(0) == 7).all() and columns.name(0) == "record 7"
    assert (columns.select(np.array([0])).read(0) == 7).all()


def test_the_source_of_pixels_goes_with_the_columns(tmp_path):
    columns = Instances.of([example(0), example(1)]).with_images(Grey())
    saved = columns.save(tmp_path)
    assert saved.is_mapped
    for found in (saved, pickle.loads(pickle.dumps(saved)), columns[1:]):
        assert (found.read(1) == 1).all() and found.name(1) == "record 1"
    assert pickle.loads(pickle.dumps(columns)).name(0) == "record 0"


def test_pixels_are_those_of_the_file_where_nothing_else_is_said(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (50, 40), (1, 2, 3)).save(path)
    columns = Instances.of([example(0, image_path=str(path))])
    assert columns.read(0).shape == (40, 50, 3)
    assert columns.read(0)[0, 0].tolist() == [1, 2, 3]
    assert columns.name(0) == str(path)


def test_columns_are_not_saved_over_others(tmp_path):
    Instances.of([example(1, annotation_id="text")]).save(tmp_path)
    with pytest.raises(FileExistsError, match="already holds columns"):
        Instances.of([example(1)]).save(tmp_path)


def test_paths_take_every_index_that_a_list_takes():
    columns = Instances.of([example(number) for number in range(3)])
    names = ["0.jpg", "1.jpg", "2.jpg"]
    assert columns.paths[-1] == "2.jpg" and columns.paths[-3] == "0.jpg"
    assert columns.paths[::-1] == names[::-1]
    with pytest.raises(IndexError):
        columns.paths[3]


def test_paths_below_a_workdir_lead_there_from_a_copy_of_some_rows(tmp_path):
    """As of drawn scenes, whose rows are copied for worker processes."""
    image = tmp_path / "run" / "scenes" / "1.png"
    whole = Instances.of([example(1)._replace(image_path=str(image)), example(2)])
    kept = whole.save(tmp_path / "run" / "columns", inside=tmp_path / "run")
    chosen = kept.select(np.array([0])).save(tmp_path / "elsewhere" / "copy")
    assert chosen[0].image_path == str(image)
