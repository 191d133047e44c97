// A `libcuda.so.1` that runs our kernels on the CPU, through the shim: what `cudarc` calls, and no more.
//
// It is as strict as the real one where mistakes hide. A stream is a queue: nothing runs before somebody waits for it, so
// results that were not waited for are not there. Device memory is what it was before; every copy is checked against what
// was allocated; pinned memory is read and written when the queue gets there, pageable memory at the call. Kernel
// arguments are copied at the launch. A capture records and refuses what CUDA refuses while it lasts. A sticky error
// stays for every later call.
//
// What it is like, and what fails when, is read from `stub.conf` beside the library; see README.md.
#include "../module.cu"

#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <string>

#include "stub.h"

namespace stub {

struct Allocation {
    size_t bytes;
};

using Work = std::function<int()>;

struct Stream {
    std::deque<Work> queue;
    bool is_capturing = false;
    int spoiled = 0;
    std::vector<Work> captured;
};

struct Event {
    bool is_recorded = false, is_passed = false;
    std::chrono::steady_clock::time_point when;
};

struct Module {
    std::string ptx;
};

struct Function {
    const shim::Kernel* kernel;
};

struct Graph {
    std::vector<Work> work;
};

struct Driver {
    Settings settings = Settings::read();
    bool is_initialised = false;
    int poison = 0;
    size_t device_bytes = 0;
    std::map<CUdeviceptr, Allocation> device;
    std::map<char*, size_t> pinned;
    std::vector<Stream*> streams;
    std::map<std::string, unsigned> calls;
};

Driver& driver() {
    static Driver one;
    return one;
}

bool is_sticky(int code) { return code == 700 || code == 710 || (code >= 714 && code <= 719); }

// What every call begins with: the fault that the settings plant, or the error that stays.
int begin(const char* call) {
    Driver& d = driver();
    const unsigned count = ++d.calls[call];
    if (d.poison) return d.poison;
    for (const Fault& fault : d.settings.faults) {
        if (fault.call == call && (fault.after == count || (fault.is_lasting && count > fault.after))) {
            if (is_sticky(fault.code)) d.poison = fault.code;
            return fault.code;
        }
    }
    return 0;
}

// The shim runs one launch at a time, so callers take turns.
std::recursive_mutex& turn() {
    static std::recursive_mutex one;
    return one;
}

#define TAKE_TURN() std::lock_guard<std::recursive_mutex> own_turn(stub::turn())
#define BEGIN(call) \
    TAKE_TURN();    \
    if (int code = stub::begin(call)) return code

// True if the device has these bytes.
bool is_device(CUdeviceptr address, size_t bytes) {
    auto next = driver().device.upper_bound(address);
    if (next == driver().device.begin()) return false;
    const auto& [start, allocation] = *std::prev(next);
    return address - start <= allocation.bytes && bytes <= allocation.bytes - (address - start);
}

bool is_pinned(const void* pointer, size_t bytes) {
    char* address = const_cast<char*>(static_cast<const char*>(pointer));
    auto next = driver().pinned.upper_bound(address);
    if (next == driver().pinned.begin()) return false;
    const auto& [start, len] = *std::prev(next);
    return size_t(address - start) <= len && bytes <= len - size_t(address - start);
}

int fail(int code) {
    if (is_sticky(code)) driver().poison = code;
    return code;
}

// Queues work, or records it.
int queue(CUstream raw, Work work) {
    auto* stream = static_cast<Stream*>(raw);
    if (stream == nullptr) return INVALID_HANDLE;
    if (stream->is_capturing) {
        stream->captured.push_back(std::move(work));
    } else {
        stream->queue.push_back(std::move(work));
    }
    return 0;
}

int drain(Stream* stream) {
    while (!stream->queue.empty()) {
        Work work = std::move(stream->queue.front());
        stream->queue.pop_front();
        if (driver().poison) continue;
        if (int code = work()) fail(code);
    }
    return driver().poison;
}

int drain_all() {
    for (Stream* stream : driver().streams) drain(stream);
    return driver().poison;
}

// What CUDA forbids while a stream of the thread captures.
int refuse_capture() {
    for (Stream* stream : driver().streams) {
        if (stream->is_capturing) return stream->spoiled = STREAM_CAPTURE_UNSUPPORTED;
    }
    return 0;
}

#define OUTSIDE_CAPTURE() \
    if (int code = stub::refuse_capture()) return code

}  // namespace stub

