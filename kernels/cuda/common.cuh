// What the kernels share: storage types, loads and stores of 16 bytes, sums over a warp.
//
// Values are stored as f32, f16 or bf16 and computed in f32. The two halves are structs of our own, for the conversions
// are one instruction each, and NVIDIA's headers would be needed wherever this is compiled.
//
// The same sources are compiled for the CPU by `shim/`. So they keep to this: shared memory is declared by `SHARED` and
// `DYNAMIC_SHARED`, a shuffle names all 32 lanes, and PTX stands behind `#ifdef __CUDACC__`.
#pragma once

#ifdef __CUDACC__
#define SHARED(type, name, len) __shared__ __align__(16) type name[len]
#define DYNAMIC_SHARED(name)                                    \
    extern __shared__ __align__(16) unsigned char shared_end[]; \
    float* const name = reinterpret_cast<float*>(shared_end)
#define REGISTER(kernel)
#else
#include "shim/device.h"
#endif

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

using f32 = float;
struct f16 {
    u16 bits;
};
struct bf16 {
    u16 bits;
};

// The storage types of one PTX module. bf16 stands in the module for compute_80, where the conversion is an instruction.
#if !defined(MODULE)
#define FOR_STORAGE(INSTANTIATE) INSTANTIATE(f32) INSTANTIATE(f16) INSTANTIATE(bf16)
#define FOR_HALVES(INSTANTIATE) INSTANTIATE(f16) INSTANTIATE(bf16)
#elif MODULE == 75
#define FOR_STORAGE(INSTANTIATE) INSTANTIATE(f32) INSTANTIATE(f16)
#define FOR_HALVES(INSTANTIATE) INSTANTIATE(f16)
#else
#define FOR_STORAGE(INSTANTIATE) INSTANTIATE(bf16)
#define FOR_HALVES(INSTANTIATE) INSTANTIATE(bf16)
#endif

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffff;

// How many values of a type are 16 bytes, the most that a thread loads at once.
template <class T>
constexpr u32 PACK = 16 / sizeof(T);

__device__ inline f32 minus_infinity() { return __uint_as_float(0xff800000); }

__device__ inline f32 to_f32(f32 value) { return value; }
__device__ inline f32 to_f32(bf16 value) { return __uint_as_float(u32(value.bits) << 16); }

template <class T>
__device__ inline T from_f32(f32 value);

template <>
__device__ inline f32 from_f32<f32>(f32 value) {
    return value;
}

#ifdef __CUDACC__
__device__ inline f32 to_f32(f16 value) {
    f32 result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

template <>
__device__ inline f16 from_f32<f16>(f32 value) {
    f16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

#if __CUDA_ARCH__ >= 800
template <>
__device__ inline bf16 from_f32<bf16>(f32 value) {
    bf16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
#endif
#else
inline f32 to_f32(f16 value) { return shim::f32_of_f16(value.bits); }

template <>
inline f16 from_f32<f16>(f32 value) {
    return {shim::f16_of_f32(value)};
}

template <>
inline bf16 from_f32<bf16>(f32 value) {
    return {shim::bf16_of_f32(value)};
}
#endif

__device__ inline void unpack(u32 word, f32* to, f32) { to[0] = __uint_as_float(word); }

template <class T>
__device__ inline void unpack(u32 word, f32* to, T) {
    to[0] = to_f32(T{u16(word)});
    to[1] = to_f32(T{u16(word >> 16)});
}

__device__ inline u32 pack(const f32* from, f32) { return __float_as_uint(from[0]); }

template <class T>
__device__ inline u32 pack(const f32* from, T) {
    return from_f32<T>(from[0]).bits | u32(from_f32<T>(from[1]).bits) << 16;
}

// Reads N values beside each other: one, or 8 or 16 bytes of them, aligned as such.
template <u32 N, class T>
__device__ inline void load(const T* from, f32* to) {
    constexpr u32 WORD = 4 / sizeof(T);
    if constexpr (N == 1) {
        *to = to_f32(*from);
    } else if constexpr (N * sizeof(T) == 8) {
        const uint2 words = *reinterpret_cast<const uint2*>(from);
        unpack(words.x, to, T{});
        unpack(words.y, to + WORD, T{});
    } else {
        static_assert(N * sizeof(T) == 16);
        const uint4 words = *reinterpret_cast<const uint4*>(from);
        unpack(words.x, to, T{});
        unpack(words.y, to + WORD, T{});
        unpack(words.z, to + 2 * WORD, T{});
        unpack(words.w, to + 3 * WORD, T{});
    }
}

// Writes N values beside each other, as `load` reads them.
template <u32 N, class T>
__device__ inline void store(T* to, const f32* from) {
    constexpr u32 WORD = 4 / sizeof(T);
    if constexpr (N == 1) {
        *to = from_f32<T>(*from);
    } else if constexpr (N * sizeof(T) == 8) {
        *reinterpret_cast<uint2*>(to) = make_uint2(pack(from, T{}), pack(from + WORD, T{}));
    } else {
        static_assert(N * sizeof(T) == 16);
        *reinterpret_cast<uint4*>(to) = make_uint4(pack(from, T{}), pack(from + WORD, T{}), pack(from + 2 * WORD, T{}),
                                                   pack(from + 3 * WORD, T{}));
    }
}

// The sum of a value over the lanes of a warp, or over each group of LANES beside each other; every lane gets it.
template <u32 LANES = WARP>
__device__ inline f32 sum_lanes(f32 value) {
#pragma unroll
    for (u32 distance = LANES / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    }
    return value;
}

template <u32 LANES = WARP>
__device__ inline f32 max_lanes(f32 value) {
#pragma unroll
    for (u32 distance = LANES / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// The Gaussian error linear unit, exact: x · Φ(x).
__device__ inline f32 gelu(f32 x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

// x · sigmoid(x).
__device__ inline f32 silu(f32 x) { return x / (1.0f + expf(-x)); }
