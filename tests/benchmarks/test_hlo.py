"""Reading compiled HLO: texts as the compilers of TPUs and GPUs write them."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.aot.hlo import (
    activation_gathers,
    by_kind,
    collectives,
    hbm_traffic,
    recomputed_by_compiler,
    rematerialisations,
    scores_in_hbm,
)

TPU_LOOP = """\
HloModule jit_step, is_scheduled=true

%gather_piece (p.0: bf16[1,48,192]) -> (bf16[1,192,192], u32[]) {
  %p.0 = bf16[1,48,192]{2,1,0:T(8,128)(2,1)S(1)} parameter(0)
  %all-gather.1 = bf16[1,192,192]{2,1,0:T(8,128)(2,1)} all-gather(%p.0), \
channel_id=7, replica_groups=mesh['axis_0'=1,'axis_1'=4,'axis_2'=2], \
device_ids=([2,4]T(1,0)) {'axis_1'}, dimensions={1}, metadata={op_name="f/while/dot"}
  ROOT %custom-call.1 = (bf16[1,192,192]{2,1,0}, u32[]{:S(2)}) \
custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%gather_rest (p.1: bf16[1,48,192]) -> bf16[1,192,192] {
  %p.1 = bf16[1,48,192]{2,1,0:T(8,128)(2,1)S(1)} parameter(0)
  ROOT %all-gather.2 = bf16[1,192,192]{2,1,0:T(8,128)(2,1)} all-gather(%p.1), \
channel_id=7, replica_groups=mesh['axis_0'=1,'axis_1'=4,'axis_2'=2], \
device_ids=([2,4]T(1,0)) {'axis_1'}, dimensions={1}
}

%all-reduce-scatter.3 (p.2: f32[64,8]) -> f32[16,8] {
  %p.2 = f32[64,8]{1,0:T(8,128)S(1)} parameter(0)
  %all-reduce.9 = f32[64,8]{1,0:T(8,128)} all-reduce(%p.2), channel_id=9, \
replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %constant.0 = s32[]{:T(128)} constant(0)
  ROOT %dynamic-slice.1 = f32[16,8]{1,0} dynamic-slice(%all-reduce.9, %constant.0)
}

%body (b.0: (s32[], bf16[1,48,192], f32[64,8])) -> (s32[], bf16[1,48,192], f32[64,8]) {
  %b.0 = (s32[]{:T(128)}, bf16[1,48,192]{2,1,0}, f32[64,8]{1,0}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%b.0), index=0
  %weight = bf16[1,48,192]{2,1,0:T(8,128)S(1)} get-tuple-element(%b.0), index=1
  %sums = f32[64,8]{1,0:T(8,128)S(1)} get-tuple-element(%b.0), index=2
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%counter, %two)
  %fusion.1 = (bf16[1,192,192]{2,1,0:S(1)}, u32[]{:S(2)}) fusion(%weight), \
kind=kCustom, calls=%gather_piece
  %fusion.2 = bf16[1,192,192]{2,1,0:S(1)} fusion(%weight), kind=kCustom, \
calls=%gather_rest
  %fusion.3 = f32[16,8]{1,0:S(1)} fusion(%sums), kind=kCustom, \
calls=%all-reduce-scatter.3
  ROOT %tuple.1 = (s32[]{:T(128)}, bf16[1,48,192]{2,1,0}, f32[64,8]{1,0}) \
tuple(%next, %weight, %sums)
}

