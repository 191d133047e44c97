//! Matrix products by cuBLASLt, where its library is found.
//!
//! A row-major `[rows, inputs]` is a column-major `[inputs, rows]`, so `out = a · weightᵀ` is asked for as
//! `outᵀ = weight · aᵀ`, with the weight transposed.
#![expect(unsafe_code, reason = "calls into cuBLASLt")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::{result, sys};
use cudarc::driver;

use super::DeviceError;
use super::memory::Memory;
use crate::cpu::Activation;
use crate::cuda::{DType, Gemm};

/// cuBLASLt, and the plans of the products so far.
pub(super) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: u64,
    /// None for a shape that the library has no algorithm for.
    plans: RefCell<HashMap<Shape, Option<Plan>>>,
}

/// 32 MiB, which NVIDIA recommends for Hopper and later; 4 MiB would do before.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Plans that are kept: a model has four shapes of products for each number of tokens.
const PLANS_MAX: usize = 4096;

/// `cublasOperation_t`, which the bindings leave out: `CUBLAS_OP_N` and `CUBLAS_OP_T` of `cublas_api.h`.
const AS_IT_IS: i32 = 0;
const TRANSPOSED: i32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    dtype: DType,
    rows: usize,
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Epilogue {
    None,
    Bias,
    BiasGelu,
}

impl Blas {
    /// Looks for the library and starts it: None if there is none.
    pub(crate) fn find(memory: &Memory) -> Result<Option<Self>, DeviceError> {
        // SAFETY: it only looks for the library.
        if !unsafe { sys::is_culib_present() } {
            return Ok(None);
        }
        let (workspace, _) = memory.take(WORKSPACE_BYTES)?;
        let handle = result::create_handle().map_err(DeviceError::blas("cublasLtCreate"))?;
        Ok(Some(Self { handle, workspace, plans: RefCell::default() }))
    }

    pub(crate) fn version(&self) -> usize {
        // SAFETY: the library was found.
        unsafe { sys::cublasLtGetVersion() }
    }

    /// True for a product that the library fuses as a whole. Its GELU is the one by `tanh`, which differs from the one
    /// by `erf` by up to 4.8e-4 (near |x| = 2.7): taken for halves, whose rounding is of that order where activations
    /// are large, and not for f32.
    pub(crate) fn takes(gemm: &Gemm) -> bool {
        gemm.activation == Activation::Identity || (gemm.bias.is_some() && gemm.a.dtype != DType::F32)
    }

