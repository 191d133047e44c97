// Kernels with a fault each, and what is right about them: the shim must find them.
#include "../../cuda/common.cuh"

// Reverses a block's values through shared memory, `SYNCHRONISED` or not.
template <bool SYNCHRONISED>
__device__ inline void reverse(f32* x) {
    SHARED(f32, values, 64);
    values[threadIdx.x] = x[threadIdx.x];
    if (SYNCHRONISED) __syncthreads();
    x[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void reverse_f32(f32* x) { reverse<true>(x); }
REGISTER(reverse_f32)
extern "C" __global__ void reverse_without_barrier_f32(f32* x) { reverse<false>(x); }
REGISTER(reverse_without_barrier_f32)

// Each thread takes its left neighbour's value: right in ascending order even without the barrier.
extern "C" __global__ void shift_without_barrier_f32(f32* x) {
    SHARED(f32, values, 64);
    values[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = threadIdx.x == 0 ? 0.0f : values[threadIdx.x - 1];
}
REGISTER(shift_without_barrier_f32)

extern "C" __global__ void write_beyond_buffer_f32(f32* x) { x[threadIdx.x + 1] = 1.0f; }
REGISTER(write_beyond_buffer_f32)

extern "C" __global__ void read_before_buffer_f32(f32* x) { x[threadIdx.x] = x[int(threadIdx.x) - 1]; }
REGISTER(read_before_buffer_f32)

extern "C" __global__ void write_beyond_shared_f32(f32* x) {
    SHARED(f32, values, 64);
    values[threadIdx.x + 1] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = values[threadIdx.x];
}
REGISTER(write_beyond_shared_f32)

extern "C" __global__ void write_beyond_dynamic_shared_f32(f32* x) {
    DYNAMIC_SHARED(values);
    values[threadIdx.x + 1] = x[threadIdx.x];
}
REGISTER(write_beyond_dynamic_shared_f32)

extern "C" __global__ void barrier_for_some_f32(f32* x) {
    if (threadIdx.x < 40) __syncthreads();
    x[threadIdx.x] = 1.0f;
}
REGISTER(barrier_for_some_f32)

extern "C" __global__ void barriers_at_two_lines_f32(f32* x) {
    if (threadIdx.x < 32) {
        __syncthreads();
        x[threadIdx.x] = 1.0f;
    } else {
        __syncthreads();
    }
}
REGISTER(barriers_at_two_lines_f32)

extern "C" __global__ void shuffle_for_some_f32(f32* x) {
    if (threadIdx.x % WARP != 5) x[threadIdx.x] = sum_lanes(x[threadIdx.x]);
}
REGISTER(shuffle_for_some_f32)

extern "C" __global__ void barrier_against_shuffle_f32(f32* x) {
    if (threadIdx.x < 3) {
        __syncthreads();
    } else {
        x[threadIdx.x] = sum_lanes(x[threadIdx.x]);
    }
}
REGISTER(barrier_against_shuffle_f32)

extern "C" __global__ void read_unwritten_shared_f32(f32* x) {
    SHARED(f32, values, 64);
    if (threadIdx.x != 9) values[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = values[threadIdx.x];
}
REGISTER(read_unwritten_shared_f32)
