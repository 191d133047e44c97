// C[m,n] = A[m,k] · W[n,k]ᵀ + bias, optionally through GELU: for machines without cuBLASLt, on the f32 units.
//
// A block of 128 threads makes a tile of 64 × 64, each thread 8 rows of 4 columns. Both inputs have k as their inner
// dimension, so both are transposed on the way into shared memory, where a step is 16 deep. Two buffers: while one is
// multiplied, the next step's loads are under way to registers, and one barrier a step suffices. A warp's reads of a
// row are broadcasts (A) or 256 bytes in a row (W); the transposing writes meet two to a bank, an eighth as often.
//
// Bound by arithmetic: 2·m·n·k operations; bytes moved: A once for each 64 columns, W once for each 64 rows.
#include "finish.cuh"

constexpr u32 GEMM_THREADS = 128;
constexpr u32 TILE = 64;        // rows and columns of a block's tile
constexpr u32 STEP = 16;        // of k
constexpr u32 TILE_STRIDE = TILE + 4;

// What a thread carries of one matrix from global to shared memory in a step: LOADS times 16 bytes.
template <class T>
struct Carried {
    static constexpr u32 N = PACK<T>;
    static constexpr u32 GROUPS = STEP / N;
    static constexpr u32 LOADS = TILE * GROUPS / GEMM_THREADS;

    f32 values[LOADS][N];

    // Reads rows `first..` of a matrix of `rows` × `depth`, from column `k` on. What lies outside is zero.
    __device__ void read(const T* matrix, u32 first, u32 rows, u32 k, u32 depth) {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 index = threadIdx.x + i * GEMM_THREADS;
            const u32 row = first + index / GROUPS, column = k + index % GROUPS * N;
            const T* from = matrix + u64(row) * depth + column;
#pragma unroll
            for (u32 j = 0; j < N; j++) values[i][j] = 0.0f;
            if (row >= rows) continue;
            if (depth % N == 0) {
                if (column < depth) load<N>(from, values[i]);
            } else {
#pragma unroll
                for (u32 j = 0; j < N; j++) {
                    if (column + j < depth) values[i][j] = to_f32(from[j]);
                }
            }
        }
    }

    __device__ void write(f32* tile) const {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 index = threadIdx.x + i * GEMM_THREADS;
#pragma unroll
            for (u32 j = 0; j < N; j++) tile[(index % GROUPS * N + j) * TILE_STRIDE + index / GROUPS] = values[i][j];
        }
    }
};

template <class T>
__device__ inline void gemm(const T* a, const T* w, const T* bias, T* c, u32 m, u32 n, u32 k, u32 is_gelu) {
    SHARED(f32, a_tiles, 2 * STEP * TILE_STRIDE);
    SHARED(f32, w_tiles, 2 * STEP * TILE_STRIDE);
    const u32 first_row = blockIdx.y * TILE, first_column = blockIdx.x * TILE;
    const u32 row = threadIdx.x / 16 * 8, column = threadIdx.x % 16 * 4;

    f32 sums[8][4] = {};
    Carried<T> a_next, w_next;
    a_next.read(a, first_row, m, 0, k);
    w_next.read(w, first_column, n, 0, k);
    u32 buffer = 0;
    for (u32 start = 0; start < k; start += STEP) {
        f32* const a_tile = a_tiles + buffer * STEP * TILE_STRIDE;
        f32* const w_tile = w_tiles + buffer * STEP * TILE_STRIDE;
        a_next.write(a_tile);
        w_next.write(w_tile);
        __syncthreads();
        if (start + STEP < k) {
            a_next.read(a, first_row, m, start + STEP, k);
            w_next.read(w, first_column, n, start + STEP, k);
        }
#pragma unroll
        for (u32 d = 0; d < STEP; d++) {
            f32 left[8], right[4];
            load<4>(a_tile + d * TILE_STRIDE + row, left);
            load<4>(a_tile + d * TILE_STRIDE + row + 4, left + 4);
            load<4>(w_tile + d * TILE_STRIDE + column, right);
#pragma unroll
            for (u32 i = 0; i < 8; i++)
#pragma unroll
                for (u32 j = 0; j < 4; j++) sums[i][j] += left[i] * right[j];
        }
        buffer ^= 1;
    }
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        if (first_row + row + i < m) {
            finish<4>(c, bias, first_row + row + i, first_column + column, n, is_gelu, sums[i]);
        }
    }
}

#define INSTANTIATE(T)                                                                                        \
    extern "C" __global__ void __launch_bounds__(GEMM_THREADS)                                                \
        gemm_##T(const T* a, const T* w, const T* bias, T* c, u32 m, u32 n, u32 k, u32 is_gelu) {             \
        gemm(a, w, bias, c, m, n, k, is_gelu);                                                                \
    }                                                                                                         \
    REGISTER(gemm_##T)
FOR_STORAGE(INSTANTIATE)
#undef INSTANTIATE
