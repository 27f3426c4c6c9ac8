//! Tensors across the border by DLPack: without a copy where device and layout allow it.
//!
//! Layouts follow the DLPack 0.x C structs, which PyTorch and NumPy both take.

use std::ffi::{CStr, c_void};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use half::{bf16, f16};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::foreign::{self, Release};

const CAPSULE: &CStr = c"dltensor";
const USED: &CStr = c"used_dltensor";

const CPU: i32 = 1;
const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;
const BOOL: u8 = 6;

/// Tensors of more dimensions are refused; none are in use.
const MAX_DIMS: i32 = 16;

#[repr(C)]
#[derive(Clone, Copy)]
struct DlDevice {
    device_type: i32,
    device_id: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DlDataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: DlDevice,
    ndim: i32,
    dtype: DlDataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct DlManagedTensor {
    tensor: DlTensor,
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut DlManagedTensor)>,
}

/// What a lent tensor keeps alive.
struct Lent {
    // Only held: its storage is what the consumer reads.
    _tensor: Tensor,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

/// Object with `__dlpack__` and `__dlpack_device__` over a tensor of ours.
#[pyclass(frozen, module = "rushlight._rushlight")]
pub struct TensorView {
    tensor: Tensor,
}

impl TensorView {
    /// A view for Python; a tensor on another device than the CPU is copied there.
    ///
    /// # Errors
    /// When the copy fails.
    pub fn new(tensor: &Tensor) -> PyResult<Self> {
        let tensor =
            tensor.to_device(&Device::Cpu).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Ok(Self { tensor })
    }
}

#[pymethods]
impl TensorView {
    #[pyo3(signature = (**_options))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        _options: Option<&Bound<'py, pyo3::types::PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        lend(py, &self.tensor)
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        (CPU, 0)
    }

    /// Sizes.
    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.tensor.dims().to_vec()
    }

    /// Address of the first element, for tests.
    fn data_ptr(&self) -> PyResult<usize> {
        Ok(cpu_pointer(&self.tensor)?.0 as usize)
    }
}

fn cpu_pointer(tensor: &Tensor) -> PyResult<(*mut c_void, DlDataType)> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(PyRuntimeError::new_err("the tensor is not on the CPU"));
    };
    let offset = layout.start_offset();
    let at =
        |pointer: *const u8, size: usize| pointer.wrapping_add(offset * size).cast_mut().cast::<c_void>();
    let ty = |code, bits| DlDataType { code, bits, lanes: 1 };
    Ok(match storage {
        CpuStorage::F32(data) => (at(data.as_ptr().cast(), 4), ty(FLOAT, 32)),
        CpuStorage::F64(data) => (at(data.as_ptr().cast(), 8), ty(FLOAT, 64)),
        CpuStorage::F16(data) => (at(data.as_ptr().cast(), 2), ty(FLOAT, 16)),
        CpuStorage::BF16(data) => (at(data.as_ptr().cast(), 2), ty(BFLOAT, 16)),
        CpuStorage::U8(data) => (at(data.as_ptr(), 1), ty(UINT, 8)),
        CpuStorage::U32(data) => (at(data.as_ptr().cast(), 4), ty(UINT, 32)),
        CpuStorage::I64(data) => (at(data.as_ptr().cast(), 8), ty(INT, 64)),
        other => {
            return Err(PyTypeError::new_err(format!(
                "tensors of type {:?} cannot be given to Python",
                other.dtype()
            )));
        }
    })
}

