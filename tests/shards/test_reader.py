import json
import pickle
import shutil
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from exits_jax.data.annotations import read_instances
from exits_jax.data.images import ImageError, read_image
from exits_jax.data.samples import CropOptions, SampleReader
from exits_jax.data.workers import start
from exits_jax.shards.reader import ShardedImages, attach
from exits_jax.shards.storage import ShardError, sha256_of
from tests.shards import drawn


@pytest.fixture
def copy(packed, tmp_path):
    """A packed data set to be damaged."""
    return shutil.copytree(packed, tmp_path / "copy" / "1.0.0")


def flip(path, place):
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def shards(folder):
    return sorted(folder.glob("*.array_record-*"))


def test_images_come_by_place_and_by_name(source, packed):
    images = ShardedImages(packed, "train")
    assert len(images) == len(drawn.NAMES)
    for position, name in enumerate(drawn.NAMES):
        path = source / "images" / name
        assert images.name(position) == name
        assert images.position(name) == position
        assert images.read_bytes(position) == path.read_bytes()
        np.testing.assert_array_equal(images.read(position), read_image(path))


def test_the_bytes_are_those_that_tfds_gives(packed):
    images = ShardedImages(packed)
    records = tfds.builder_from_directory(packed).as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    for position, record in enumerate(records):
        assert images.read_bytes(position) == record["image"]
        assert images.name(position) == record["image/filename"].decode()


def draw(mode: str, rng: np.random.Generator) -> Image.Image:
    shape = (20, 30) if mode in ("L", "1", "P", "I;16") else (20, 30, len(mode))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 2**16, shape, np.uint16))
    pixels = rng.integers(0, 256, shape, np.uint8)
    if mode in ("L", "1", "P"):
        return Image.fromarray(pixels).convert(mode)
    return (
        Image.fromarray(pixels, mode=mode)
        if mode == "CMYK"
        else Image.fromarray(pixels)
    )


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "jpg"),
        ("CMYK", "jpg"),
        ("RGB", "jpg"),
        ("RGBA", "png"),
        ("P", "gif"),
        ("1", "png"),
        ("I;16", "png"),
        ("RGB", "webp"),
        ("RGB", "tiff"),
    ],
)
def test_pixels_are_those_of_the_file(mode, suffix, tmp_path):
    source = drawn.write_source(tmp_path)
    path = tmp_path / "images" / f"nobody.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Pillow's, on `mode`
        image = draw(mode, np.random.default_rng(1))
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn, which is ignored
    image.save(path, **({"exif": turned} if suffix == "jpg" else {}))
    source["images"][3] |= {"file_name": path.name, "width": 30, "height": 20}
    drawn.write_annotations(tmp_path, source)
    images = ShardedImages(drawn.pack(tmp_path, tmp_path / "out"))
    assert images.read_bytes(3) == path.read_bytes()
    np.testing.assert_array_equal(images.read(3), read_image(path))


def test_it_goes_to_another_process_as_a_few_words(packed):
    images = ShardedImages(packed)
    before = images.read_bytes(1)
    words = pickle.dumps(images)
    assert len(words) < 300 + len(str(packed))
    assert pickle.loads(words).read_bytes(1) == before


def test_threads_read_side_by_side(source, packed):
    images = ShardedImages(packed)
    wanted = [(source / "images" / name).read_bytes() for name in drawn.NAMES]
    order = np.random.default_rng(0).integers(0, len(wanted), 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(images.read_bytes, order))
    assert found == [wanted[position] for position in order]


def test_it_is_a_data_source_for_grain_and_its_workers(source, packed):
    files = grain.MapDataset.source(ShardedImages(packed))
    digests = files.map(lambda data: {"digest": np.array(zlib.crc32(data))})
    batches = start(digests, num_workers=2, num_threads=1, prefetch=1)
    found = [int(batch["digest"]) for batch in batches]
    wanted = [(source / "images" / name).read_bytes() for name in drawn.NAMES]
    assert found == [zlib.crc32(data) for data in wanted]