    /// Queues a product whose shapes `Gemm::launch` has checked. False, if the library has no algorithm for it.
    pub(crate) fn run(&self, gemm: &Gemm, stream: driver::sys::CUstream) -> Result<bool, DeviceError> {
        let epilogue = match (gemm.bias, gemm.activation) {
            (None, _) => Epilogue::None,
            (Some(_), Activation::Identity) => Epilogue::Bias,
            (Some(_), Activation::Gelu) => Epilogue::BiasGelu,
        };
        let (rows, outputs) = (gemm.a.len / gemm.inputs, gemm.weight.len / gemm.inputs);
        if rows == 0 {
            return Ok(true);
        }
        let shape = Shape { dtype: gemm.a.dtype, rows, inputs: gemm.inputs, outputs, epilogue };
        let mut plans = self.plans.borrow_mut();
        if plans.len() >= PLANS_MAX && !plans.contains_key(&shape) {
            plans.clear();
        }
        let plan = match plans.entry(shape) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Plan::new(self.handle, shape)?),
        };
        let Some(plan) = plan else {
            return Ok(false);
        };
        let (alpha, beta) = (1.0_f32, 0.0_f32);
        let bias = gemm.bias.map_or(0, |bias| bias.address);
        // SAFETY: the descriptors live in the plan; their sizes are those of the operands, which `Gemm::launch`
        // checked; the memory is given out again only to later work of the same stream. `alpha` and `beta` are read
        // before the call returns (pointer mode is the host's, the default).
        unsafe {
            if epilogue != Epilogue::None {
                let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
                set(plan.product, attribute, &bias)?;
            }
            result::matmul(
                self.handle,
                plan.product,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                gemm.weight.address as *const c_void,
                plan.weight,
                gemm.a.address as *const c_void,
                plan.a,
                gemm.out.address as *const c_void,
                plan.out,
                gemm.out.address as *mut c_void,
                plan.out,
                &raw const plan.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE_BYTES,
                stream.cast(),
            )
        }
        .map_err(DeviceError::blas("cublasLtMatmul"))?;
        Ok(true)
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        self.plans.get_mut().clear();
        // SAFETY: created by this value; nothing of it is used any more. The workspace stays the context's.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// A product of one shape, as cuBLASLt describes it, and the algorithm that it chose.
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    a: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, shape: Shape) -> Result<Option<Self>, DeviceError> {
        use sys::cublasLtEpilogue_t as Fused;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let Shape { dtype, rows, inputs, outputs, epilogue } = shape;
        let data = match dtype {
            DType::F32 | DType::U32 => sys::cudaDataType::CUDA_R_32F,
            DType::F16 => sys::cudaDataType::CUDA_R_16F,
            DType::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        };
        let layout = |rows: usize, columns: usize| {
            result::create_matrix_layout(data, rows as u64, columns as u64, rows as i64)
                .map_err(DeviceError::blas("cublasLtMatrixLayoutCreate"))
        };
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let product = result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)
            .map_err(DeviceError::blas("cublasLtMatmulDescCreate"))?;
        // From here on, dropping it destroys the handle.
        let null = std::ptr::null_mut();
        let mut plan =
            Self { product, weight: null, a: null, out: null, algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] } };
        plan.weight = layout(inputs, outputs)?;
        plan.a = layout(inputs, rows)?;
        plan.out = layout(outputs, rows)?;
        let fused = match epilogue {
            Epilogue::None => Fused::CUBLASLT_EPILOGUE_DEFAULT,
            Epilogue::Bias => Fused::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::BiasGelu => Fused::CUBLASLT_EPILOGUE_GELU_BIAS,
        };
        let preference = Preference::new()?;
        // SAFETY: all descriptors were made above, and the attributes have the types that the library's manual gives
        // them.
        unsafe {
            set(product, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSED)?;
            set(product, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &AS_IT_IS)?;
            set(product, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &fused)?;
            match result::get_matmul_algo_heuristic(
                handle,
                product,
                plan.weight,
                plan.a,
                plan.out,
                plan.out,
                preference.0,
            ) {
                Ok(chosen) => plan.algorithm = chosen.algo,
                // It chooses without touching the device, so on any error our own kernel does the product.
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(plan))
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made by this value, destroyed once.
        unsafe {
            let _ = result::destroy_matmul_desc(self.product);
            for layout in [self.weight, self.a, self.out] {
                if !layout.is_null() {
                    let _ = result::destroy_matrix_layout(layout);
                }
            }
        }
    }
}

/// Workspace that the library may use for a product.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Self, DeviceError> {
        let preference =
            Self(result::create_matmul_pref().map_err(DeviceError::blas("cublasLtMatmulPreferenceCreate"))?);
        let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let bytes = WORKSPACE_BYTES;
        // SAFETY: made above; the attribute is a `size_t`.
        unsafe {
            result::set_matmul_pref_attribute(preference.0, attribute, (&raw const bytes).cast(), size_of::<usize>())
        }
        .map_err(DeviceError::blas("cublasLtMatmulPreferenceSetAttribute"))?;
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by this value, destroyed once.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// # Safety
/// `product` lives, and `T` is the attribute's type.
unsafe fn set<T>(
    product: sys::cublasLtMatmulDesc_t,
    attribute: sys::cublasLtMatmulDescAttributes_t,
    value: &T,
) -> Result<(), DeviceError> {
    // SAFETY: by the caller; the value is copied.
    unsafe { result::set_matmul_desc_attribute(product, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
        .map_err(DeviceError::blas("cublasLtMatmulDescSetAttribute"))
}
