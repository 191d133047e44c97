// What stands between two products of a feed-forward layer, where no product's epilogue does it.
//
// Bound by memory: `bias_gelu` reads and writes each value once, `silu_gate` reads two and writes one. Every thread takes
// 16 bytes a step, and the grid is as large as keeps the device full, not as the data.
#include "common.cuh"

// x = gelu(x + bias), row by row
template <u32 N, class T>
__device__ inline void bias_gelu(T* x, const T* bias, u32 rows, u32 width) {
    const u32 groups = width / N;
    const u64 count = u64(rows) * groups;
    for (u64 group = u64(blockIdx.x) * blockDim.x + threadIdx.x; group < count; group += u64(gridDim.x) * blockDim.x) {
        f32 values[N], added[N];
        load<N>(x + group * N, values);
        load<N>(bias + group % groups * N, added);
#pragma unroll
        for (u32 j = 0; j < N; j++) values[j] = gelu(values[j] + added[j]);
        store<N>(x + group * N, values);
    }
}

// out = silu(gate) · up, where each row of `x` holds `width` gates, then as many ups
template <u32 N, class T>
__device__ inline void silu_gate(const T* x, T* out, u32 rows, u32 width) {
    const u32 groups = width / N;
    const u64 count = u64(rows) * groups;
    for (u64 group = u64(blockIdx.x) * blockDim.x + threadIdx.x; group < count; group += u64(gridDim.x) * blockDim.x) {
        const T* gate = x + group / groups * 2 * width + group % groups * N;
        f32 gates[N], ups[N];
        load<N>(gate, gates);
        load<N>(gate + width, ups);
#pragma unroll
        for (u32 j = 0; j < N; j++) ups[j] *= silu(gates[j]);
        store<N>(out + group * N, ups);
    }
}

#define INSTANTIATE(T)                                                                                               \
    extern "C" __global__ void __launch_bounds__(256) bias_gelu_##T(T* x, const T* bias, u32 rows, u32 width) {      \
        width % PACK<T> == 0 ? bias_gelu<PACK<T>>(x, bias, rows, width) : bias_gelu<1>(x, bias, rows, width);        \
    }                                                                                                                \
    REGISTER(bias_gelu_##T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) silu_gate_##T(const T* x, T* out, u32 rows, u32 width) {       \
        width % PACK<T> == 0 ? silu_gate<PACK<T>>(x, out, rows, width) : silu_gate<1>(x, out, rows, width);          \
    }                                                                                                                \
    REGISTER(silu_gate_##T)
FOR_STORAGE(INSTANTIATE)
#undef INSTANTIATE
