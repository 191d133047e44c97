// Kernels with a fault each, and what is right about them: the shim must find them.
#include "../../cuda/ptx.cuh"

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

// Reverses values that 16 threads copy, 16 bytes each.
template <bool WAITS, bool SYNCHRONISED>
__device__ inline void copy(f32* x) {
    SHARED(f32, values, 64);
    if (threadIdx.x < 16) copy_async(values, 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    commit_copies();
    if (WAITS) wait_for_copies<0>();
    if (SYNCHRONISED) __syncthreads();
    x[threadIdx.x] = values[63 - threadIdx.x];
}

extern "C" __global__ void copy_f32(f32* x) { copy<true, true>(x); }
REGISTER(copy_f32)
extern "C" __global__ void copy_without_wait_f32(f32* x) { copy<false, true>(x); }
REGISTER(copy_without_wait_f32)
extern "C" __global__ void copy_without_barrier_f32(f32* x) { copy<true, false>(x); }
REGISTER(copy_without_barrier_f32)

// Waits for the first of two groups, and uses both.
extern "C" __global__ void copy_of_later_group_f32(f32* x) {
    SHARED(f32, values, 64);
    for (u32 half = 0; half < 2; half++) {
        if (threadIdx.x / 8 == half) copy_async(values, 4 * threadIdx.x, x + 4 * threadIdx.x, true);
        commit_copies();
    }
    wait_for_copies<1>();
    __syncthreads();
    x[threadIdx.x] = values[63 - threadIdx.x];
}
REGISTER(copy_of_later_group_f32)

extern "C" __global__ void copy_beyond_buffer_f32(f32* x) {
    SHARED(f32, values, 256);
    copy_async(values, 4 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x <= 16);
}
REGISTER(copy_beyond_buffer_f32)

extern "C" __global__ void copy_to_odd_address_f32(f32* x) {
    SHARED(f32, values, 64);
    copy_async(values, 1, x, true);
}
REGISTER(copy_to_odd_address_f32)

extern "C" __global__ void matrices_in_the_same_banks_f32(f32* x) {
    SHARED(f32, values, 32 * 32);
    u32 words[4];
    load_matrices(words, values, threadIdx.x % WARP * 32);
    x[threadIdx.x] = 0.0f;
}
REGISTER(matrices_in_the_same_banks_f32)

// c[16, 8] = a[16, 16] · b[16, 8], a value at a time where the PTX ISA says that it is.
extern "C" __global__ void fragments_f16(const f16* a, const f16* b, f32* c) {
    const u32 group = threadIdx.x / 4, in_group = threadIdx.x % 4;
    u32 left[4] = {}, right[2] = {};
    for (u32 i = 0; i < 8; i++) {
        const u32 row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
        const u32 column = in_group * 2 + (i & 1) + (i < 4 ? 0 : 8);
        left[i / 2] |= u32(a[row * 16 + column].bits) << 16 * (i % 2);
    }
    for (u32 i = 0; i < 4; i++) {
        const u32 row = in_group * 2 + (i & 1) + (i < 2 ? 0 : 8);
        right[i / 2] |= u32(b[row * 8 + group].bits) << 16 * (i % 2);
    }
    f32 sums[4] = {};
    multiply_add(sums, left, right[0], right[1], f16{});
    for (u32 i = 0; i < 4; i++) c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = sums[i];
}
REGISTER(fragments_f16)

// Reads four matrices and their transposes, and writes each value where the PTX ISA says that it is from.
extern "C" __global__ void matrices_f16(const f16* x, f16* straight, f16* transposed) {
    SHARED(f16, rows, 32 * 8);
    for (u32 i = 0; i < 8; i++) rows[threadIdx.x * 8 + i] = x[threadIdx.x * 8 + i];
    __syncthreads();
    u32 words[4], transposed_words[4];
    load_matrices(words, rows, threadIdx.x * 8);
    load_matrices_transposed(transposed_words, rows, threadIdx.x * 8);
    for (u32 i = 0; i < 8; i++) {
        const u32 to = i / 2 * 64 + threadIdx.x / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
        straight[to] = {u16(words[i / 2] >> 16 * (i % 2))};
        transposed[to] = {u16(transposed_words[i / 2] >> 16 * (i % 2))};
    }
}
REGISTER(matrices_f16)