using stub::driver;

extern "C" {

// For the stub of cuBLASLt, which queues its products.
int stub_queue(CUstream stream, std::function<int()>* work) { return stub::queue(stream, std::move(*work)); }
bool stub_is_device(CUdeviceptr address, size_t bytes) { return stub::is_device(address, bytes); }

int cuInit(unsigned) {
    if (driver().settings.init) return driver().settings.init;
    if (driver().settings.devices == 0) return stub::NO_DEVICE;
    driver().is_initialised = true;
    return 0;
}

int cuDriverGetVersion(int* version) {
    *version = driver().settings.version;
    return 0;
}

int cuDeviceGetCount(int* count) {
    BEGIN("cuDeviceGetCount");
    *count = driver().settings.devices;
    return 0;
}

int cuDeviceGet(int* device, int ordinal) {
    BEGIN("cuDeviceGet");
    if (ordinal < 0 || ordinal >= driver().settings.devices) return stub::INVALID_DEVICE;
    *device = ordinal;
    return 0;
}

int cuDeviceGetName(char* name, int len, int device) {
    std::snprintf(name, size_t(len), "Stub Device %d", device);
    return 0;
}

#ifndef WITHOUT_UUID
int cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
    for (int i = 0; i < 16; i++) uuid[i] = static_cast<unsigned char>(i == 15 ? device : 0x10 + i);
    return 0;
}
#endif

int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = driver().settings.memory;
    return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
    BEGIN("cuDeviceGetAttribute");
    switch (attribute) {
        case 1: *value = 1024; break;                                     // threads of a block
        case 8: case 97: *value = 48 << 10; break;                        // shared memory of a block
        case 10: *value = 32; break;                                      // warp size
        case 13: *value = 1000000; break;                                 // clock, kHz
        case 16: *value = 4; break;                                       // multiprocessors
        case 36: *value = 1000000; break;                                 // memory clock, kHz
        case 37: *value = 256; break;                                     // memory bus, bits
        case 75: *value = driver().settings.capability / 10; break;       // compute capability, major
        case 76: *value = driver().settings.capability % 10; break;       // and minor
        default: *value = 0;
    }
    return 0;
}

int cuDevicePrimaryCtxRetain(CUcontext* context, int) {
    BEGIN("cuDevicePrimaryCtxRetain");
    *context = &driver();
    return 0;
}

int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(CUcontext) { return 0; }
int cuCtxGetCurrent(CUcontext* context) {
    *context = &driver();
    return 0;
}
int cuCtxSynchronize() {
    TAKE_TURN();
    OUTSIDE_CAPTURE();
    return stub::drain_all();
}

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    BEGIN("cuMemGetInfo");
    *free = driver().settings.memory - driver().device_bytes;
    *total = driver().settings.memory;
    return 0;
}

int cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
    BEGIN("cuMemAlloc");
    OUTSIDE_CAPTURE();
    if (bytes == 0) return stub::INVALID_VALUE;
    if (bytes > driver().settings.memory - driver().device_bytes) return stub::OUT_OF_MEMORY;
    // As a driver aligns it; exactly as long as was asked for.
    void* memory = nullptr;
    if (posix_memalign(&memory, 512, bytes)) return stub::OUT_OF_MEMORY;
    std::memset(memory, 0xff, bytes);
    *address = reinterpret_cast<CUdeviceptr>(memory);
    driver().device[*address] = {bytes};
    driver().device_bytes += bytes;
    return 0;
}

int cuMemFree_v2(CUdeviceptr address) {
    BEGIN("cuMemFree");
    OUTSIDE_CAPTURE();
    auto found = driver().device.find(address);
    if (found == driver().device.end()) return stub::INVALID_VALUE;
    const int code = stub::drain_all();
    driver().device_bytes -= found->second.bytes;
    std::free(reinterpret_cast<void*>(address));
    driver().device.erase(found);
    return code;
}

int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    BEGIN("cuMemHostAlloc");
    OUTSIDE_CAPTURE();
    if (posix_memalign(memory, 4096, bytes)) return stub::OUT_OF_MEMORY;
    std::memset(*memory, 0xff, bytes);
    driver().pinned[static_cast<char*>(*memory)] = bytes;
    return 0;
}

