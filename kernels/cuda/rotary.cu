// Rotary positions: turns the pairs (x[i], x[i + depth/2]) of queries and keys by an angle that grows with the position.
//
// In place, on the first `heads` heads of each row: the queries and keys of `[tokens, queries | keys | values]`. The
// cosines and sines come from tables of `[positions, depth/2]` in f32, made in f64 on the host, for a `sincosf` of large
// angles takes a slow path through local memory. Bound by memory: each value read and written once; the tables stay in
// the caches.
#include "common.cuh"

template <class T>
__device__ inline void rotary(T* x, const u32* positions, const f32* cosines, const f32* sines, u32 tokens, u32 heads,
                              u32 depth, u32 stride) {
    constexpr u32 N = PACK<T>;
    const u32 half = depth / 2, groups = half / N;
    const u64 count = u64(tokens) * heads * groups;
    for (u64 index = u64(blockIdx.x) * blockDim.x + threadIdx.x; index < count; index += u64(gridDim.x) * blockDim.x) {
        const u32 column = index % groups * N;
        const u32 head = index / groups % heads;
        const u64 token = index / groups / heads;
        T* const first = x + token * stride + head * depth + column;
        const u64 angle = u64(positions[token]) * half + column;
        f32 a[N], b[N], cosine[N], sine[N];
        load<N>(first, a);
        load<N>(first + half, b);
#pragma unroll
        for (u32 j = 0; j < N; j += 4) {
            load<4>(cosines + angle + j, cosine + j);
            load<4>(sines + angle + j, sine + j);
        }
#pragma unroll
        for (u32 j = 0; j < N; j++) {
            const f32 turned = a[j] * cosine[j] - b[j] * sine[j];
            b[j] = b[j] * cosine[j] + a[j] * sine[j];
            a[j] = turned;
        }
        store<N>(first, a);
        store<N>(first + half, b);
    }
}

#define INSTANTIATE(T)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
        rotary_##T(T* x, const u32* positions, const f32* cosines, const f32* sines, u32 tokens, u32 heads,      \
                   u32 depth, u32 stride) {                                                                      \
        rotary(x, positions, cosines, sines, tokens, heads, depth, stride);                                      \
    }                                                                                                            \
    REGISTER(rotary_##T)
FOR_STORAGE(INSTANTIATE)
#undef INSTANTIATE
