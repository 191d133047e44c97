// Self-attention over packed sequences of any lengths: full or causal, with grouped queries, in one pass (online
// softmax), so that no score ever reaches global memory.
//
// A block takes a tile of queries of one sequence and one head, and passes over the keys in tiles of 32. Its 128 threads
// stand as 16 × 8: each has `ROWS` queries times 4 keys of the scores, then `ROWS` queries times `DEPTH / 8` columns of
// the output, in registers. The 8 threads of a row are neighbours in a warp, so its maximum and sum are shuffles.
//
// Shared memory (f32): queries, one tile that holds keys, then values, and the weights between them: 22.5 KiB for a depth
// of 32, 34.5 for 64, 37.5 for 128, so of Turing's 64 KiB two blocks have room at a depth of 32, one above. Rows are
// padded by 4 values: eight lanes that read 16 bytes of eight rows each touch all 32 banks once.
//
// Bound by arithmetic: 4 · depth operations for each query and key, on the f32 units. Bytes moved: queries and outputs
// once, keys and values once for each tile of queries, mostly from the second-level cache.
#include "common.cuh"

constexpr u32 KEYS = 32;          // keys in a tile
constexpr u32 COLUMNS = 8;        // threads that share a row
constexpr u32 ATTENTION_THREADS = 128;
constexpr u32 WEIGHT_STRIDE = KEYS + 4;

// Copies rows of DEPTH values into shared memory as f32, times `scale`; rows beyond `last` become zeros.
template <u32 ROWS, u32 DEPTH, class T>
__device__ inline void copy_tile(const T* from, u32 first, u32 last, u64 stride, f32 scale, f32* to) {
    constexpr u32 N = PACK<T>, GROUPS = DEPTH / N;
#pragma unroll
    for (u32 index = threadIdx.x; index < ROWS * GROUPS; index += ATTENTION_THREADS) {
        const u32 row = index / GROUPS, column = index % GROUPS * N;
        f32 values[N] = {};
        if (first + row < last) load<N>(from + (first + row) * stride + column, values);
#pragma unroll
        for (u32 j = 0; j < N; j++) values[j] *= scale;
#pragma unroll
        for (u32 j = 0; j < N; j += 4) store<4>(to + row * (DEPTH + 4) + column + j, values + j);
    }
}

