// Self-attention over packed sequences, as `attention.cu` computes it, on tensor cores: halves, summed in f32.
//
// A block takes 64 queries of one sequence and one head, 16 to a warp, and passes over the keys in tiles of 64 (of 32 for
// a depth of 128). Queries, scores and outputs stay in registers: a lane has the scores of two rows as the instruction
// leaves them, which is how the next instruction wants the weights, its left matrix. Weights are rounded to the storage
// for that; their sum is taken before. Values are the right matrix as they stand, so they are transposed on the way into
// registers.
//
// Shared memory: keys and values of two tiles, 16 KiB for a depth of 32, else 32 KiB. While one tile is used, the copies of
// the next are under way, and one barrier a tile suffices.
//
// Bound by arithmetic: 4 · depth operations for each query and key. Bytes moved: as `attention.cu`.
#include "matrix.cuh"

constexpr u32 ATTENTION_WARPS = 4;
constexpr u32 WARP_QUERIES = 16;
constexpr u32 BLOCK_QUERIES = ATTENTION_WARPS * WARP_QUERIES;

// Two halves beside each other, or zeros.
template <class T>
__device__ inline u32 load_pair(const T* row, u32 column, bool is_inside) {
    return is_inside ? *reinterpret_cast<const u32*>(row + column) : 0;
}

template <u32 DEPTH, class T>
__device__ inline void attention_mma(const T* qkv, const u32* cu_seqlens, T* out, u32 heads, u32 kv_heads,
                                     u32 is_causal) {
    constexpr u32 THREADS = ATTENTION_WARPS * WARP;
    constexpr u32 TILE_KEYS = DEPTH == 128 ? 32 : 64, CHUNKS = DEPTH / CHUNK;
    constexpr u32 SCORE_PARTS = TILE_KEYS / 8, OUTPUT_PARTS = DEPTH / 8;
    constexpr u32 TILE_LEN = TILE_KEYS * DEPTH;
    SHARED(T, tiles, 4 * TILE_LEN);

    const u32 sequence = blockIdx.z, head = blockIdx.y;
    const u32 start = cu_seqlens[sequence], length = cu_seqlens[sequence + 1] - start;
    // The last queries of a causal sequence see the most keys; they go first, or they would be what all wait for.
    const u32 first = (is_causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * BLOCK_QUERIES;
    if (first >= length) return;

    const u32 kv_head = head / (heads / kv_heads);
    const u64 stride = u64(heads + 2 * kv_heads) * DEPTH;
    const T* const tokens = qkv + start * stride;
    const T* const head_keys = tokens + (heads + kv_head) * DEPTH;
    const T* const head_values = head_keys + kv_heads * DEPTH;
    const u32 lane = threadIdx.x % WARP, pair = lane % 4 * 2;
    const u32 warp_first = first + threadIdx.x / WARP * WARP_QUERIES;
    const u32 rows[2] = {warp_first + lane / 4, warp_first + lane / 4 + 8};

    const u32 end = is_causal ? min(length, first + BLOCK_QUERIES) : length;
    const auto copy = [&](u32 key) {
        if (key < end) {
            const u32 to = key / TILE_KEYS % 2 * 2 * TILE_LEN;
            copy_tile_async<TILE_KEYS, CHUNKS, THREADS>(tiles, to, head_keys, stride, key, length, 0, DEPTH);
            copy_tile_async<TILE_KEYS, CHUNKS, THREADS>(tiles, to + TILE_LEN, head_values, stride, key, length, 0, DEPTH);
        }
        commit_copies();
    };
    copy(0);

    // Each query is read once, so it needs no way over shared memory.
    u32 queries[DEPTH / 16][4];
#pragma unroll
    for (u32 d = 0; d < DEPTH / 16; d++)
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 row = rows[i % 2];
            queries[d][i] = load_pair(tokens + row * stride + head * DEPTH, 16 * d + i / 2 * 8 + pair, row < length);
        }

    // Of scores in units of log2(e) the exponential has base 2, which is the machine's own.
    const f32 scale = 1.4426950408889634f / sqrtf(f32(DEPTH));
    f32 outputs[OUTPUT_PARTS][4] = {}, maxima[2] = {minus_infinity(), minus_infinity()}, sums[2] = {};
    // The keys that each row sees, and those that every row of the warp sees.
    const u32 limits[2] = {is_causal ? min(length, rows[0] + 1) : length, is_causal ? min(length, rows[1] + 1) : length};
    const u32 limit_min = is_causal ? min(length, warp_first + 1) : length;

#pragma unroll 1
    for (u32 key = 0; key < end; key += TILE_KEYS) {
        wait_for_copies<0>();
        __syncthreads();
        copy(key + TILE_KEYS);
        if (is_causal && key >= warp_first + WARP_QUERIES) continue;  // the warp sees none of them
        const u32 keys = key / TILE_KEYS % 2 * 2 * TILE_LEN, values = keys + TILE_LEN;

        f32 scores[SCORE_PARTS][4] = {};
#pragma unroll
        for (u32 d = 0; d < DEPTH / 16; d++)
#pragma unroll
            for (u32 j = 0; j < SCORE_PARTS; j += 2) {
                u32 right[4];
                load_right<CHUNKS>(right, tiles, keys, 8 * j, 2 * d);
                multiply_add(scores[j], queries[d], right[0], right[1], T{});
                multiply_add(scores[j + 1], queries[d], right[2], right[3], T{});
            }

        if (key + TILE_KEYS > limit_min) {
#pragma unroll
            for (u32 i = 0; i < 4 * SCORE_PARTS; i++) {
                if (key + i / 4 * 8 + pair + i % 2 >= limits[i / 2 % 2]) scores[i / 4][i % 4] = minus_infinity();
            }
        }
        // Key 0 is seen by every query, so from the first tile on a maximum is finite, and a difference is no NaN.
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            f32 max = maxima[half];
#pragma unroll
            for (u32 j = 0; j < 2 * SCORE_PARTS; j++) max = fmaxf(max, scores[j / 2][2 * half + j % 2]);
            max = max_lanes<4>(max);
            const f32 kept = exp2f((maxima[half] - max) * scale), shift = max * scale;
            maxima[half] = max;
            sums[half] *= kept;
#pragma unroll
            for (u32 j = 0; j < 2 * SCORE_PARTS; j++) {
                f32& score = scores[j / 2][2 * half + j % 2];
                score = exp2f(score * scale - shift);
                sums[half] += score;
            }
#pragma unroll
            for (u32 j = 0; j < 2 * OUTPUT_PARTS; j++) outputs[j / 2][2 * half + j % 2] *= kept;
        }

#pragma unroll
        for (u32 k = 0; k < TILE_KEYS / 16; k++) {
            u32 weights[4];
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const f32* const of = scores[2 * k + i / 2] + i % 2 * 2;
                weights[i] = pack_halves(of[0], of[1], T{});
            }
#pragma unroll
            for (u32 j = 0; j < OUTPUT_PARTS; j += 2) {
                u32 right[4];
                load_right_transposed<CHUNKS>(right, tiles, values, 16 * k, j);
                multiply_add(outputs[j], weights, right[0], right[1], T{});
                multiply_add(outputs[j + 1], weights, right[2], right[3], T{});
            }
        }
    }

