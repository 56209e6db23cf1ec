// The slots of a workgroup and the keys they see: the beginning of main in attention, attention_keys and attention_lanes.
// Takes: group, groups. Gives: kv_head, first_slot, n_slots, n_keys; for each slot s its row of q and o, and that it sees the keys
// start<s> to visible<s>; keys from_key to to_key are this workgroup's; with SPLIT, part: rows of the KV splits before.
let per_group = params.n_heads / params.n_kv_heads;
let kv_head = group.y;
let first_slot = group.x * ${SLOTS}u;
let n_slots = step.n_tokens * per_group;
#if CAUSAL
let last_token = min(first_slot + ${LAST_SLOT}u, n_slots - 1u) / per_group;
let n_keys = step.past + last_token + 1u; // the last position any slot of this workgroup may look at, and one
#else
let n_keys = step.past + step.n_tokens; // every slot looks at all
#end
#for s in 0..SLOTS
let slot${s} = min(first_slot + ${s}u, n_slots - 1u); // past the end: repeat the last one, write nothing
let row${s} = ((slot${s} / per_group) * params.n_heads + kv_head * per_group + slot${s} % per_group) * ${HEAD_VEC4}u;
#if CAUSAL
let visible${s} = step.past + slot${s} / per_group;
#else
let visible${s} = n_keys - 1u;
#end
#if PACKED
let start${s} = starts[slot${s} / per_group];
#else
let start${s} = 0u;
#end
#end
#if SPLIT
// Whole rounds of 64 keys; a KV split past the end has none.
let span = (n_keys + groups.z * 64u - 1u) / (groups.z * 64u) * 64u;
let from_key = group.z * span;
let to_key = min(n_keys, from_key + span);
let part = group.z * step.n_tokens * params.n_heads;
#else
let from_key = start0 & ~7u; // starts ascend: no slot looks further back
let to_key = n_keys;
#end
