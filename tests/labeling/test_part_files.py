"""The files that a restart of generate keeps, and those that it refuses."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from exits_jax.data.records import Problem
from exits_jax.labeling.part_files import (
    Parts,
    count_unreadable,
    find_kept,
    read_parts,
    remove_drafts,
    remove_parts,
    write_part,
)
from exits_jax.labeling.pseudo_masks import PseudoInstance
from exits_jax.run.fingerprints import (
    digest_of_folder,
    digest_of_params,
    fields_of_masks,
)
from exits_jax.run.workdir import ConfigError

POSITIONS = np.array([0, 1, 3, 4, 5, 8, 9])  # some annotations have no object


def some_parts(folder, **changes):
    """Seven objects in parts of three."""
    made_by = {"parameters": "a" * 64, "generate.threshold": 0.1}
    return Parts(folder / "parts", "train", 7, 3, made_by)._replace(**changes)


def outcome(row):
    rle = {"size": [4, 4], "counts": f"{row}"}
    return PseudoInstance(100 + row, rle, 0.1 * row, (1, 0, 1, 1), 0.5, 1, ("flag",))


def lost(row):
    return Problem(100 + row, "E111", f"Annotation {row}: no file")


def write(parts, *numbers, make=outcome):
    for part in numbers:
        rows = parts.rows(part)
        write_part(parts, part, [(int(POSITIONS[row]), make(row)) for row in rows])


def edit(path, change):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))


def test_parts_cover_the_objects_in_order_and_processes_share_them():
    parts = Parts(None, "train", 7, 3, {})
    assert [list(parts.rows(k)) for k in range(parts.num_parts)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6],
    ]
    for num_processes in (1, 2, 3, 5):
        shares = [parts.of_process(k, num_processes) for k in range(num_processes)]
        assert sorted(part for share in shares for part in share) == [0, 1, 2]


def test_a_split_without_objects_has_no_part(tmp_path):
    parts = some_parts(tmp_path, num_objects=0)
    assert parts.num_parts == 0
    assert find_kept(parts) == set()
    assert list(read_parts(parts, np.zeros(0, np.int64))) == []


def test_outcomes_come_back_as_they_were_in_the_order_of_the_file(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 2, 0)
    write(parts, 1, make=lost)
    found = list(read_parts(parts, POSITIONS))
    assert [position for position, _ in found] == POSITIONS.tolist()
    wanted = [lost(row) if 3 <= row < 6 else outcome(row) for row in range(7)]
    plain = lambda value: json.loads(json.dumps(value))
    assert [plain(found) for _, found in found] == plain(wanted)
    assert [type(found) for _, found in found] == [type(x) for x in wanted]


def test_a_part_that_was_not_finished_leaves_nothing(tmp_path):
    parts = some_parts(tmp_path)

    def ends_early():
        yield 0, outcome(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_part(parts, 0, ends_early())
    assert not parts.folder.exists() or not list(parts.folder.iterdir())


def test_a_part_with_too_few_outcomes_is_not_written(tmp_path):
    parts = some_parts(tmp_path)
    with pytest.raises(RuntimeError, match="has 3 objects, but 1 outcomes"):
        write_part(parts, 0, [(0, outcome(0))])
    assert find_kept(parts) == set()


def test_finished_parts_are_kept(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0, 2)
    write(some_parts(tmp_path, split="val"), 1)
    assert find_kept(parts) == {0, 2}


def test_a_part_with_unreadable_images_is_made_again(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0, 2)
    write(parts, 1, make=lost)
    assert find_kept(parts) == {0, 2}
    assert count_unreadable(parts) == 3
    found = list(read_parts(parts, POSITIONS, unreadable_only=True))
    assert found == [(int(POSITIONS[row]), lost(row)) for row in (3, 4, 5)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generate.threshold": 0.3}, r"generate.threshold: was 0.1, is 0.3"),
        ({"parameters": "b" * 64}, r"parameters: was 'aaaa.*\.\.\.', is 'bbbb"),
        ({"model.dim": 4}, r"model.dim: was unknown, is 4"),
    ],
)
def test_a_part_that_was_made_otherwise_is_refused_with_what_differs(
    tmp_path, changes, words
):
    parts = some_parts(tmp_path)
    write(parts, 0, 1, 2)
    other = parts._replace(decided_by=parts.decided_by | changes)
    for look in (find_kept, count_unreadable, lambda p: next(read_parts(p, POSITIONS))):
        with pytest.raises(ConfigError, match=words) as caught:
            look(other)
        assert str(parts.path(0)) in str(caught.value)
        assert f"remove {parts.folder}" in str(caught.value)
    assert find_kept(parts) == {0, 1, 2}  # nothing was removed


def test_parts_of_another_size_are_refused(tmp_path):
    write(some_parts(tmp_path), 0)
    other = some_parts(tmp_path, size=2)
    with pytest.raises(ConfigError, match="into 4 parts of 2.*generate.part_size"):
        find_kept(other)


@pytest.mark.parametrize("text", ["", "not JSON\n", "[1, 2]\n", '{"made_by": 1}\n'])
def test_a_file_that_is_no_part_is_refused(tmp_path, text):
    parts = some_parts(tmp_path)
    write(parts, 0)
    parts.path(0).write_text(text)
    with pytest.raises(ConfigError, match="00000-of-00003.jsonl is broken: its first"):
        find_kept(parts)
    parts.path(0).rename(parts.folder / "train-0.jsonl")
    with pytest.raises(ConfigError, match="train-0.jsonl is no part file"):
        find_kept(parts)


def test_a_truncated_part_is_refused_and_stays(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0, 1, 2)
    whole = parts.path(1).read_bytes()
    for end in (len(whole) - 1, len(whole) // 2):
        parts.path(1).write_bytes(whole[:end])
        with pytest.raises(ConfigError, match="00001-of-00003.jsonl is broken: it hol"):
            find_kept(parts)
        assert parts.path(1).read_bytes() == whole[:end]


def test_a_part_of_which_one_letter_changed_is_refused(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0, 1, 2)
    edit(parts.path(0), lambda lines: [*lines[:3], lines[3].replace("0", "1", 1)])
    with pytest.raises(ConfigError, match="jsonl is broken: it was changed since"):
        find_kept(parts)


def test_a_part_of_which_a_number_changed_is_refused_at_the_end_of_its_lines(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0, 1, 2)
    edit(parts.path(1), lambda lines: [*lines[:3], lines[3].replace("0.5,", "0.6,")])
    with pytest.raises(ConfigError, match="00001-of-00003.jsonl is broken: it was ch"):
        list(read_parts(parts, POSITIONS))


def test_only_the_parts_of_the_own_process_are_read_to_their_ends(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0, 1, 2)
    edit(parts.path(1), lambda lines: [*lines[:3], lines[3].replace("0.5,", "0.6,")])
    assert find_kept(parts, parts.of_process(0, 2)) == {0, 1, 2}
    with pytest.raises(ConfigError, match="jsonl is broken: it was changed since"):
        find_kept(parts, parts.of_process(1, 2))


@pytest.mark.parametrize(("format", "which"), [(2, "an earlier"), (4, "a later")])
def test_parts_of_another_version_are_named_so_with_their_folder(
    tmp_path, format, which
):
    parts = some_parts(tmp_path)
    write(parts, 0)
    header = json.loads(parts.path(0).read_text().partition("\n")[0])
    header["made_by"]["format"] = format
    del header["sha256"]
    edit(parts.path(0), lambda lines: [json.dumps(header) + "\n", *lines[1:]])
    for other in (parts, parts._replace(size=2)):
        with pytest.raises(ConfigError, match=f"by {which} version") as caught:
            find_kept(other)
        assert f"Remove {parts.folder} to make all masks again" in str(caught.value)


def test_lines_that_are_not_the_objects_of_the_part_are_refused(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0, 1, 2)
    with pytest.raises(ConfigError, match="line 2 is the outcome of another object"):
        list(read_parts(parts, POSITIONS[::-1]))


def test_a_missing_part_is_named_and_nothing_is_merged(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0, 2)
    with pytest.raises(ConfigError, match="00001-of-00003.jsonl is missing"):
        count_unreadable(parts)


def test_drafts_of_killed_runs_go_but_only_those_of_the_own_parts(tmp_path):
    parts = some_parts(tmp_path)
    write(parts, 0)
    names = [f".{parts.path(k).name}.99" for k in range(3)]
    names += [".train-00004-of-00009.jsonl.7", ".val-00000-of-00001.jsonl.7"]
    for name in names:
        (parts.folder / name).write_text("half")
    remove_drafts(parts, 0, 2)
    left = {path.name for path in parts.folder.iterdir()}
    assert left == {parts.path(0).name, names[1], names[4]}


def test_merged_parts_go_and_those_of_the_other_split_stay(tmp_path):
    parts, other = some_parts(tmp_path), some_parts(tmp_path, split="val")
    write(parts, 0, 1, 2)
    write(other, 0)
    remove_parts(parts)
    assert [path.name for path in parts.folder.iterdir()] == [other.path(0).name]
    remove_parts(other)
    assert not parts.folder.exists()


def test_fields_that_decide_masks_are_known_by_name():
    config = base.get_config()
    fields = fields_of_masks(config)
    assert fields["generate.batch_size"] == config.generate.batch_size
    for name in ("generate.threshold", "crop.test_margin", "init.image_mean"):
        assert name in fields
    for name, value in {
        "generate.part_size": 7,
        "crop.flip_rate": 0.1,
        "data.num_threads": 9,
        "train.steps": 5,
    }.items():
        config.update_from_flattened_dict({name: value})
    assert fields_of_masks(config) == fields
    config.crop.size = 64
    assert fields_of_masks(config) != fields


def test_what_a_generator_is_told_decides_its_masks_once_it_is_told_anything():
    config = base.get_config()
    fields = fields_of_masks(config)
    config.prompt.sigma = 0.1
    assert fields_of_masks(config) == fields
    config.prompt.enabled = True
    told = fields_of_masks(config)
    assert told == fields | {"prompt.walk": True, "prompt.sigma": 0.1}
    config.prompt.jitter = config.prompt.dropout = 0.5  # of the training alone
    assert fields_of_masks(config) == told


def test_the_digest_of_parameters_knows_values_names_and_order():
    trees = [{"a": np.arange(4, dtype=np.float32), "b": np.float32(1.5)}]
    digest = digest_of_params(trees)
    assert digest == digest_of_params(
        [{k: jnp.asarray(v) for k, v in trees[0].items()}]
    )
    others = [
        [{"a": np.arange(4, dtype=np.float32), "b": np.float32(1.25)}],
        [{"a": np.arange(4, dtype=np.float32), "c": np.float32(1.5)}],
        [{"a": np.arange(4, dtype=np.int32), "b": np.float32(1.5)}],
        [{"a": np.arange(4, dtype=np.float32).reshape(2, 2), "b": np.float32(1.5)}],
        trees * 2,
    ]
    assert digest not in [digest_of_params(other) for other in others]


def test_the_digest_of_prepared_objects_knows_names_and_contents(tmp_path):
    np.save(tmp_path / "boxes.npy", np.arange(4))
    digest = digest_of_folder(tmp_path)
    (tmp_path / "boxes.npy").touch()
    assert digest_of_folder(tmp_path) == digest
    np.save(tmp_path / "boxes.npy", np.arange(1, 5))
    changed = digest_of_folder(tmp_path)
    (tmp_path / "boxes.npy").rename(tmp_path / "ids.npy")
    assert len({digest, changed, digest_of_folder(tmp_path)}) == 3
