// C[m,n] = A[m,k] · W[n,k]ᵀ + bias, optionally through GELU, on tensor cores: halves, summed in f32; k a multiple of 8.
//
// A block makes a tile of TILE × TILE with 2 · TILE threads, as 2 × TILE / 32 warps of TILE / 2 rows times 32 columns. A
// step is 32 deep, two instructions. Both inputs have k as their inner dimension, which is what the instruction wants, so
// they are copied as they stand. STAGES buffers: while one is multiplied, the copies of the next STAGES - 1 are under way,
// and one barrier a step suffices, for what is overwritten was read before it.
//
// Shared memory: 48 KiB for 128 × 128 in three stages, 32 KiB for 64 × 64 in four: both without asking for more.
//
// Bytes moved: A once for each TILE columns, W once for each TILE rows. In a step a warp reads 6 KiB of shared memory for
// 32 instructions in the large tile, 4 KiB for 16 in the small one.
#include "finish.cuh"
#include "matrix.cuh"

constexpr u32 MMA_STEP = 32;  // of k
constexpr u32 MMA_CHUNKS = MMA_STEP / CHUNK;

template <u32 TILE, u32 STAGES, class T>
__device__ inline void gemm_mma(const T* a, const T* w, const T* bias, T* c, u32 m, u32 n, u32 k, u32 is_gelu) {
    constexpr u32 THREADS = 2 * TILE, WARP_ROWS = TILE / 2, WARP_COLUMNS = 32;
    constexpr u32 ROW_PARTS = WARP_ROWS / 16, COLUMN_PARTS = WARP_COLUMNS / 8;
    constexpr u32 TILE_LEN = TILE * MMA_STEP;
    SHARED(T, tiles, STAGES * 2 * TILE_LEN);
    const u32 first_row = blockIdx.y * TILE, first_column = blockIdx.x * TILE;
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const u32 row = warp / (TILE / WARP_COLUMNS) * WARP_ROWS, column = warp % (TILE / WARP_COLUMNS) * WARP_COLUMNS;

    const u32 steps = (k + MMA_STEP - 1) / MMA_STEP;
    // A group for each step, and empty ones after the last: so the number to wait for is always the same.
    const auto copy = [&](u32 step) {
        if (step < steps) {
            const u32 from = step * MMA_STEP, a_tile = step % STAGES * 2 * TILE_LEN, w_tile = a_tile + TILE_LEN;
            copy_tile_async<TILE, MMA_CHUNKS, THREADS>(tiles, a_tile, a, k, first_row, m, from, k);
            copy_tile_async<TILE, MMA_CHUNKS, THREADS>(tiles, w_tile, w, k, first_column, n, from, k);
        }
        commit_copies();
    };
#pragma unroll
    for (u32 step = 0; step < STAGES - 1; step++) copy(step);

    f32 sums[ROW_PARTS][COLUMN_PARTS][4] = {};
#pragma unroll 1
    for (u32 step = 0; step < steps; step++) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();
        copy(step + STAGES - 1);
        const u32 a_tile = step % STAGES * 2 * TILE_LEN, w_tile = a_tile + TILE_LEN;
#pragma unroll
        for (u32 chunk = 0; chunk < MMA_CHUNKS; chunk += 2) {
            u32 left[ROW_PARTS][4], right[COLUMN_PARTS / 2][4];
#pragma unroll
            for (u32 i = 0; i < ROW_PARTS; i++) load_left<MMA_CHUNKS>(left[i], tiles, a_tile, row + 16 * i, chunk);
#pragma unroll
            for (u32 j = 0; j < COLUMN_PARTS / 2; j++) {
                load_right<MMA_CHUNKS>(right[j], tiles, w_tile, column + 16 * j, chunk);
            }
#pragma unroll
            for (u32 i = 0; i < ROW_PARTS; i++)
#pragma unroll
                for (u32 j = 0; j < COLUMN_PARTS; j++) {
                    multiply_add(sums[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1], T{});
                }
        }
    }

    // The sums go over shared memory, 32 rows of a warp at a time, so that its lanes write rows of 32 columns rather than
    // pairs, and the activation stands in the code once for many sums. Of each 16 × 8 a lane has two beside each other in
    // row `lane / 4`, and two in the eighth row below. Rows are padded by 8: those of four lanes touch all banks.
    constexpr u32 PASS_ROWS = 32, PASS_STRIDE = WARP_COLUMNS + 8;
    static_assert(THREADS / WARP * PASS_ROWS * PASS_STRIDE * sizeof(f32) <= STAGES * 2 * TILE_LEN * sizeof(T));
    f32* const own = reinterpret_cast<f32*>(tiles) + warp * PASS_ROWS * PASS_STRIDE;
    __syncthreads();  // the tiles have been read
#pragma unroll
    for (u32 pass = 0; pass < WARP_ROWS / PASS_ROWS; pass++) {
#pragma unroll
        for (u32 i = 0; i < PASS_ROWS / 8; i++)
#pragma unroll
            for (u32 j = 0; j < COLUMN_PARTS; j++) {
                const f32* const pair = sums[pass * 2 + i / 2][j] + i % 2 * 2;
                f32* const to = own + (8 * i + lane / 4) * PASS_STRIDE + 8 * j + lane % 4 * 2;
                *reinterpret_cast<uint2*>(to) = make_uint2(__float_as_uint(pair[0]), __float_as_uint(pair[1]));
            }
        __syncwarp();
#pragma unroll 1
        for (u32 i = lane / 8; i < PASS_ROWS; i += WARP / 8) {
            f32 values[4];
            load<4>(own + i * PASS_STRIDE + lane % 8 * 4, values);
            const u32 to_row = first_row + row + pass * PASS_ROWS + i;
            if (to_row < m) finish<4>(c, bias, to_row, first_column + column + lane % 8 * 4, n, is_gelu, values);
        }
        __syncwarp();
    }
}

#define INSTANTIATE_TILE(T, TILE, STAGES, BLOCKS)                                                         \
    extern "C" __global__ void __launch_bounds__(2 * TILE, BLOCKS)                                        \
        gemm_mma_##TILE##_##T(const T* a, const T* w, const T* bias, T* c, u32 m, u32 n, u32 k,           \
                              u32 is_gelu) {                                                              \
        gemm_mma<TILE, STAGES>(a, w, bias, c, m, n, k, is_gelu);                                          \
    }                                                                                                     \
    REGISTER(gemm_mma_##TILE##_##T)
#define INSTANTIATE(T) INSTANTIATE_TILE(T, 128, 3, 2) INSTANTIATE_TILE(T, 64, 4, 4)
FOR_TENSOR_CORES(INSTANTIATE)
#undef INSTANTIATE
#undef INSTANTIATE_TILE
