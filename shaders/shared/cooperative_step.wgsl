// The products of one step of 32 (matmul_cooperative, matmul_backward_cooperative): a part of their loops' bodies.
// Takes: the slabs x_slab [64 columns, X_PITCH] and w_slab, both f16; own_row and own_column of this subgroup. Adds to sum<r>_<t>.
#for k in 0..STEPS
{
#for t in 0..COLUMN_MATRICES
    let x${t} = coopLoad<coop_mat${SIZE}x${SIZE}<f16, B>>(&x_slab[(own_column + ${SIZE*t}u) * X_PITCH + ${SIZE*k}u], X_PITCH);
#end
#for r in 0..ROW_MATRICES
#if TRANSPOSED
    let w${r} = coopLoad<coop_mat${SIZE}x${SIZE}<f16, A>>(&w_slab[${SIZE*k}u * W_PITCH + own_row + ${SIZE*r}u], W_PITCH);
#else
    let w${r} = coopLoadT<coop_mat${SIZE}x${SIZE}<f16, A>>(&w_slab[(own_row + ${SIZE*r}u) * W_PITCH + ${SIZE*k}u], W_PITCH);
#end
#for t in 0..COLUMN_MATRICES
    sum${r}_${t} = coopMultiplyAdd(w${r}, x${t}, sum${r}_${t});
#end
#end
}
#end
