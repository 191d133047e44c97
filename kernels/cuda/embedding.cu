// The first layer of an encoder: for each token, its word's row plus its position's, normalised.
//
// Bound by memory: a row of words and one of positions read, one written. Ids and positions are checked where they are
// known, on the host, before they are copied here; token types are added to the positions once, when a model is loaded.
#include "row.cuh"

template <class T>
__device__ inline void embedding(const u32* ids, const u32* positions, const T* word_table, const T* position_table,
                                 const T* weight, const T* bias, T* out, u32 tokens, u32 width, f32 epsilon) {
    with_row<T>(tokens, width, [&](auto row, u32 index) {
        constexpr u32 N = decltype(row)::LOAD;
        const T* word = word_table + u64(ids[index]) * width;
        const T* position = position_table + u64(positions[index]) * width;
        row.for_each([&](u32 first, f32* own) {
            f32 words[N], places[N];
            load<N>(word + first, words);
            load<N>(position + first, places);
#pragma unroll
            for (u32 j = 0; j < N; j++) own[j * WARP] = words[j] + places[j];
        });
        row.layer_norm(weight, bias, epsilon, out + u64(index) * width);
    });
}

#define INSTANTIATE(T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                              \
        embedding_##T(const u32* ids, const u32* positions, const T* word_table, const T* position_table,          \
                      const T* weight, const T* bias, T* out, u32 tokens, u32 width, f32 epsilon) {                \
        embedding(ids, positions, word_table, position_table, weight, bias, out, tokens, width, epsilon);          \
    }                                                                                                              \
    REGISTER(embedding_##T)
FOR_STORAGE(INSTANTIATE)
#undef INSTANTIATE
