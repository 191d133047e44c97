// The PTX instructions of tensor cores, and of copies to shared memory that go on while a thread works: compute 8.0.
//
// The CPU has them from `shim/ptx.h`, by the same names.
#pragma once
#include "common.cuh"

// The storage types with kernels for tensor cores in this module.
#if defined(MODULE) && MODULE == 75
#define FOR_TENSOR_CORES(INSTANTIATE)
#else
#define FOR_TENSOR_CORES(INSTANTIATE) INSTANTIATE(f16) INSTANTIATE(bf16)
#endif

#ifdef __CUDACC__
// Shared memory has addresses of 32 bits. An array and an index, rather than a pointer, keep the sums in 32 bits too.
template <class T>
__device__ inline u32 shared_address(const T* array, u32 index) {
    return u32(__cvta_generic_to_shared(array)) + index * u32(sizeof(T));
}

// Begins to copy 16 bytes from global memory to a place in shared memory, or to write zeros there; both places are
// multiples of 16 bytes. `from` is not read unless `is_inside`.
template <class T>
__device__ inline void copy_async(T* array, u32 index, const T* from, bool is_inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 ::"r"(shared_address(array, index)), "l"(__cvta_generic_to_global(from)), "r"(is_inside ? 16 : 0)
                 : "memory");
}

// Makes a group of this thread's copies since the last one.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until no more than GROUPS of this thread's groups, the latest, are under way. What other threads copied is there
// after a barrier.
template <u32 GROUPS>
__device__ inline void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

// Reads four matrices of 8 rows of 8 halves: lanes 0 to 7 say where the rows of the first begin, 8 to 15 of the second,
// and so on. Lane l gets of each the halves 2 (l % 4) and the next of row l / 4. `offset` is added to `index`; apart from it,
// a constant stays one and goes into the instruction.
template <class T>
__device__ inline void load_matrices(u32 (&to)[4], const T* array, u32 index, u32 offset = 0) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(array, index) + offset * u32(sizeof(T)))
                 : "memory");
}

// The same of the transposed matrices: of column l / 4, the halves of rows 2 (l % 4) and the next.
template <class T>
__device__ inline void load_matrices_transposed(u32 (&to)[4], const T* array, u32 index, u32 offset = 0) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(array, index) + offset * u32(sizeof(T)))
                 : "memory");
}

// sums[16, 8] += left[16, 16] · right[16, 8], each spread over the warp as the instruction has it.
__device__ inline void multiply_add(f32 (&sums)[4], const u32 (&left)[4], u32 right_low, u32 right_high, f16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_low), "r"(right_high));
}

__device__ inline void multiply_add(f32 (&sums)[4], const u32 (&left)[4], u32 right_low, u32 right_high, bf16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_low), "r"(right_high));
}

// Two values as halves, the first in the low bits.
__device__ inline u32 pack_halves(f32 low, f32 high, f16) {
    u32 result;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}

__device__ inline u32 pack_halves(f32 low, f32 high, bf16) {
    u32 result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}
#else
#include "shim/ptx.h"
#endif
