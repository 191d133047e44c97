// A `libcublasLt` that multiplies on the CPU: column-major f32, f16 and bf16 with f32 sums, transposed operands, and the
// epilogues that we ask for. Work goes to the stub driver's queues. GELU is the one by `tanh`, as NVIDIA's manual says of
// `CUBLASLT_EPILOGUE_GELU`.
//
// Anything that it does not know is `NOT_SUPPORTED`: a mistake in what we ask for is no result.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "../shim/half.h"
#include "stub.h"

extern "C" int stub_queue(CUstream stream, std::function<int()>* work);
extern "C" bool stub_is_device(CUdeviceptr address, size_t bytes);

namespace {

constexpr int INVALID_VALUE = 7, NOT_SUPPORTED = 15, EXECUTION_FAILED = 13;
// `cudaDataType`.
constexpr int R_32F = 0, R_16F = 2, R_16BF = 14;
// `cublasLtEpilogue_t`.
constexpr int DEFAULT = 1, BIAS = 4, GELU_BIAS = 36;
// `cublasLtMatmulDescAttributes_t`.
constexpr int TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8;

struct Product {
    int transposes_a = 0, transposes_b = 0, epilogue = DEFAULT;
    uint64_t bias = 0;
};

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t stride;

    size_t value() const { return type == R_32F ? 4 : 2; }
    size_t bytes() const { return columns == 0 ? 0 : (size_t(stride) * (columns - 1) + rows) * value(); }
};

float get(const void* memory, size_t index, int type) {
    switch (type) {
        case R_32F: return static_cast<const float*>(memory)[index];
        case R_16F: return shim::f32_of_f16(static_cast<const uint16_t*>(memory)[index]);
        default: return shim::float_of(uint32_t(static_cast<const uint16_t*>(memory)[index]) << 16);
    }
}

void set(void* memory, size_t index, int type, float value) {
    switch (type) {
        case R_32F: static_cast<float*>(memory)[index] = value; break;
        case R_16F: static_cast<uint16_t*>(memory)[index] = shim::f16_of_f32(value); break;
        default: static_cast<uint16_t*>(memory)[index] = shim::bf16_of_f32(value);
    }
}

float gelu(float x) { return 0.5f * x * (1.0f + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x))); }

// The operands as f32, `inputs` of a row beside each other.
std::vector<float> rows_of(const void* memory, const Layout& layout, bool transposes, size_t rows, size_t inputs) {
    std::vector<float> values(rows * inputs);
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < inputs; i++) {
            const size_t index = transposes ? row * layout.stride + i : i * layout.stride + row;
            values[row * inputs + i] = get(memory, index, layout.type);
        }
    return values;
}

bool is_known(int type) { return type == R_32F || type == R_16F || type == R_16BF; }

// The sizes of a product, if its operands fit together.
int sizes(const Product& product, const Layout& a, const Layout& b, const Layout& d, size_t& inputs) {
    if (!is_known(a.type) || a.type != b.type || a.type != d.type) return NOT_SUPPORTED;
    if (product.epilogue != DEFAULT && product.epilogue != BIAS && product.epilogue != GELU_BIAS) return NOT_SUPPORTED;
    inputs = product.transposes_a ? a.rows : a.columns;
    const size_t rows = product.transposes_a ? a.columns : a.rows;
    const size_t b_inputs = product.transposes_b ? b.columns : b.rows, columns = product.transposes_b ? b.rows : b.columns;
    if (b_inputs != inputs || rows != d.rows || columns != d.columns) return INVALID_VALUE;
    for (const Layout* layout : {&a, &b, &d}) {
        if (layout->stride < int64_t(layout->rows)) return INVALID_VALUE;
    }
    return 0;
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return 120902; }

int cublasLtCreate(void** handle) {
    static const stub::Settings settings = stub::Settings::read();
    for (const auto& fault : settings.faults) {
        if (fault.call == "cublasLtCreate") return fault.code;
    }
    static int one;
    *handle = &one;
    return 0;
}
int cublasLtDestroy(void*) { return 0; }

int cublasLtMatmulDescCreate(void** product, int compute, int scale) {
    // `CUBLAS_COMPUTE_32F`, and alpha and beta in f32.
    if (compute != 68 || scale != R_32F) return NOT_SUPPORTED;
    *product = new Product;
    return 0;
}

int cublasLtMatmulDescDestroy(void* product) {
    delete static_cast<Product*>(product);
    return 0;
}

