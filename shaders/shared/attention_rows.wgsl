// Where slots lie and which keys they see: attention_slots, attention_queries.
// Takes: kv_head, per_group, last_slot of the workgroup, and slot<s>. Gives: n_keys, the positions that any slot of the workgroup may look
// at; for each slot s its row of q and o, and that it sees the keys start<s> to visible<s>.
#if CAUSAL
let n_keys = step.past + last_slot / per_group + 1u; // the last position any slot of this workgroup may look at, and one
#else
let n_keys = step.past + step.n_tokens; // every slot looks at all
#end
#for s in 0..SLOTS
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