int cuMemFreeHost(void* memory) {
    TAKE_TURN();
    auto found = driver().pinned.find(static_cast<char*>(memory));
    if (found == driver().pinned.end()) return stub::INVALID_VALUE;
    const int code = stub::drain_all();
    driver().pinned.erase(found);
    std::free(memory);
    return code;
}

int cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    BEGIN("cuMemcpyHtoDAsync");
    if (!stub::is_device(to, bytes)) return stub::INVALID_VALUE;
    if (stub::is_pinned(from, bytes)) {
        return stub::queue(stream, [=] {
            if (!stub::is_device(to, bytes) || !stub::is_pinned(from, bytes)) return stub::ILLEGAL_ADDRESS;
            std::memcpy(reinterpret_cast<void*>(to), from, bytes);
            return 0;
        });
    }
    const auto* start = static_cast<const char*>(from);
    std::vector<char> staged(start, start + bytes);
    return stub::queue(stream, [=, staged = std::move(staged)] {
        std::memcpy(reinterpret_cast<void*>(to), staged.data(), bytes);
        return 0;
    });
}

int cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    BEGIN("cuMemcpyDtoHAsync");
    if (!stub::is_device(from, bytes)) return stub::INVALID_VALUE;
    const bool is_pinned = stub::is_pinned(to, bytes);
    const int code = stub::queue(stream, [=] {
        if (!stub::is_device(from, bytes) || (is_pinned && !stub::is_pinned(to, bytes))) return stub::ILLEGAL_ADDRESS;
        std::memcpy(to, reinterpret_cast<void*>(from), bytes);
        return 0;
    });
    // Pageable memory makes the copy wait.
    return code || is_pinned ? code : stub::drain(static_cast<stub::Stream*>(stream));
}

int cuStreamCreate(CUstream* stream, unsigned) {
    BEGIN("cuStreamCreate");
    driver().streams.push_back(new stub::Stream);
    *stream = driver().streams.back();
    return 0;
}

int cuStreamDestroy_v2(CUstream raw) {
    TAKE_TURN();
    auto* stream = static_cast<stub::Stream*>(raw);
    stub::drain(stream);
    auto& all = driver().streams;
    all.erase(std::remove(all.begin(), all.end(), stream), all.end());
    delete stream;
    return 0;
}

int cuStreamSynchronize(CUstream stream) {
    BEGIN("cuStreamSynchronize");
    OUTSIDE_CAPTURE();
    return stub::drain(static_cast<stub::Stream*>(stream));
}

int cuEventCreate(CUevent* event, unsigned) {
    BEGIN("cuEventCreate");
    *event = new stub::Event;
    return 0;
}

int cuEventRecord(CUevent raw, CUstream stream) {
    BEGIN("cuEventRecord");
    auto* event = static_cast<stub::Event*>(raw);
    event->is_recorded = true;
    event->is_passed = false;
    return stub::queue(stream, [=] {
        event->is_passed = true;
        event->when = std::chrono::steady_clock::now();
        return 0;
    });
}

int cuEventSynchronize(CUevent raw) {
    BEGIN("cuEventSynchronize");
    OUTSIDE_CAPTURE();
    auto* event = static_cast<stub::Event*>(raw);
    return event->is_recorded && !event->is_passed ? stub::drain_all() : 0;
}

// Not `_v2`: drivers before 570 have only this one.
int cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    BEGIN("cuEventElapsedTime");
    const auto *first = static_cast<stub::Event*>(start), *last = static_cast<stub::Event*>(end);
    if (!first->is_passed || !last->is_passed) return stub::NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(last->when - first->when).count();
    return 0;
}

int cuEventDestroy_v2(CUevent event) {
    TAKE_TURN();
    stub::drain_all();
    delete static_cast<stub::Event*>(event);
    return 0;
}

int cuModuleLoadData(CUmodule* module, const void* image) {
    BEGIN("cuModuleLoadData");
    OUTSIDE_CAPTURE();
    std::string ptx = static_cast<const char*>(image);
    // The version that drivers from 525 on take.
    if (ptx.find(".version 8.0") == std::string::npos) return stub::UNSUPPORTED_PTX_VERSION;
    const size_t target = ptx.find(".target sm_");
    if (target == std::string::npos) return stub::INVALID_PTX;
    if (std::atoi(ptx.c_str() + target + 11) > driver().settings.capability) return stub::NO_BINARY_FOR_GPU;
    *module = new stub::Module{std::move(ptx)};
    return 0;
}

