// Tiles of halves in shared memory, and how a warp gets them into the registers of a tensor core.
//
// A row is CHUNKS chunks of 16 bytes. Chunks change places within a row (`chunk_at`), so that the eight rows of a matrix,
// read at one column, touch all 32 banks once; no room is lost to padding.
#pragma once
#include "ptx.cuh"

constexpr u32 CHUNK = 8;  // halves in 16 bytes

// The place of a chunk, in chunks. Rows of 4 stand two to 128 bytes, so there only each second row has to differ.
template <u32 CHUNKS>
__device__ inline u32 chunk_at(u32 row, u32 chunk) {
    static_assert(CHUNKS == 4 || CHUNKS % 8 == 0);
    return row * CHUNKS + (chunk ^ (CHUNKS == 4 ? row / 2 % 4 : row % 8));
}

// Begins to copy rows `first..first + ROWS` of a matrix, CHUNKS chunks from `column` on, to the tile that begins at
// `shared[tile]`. What lies outside is zero.
template <u32 ROWS, u32 CHUNKS, u32 THREADS, class T>
__device__ inline void copy_tile_async(T* shared, u32 tile, const T* matrix, u64 stride, u32 first, u32 rows, u32 column,
                                       u32 columns) {
    static_assert(ROWS * CHUNKS % THREADS == 0);
#pragma unroll
    for (u32 i = 0; i < ROWS * CHUNKS / THREADS; i++) {
        const u32 index = threadIdx.x + i * THREADS, row = index / CHUNKS, chunk = index % CHUNKS;
        const u32 from = column + chunk * CHUNK;
        const bool is_inside = first + row < rows && from < columns;
        copy_async(shared, tile + CHUNK * chunk_at<CHUNKS>(row, chunk),
                   is_inside ? matrix + (first + row) * stride + from : matrix, is_inside);
    }
}

// The loads take a `row` that is a multiple of 8. It leaves the order of chunks as it is, so it is an offset that stands in
// the instruction, from a place that a lane computes once.

// The left matrix of a product: 16 rows, two chunks.
template <u32 CHUNKS, class T>
__device__ inline void load_left(u32 (&to)[4], const T* shared, u32 tile, u32 row, u32 chunk) {
    const u32 lane = threadIdx.x % WARP;
    load_matrices(to, shared, tile + CHUNK * chunk_at<CHUNKS>(lane % 16, chunk + lane / 16), row * CHUNKS * CHUNK);
}

// The right matrices of two products, whose columns are rows of the tile: 16 of them, two chunks. The first product takes
// registers 0 and 1, the second 2 and 3.
template <u32 CHUNKS, class T>
__device__ inline void load_right(u32 (&to)[4], const T* shared, u32 tile, u32 row, u32 chunk) {
    const u32 lane = threadIdx.x % WARP;
    load_matrices(to, shared, tile + CHUNK * chunk_at<CHUNKS>(lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2),
                  row * CHUNKS * CHUNK);
}

// The right matrices of two products, as they stand: 16 rows, two chunks, of which each product takes one.
template <u32 CHUNKS, class T>
__device__ inline void load_right_transposed(u32 (&to)[4], const T* shared, u32 tile, u32 row, u32 chunk) {
    const u32 lane = threadIdx.x % WARP;
    load_matrices_transposed(to, shared, tile + CHUNK * chunk_at<CHUNKS>(lane % 16, chunk + lane / 16),
                             row * CHUNKS * CHUNK);
}
