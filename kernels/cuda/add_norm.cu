// A layer's output plus the residual it is added to, normalised: in one pass over global memory.
//
// Bound by memory: two rows read and one written (`add_layer_norm`), or two and two (`add_rms_norm`, whose sum lives on
// as the next residual). A null `residual` or `x` leaves the sum out. Outputs may be the inputs' own memory: a lane reads
// what it will write before it writes it.
#include "row.cuh"

// out = layer_norm(x + residual)
template <class T>
__device__ inline void add_layer_norm(const T* x, const T* residual, const T* weight, const T* bias, T* out, u32 rows,
                                      u32 width, f32 epsilon) {
    with_row<T>(rows, width, [&](auto row, u32 index) {
        constexpr u32 N = decltype(row)::LOAD;
        const u64 start = u64(index) * width;
        row.for_each([&](u32 first, f32* own) {
            f32 values[N], added[N];
            load<N>(x + start + first, values);
            if (residual) load<N>(residual + start + first, added);
#pragma unroll
            for (u32 j = 0; j < N; j++) own[j * WARP] = residual ? values[j] + added[j] : values[j];
        });
        row.layer_norm(weight, bias, epsilon, out + start);
    });
}

// residual += x; out = rms_norm(residual)
template <class T>
__device__ inline void add_rms_norm(const T* x, T* residual, const T* weight, T* out, u32 rows, u32 width,
                                    f32 epsilon) {
    with_row<T>(rows, width, [&](auto row, u32 index) {
        constexpr u32 N = decltype(row)::LOAD;
        const u64 start = u64(index) * width;
        row.for_each([&](u32 first, f32* own) {
            f32 sums[N], added[N];
            load<N>(residual + start + first, sums);
            if (x) {
                load<N>(x + start + first, added);
#pragma unroll
                for (u32 j = 0; j < N; j++) sums[j] += added[j];
                store<N>(residual + start + first, sums);
            }
#pragma unroll
            for (u32 j = 0; j < N; j++) own[j * WARP] = sums[j];
        });
        row.rms_norm(weight, epsilon, out + start);
    });
}

#define INSTANTIATE(T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) add_layer_norm_##T(                                             \
        const T* x, const T* residual, const T* weight, const T* bias, T* out, u32 rows, u32 width, f32 epsilon) {    \
        add_layer_norm(x, residual, weight, bias, out, rows, width, epsilon);                                         \
    }                                                                                                                 \
    REGISTER(add_layer_norm_##T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256) add_rms_norm_##T(const T* x, T* residual, const T* weight,      \
                                                                       T* out, u32 rows, u32 width, f32 epsilon) {    \
        add_rms_norm(x, residual, weight, out, rows, width, epsilon);                                                 \
    }                                                                                                                 \
    REGISTER(add_rms_norm_##T)
FOR_STORAGE(INSTANTIATE)
#undef INSTANTIATE
