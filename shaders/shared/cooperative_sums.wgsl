// What a subgroup owns of 64 rows x 64 columns (matmul_cooperative, matmul_backward_cooperative): the beginning of their bodies.
// Takes: subgroup, lane, n_lanes; stage, for each subgroup [SIZE columns, 16 rows]. Gives: own_row, own_column, stage_at, and
// sum<r>_<t>, zero: loaded, since Metal's matrices have no value that an empty constructor promises. Subgroups beyond SUBGROUPS
// repeat the last one's work.
let owner = min(subgroup, ${SUBGROUPS}u - 1u);
let own_row = (owner / ${COLUMNS}u) * ${ROW_MATRICES*SIZE}u;
let own_column = (owner % ${COLUMNS}u) * ${COLUMN_MATRICES*SIZE}u;
let stage_at = subgroup * ${16*SIZE}u;
for (var i = lane; i < ${16*SIZE}u; i += n_lanes) {
    stage[stage_at + i] = 0.0;
}
workgroupBarrier();
#for r in 0..ROW_MATRICES
#for t in 0..COLUMN_MATRICES
var sum${r}_${t} = coopLoad<coop_mat${SIZE}x${SIZE}<f32, C>>(&stage[stage_at], 16u);
#end
#end