#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const f32 inverse = 1.0f / sum_lanes<4>(sums[half]);
        if (rows[half] >= length) continue;
        T* const to = out + (u64(start + rows[half]) * heads + head) * DEPTH;
#pragma unroll
        for (u32 j = 0; j < OUTPUT_PARTS; j++) {
            const u32 halves = pack_halves(outputs[j][2 * half] * inverse, outputs[j][2 * half + 1] * inverse, T{});
            *reinterpret_cast<u32*>(to + 8 * j + pair) = halves;
        }
    }
}

// With 168 registers, which three blocks could have, a depth of 128 would spill.
#define INSTANTIATE_DEPTH(T, DEPTH)                                                                       \
    extern "C" __global__ void __launch_bounds__(ATTENTION_WARPS * WARP, DEPTH == 128 ? 2 : 3)            \
        attention_mma_##DEPTH##_##T(const T* qkv, const u32* cu_seqlens, T* out, u32 heads, u32 kv_heads, \
                                    u32 is_causal) {                                                      \
        attention_mma<DEPTH>(qkv, cu_seqlens, out, heads, kv_heads, is_causal);                           \
    }                                                                                                     \
    REGISTER(attention_mma_##DEPTH##_##T)
#define INSTANTIATE(T) INSTANTIATE_DEPTH(T, 32) INSTANTIATE_DEPTH(T, 64) INSTANTIATE_DEPTH(T, 128)
FOR_TENSOR_CORES(INSTANTIATE)
#undef INSTANTIATE
#undef INSTANTIATE_DEPTH
