// The slots of a workgroup and the keys they see: the beginning of main in attention, attention_keys and attention_lanes.
// Takes: group, groups. Gives: kv_head, first_slot, n_slots, what attention_rows gives; keys from_key to to_key are this workgroup's; with
// SPLIT, part: rows of the KV splits before.
let per_group = params.n_heads / params.n_kv_heads;
let kv_head = group.y;
let first_slot = group.x * ${SLOTS}u;
let n_slots = step.n_tokens * per_group;
let last_slot = min(first_slot + ${LAST_SLOT}u, n_slots - 1u);
#for s in 0..SLOTS
let slot${s} = min(first_slot + ${s}u, n_slots - 1u); // past the end: repeat the last one, write nothing
#end
#import attention_rows
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
