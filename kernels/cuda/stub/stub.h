// What both stub libraries share: the handles, the error codes, the settings.
#pragma once
#include <dlfcn.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

using CUdeviceptr = unsigned long long;
using CUcontext = void*;
using CUstream = void*;
using CUevent = void*;
using CUmodule = void*;
using CUfunction = void*;
using CUgraph = void*;
using CUgraphExec = void*;

namespace stub {

// `CUresult`, as the CUDA driver API numbers it.
constexpr int INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, NO_BINARY_FOR_GPU = 209,
              INVALID_PTX = 218, UNSUPPORTED_PTX_VERSION = 222, INVALID_HANDLE = 400, ILLEGAL_STATE = 401,
              NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, STREAM_CAPTURE_UNSUPPORTED = 900,
              STREAM_CAPTURE_INVALIDATED = 901;

constexpr std::pair<int, const char*> NAMES[] = {
    {0, "CUDA_SUCCESS"},
    {1, "CUDA_ERROR_INVALID_VALUE"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY"},
    {100, "CUDA_ERROR_NO_DEVICE"},
    {101, "CUDA_ERROR_INVALID_DEVICE"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE"},
    {218, "CUDA_ERROR_INVALID_PTX"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
    {400, "CUDA_ERROR_INVALID_HANDLE"},
    {401, "CUDA_ERROR_ILLEGAL_STATE"},
    {500, "CUDA_ERROR_NOT_FOUND"},
    {600, "CUDA_ERROR_NOT_READY"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {710, "CUDA_ERROR_ASSERT"},
    {714, "CUDA_ERROR_HARDWARE_STACK_ERROR"},
    {715, "CUDA_ERROR_ILLEGAL_INSTRUCTION"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
    {717, "CUDA_ERROR_INVALID_ADDRESS_SPACE"},
    {718, "CUDA_ERROR_INVALID_PC"},
    {719, "CUDA_ERROR_LAUNCH_FAILED"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
    {999, "CUDA_ERROR_UNKNOWN"},
};

// A call that fails: the `after`th of it in this process, and every later one if it is lasting.
struct Fault {
    std::string call;
    int code;
    unsigned after;
    bool is_lasting;
};

struct Settings {
    int devices = 1, version = 12040, capability = 80, init = 0;
    size_t memory = size_t(1) << 30;
    std::vector<Fault> faults;

    // Reads `stub.conf` beside the library; without it the settings are those above.
    static Settings read() {
        Settings settings;
        Dl_info info;
        if (!dladdr(reinterpret_cast<void*>(&Settings::read), &info)) std::abort();
        const std::string library = info.dli_fname;
        std::ifstream file(library.substr(0, library.rfind('/') + 1) + "stub.conf");
        for (std::string line; std::getline(file, line);) {
            std::istringstream words(line);
            std::string key, equals;
            if (!(words >> key) || key[0] == '#') continue;
            words >> equals;
            if (key == "devices") words >> settings.devices;
            else if (key == "version") words >> settings.version;
            else if (key == "capability") words >> settings.capability;
            else if (key == "init") words >> settings.init;
            else if (key == "memory") words >> settings.memory;
            else if (key == "fail") {
                Fault fault{};
                std::string lasting;
                words >> fault.call >> fault.code >> fault.after;
                fault.is_lasting = bool(words >> lasting) && lasting == "on";
                settings.faults.push_back(fault);
                continue;
            } else {
                std::fprintf(stderr, "stub: `%s` is no setting\n", key.c_str());
                std::abort();
            }
            if (!words) {
                std::fprintf(stderr, "stub: `%s` is no value\n", line.c_str());
                std::abort();
            }
        }
        return settings;
    }
};

}  // namespace stub
