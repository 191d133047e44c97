// The instructions of `ptx.cuh` on the CPU.
//
// Fragments are laid out as the PTX ISA documents them, in the sections "Warp-level matrix load instruction: ldmatrix" and
// "Matrix Fragments for mma.m16n8k16 with floating point type"; copies follow "Asynchronous copy: cp.async" at their worst:
// the destination is NaN from the moment a copy begins, and holds the bytes only once its thread has waited for them.
//
// Ends the process, with the line: an address that is no multiple of 16, and rows of a matrix that share banks.
#pragma once
#include <array>

namespace shim {

// The copies that a thread has under way: those up to `groups[i]` belong to group i or an earlier one.
struct Copies {
    struct Copy {
        void* to;
        std::array<unsigned char, 16> bytes;
    };
    uint64_t serial = 0;
    std::vector<Copy> copies;
    std::vector<size_t> groups;

    static Copies& of_this_thread() {
        static std::vector<Copies> all(THREADS_MAX);
        Copies& own = all[block.current];
        if (own.serial != block.serial) own = {block.serial, {}, {}};
        return own;
    }

    void wait(size_t groups_left) {
        if (groups.size() <= groups_left) return;
        const size_t done = groups[groups.size() - groups_left - 1];
        for (size_t i = 0; i < done; i++) std::memcpy(copies[i].to, copies[i].bytes.data(), 16);
        copies.erase(copies.begin(), copies.begin() + done);
        groups.erase(groups.begin(), groups.end() - groups_left);
        for (size_t& end : groups) end -= done;
    }
};

inline void expect_multiple_of_16(const void* place, const char* what, int line) {
    if (reinterpret_cast<uintptr_t>(place) % 16 == 0) return;
    std::fprintf(stderr, "shim: %s of line %d at an address that is no multiple of 16\n", what, line);
    std::exit(4);
}

struct MatrixRow {
    uintptr_t address;
    u16 halves[8];
};

// Hands over the row that this lane names; returns those of all lanes.
inline const MatrixRow* exchange_rows(const void* row, const char* what, int line) {
    expect_multiple_of_16(row, what, line);
    MatrixRow own{reinterpret_cast<uintptr_t>(row), {}};
    std::memcpy(own.halves, row, sizeof own.halves);
    const MatrixRow* rows = block.exchange(own, what, line);
    // 32 banks of 4 bytes: the eight rows of a matrix are read at once if they differ in their 16 bytes of 128.
    const unsigned lane = block.current % WARP_LANES;
    for (unsigned other = lane / 8 * 8; other < lane; other++) {
        if (rows[other].address / 16 % 8 == rows[lane].address / 16 % 8 && rows[other].address != rows[lane].address) {
            std::fprintf(stderr, "shim: %s of line %d: the rows of lanes %u and %u share banks\n", what, line, other, lane);
            std::exit(4);
        }
    }
    return rows;
}

inline u32 two(u16 low, u16 high) { return low | u32(high) << 16; }

// What a lane hands over for a product: its fragments of both matrices.
struct Fragments {
    u32 left[4], right[2];
};

template <class T>
void multiply_add(f32 (&sums)[4], const u32 (&left)[4], u32 right_low, u32 right_high, T, int line) {
    const Fragments* lanes =
        block.exchange(Fragments{{left[0], left[1], left[2], left[3]}, {right_low, right_high}}, "mma", line);
    const unsigned lane = block.current % WARP_LANES, group = lane / 4, in_group = lane % 4;
    const auto half = [](u32 word, unsigned index) { return to_f32(T{u16(index % 2 ? word >> 16 : word)}); };
    for (unsigned i = 0; i < 4; i++) {
        const unsigned is_lower = i / 2, column = in_group * 2 + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            // Left: row `group`, or 8 below it, in registers 0 or 1, and from k = 8 on in 2 or 3.
            const Fragments& row = lanes[group * 4 + k % 8 / 2];
            // Right: the column of each group of lanes, and from k = 8 on in the second register.
            const Fragments& other = lanes[column * 4 + k % 8 / 2];
            sums[i] += half(row.left[is_lower + k / 8 * 2], k) * half(other.right[k / 8], k);
        }
    }
}

}  // namespace shim

template <class T>
void copy_async(T* array, u32 index, const T* from, bool is_inside, int line = __builtin_LINE()) {
    T* const to = array + index;
    shim::expect_multiple_of_16(to, "cp.async", line);
    shim::expect_multiple_of_16(from, "cp.async", line);
    shim::Copies::Copy copy{to, {}};
    if (is_inside) std::memcpy(copy.bytes.data(), from, 16);
    std::memset(to, 0xff, 16);
    shim::Copies::of_this_thread().copies.push_back(copy);
}

inline void commit_copies() {
    auto& own = shim::Copies::of_this_thread();
    own.groups.push_back(own.copies.size());
}

template <u32 GROUPS>
void wait_for_copies() {
    shim::Copies::of_this_thread().wait(GROUPS);
}

template <class T>
void load_matrices(u32 (&to)[4], const T* array, u32 index, u32 offset = 0, int line = __builtin_LINE()) {
    const shim::MatrixRow* rows = shim::exchange_rows(array + index + offset, "ldmatrix", line);
    const unsigned lane = shim::block.current % WARP;
    for (unsigned i = 0; i < 4; i++) {
        const u16* halves = rows[i * 8 + lane / 4].halves + lane % 4 * 2;
        to[i] = shim::two(halves[0], halves[1]);
    }
}

template <class T>
void load_matrices_transposed(u32 (&to)[4], const T* array, u32 index, u32 offset = 0, int line = __builtin_LINE()) {
    const shim::MatrixRow* rows = shim::exchange_rows(array + index + offset, "ldmatrix.trans", line);
    const unsigned lane = shim::block.current % WARP;
    for (unsigned i = 0; i < 4; i++) {
        const shim::MatrixRow* first = rows + i * 8 + lane % 4 * 2;
        to[i] = shim::two(first[0].halves[lane / 4], first[1].halves[lane / 4]);
    }
}

template <class T>
void multiply_add(f32 (&sums)[4], const u32 (&left)[4], u32 right_low, u32 right_high, T, int line = __builtin_LINE()) {
    shim::multiply_add(sums, left, right_low, right_high, T{}, line);
}

template <class T>
u32 pack_halves(f32 low, f32 high, T) {
    return shim::two(from_f32<T>(low).bits, from_f32<T>(high).bits);
}
