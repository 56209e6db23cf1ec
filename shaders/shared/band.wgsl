// Workgroups run in order: those of a band share what the second cache holds of their tokens, and read the weights once for all.
// The tile of tokens (x) and the group of weights (y) of a workgroup, of n_tiles and n_groups; x may lie past the end.
fn place_in_bands(linear: u32, n_tiles: u32, n_groups: u32, tiles_a_band: u32) -> vec2<u32> {
    let in_band = tiles_a_band * n_groups;
    let first = (linear / in_band) * tiles_a_band;
    let n = min(tiles_a_band, n_tiles - min(first, n_tiles - 1u)); // the last band may be narrower
    return vec2(first + (linear % in_band) % n, (linear % in_band) / n);
}
