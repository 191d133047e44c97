// What a kernel sees of CUDA, on the CPU: the part of the language that our kernels use, and no more.
#pragma once
#include <cmath>

#include "block.h"
#include "half.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

#define threadIdx (shim::block.thread_index())
#define blockIdx (shim::block.index)
#define blockDim (shim::block.threads)
#define gridDim (shim::block.grid)

#define SHARED(type, name, len)                                \
    static shim::SharedArray name##_array((len) * sizeof(type)); \
    type* const name = static_cast<type*>(name##_array.of_this_block())
#define DYNAMIC_SHARED(name) float* const name = shim::block.dynamic_shared

#define __syncthreads() shim::block.barrier(__LINE__)
#define __syncwarp() shim::block.exchange(0, "__syncwarp", __LINE__)
#define __shfl_xor_sync(mask, value, distance) shim::shuffle_xor(mask, value, distance, __LINE__)

struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float __uint_as_float(unsigned bits) { return shim::float_of(bits); }
inline unsigned __float_as_uint(float value) { return shim::bits_of(value); }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }

namespace shim {

template <class T>
T shuffle_xor(unsigned mask, T value, unsigned distance, int line) {
    if (mask != 0xffffffff) {
        std::fprintf(stderr, "shim: the shuffle of line %d does not name all 32 lanes\n", line);
        std::exit(1);
    }
    return block.exchange(value, "__shfl_xor_sync", line)[(block.current % WARP_LANES) ^ distance];
}

// A kernel by its name, called as a driver calls one: with a pointer to each argument.
struct Kernel {
    const char* name;
    size_t arguments;
    std::function<void(void* const*)> call;
};

inline std::vector<Kernel>& kernels() {
    static std::vector<Kernel> all;
    return all;
}

template <class... A, size_t... I>
void call_with(void (*kernel)(A...), void* const* arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

struct Registered {
    template <class... A>
    Registered(const char* name, void (*kernel)(A...)) {
        kernels().push_back({name, sizeof...(A), [kernel](void* const* arguments) {
                                 call_with(kernel, arguments, std::index_sequence_for<A...>{});
                             }});
    }
};

}  // namespace shim

#define REGISTER(kernel) static const shim::Registered registered_##kernel(#kernel, kernel);