int cuModuleUnload(CUmodule module) {
    TAKE_TURN();
    stub::drain_all();
    delete static_cast<stub::Module*>(module);
    return 0;
}

int cuModuleGetFunction(CUfunction* function, CUmodule raw, const char* name) {
    BEGIN("cuModuleGetFunction");
    const auto* module = static_cast<stub::Module*>(raw);
    if (module->ptx.find(".entry " + std::string(name) + "(") == std::string::npos) return stub::NOT_FOUND;
    for (const auto& kernel : shim::kernels()) {
        if (std::string(name) == kernel.name) {
            *function = new stub::Function{&kernel};
            return 0;
        }
    }
    return stub::NOT_FOUND;
}

int cuFuncSetAttribute(CUfunction, int, int) { return 0; }

int cuLaunchKernel(CUfunction raw, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y,
                   unsigned threads_z, unsigned shared_bytes, CUstream stream, void** arguments, void**) {
    BEGIN("cuLaunchKernel");
    const auto* kernel = static_cast<stub::Function*>(raw)->kernel;
    if (x == 0 || y == 0 || z == 0 || x > 0x7fffffff || y > 65535 || z > 65535) return stub::INVALID_VALUE;
    if (threads_x * threads_y * threads_z > 1024 || shared_bytes > (48 << 10)) return stub::INVALID_VALUE;
    // Each argument is at most 8 bytes, and stands in a slot of 8.
    std::vector<uint64_t> values(kernel->arguments);
    for (size_t i = 0; i < values.size(); i++) std::memcpy(&values[i], arguments[i], sizeof values[i]);
    return stub::queue(stream, [=]() mutable {
        std::vector<void*> pointers;
        for (auto& value : values) pointers.push_back(&value);
        shim::block.launch({x, y, z}, {threads_x, threads_y, threads_z}, shared_bytes,
                           [&] { kernel->call(pointers.data()); });
        return 0;
    });
}

int cuStreamBeginCapture_v2(CUstream raw, int) {
    BEGIN("cuStreamBeginCapture");
    auto* stream = static_cast<stub::Stream*>(raw);
    if (stream->is_capturing) return stub::ILLEGAL_STATE;
    stream->is_capturing = true;
    stream->spoiled = 0;
    stream->captured.clear();
    return 0;
}

int cuStreamEndCapture(CUstream raw, CUgraph* graph) {
    TAKE_TURN();
    auto* stream = static_cast<stub::Stream*>(raw);
    *graph = nullptr;
    if (!stream->is_capturing) return stub::ILLEGAL_STATE;
    stream->is_capturing = false;
    if (stream->spoiled) return stub::STREAM_CAPTURE_INVALIDATED;
    if (int code = stub::begin("cuStreamEndCapture")) return code;
    *graph = new stub::Graph{std::move(stream->captured)};
    return 0;
}

int cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
    BEGIN("cuGraphInstantiate");
    *executable = new stub::Graph{*static_cast<stub::Graph*>(graph)};
    return 0;
}

int cuGraphLaunch(CUgraphExec raw, CUstream stream) {
    BEGIN("cuGraphLaunch");
    for (const auto& work : static_cast<stub::Graph*>(raw)->work) {
        if (int code = stub::queue(stream, work)) return code;
    }
    return 0;
}

int cuGraphExecDestroy(CUgraphExec graph) {
    TAKE_TURN();
    stub::drain_all();
    delete static_cast<stub::Graph*>(graph);
    return 0;
}

int cuGraphDestroy(CUgraph graph) {
    delete static_cast<stub::Graph*>(graph);
    return 0;
}

int cuGetErrorName(int code, const char** name) {
    for (const auto& [known, text] : stub::NAMES) {
        if (known == code) {
            *name = text;
            return 0;
        }
    }
    *name = nullptr;
    return stub::INVALID_VALUE;
}

int cuGetErrorString(int code, const char** text) { return cuGetErrorName(code, text); }

}  // extern "C"
