// Softmax of rows, in place: exp(scale · (x − max)) over the sum of these.
//
// Bound by memory: a row read and written. For logits and class scores; attention has its own, which never exists whole.
#include "row.cuh"

template <class T>
__device__ inline void softmax(T* x, u32 rows, u32 width, f32 scale) {
    with_row<T>(rows, width, [&](auto row, u32 index) {
        constexpr u32 N = decltype(row)::LOAD;
        T* const start = x + u64(index) * width;
        f32 max = minus_infinity();
        row.for_each([&](u32 first, f32* own) {
            f32 values[N];
            load<N>(start + first, values);
#pragma unroll
            for (u32 j = 0; j < N; j++) {
                own[j * WARP] = values[j];
                max = fmaxf(max, values[j]);
            }
        });
        max = max_lanes(max);
        row.for_each([&](u32, f32* own) {
#pragma unroll
            for (u32 j = 0; j < N; j++) own[j * WARP] = expf(scale * (own[j * WARP] - max));
        });
        const f32 inverse = 1.0f / row.sum();
        row.for_each([&](u32 first, const f32* own) {
            f32 values[N];
#pragma unroll
            for (u32 j = 0; j < N; j++) values[j] = own[j * WARP] * inverse;
            store<N>(start + first, values);
        });
    });
}

#define INSTANTIATE(T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256) softmax_##T(T* x, u32 rows, u32 width, f32 scale) {   \
        softmax(x, rows, width, scale);                                                                     \
    }                                                                                                       \
    REGISTER(softmax_##T)
FOR_STORAGE(INSTANTIATE)
#undef INSTANTIATE