template <u32 DEPTH, class T>
__device__ inline void attention(const T* qkv, const u32* cu_seqlens, T* out, u32 heads, u32 kv_heads, u32 is_causal) {
    constexpr u32 ROWS = DEPTH == 128 ? 2 : 4;
    constexpr u32 QUERIES = 16 * ROWS;
    constexpr u32 STRIDE = DEPTH + 4;
    constexpr u32 RUNS = DEPTH / 32;  // groups of 4 columns of the output that a thread has
    SHARED(f32, queries, QUERIES * STRIDE);
    SHARED(f32, keys, KEYS * STRIDE);
    SHARED(f32, weights, QUERIES * WEIGHT_STRIDE);

    const u32 sequence = blockIdx.z, head = blockIdx.y;
    const u32 start = cu_seqlens[sequence], length = cu_seqlens[sequence + 1] - start;
    // The last queries of a causal sequence see the most keys; they go first, or they would be what all wait for.
    const u32 first = (is_causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * QUERIES;
    if (first >= length) return;

    const u32 kv_head = head / (heads / kv_heads);
    const u64 stride = u64(heads + 2 * kv_heads) * DEPTH;
    const T* const tokens = qkv + start * stride;
    const T* const head_queries = tokens + head * DEPTH;
    const T* const head_keys = tokens + (heads + kv_head) * DEPTH;
    const T* const head_values = head_keys + kv_heads * DEPTH;
    const u32 row = threadIdx.x / COLUMNS * ROWS, column = threadIdx.x % COLUMNS;

    // Scores in units of log2(e): the exponential of base 2 is the machine's own.
    copy_tile<QUERIES, DEPTH>(head_queries, first, length, stride, 1.4426950408889634f / sqrtf(f32(DEPTH)), queries);

    f32 outputs[ROWS][4 * RUNS] = {}, maxima[ROWS], sums[ROWS] = {};
#pragma unroll
    for (u32 i = 0; i < ROWS; i++) maxima[i] = minus_infinity();

    const u32 end = is_causal ? min(length, first + QUERIES) : length;
    for (u32 key = 0; key < end; key += KEYS) {
        __syncthreads();  // the values of the last tile have been read
        copy_tile<KEYS, DEPTH>(head_keys, key, length, stride, 1.0f, keys);
        __syncthreads();

        // The thread's keys are `column + 8 j`, so that neighbours read neighbouring rows.
        f32 scores[ROWS][4] = {};
#pragma unroll 4
        for (u32 d = 0; d < DEPTH; d += 4) {
            f32 a[ROWS][4], b[4][4];
#pragma unroll
            for (u32 i = 0; i < ROWS; i++) load<4>(queries + (row + i) * STRIDE + d, a[i]);
#pragma unroll
            for (u32 j = 0; j < 4; j++) load<4>(keys + (column + COLUMNS * j) * STRIDE + d, b[j]);
#pragma unroll
            for (u32 i = 0; i < ROWS; i++)
#pragma unroll
                for (u32 j = 0; j < 4; j++)
#pragma unroll
                    for (u32 e = 0; e < 4; e++) scores[i][j] += a[i][e] * b[j][e];
        }

        // Key 0 is seen by every query, so from the first tile on a maximum is finite, and a difference is no NaN.
#pragma unroll
        for (u32 i = 0; i < ROWS; i++) {
            const u32 limit = is_causal ? min(length, first + row + i + 1) : length;
            f32 max = maxima[i];
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                if (key + column + COLUMNS * j >= limit) scores[i][j] = minus_infinity();
                max = fmaxf(max, scores[i][j]);
            }
            max = max_lanes<COLUMNS>(max);
            const f32 kept = exp2f(maxima[i] - max);
            maxima[i] = max;
            sums[i] *= kept;
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                const f32 weight = exp2f(scores[i][j] - max);
                weights[(row + i) * WEIGHT_STRIDE + column + COLUMNS * j] = weight;
                sums[i] += weight;
            }
#pragma unroll
            for (u32 c = 0; c < 4 * RUNS; c++) outputs[i][c] *= kept;
        }

        __syncthreads();  // the keys have been read
        copy_tile<KEYS, DEPTH>(head_values, key, length, stride, 1.0f, keys);
        __syncthreads();

        // The thread's columns are runs of 4 that stand 32 apart: eight lanes read 128 bytes in a row.
#pragma unroll 2
        for (u32 k = 0; k < KEYS; k += 4) {
            f32 a[ROWS][4];
#pragma unroll
            for (u32 i = 0; i < ROWS; i++) load<4>(weights + (row + i) * WEIGHT_STRIDE + k, a[i]);
#pragma unroll
            for (u32 e = 0; e < 4; e++)
#pragma unroll
                for (u32 run = 0; run < RUNS; run++) {
                    f32 b[4];
                    load<4>(keys + (k + e) * STRIDE + run * 32 + column * 4, b);
#pragma unroll
                    for (u32 i = 0; i < ROWS; i++)
#pragma unroll
                        for (u32 c = 0; c < 4; c++) outputs[i][run * 4 + c] += a[i][e] * b[c];
                }
        }
    }

#pragma unroll
    for (u32 i = 0; i < ROWS; i++) {
        const f32 scale = 1.0f / sum_lanes<COLUMNS>(sums[i]);
        if (first + row + i >= length) continue;
        T* const to = out + (u64(start + first + row + i) * heads + head) * DEPTH + column * 4;
#pragma unroll
        for (u32 run = 0; run < RUNS; run++) {
            f32 values[4];
#pragma unroll
            for (u32 c = 0; c < 4; c++) values[c] = outputs[i][run * 4 + c] * scale;
            store<4>(to + run * 32, values);
        }
    }
}

#define INSTANTIATE_DEPTH(T, DEPTH)                                                                             \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 3)                                             \
        attention_##DEPTH##_##T(const T* qkv, const u32* cu_seqlens, T* out, u32 heads, u32 kv_heads,           \
                                u32 is_causal) {                                                                \
        attention<DEPTH>(qkv, cu_seqlens, out, heads, kv_heads, is_causal);                                     \
    }                                                                                                           \
    REGISTER(attention_##DEPTH##_##T)
#define INSTANTIATE(T) INSTANTIATE_DEPTH(T, 32) INSTANTIATE_DEPTH(T, 64) INSTANTIATE_DEPTH(T, 128)
FOR_STORAGE(INSTANTIATE)
#undef INSTANTIATE
#undef INSTANTIATE_DEPTH