%condition (c.0: (s32[], bf16[1,48,192], f32[64,8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %c.0 = (s32[]{:T(128)}, bf16[1,48,192]{2,1,0}, f32[64,8]{1,0}) parameter(0)
  %now = s32[]{:T(128)} get-tuple-element(%c.0), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%now, %limit), direction=LT
}

ENTRY %main (a: bf16[1,48,192], b: f32[64,8]) -> f32[] {
  %a = bf16[1,48,192]{2,1,0} parameter(0)
  %b = f32[64,8]{1,0} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %start = s32[]{:T(128)} copy(%zero)
  %tuple.2 = (s32[]{:T(128)}, bf16[1,48,192]{2,1,0}, f32[64,8]{1,0}) \
tuple(%start, %a, %b)
  %while.1 = (s32[]{:T(128)}, bf16[1,48,192]{2,1,0}, f32[64,8]{1,0}) \
while(%tuple.2), condition=%condition, body=%body
  %loss = f32[]{:T(128)} constant(1)
  ROOT %all-reduce.2 = f32[]{:T(128)} all-reduce(%loss), channel_id=2, \
replica_groups=mesh['axis_0'=8] {'axis_0'}, to_apply=%add
}
"""

GPU = """\
HloModule jit_step, is_scheduled=true

ENTRY %main (a: bf16[4,8], b: f32[16]) -> bf16[16,8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %b = f32[16]{0} parameter(1)
  %all-gather-start = ((bf16[4,8]{1,0}, f32[4]{0}), (bf16[16,8]{1,0}, f32[16]{0})) \
all-gather-start(%a, %b), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %all-gather-done = (bf16[16,8]{1,0}, f32[16]{0}) all-gather-done(%all-gather-start)
  %reduce-scatter-start = ((f32[16]{0}), f32[4]{0}) reduce-scatter-start(%b), \
channel_id=2, replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add
  %reduce-scatter-done = f32[4]{0} reduce-scatter-done(%reduce-scatter-start)
  %collective-permute-start = (f32[16]{0}, f32[16]{0}, u32[], u32[]) \
collective-permute-start(%b), channel_id=3, source_target_pairs={{0,1},{1,0}}
  ROOT %out = bf16[16,8]{1,0} get-tuple-element(%all-gather-done), index=0
}
"""


def test_loop_counts_by_bound_and_step():
    found = collectives(TPU_LOOP, num_chips=8)
    assert {each.kind: each.trips for each in found} == {
        "all-gather": 6,  # 12 in steps of 2
        "reduce-scatter": 6,
        "all-reduce": 1,
    }


def test_message_in_pieces_counts_once():
    found = collectives(TPU_LOOP, num_chips=8)
    assert by_kind(found)["all-gather"] == 6 * 2 * 192 * 192


def test_all_reduce_of_which_a_slice_is_kept_is_a_reduce_scatter():
    found = collectives(TPU_LOOP, num_chips=8)
    assert by_kind(found)["reduce-scatter"] == 6 * 4 * 64 * 8


def test_groups_are_read_in_every_notation():
    groups = {each.kind: each.group for each in collectives(TPU_LOOP, num_chips=8)}
    assert groups == {"all-gather": 4, "reduce-scatter": 4, "all-reduce": 8}


def test_ring_passes_on_all_but_the_own_share():
    found = {each.kind: each for each in collectives(TPU_LOOP, num_chips=8)}
    assert found["reduce-scatter"].wire == 6 * 4 * 64 * 8 * 3 / 4
    assert found["all-reduce"].wire == 2 * 4 * 7 / 8


def test_asynchronous_messages_count_once_and_whole():
    assert by_kind(collectives(GPU, num_chips=8)) == {
        "all-gather": 2 * 16 * 8 + 4 * 16,
        "reduce-scatter": 4 * 16,
        "collective-permute": 4 * 16,
    }


def test_loop_without_a_bound_is_an_error():
    text = TPU_LOOP.replace(
        "%limit = s32[]{:T(128)} constant(12)", "%limit = s32[] x()"
    )
    with pytest.raises(ValueError, match="'limit', which is no constant"):
        collectives(text, num_chips=8)


def test_text_that_is_no_program_is_an_error():
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives("", num_chips=8)


def test_gathered_weights_are_no_gathered_activations():
    found = collectives(TPU_LOOP, num_chips=8)
    assert activation_gathers(found, [(192, 192)]) == []
    assert [each.kind for each in activation_gathers(found, [(192, 768)])] == [
        "all-gather"
    ]


def test_warnings_of_the_partitioner_are_found_in_its_log():
    log = "I0 harmless\nE0 [spmd] Involuntary full rematerialization. The compiler\n"
    assert rematerialisations(log) == [log.splitlines()[1]]
    assert rematerialisations("I0 harmless") == []


def test_what_the_compiler_computes_twice_is_counted():
    text = (
        "  %fusion.3.remat = f32[] fusion(%a)\n  %b = f32[] add(%fusion.3.remat, %a)\n"
    )
    assert recomputed_by_compiler(text) == 1


TRAFFIC = """\
HloModule jit_step, is_scheduled=true

%sliced (p.0: f32[12,100], p.1: s32[]) -> f32[1,100] {
  %p.0 = f32[12,100]{1,0} parameter(0)
  %p.1 = s32[] parameter(1)
  %p.2 = s32[] constant(0)
  ROOT %dynamic-slice.1 = f32[1,100]{1,0} dynamic-slice(%p.0, %p.1, %p.2)
}

%updated (q.0: f32[12,100], q.1: f32[1,100], q.2: s32[]) -> f32[12,100] {
  %q.0 = f32[12,100]{1,0} parameter(0)
  %q.1 = f32[1,100]{1,0} parameter(1)
  %q.2 = s32[] parameter(2)
  ROOT %dynamic-update-slice.1 = f32[12,100]{1,0} \
dynamic-update-slice(%q.0, %q.1, %q.2, %q.2)
}

ENTRY %main (a: f32[12,100], k: s32[]) -> f32[12,100] {
  %a = f32[12,100]{1,0} parameter(0)
  %k = s32[]{:S(6)} parameter(1)
  %row = f32[1,100]{1,0} fusion(%a, %k), kind=kLoop, calls=%sliced
  %fast = f32[1,100]{1,0:T(8,128)S(1)} negate(%row)
  ROOT %fusion.2 = f32[12,100]{1,0} fusion(%a, %fast, %k), kind=kLoop, calls=%updated
}
"""


def test_slices_and_memory_on_the_core_do_not_count_as_whole_arrays():
    read_row, written_row, negated, update = 400, 400, 400, 400
    assert hbm_traffic(TRAFFIC) == read_row + written_row + negated + update


def _sharded_layers(trips: int) -> str:
    """Compiled for the devices of the tests: a weight split over them, in a loop."""
    mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))
    place = lambda *spec: NamedSharding(mesh, P(*spec))

    @partial(jax.jit, out_shardings=place("fsdp"))
    def layers(x, weights):
        def layer(x, weight):
            whole = jax.lax.with_sharding_constraint(weight, place())
            return jnp.tanh(x @ whole), None

        return jax.lax.scan(layer, x, weights)[0]

    x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=place("fsdp"))
    weights = jax.ShapeDtypeStruct(
        (trips, 16, 16), jnp.float32, sharding=place(None, "fsdp")
    )
    return layers.lower(x, weights).compile().as_text()


def test_compiled_loop_gathers_its_weights_as_often_as_it_runs():
    found = collectives(_sharded_layers(5), num_chips=4)
    assert by_kind(found) == {"all-gather": 5 * 4 * 16 * 16}
    assert activation_gathers(found, [(16, 16)]) == []


def test_traffic_grows_with_the_trips_of_a_loop():
    short, long = (hbm_traffic(_sharded_layers(trips)) for trips in (5, 10))
    assert 1.8 < long / short < 2.2


def test_rows_that_are_gathered_on_every_chip_are_noticed():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    total = jax.jit(
        lambda x, weight: jnp.tanh(jax.lax.with_sharding_constraint(x, whole) @ weight),
        out_shardings=whole,
    )
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=rows)
    weight = jax.ShapeDtypeStruct((16, 4), jnp.float32, sharding=whole)
    text = total.lower(x, weight).compile().as_text()
    (gather,) = activation_gathers(collectives(text, num_chips=4), [(16, 4)])
    assert 8 * 16 in [math.prod(shape) for shape in gather.shapes]


SCORES = """\
HloModule jit_step, is_scheduled=true

%fused (q.0: f32[2,9,9]) -> bf16[2,9,9] {
  %q.0 = f32[2,9,9]{2,1,0:T(8,128)} parameter(0)
  %exponential.1 = f32[2,9,9]{2,1,0:T(8,128)} exponential(%q.0)
  ROOT %convert.1 = bf16[2,9,9]{2,1,0:T(8,128)(2,1)} convert(%exponential.1)
}

%body (b.0: (s32[], f32[2,9,9])) -> (s32[], f32[2,9,9]) {
  %b.0 = (s32[]{:T(128)}, f32[2,9,9]{2,1,0:T(8,128)}) parameter(0)
  %here.1 = f32[2,9,9]{2,1,0:T(8,128)S(1)} custom-call(), custom_call_target="near"
  %there.1 = f32[3,9,9]{2,1,0:T(8,128)} custom-call(), custom_call_target="far"
  %probs.1 = bf16[2,9,9]{2,1,0:T(8,128)(2,1)} fusion(%here.1), kind=kLoop, calls=%fused
  %row.1 = f32[9,8]{1,0:T(8,128)} custom-call(), custom_call_target="far"
  ROOT %tuple.1 = (s32[]{:T(128)}, f32[2,9,9]{2,1,0:T(8,128)}) tuple(%b.0, %there.1)
}

%condition (c.0: (s32[], f32[2,9,9])) -> pred[] {
  %c.0 = (s32[]{:T(128)}, f32[2,9,9]{2,1,0:T(8,128)}) parameter(0)
  ROOT %less.1 = pred[] custom-call(%c.0), custom_call_target="less"
}

ENTRY %main (m.0: (s32[], f32[2,9,9])) -> (s32[], f32[2,9,9]) {
  %m.0 = (s32[]{:T(128)}, f32[2,9,9]{2,1,0:T(8,128)}) parameter(0)
  ROOT %while.1 = (s32[]{:T(128)}, f32[2,9,9]{2,1,0:T(8,128)}) while(%m.0), \
condition=%condition, body=%body
}
"""


def test_scores_in_memory_are_found_and_those_on_the_core_or_in_a_fusion_are_not():
    assert scores_in_hbm(SCORES, tokens=9) == [(3, 9, 9)]
