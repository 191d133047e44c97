//! The inner part of a matrix product: a few rows of inputs times one panel of weights.
//!
//! A panel is two vectors wide and as deep as the product: `panel[k][column]`, one row after another. So the loop below
//! reads weights in the order they stand in memory, and reads inputs where they are, without packing them.

use super::simd::Simd;

/// The vectors side by side in a panel.
pub(crate) const PANEL_VECTORS: usize = 2;

/// The most rows in a tile of any instruction set; a multiple of the rows of each.
pub(crate) const TILE_ROWS_MAX: usize = 12;

/// The most values in a tile of any instruction set.
pub(crate) const TILE_LEN_MAX: usize = TILE_ROWS_MAX * PANEL_VECTORS * super::simd::LANES_MAX;

/// The columns of a panel.
pub(crate) const fn panel_width<S: Simd>() -> usize {
    PANEL_VECTORS * S::WIDTH
}

/// The values in a cache line.
const LINE_LEN: usize = 16;

/// Rows of inputs, `stride` values apart, of which a tile reads `depth`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) depth: usize,
}

/// `out[row][column] = Σ_k rows[row][k] · panel[k][column]` for up to `S::TILE_ROWS` rows, which stand `out_stride`
/// apart.
///
/// The sum runs over `k` in order, in one accumulator a value: a row's result does not depend on its neighbours.
///
/// With `AHEAD`, the panel after this one is brought closer meanwhile. A model's weights do not stay in any cache
/// between two batches, and the machine's own prefetching ends at each page: without it, a text of 32 tokens takes 1.25
/// times as long, and one of 16 tokens 1.35 times.
#[inline(always)]
#[expect(unsafe_code, reason = "the inner loop cannot pay for bounds checks: they are made here, once a tile")]
pub(crate) fn multiply<S: Simd, const AHEAD: bool>(
    simd: S,
    count: usize,
    rows: Rows<'_>,
    panel: &[f32],
    out: &mut [f32],
    out_stride: usize,
) {
    let Rows { values, stride, depth } = rows;
    let width = panel_width::<S>();
    const { assert!(TILE_ROWS_MAX.is_multiple_of(S::TILE_ROWS)) };
    assert!(0 < count && count <= S::TILE_ROWS);
    assert!(values.len() >= (count - 1) * stride + depth);
    assert!(panel.len() >= depth * width);
    assert!(out_stride >= width && out.len() >= (count - 1) * out_stride + width);
    let (values, panel, out) = (values.as_ptr(), panel.as_ptr(), out.as_mut_ptr());
    // SAFETY: the assertions above are what `multiply_rows` asks for.
    unsafe {
        match count {
            1 => multiply_rows::<S, 1, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            2 => multiply_rows::<S, 2, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            3 => multiply_rows::<S, 3, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            4 => multiply_rows::<S, 4, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            5 => multiply_rows::<S, 5, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            6 => multiply_rows::<S, 6, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            7 => multiply_rows::<S, 7, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            8 => multiply_rows::<S, 8, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            9 => multiply_rows::<S, 9, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            10 => multiply_rows::<S, 10, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            11 => multiply_rows::<S, 11, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
            _ => multiply_rows::<S, 12, AHEAD>(simd, values, stride, depth, panel, out, out_stride),
        }
    }
}

/// The loop itself, for a number of rows that the compiler knows, so that all sums stay in registers.
///
/// # Safety
/// `values` is readable for `ROWS` rows of `depth` values that are `stride` apart, `panel` for `depth` rows of a
/// panel's width, and `out` writable for `ROWS` rows of a panel's width that are `out_stride` apart.
#[inline(always)]
#[expect(unsafe_code, reason = "see `multiply`")]
unsafe fn multiply_rows<S: Simd, const ROWS: usize, const AHEAD: bool>(
    simd: S,
    values: *const f32,
    stride: usize,
    depth: usize,
    panel: *const f32,
    out: *mut f32,
    out_stride: usize,
) {
    let mut sums = [[simd.splat(0.0); PANEL_VECTORS]; ROWS];
    for k in 0..depth {
        // SAFETY: `k` is below `depth` and every row below `ROWS`; the caller's promise.
        unsafe {
            let weights = panel.add(k * panel_width::<S>());
            if AHEAD {
                // A hint may name any address, so the last panel may look past the end.
                let next = weights.wrapping_add(depth * panel_width::<S>());
                for line in 0..panel_width::<S>() / LINE_LEN {
                    simd.prefetch(next.wrapping_add(line * LINE_LEN));
                }
            }
            let weights = [simd.load(weights), simd.load(weights.add(S::WIDTH))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = simd.splat(*values.add(row * stride + k));
                sums[0] = simd.mul_add(value, weights[0], sums[0]);
                sums[1] = simd.mul_add(value, weights[1], sums[1]);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: every row is below `ROWS`; the caller's promise.
        unsafe {
            simd.store(out.add(row * out_stride), sums[0]);
            simd.store(out.add(row * out_stride + S::WIDTH), sums[1]);
        }
    }
}

/// Lays out `columns` vectors of `depth` values, `stride` apart, as the panels of a product with their transpose; the
/// columns that a last panel has too many are zeros.
pub(crate) fn pack_transposed(
    panels: &mut [f32],
    width: usize,
    source: &[f32],
    stride: usize,
    columns: usize,
    depth: usize,
) {
    for (index, panel) in panels.chunks_exact_mut(depth * width).take(columns.div_ceil(width)).enumerate() {
        let first = index * width;
        let used = width.min(columns - first);
        if used < width {
            panel.fill(0.0);
        }
        for column in 0..used {
            let values = &source[(first + column) * stride..][..depth];
            for (row, &value) in panel.chunks_exact_mut(width).zip(values) {
                row[column] = value;
            }
        }
    }
}

/// Lays out a matrix of `depth` rows of `columns` values, rows `stride` apart, as the panels of a product with it.
pub(crate) fn pack(panels: &mut [f32], width: usize, source: &[f32], stride: usize, columns: usize, depth: usize) {
    for (index, panel) in panels.chunks_exact_mut(depth * width).take(columns.div_ceil(width)).enumerate() {
        let first = index * width;
        let used = width.min(columns - first);
        for (k, row) in panel.chunks_exact_mut(width).enumerate() {
            row[..used].copy_from_slice(&source[k * stride + first..][..used]);
            row[used..].fill(0.0);
        }
    }
}

/// The values that the panels of a product take.
pub(crate) fn panels_len(width: usize, columns: usize, depth: usize) -> usize {
    columns.div_ceil(width) * width * depth
}