fn lend<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let (data, dtype) = cpu_pointer(tensor)?;
    let mut lent = Box::new(Lent {
        _tensor: tensor.clone(),
        shape: tensor.dims().iter().map(|&n| n as i64).collect(),
        strides: tensor.stride().iter().map(|&n| n as i64).collect(),
    });
    let managed = Box::new(DlManagedTensor {
        tensor: DlTensor {
            data,
            device: DlDevice { device_type: CPU, device_id: 0 },
            ndim: lent.shape.len() as i32,
            dtype,
            shape: lent.shape.as_mut_ptr(),
            strides: lent.strides.as_mut_ptr(),
            byte_offset: 0,
        },
        manager: Box::into_raw(lent).cast(),
        deleter: Some(end_loan),
    });
    let pointer = Box::into_raw(managed);
    // SAFETY: the capsule owns `pointer` until a consumer renames it; `drop_capsule` frees it if nobody did.
    let capsule = unsafe { ffi::PyCapsule_New(pointer.cast(), CAPSULE.as_ptr(), Some(drop_capsule)) };
    if capsule.is_null() {
        // SAFETY: no capsule took it, so it is still ours.
        unsafe { end_loan(pointer) };
        return Err(PyErr::fetch(py));
    }
    // SAFETY: `capsule` is a new reference.
    Ok(unsafe { Bound::from_owned_ptr(py, capsule) })
}

unsafe extern "C" fn end_loan(managed: *mut DlManagedTensor) {
    // SAFETY: called once by the consumer with the pointer that `lend` made from two boxes.
    unsafe {
        let managed = Box::from_raw(managed);
        drop(Box::from_raw(managed.manager.cast::<Lent>()));
    }
}

unsafe extern "C" fn drop_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls this once with the capsule; the name tells whether the tensor was taken.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, CAPSULE.as_ptr()) == 0 {
            return;
        }
        let pointer = ffi::PyCapsule_GetPointer(capsule, CAPSULE.as_ptr());
        if !pointer.is_null() {
            end_loan(pointer.cast());
        }
    }
}

/// A foreign tensor that is given back when dropped.
struct Borrowed(*mut DlManagedTensor);

impl Borrowed {
    fn tensor(&self) -> &DlTensor {
        // SAFETY: the producer keeps the struct valid until its deleter is called, which only `release` does.
        unsafe { &(*self.0).tensor }
    }

    fn into_release(self) -> Release {
        let argument = self.0 as usize;
        std::mem::forget(self);
        Release { call: release, argument }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // SAFETY: not yet released: `into_release` forgets `self`.
        unsafe { release(self.0 as usize) }
    }
}

unsafe fn release(managed: usize) {
    let managed = managed as *mut DlManagedTensor;
    // SAFETY: DLPack deleters may be called on any thread, once, with the struct itself.
    unsafe {
        if let Some(deleter) = (*managed).deleter {
            deleter(managed);
        }
    }
}

/// A candle tensor on the CPU over the memory of a contiguous tensor of another library; other layouts and small
/// tensors are copied. The dtype is kept (bool becomes `u8`).
///
/// # Errors
/// `TypeError` for dtypes candle has not, `ValueError` for tensors that are not in CPU memory.
pub fn take(capsule: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    // SAFETY: a capsule of this name holds a `DLManagedTensor`; renaming it makes its owner us.
    let borrowed = unsafe {
        let pointer = ffi::PyCapsule_GetPointer(capsule.as_ptr(), CAPSULE.as_ptr());
        if pointer.is_null() {
            return Err(PyErr::fetch(capsule.py()));
        }
        ffi::PyCapsule_SetName(capsule.as_ptr(), USED.as_ptr());
        Borrowed(pointer.cast())
    };
    let tensor = borrowed.tensor();
    if tensor.device.device_type != CPU {
        return Err(PyValueError::new_err(format!(
            "expected a tensor in CPU memory, got DLPack device type {}",
            tensor.device.device_type
        )));
    }
    if !(0..=MAX_DIMS).contains(&tensor.ndim) || tensor.dtype.lanes != 1 {
        return Err(PyValueError::new_err(format!("cannot take a tensor of {} dimensions", tensor.ndim)));
    }
    let (code, bits) = (tensor.dtype.code, tensor.dtype.bits);
    match (code, bits) {
        (FLOAT, 32) => typed::<f32>(borrowed),
        (FLOAT, 64) => typed::<f64>(borrowed),
        (FLOAT, 16) => typed::<f16>(borrowed),
        (BFLOAT, 16) => typed::<bf16>(borrowed),
        (UINT | BOOL, 8) => typed::<u8>(borrowed),
        (UINT, 32) => typed::<u32>(borrowed),
        (INT, 64) => typed::<i64>(borrowed),
        _ => {
            Err(PyTypeError::new_err(format!("cannot take a tensor of DLPack type {code} with {bits} bits")))
        }
    }
}