int cublasLtMatmulDescSetAttribute(void* raw, int attribute, const void* value, size_t bytes) {
    auto* product = static_cast<Product*>(raw);
    if (bytes != (attribute == BIAS_POINTER ? 8 : 4)) return INVALID_VALUE;
    switch (attribute) {
        case TRANSA: std::memcpy(&product->transposes_a, value, 4); return 0;
        case TRANSB: std::memcpy(&product->transposes_b, value, 4); return 0;
        case EPILOGUE: std::memcpy(&product->epilogue, value, 4); return 0;
        case BIAS_POINTER: std::memcpy(&product->bias, value, 8); return 0;
        default: return NOT_SUPPORTED;
    }
}

int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    *layout = new Layout{type, rows, columns, stride};
    return 0;
}

int cublasLtMatrixLayoutDestroy(void* layout) {
    delete static_cast<Layout*>(layout);
    return 0;
}

int cublasLtMatrixLayoutSetAttribute(void*, int, const void*, size_t) { return NOT_SUPPORTED; }

int cublasLtMatmulPreferenceCreate(void** preference) {
    *preference = new uint64_t(0);
    return 0;
}

int cublasLtMatmulPreferenceDestroy(void* preference) {
    delete static_cast<uint64_t*>(preference);
    return 0;
}

int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
    // `CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES`.
    if (attribute != 1 || bytes != 8) return NOT_SUPPORTED;
    std::memcpy(preference, value, bytes);
    return 0;
}

// The driver's header lays the result out like this.
struct HeuristicResult {
    uint64_t algorithm[8];
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};

int cublasLtMatmulAlgoGetHeuristic(void*, void* product, void* a, void* b, void* c, void* d, void*, int wanted,
                                   HeuristicResult* results, int* found) {
    size_t inputs;
    *found = 0;
    if (wanted < 1 || c != d) return INVALID_VALUE;
    const int code = sizes(*static_cast<Product*>(product), *static_cast<Layout*>(a), *static_cast<Layout*>(b),
                           *static_cast<Layout*>(d), inputs);
    if (code) return code;
    // Stricter than NVIDIA's, so that what becomes of a refusal is seen.
    if (static_cast<Layout*>(a)->type != R_32F && inputs % 8 != 0) return NOT_SUPPORTED;
    *results = {};
    results->algorithm[0] = 0x5707;
    *found = 1;
    return 0;
}

int cublasLtMatmul(void*, void* raw, const void* alpha, const void* a, void* a_layout, const void* b, void* b_layout,
                   const void* beta, const void* c, void* c_layout, void* d, void* d_layout, const uint64_t* algorithm,
                   void* workspace, size_t workspace_bytes, CUstream stream) {
    const auto product = *static_cast<Product*>(raw);
    const auto la = *static_cast<Layout*>(a_layout), lb = *static_cast<Layout*>(b_layout),
               ld = *static_cast<Layout*>(d_layout);
    size_t inputs;
    if (int code = sizes(product, la, lb, ld, inputs)) return code;
    if (algorithm == nullptr || algorithm[0] != 0x5707 || c_layout != d_layout || c != d) return INVALID_VALUE;
    if (*static_cast<const float*>(alpha) != 1.0f || *static_cast<const float*>(beta) != 0.0f) return NOT_SUPPORTED;
    const auto address = [](const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); };
    if (workspace_bytes > 0 && !stub_is_device(address(workspace), workspace_bytes)) return INVALID_VALUE;
    std::function<int()> work = [=] {
        const bool has_bias = product.epilogue != DEFAULT;
        if (!stub_is_device(address(a), la.bytes()) || !stub_is_device(address(b), lb.bytes()) ||
            !stub_is_device(address(d), ld.bytes()) || (has_bias && !stub_is_device(product.bias, ld.rows * ld.value())))
            return stub::ILLEGAL_ADDRESS;
        const auto left = rows_of(a, la, product.transposes_a, ld.rows, inputs);
        // The columns of b are rows of its transpose.
        const auto right = rows_of(b, lb, !product.transposes_b, ld.columns, inputs);
        for (size_t column = 0; column < ld.columns; column++)
            for (size_t row = 0; row < ld.rows; row++) {
                const float *x = &left[row * inputs], *y = &right[column * inputs];
                float sums[8] = {};
                size_t i = 0;
                for (; i + 8 <= inputs; i += 8)
                    for (size_t lane = 0; lane < 8; lane++) sums[lane] += x[i + lane] * y[i + lane];
                float sum = 0;
                for (; i < inputs; i++) sum += x[i] * y[i];
                for (float part : sums) sum += part;
                if (has_bias) sum += get(reinterpret_cast<const void*>(product.bias), row, ld.type);
                if (product.epilogue == GELU_BIAS) sum = gelu(sum);
                set(d, column * ld.stride + row, ld.type, sum);
            }
        return 0;
    };
    return stub_queue(stream, &work) ? EXECUTION_FAILED : 0;
}

}  // extern "C"
