// f16 and bf16 as bits: the conversions that a GPU has as instructions, rounding to nearest, ties to even.
#pragma once
#include <cstdint>
#include <cstring>

namespace shim {

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float f32_of_f16(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 31) return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) return float_of(sign | bits_of(float(fraction) * 0x1p-24f));
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

inline uint16_t f16_of_f32(float value) {
    const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;                     // NaN, the one that the instruction makes
    if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00);   // rounds to more than 65504
    if (magnitude < 0x38800000) {
        // Below 2^-14 the steps are 2^-24: adding 0.5, whose own steps are as large, rounds to them.
        return uint16_t(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
    }
    const uint32_t odd = magnitude >> 13 & 1;
    return uint16_t(sign | (magnitude - 0x38000000 + 0xfff + odd) >> 13);
}

inline uint16_t bf16_of_f32(float value) {
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace shim