fn typed<T: candle_core::WithDType + Copy>(borrowed: Borrowed) -> PyResult<Tensor> {
    let tensor = borrowed.tensor();
    let ndim = tensor.ndim as usize;
    // SAFETY: `shape` has `ndim` entries; `strides` has as many or is null for a contiguous tensor.
    let (shape, strides) = unsafe {
        let shape = if ndim == 0 { &[][..] } else { std::slice::from_raw_parts(tensor.shape, ndim) };
        let strides = if tensor.strides.is_null() || ndim == 0 {
            None
        } else {
            Some(std::slice::from_raw_parts(tensor.strides, ndim))
        };
        (shape, strides)
    };
    let dims: Vec<usize> = shape
        .iter()
        .map(|&n| usize::try_from(n))
        .collect::<Result<_, _>>()
        .map_err(|_| PyValueError::new_err("a tensor dimension is negative"))?;
    let count: usize = dims.iter().product();
    let data = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize).cast::<T>();
    let failed = |error: candle_core::Error| PyRuntimeError::new_err(error.to_string());
    if count == 0 {
        return Tensor::zeros(dims, T::DTYPE, &Device::Cpu).map_err(failed);
    }
    let contiguous = strides.is_none_or(|strides| is_contiguous(&dims, strides));
    if contiguous && foreign::can_adopt(data, count) {
        // SAFETY: the producer keeps `count` elements at `data` until the deleter runs; candle only reads them.
        let vector = unsafe { foreign::adopt(data, count, borrowed.into_release()) };
        return Tensor::from_vec(vector, dims, &Device::Cpu).map_err(failed);
    }
    let mut copy = Vec::with_capacity(count);
    if contiguous && data.is_aligned() {
        // SAFETY: as above; the slice is copied before the tensor is given back.
        copy.extend_from_slice(unsafe { std::slice::from_raw_parts(data, count) });
    } else {
        let row = contiguous_strides(&dims);
        let strides = strides.map_or(row, <[i64]>::to_vec);
        gather(data, &dims, &strides, &mut copy);
    }
    Tensor::from_vec(copy, dims, &Device::Cpu).map_err(failed)
}

fn contiguous_strides(dims: &[usize]) -> Vec<i64> {
    let mut strides = vec![1i64; dims.len()];
    let mut step = 1i64;
    for (stride, &n) in strides.iter_mut().zip(dims).rev() {
        *stride = step;
        step *= n as i64;
    }
    strides
}

fn is_contiguous(dims: &[usize], strides: &[i64]) -> bool {
    contiguous_strides(dims).iter().zip(strides).zip(dims).all(|((want, have), &n)| n == 1 || want == have)
}

fn gather<T: Copy>(data: *const T, dims: &[usize], strides: &[i64], out: &mut Vec<T>) {
    let (Some((&n, dims)), Some((&stride, strides))) = (dims.split_first(), strides.split_first()) else {
        // SAFETY: shape and strides of the producer address an element of its block; it may be unaligned.
        out.push(unsafe { data.read_unaligned() });
        return;
    };
    for index in 0..n as i64 {
        gather(data.wrapping_offset((index * stride) as isize), dims, strides, out);
    }
}

/// Contiguous `f32`, which is what IMAGE, MASK, LATENT, SIGMAS and AUDIO hold.
///
/// # Errors
/// When the conversion fails.
pub fn as_f32(tensor: Tensor) -> PyResult<Tensor> {
    if tensor.dtype() == DType::F32 {
        return Ok(tensor);
    }
    tensor.to_dtype(DType::F32).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
