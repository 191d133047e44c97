// What follows the sums of a matrix product: the bias, the activation, the way to memory.
#pragma once
#include "common.cuh"

// Writes up to N values of a row of C with the bias added; `bias` may be null.
template <u32 N, class T>
__device__ inline void finish(T* c, const T* bias, u64 row, u32 column, u32 columns, u32 is_gelu, f32* values) {
#pragma unroll
    for (u32 j = 0; j < N; j++) {
        if (bias && column + j < columns) values[j] += to_f32(bias[column + j]);
        if (is_gelu) values[j] = gelu(values[j]);
    }
    T* const to = c + row * columns + column;
    if (columns % N == 0 && column < columns) {
        store<N>(to, values);
    } else {
#pragma unroll
        for (u32 j = 0; j < N; j++) {
            if (column + j < columns) to[j] = from_f32<T>(values[j]);
        }
    }
}
