from hypothesis import given
from hypothesis import strategies as st

from exits_jax.data.table import Instances
from exits_jax.shards.source import PackedImage, Split


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    limit=st.integers(1, 60),
)
def test_shards_hold_all_images_in_order_and_fill_up_to_their_size(sizes, limit):
    images = [PackedImage("x", "x", k, (1, 1), size) for k, size in enumerate(sizes)]
    shards = Split(images, Instances.of([]), {}, [], b"", []).shards(limit)
    assert [place for shard in shards for place in shard] == list(range(len(sizes)))
    filled = [sum(sizes[place] for place in shard) for shard in shards]
    for shard, total, after in zip(shards, filled, [*shards[1:], None]):
        alone = len([place for place in shard if sizes[place]]) <= 1
        assert total <= limit or alone
        if after is not None:  # the next image would not have fitted
            assert total + sizes[after.start] > limit
