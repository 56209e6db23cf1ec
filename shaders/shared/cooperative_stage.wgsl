// The way out of matmul_cooperative and matmul_backward_cooperative: which thread holds which number of a matrix is the GPU's
// secret, so they come out through workgroup memory, 16 rows at a time.
// Takes: sum<r>_<t>, own_row, own_column, stage_at, subgroup, lane, n_lanes. Calls leave(at, row, column) for every number: where
// it lies in stage, and its row and column from first_row and first_column on.
#for p in 0..PIECES
#for t in 0..COLUMN_MATRICES
#if SIZE == 16
coopStore(sum${p}_${t}, &stage[stage_at], 16u);
#else
coopStore(sum${2*p}_${t}, &stage[stage_at], 16u);
coopStore(sum${2*p+1}_${t}, &stage[stage_at + 8u], 16u);
#end
workgroupBarrier();
if subgroup < ${SUBGROUPS}u {
    for (var i = lane; i < ${16*SIZE}u; i += n_lanes) {
        leave(stage_at + i, first_row + own_row + ${16*p}u + (i & 15u), first_column + own_column + ${SIZE*t}u + (i >> 4u));
    }
}
workgroupBarrier();
#end
#end