def test_samples_are_those_of_the_image_folder(source, packed):
    folder = source / "images"
    instances = read_instances(source / "train.json", folder).instances
    attached = attach(instances, ShardedImages(packed), folder)
    for number in range(len(instances)):
        one, other = (
            SampleReader(found, CropOptions(crop_size=64)).train_sample(7, 0, number)
            for found in (instances, pickle.loads(pickle.dumps(attached)))
        )
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_images_are_matched_by_name_and_not_by_place(source, packed, tmp_path):
    file = json.loads((source / "train.json").read_text(encoding="utf-8"))
    file["images"] = file["images"][:3:-1]  # the last two, turned round
    kept = {image["id"] for image in file["images"]}
    file["annotations"] = [a for a in file["annotations"] if a["image_id"] in kept]
    drawn.write_annotations(tmp_path, file)
    instances = read_instances(tmp_path / "train.json", source / "images").instances
    attached = attach(instances, ShardedImages(packed), source / "images")
    for row, path in enumerate(instances.paths):
        np.testing.assert_array_equal(attached.read(row), read_image(path))
        assert attached.name(row).startswith(str(packed))


def test_an_image_that_is_not_in_the_shards_is_named_at_once(source, packed, tmp_path):
    shutil.copytree(source, tmp_path / "more")
    file = json.loads((source / "train.json").read_text(encoding="utf-8"))
    shutil.copy(source / "images" / "0001.png", tmp_path / "more/images/new.png")
    file["images"][0]["file_name"] = "new.png"
    drawn.write_annotations(tmp_path / "more", file)
    folder = tmp_path / "more" / "images"
    instances = read_instances(tmp_path / "more/train.json", folder).instances
    with pytest.raises(KeyError, match=r"no image 'new\.png'"):
        attach(instances, ShardedImages(packed), folder)


def test_what_is_not_there_is_named(packed, tmp_path):
    images = ShardedImages(packed)
    with pytest.raises(IndexError, match="has 6 images .* none at 6"):
        images.read(6)
    with pytest.raises(IndexError, match="none at -1"):
        images.read_bytes(-1)
    with pytest.raises(KeyError, match="no image 'nemo.jpg' in its split train"):
        images.position("nemo.jpg")
    with pytest.raises(ValueError, match="no split 'test'; it has train"):
        ShardedImages(packed, "test")
    with pytest.raises(FileNotFoundError, match="no packed data set in"):
        ShardedImages(tmp_path / "nowhere")


def test_sound_shards_pass_both_checks(packed):
    images = ShardedImages(packed)
    images.verify()
    images.verify(full=True)


