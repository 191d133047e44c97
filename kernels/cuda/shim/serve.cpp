// Runs kernels that a test asks for: launches on standard input, contents of buffers on standard output.
//
//     serve [--order ascending|descending|shuffled] [--seed N]
//
// A launch, in the machine's own byte order: the length of the name (u32), the name; grid (3 × u32), block (3 × u32),
// bytes of dynamic shared memory (u32); the number of buffers (u32), each as its length in bytes (u64) and its bytes; the
// number of arguments (u32), each as 16 bytes: kind (u32), buffer (u32), value (u64). Kinds: 0 is the address of a buffer
// plus `value` bytes, 1 is `value` itself, whatever its size. The answer: each buffer's bytes, in order. Anything wrong
// ends the process with a line on standard error.
#include <string>

#ifndef SOURCES
#define SOURCES "../module.cu"
#endif
#include SOURCES

namespace {

template <class T>
bool try_read(T& value) {
    return std::fread(&value, sizeof value, 1, stdin) == 1;
}

template <class T>
T read() {
    T value;
    if (!try_read(value)) {
        std::fprintf(stderr, "shim: the input ended within a launch\n");
        std::exit(1);
    }
    return value;
}

void read_bytes(void* to, size_t len) {
    if (std::fread(to, 1, len, stdin) != len) {
        std::fprintf(stderr, "shim: the input ended within a launch\n");
        std::exit(1);
    }
}

struct Buffer {
    size_t len;
    // From `malloc`: aligned to 16 bytes, and exactly as long as was said.
    std::unique_ptr<unsigned char, void (*)(void*)> bytes;
};

struct Argument {
    uint32_t kind, buffer;
    uint64_t value;
};

const shim::Kernel& find(const std::string& name) {
    for (const auto& kernel : shim::kernels()) {
        if (name == kernel.name) return kernel;
    }
    std::fprintf(stderr, "shim: there is no kernel `%s`\n", name.c_str());
    std::exit(1);
}

void serve(uint32_t name_len) {
    std::string name(name_len, ' ');
    read_bytes(name.data(), name_len);
    const shim::Kernel& kernel = find(name);
    const auto grid = read<dim3>(), threads = read<dim3>();
    const auto shared_bytes = read<uint32_t>();

    std::vector<Buffer> buffers;
    const auto buffer_count = read<uint32_t>();
    for (uint32_t i = 0; i < buffer_count; i++) {
        const size_t len = read<uint64_t>();
        buffers.push_back({len, {static_cast<unsigned char*>(std::malloc(len)), std::free}});
        read_bytes(buffers.back().bytes.get(), len);
    }

    std::vector<uint64_t> values(read<uint32_t>());
    std::vector<void*> arguments;
    for (auto& value : values) {
        const auto argument = read<Argument>();
        value = argument.value;
        if (argument.kind == 0) value += reinterpret_cast<uint64_t>(buffers.at(argument.buffer).bytes.get());
        arguments.push_back(&value);
    }

    shim::block.launch(grid, threads, shared_bytes, [&] { kernel.call(arguments.data()); });

    for (const auto& buffer : buffers) std::fwrite(buffer.bytes.get(), 1, buffer.len, stdout);
    std::fflush(stdout);
}

}  // namespace

int main(int count, char** words) {
    auto order = shim::Order::Ascending;
    unsigned seed = 1;
    for (int i = 1; i + 1 < count; i += 2) {
        const std::string option = words[i], value = words[i + 1];
        if (option == "--seed") seed = unsigned(std::stoul(value));
        if (option == "--order" && value == "descending") order = shim::Order::Descending;
        if (option == "--order" && value == "shuffled") order = shim::Order::Shuffled;
    }
    shim::block.order_by(order, seed);
    for (uint32_t name_len; try_read(name_len);) serve(name_len);
}
