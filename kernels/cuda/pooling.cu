// One vector for each sequence: the mean of its tokens, or its first token; as it is, or over its Euclidean norm.
//
// One block a sequence. Its warps take the tokens in turn, each lane 16 bytes of a row, and keep partial sums in
// registers; the warps' sums meet in shared memory, `warps · width` f32 of it. Bound by memory: every token read once.
#include "common.cuh"

template <u32 N, class T>
__device__ inline void pool(const T* rows, u32 first, u32 last, f32* partial, u32 width) {
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    for (u32 column = lane * N; column < width; column += WARP * N) {
        f32 sums[N] = {};
#pragma unroll 4
        for (u32 token = first + warp; token < last; token += warps) {
            f32 values[N];
            load<N>(rows + u64(token) * width + column, values);
#pragma unroll
            for (u32 j = 0; j < N; j++) sums[j] += values[j];
        }
#pragma unroll
        for (u32 j = 0; j < N; j++) partial[warp * width + column + j] = sums[j];
    }
}

template <class T>
__device__ inline void pooling(const T* rows, const u32* cu_seqlens, f32* out, u32 width, u32 is_mean,
                               u32 is_normalised) {
    DYNAMIC_SHARED(partial);
    SHARED(f32, squares, WARP);
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    const u32 first = cu_seqlens[blockIdx.x];
    const u32 last = is_mean ? cu_seqlens[blockIdx.x + 1] : first + 1;
    if (width % PACK<T> == 0) {
        pool<PACK<T>>(rows, first, last, partial, width);
    } else {
        pool<1>(rows, first, last, partial, width);
    }
    __syncthreads();

    f32 square = 0.0f;
    for (u32 column = threadIdx.x; column < width; column += blockDim.x) {
        f32 sum = partial[column];
        for (u32 other = 1; other < warps; other++) sum += partial[other * width + column];
        partial[column] = sum;
        square += sum * sum;
    }
    square = sum_lanes(square);
    if (lane == 0) squares[warp] = square;
    __syncthreads();

    f32 length = 0.0f;
    for (u32 other = 0; other < warps; other++) length += squares[other];
    // The divisor of the mean falls out of the normalisation, so there the sum is as good.
    const f32 divisor = is_normalised ? sqrtf(length) : f32(last - first);
    const f32 scale = divisor > 0.0f ? 1.0f / divisor : 0.0f;
    for (u32 column = threadIdx.x; column < width; column += blockDim.x) {
        out[u64(blockIdx.x) * width + column] = partial[column] * scale;
    }
}

#define INSTANTIATE(T)                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                \
        pooling_##T(const T* rows, const u32* cu_seqlens, f32* out, u32 width, u32 is_mean,          \
                    u32 is_normalised) {                                                             \
        pooling(rows, cu_seqlens, out, width, is_mean, is_normalised);                               \
    }                                                                                                \
    REGISTER(pooling_##T)
FOR_STORAGE(INSTANTIATE)
#undef INSTANTIATE