def test_a_flipped_bit_is_found_and_its_shard_named(copy):
    shard = shards(copy)[1]
    flip(shard, shard.stat().st_size // 2)
    images = ShardedImages(copy)  # sizes and counts are right
    with pytest.raises(ShardError, match=f"{shard.name} has the sha256 .*damaged"):
        images.verify(full=True)
    faulty = 0
    for position in range(len(images)):
        try:
            images.read(position)
        except ImageError as error:
            assert shard.name in str(error)
            faulty += 1
    assert faulty == 1


def test_every_file_is_checked(copy):
    images = ShardedImages(copy)
    for path in (copy / "annotations" / "train.json", copy / "features.json"):
        flip(path, -3)
    with pytest.raises(ShardError, match=r"(?s)annotations/train\.json .*features"):
        images.verify(full=True)


@pytest.mark.parametrize(
    "name", ["dataset_info.json", "features.json", "annotations/train_names.json"]
)
def test_a_file_that_is_read_to_open_shards_is_looked_at_before(copy, name, source):
    """TFDS answers with errors that name no file, or with other values."""
    flip(copy / name, 10)
    advice = f"Remove {copy}: a copy in data.shard_cache is then made anew"
    with pytest.raises(ShardError, match=f"(?s){name} has the sha256 .*{advice}"):
        ShardedImages(copy)
    folder = copy.parent / "exits_coco" / "1.0.0"
    shutil.copytree(copy, folder)
    with pytest.raises(ShardError, match=f"{name} has the sha256"):
        drawn.builder(source, copy.parent).pack(shard_mb=1)


def shard_of_another(copy, folder, change):
    """The second shard, with the bytes of another pack's of the same size."""
    other = drawn.write_source(folder)
    change(other, folder / "images")
    drawn.write_annotations(folder, other)
    foreign = shards(drawn.pack(folder, folder / "out"))[1]
    mine = shards(copy)[1]
    assert foreign.stat().st_size == mine.stat().st_size
    mine.write_bytes(foreign.read_bytes())
    return mine


def other_pixels(source, folder):
    flip(folder / source["images"][2]["file_name"], 1000)


def other_name(source, folder):
    record = source["images"][2]
    before = folder / record["file_name"]
    record["file_name"] = record["file_name"].replace("ü", "ä")
    (folder / record["file_name"]).parent.mkdir(exist_ok=True)
    before.rename(folder / record["file_name"])


def test_a_shard_of_another_pack_of_the_same_size_is_refused(copy, tmp_path):
    shard = shard_of_another(copy, tmp_path / "other", other_pixels)
    with pytest.raises(ShardError, match=f"{shard.name} is damaged or of another"):
        ShardedImages(copy)


def test_a_record_of_another_name_is_refused_where_ends_are_not_known(copy, tmp_path):
    shard = shard_of_another(copy, tmp_path / "other", other_name)
    manifest = json.loads((copy / "manifest.json").read_text())
    for each in manifest["shards"]["train"]:
        del each["ends_sha256"]  # as before there were any
    (copy / "manifest.json").write_text(json.dumps(manifest))
    images = ShardedImages(copy)
    with pytest.raises(ShardError, match=f"{shard.name} is a shard of another data se"):
        images.read(2)


def test_a_truncated_and_a_missing_shard_are_reported_together(copy):
    first, second = shards(copy)[:2]
    first.write_bytes(first.read_bytes()[:-10])
    second.unlink()
    with pytest.raises(ShardError) as caught:
        ShardedImages(copy)
    one, other, advice = str(caught.value).splitlines()
    assert advice.startswith(f"Remove {copy}: a copy in data.shard_cache")
    assert f"{first.name} has" in one
    assert f"{second.name} is missing" in other


def test_a_shard_of_the_right_size_that_is_none_is_found_when_opened(copy):
    shard = shards(copy)[0]
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(ShardError, match=f"{shard.name} .*ArrayRecord"):
        ShardedImages(copy)


def test_a_wrong_count_is_found_when_opened(copy):
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"records": 2', '"records": 3'))
    with pytest.raises(ShardError, match="holds 2 records; its manifest says 3"):
        ShardedImages(copy)


def test_a_broken_manifest_is_named(copy):
    sound = json.loads((copy / "manifest.json").read_text())
    for broken in (
        '{"shards": []}',
        json.dumps(sound | {"shards": {"train": []}}),
        json.dumps(sound | {"source": sound["source"] | {"parts": []}}),
        "[" * 10**5,
    ):
        (copy / "manifest.json").write_text(broken)
        with pytest.raises(ShardError, match=r"manifest\.json is not a manifest"):
            ShardedImages(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(ShardError, match="did not pack it"):
        ShardedImages(copy)


def test_a_name_in_the_manifest_cannot_lead_out_of_the_folder(copy, tmp_path):
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace("features.json", "../../x.json"))
    with pytest.raises(ShardError, match="unsafe file name"):
        ShardedImages(copy, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_description_that_lists_other_shards_is_refused(copy):
    info = copy / "dataset_info.json"
    before = sha256_of(info)
    info.write_text(info.read_text().replace("{DATASET}-{SPLIT}", "{SPLIT}-{DATASET}"))
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace(before, sha256_of(info)))
    images = ShardedImages(copy)
    with pytest.raises(ShardError, match=r"dataset_info\.json lists other shards"):
        images.read_bytes(0)
