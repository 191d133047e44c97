// Rows that one warp works on alone.
//
// A row stays in shared memory as f32 between passes, so that global memory is read once whatever the width. Each lane
// reads back only what it wrote itself: no barrier is needed, and the layout is free to be one without bank conflicts,
// value j of a lane's p-th load at `(p · N + j) · 32 + lane`. Shared memory per warp: the width, rounded up to 32 loads,
// in f32; the launcher takes as many warps a block (up to 8) as fit into 48 KiB.
#pragma once
#include "common.cuh"

// A row of `width` values, read N at a time. N is 16 bytes, or 1 where rows do not start at multiples of 16 bytes.
template <u32 N>
struct Row {
    static constexpr u32 LOAD = N;

    f32* values;
    u32 width;
    u32 lane;

    // Calls `visit(first, own)` for each group of N values that is this lane's: `first` is the column, and `own(j)` the
    // place of value j.
    template <class Visit>
    __device__ void for_each(Visit visit) const {
        f32* own = values + lane;
        for (u32 first = lane * N; first < width; first += WARP * N, own += WARP * N) {
            visit(first, own);
        }
    }

    __device__ f32 sum() const {
        f32 sum = 0.0f;
        for_each([&](u32, const f32* own) {
#pragma unroll
            for (u32 j = 0; j < N; j++) sum += own[j * WARP];
        });
        return sum_lanes(sum);
    }

    // The sum of the squared distances from `center`.
    __device__ f32 squares(f32 center) const {
        f32 sum = 0.0f;
        for_each([&](u32, const f32* own) {
#pragma unroll
            for (u32 j = 0; j < N; j++) sum += (own[j * WARP] - center) * (own[j * WARP] - center);
        });
        return sum_lanes(sum);
    }

    // Writes the row normalised to mean 0 and variance 1, scaled and shifted. Two passes over shared memory, for one that
    // sums squares loses the digits of a row whose mean is far from 0.
    template <class T>
    __device__ void layer_norm(const T* weight, const T* bias, f32 epsilon, T* out) const {
        const f32 mean = sum() / width;
        const f32 scale = 1.0f / sqrtf(squares(mean) / width + epsilon);
        for_each([&](u32 first, const f32* own) {
            f32 scales[N], shifts[N], result[N];
            load<N>(weight + first, scales);
            load<N>(bias + first, shifts);
#pragma unroll
            for (u32 j = 0; j < N; j++) result[j] = (own[j * WARP] - mean) * scale * scales[j] + shifts[j];
            store<N>(out + first, result);
        });
    }

    // Writes the row divided by its root mean square, scaled.
    template <class T>
    __device__ void rms_norm(const T* weight, f32 epsilon, T* out) const {
        const f32 scale = 1.0f / sqrtf(squares(0.0f) / width + epsilon);
        for_each([&](u32 first, const f32* own) {
            f32 scales[N], result[N];
            load<N>(weight + first, scales);
#pragma unroll
            for (u32 j = 0; j < N; j++) result[j] = own[j * WARP] * scale * scales[j];
            store<N>(out + first, result);
        });
    }
};

// Calls `work(row, index)` for this warp's row, with the widest loads that its width allows.
template <class T, class Work>
__device__ inline void with_row(u32 rows, u32 width, Work work) {
    DYNAMIC_SHARED(shared);
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const u32 index = blockIdx.x * (blockDim.x / WARP) + warp;
    if (index >= rows) return;
    constexpr u32 ROUND = WARP * PACK<T>;
    f32* values = shared + warp * ((width + ROUND - 1) / ROUND * ROUND);
    if (width % PACK<T> == 0) {
        work(Row<PACK<T>>{values, width, lane}, index);
    } else {
        work(Row<1>{values, width, lane}, index);
    }
}
