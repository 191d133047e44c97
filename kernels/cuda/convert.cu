// f32 to and from the two halves, rounded to nearest, ties to even.
//
// Bound by memory: 4 bytes and 2 for each value. A thread takes 8 values a step, 16 bytes of the half.
#include "common.cuh"

template <class From, class To>
__device__ inline void convert(const From* from, To* to, u64 len) {
    constexpr u32 N = 8;
    const u64 thread = u64(blockIdx.x) * blockDim.x + threadIdx.x, threads = u64(gridDim.x) * blockDim.x;
    const u64 whole = len / N * N;
    for (u64 first = thread * N; first < whole; first += threads * N) {
        f32 values[N];
#pragma unroll
        for (u32 j = 0; j < N; j += PACK<From>) load<PACK<From>>(from + first + j, values + j);
#pragma unroll
        for (u32 j = 0; j < N; j += PACK<To>) store<PACK<To>>(to + first + j, values + j);
    }
    if (thread < len - whole) to[whole + thread] = from_f32<To>(to_f32(from[whole + thread]));
}

#define INSTANTIATE(T)                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) f32_to_##T(const f32* from, T* to, u64 len) {     \
        convert(from, to, len);                                                                         \
    }                                                                                                   \
    REGISTER(f32_to_##T)                                                                                \
    extern "C" __global__ void __launch_bounds__(256) T##_to_f32(const T* from, f32* to, u64 len) {     \
        convert(from, to, len);                                                                         \
    }                                                                                                   \
    REGISTER(T##_to_f32)
FOR_HALVES(INSTANTIATE)
#undef INSTANTIATE
