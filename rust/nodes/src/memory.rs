//! How much memory a value may take.
//!
//! Sizes come from prompts: numbers through links are bound by no schema, and chains of nodes multiply them. So every
//! value whose size is not that of another is measured here before anything is allocated for it, and one that would not
//! fit fails its node instead of the process.

use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use rushlight_runtime::NodeError;
use sysinfo::System;

/// The part of the machine's memory that one value may take.
const SHARE: u64 = 2;
/// Values from this size on are also held against what is free at the moment.
const LARGE: u64 = 64 << 20;
/// Bytes that are left to everything else.
const RESERVE: u64 = 128 << 20;
/// Bytes that a text may have.
pub(crate) const MAX_TEXT: usize = 64 << 20;

/// Memory of the machine, or of the control group that the process is in.
struct Memory {
    total: u64,
    free: u64,
}

impl Memory {
    /// Measured now; a system that does not tell has no bounds.
    fn now() -> Option<Self> {
        let mut system = System::new().ok()?;
        system.refresh_memory();
        let (total, free) = (system.total_memory(), system.available_memory() + system.free_swap());
        if total == 0 {
            return None;
        }
        Some(match system.cgroup_limits() {
            Some(group) if group.total_memory > 0 && group.total_memory < total => {
                Self { total: group.total_memory, free: free.min(group.free_memory + group.free_swap) }
            }
            _ => Self { total, free },
        })
    }
}

/// Bytes of memory that the machine has, `None` on systems that do not tell.
pub(crate) fn total() -> Option<u64> {
    Memory::now().map(|memory| memory.total)
}

/// Whether so many bytes are free now.
pub(crate) fn is_free(bytes: u64) -> bool {
    Memory::now().is_none_or(|memory| bytes.saturating_add(RESERVE) <= memory.free)
}

/// Bytes that one value may take.
fn value_limit() -> u64 {
    static LIMIT: LazyLock<u64> = LazyLock::new(|| total().map_or(u64::MAX, |total| total / SHARE));
    *LIMIT
}

/// A number of bytes for people.
pub(crate) fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// A failure for want of memory, under the name that clients know it by.
pub(crate) fn exhausted(message: String) -> NodeError {
    NodeError::new("torch.OutOfMemoryError", message)
}

/// Checks that so many bytes may be taken for `what`.
///
/// # Errors
/// `torch.OutOfMemoryError` when they are over the limit for one value, or more than is free now.
pub(crate) fn check_bytes(what: &str, bytes: u64) -> Result<(), NodeError> {
    let limit = value_limit();
    if bytes > limit {
        return Err(exhausted(format!(
            "{what} needs {}, the limit for one value is {} (half of the memory)",
            gibibytes(bytes),
            gibibytes(limit)
        )));
    }
    if bytes < LARGE {
        return Ok(());
    }
    match Memory::now() {
        Some(memory) if bytes.saturating_add(RESERVE) > memory.free => {
            Err(exhausted(format!("{what} needs {}, {} are free", gibibytes(bytes), gibibytes(memory.free))))
        }
        _ => Ok(()),
    }
}

/// The number of elements of a shape, after checking that a value of it may be made. A side of 0 counts as 1: what is
/// empty may still not have sides of any length, because there is work for each.
///
/// # Errors
/// As [`check_bytes`].
pub(crate) fn check_shape(what: &str, shape: &[usize], element: usize) -> Result<usize, NodeError> {
    let bytes = shape.iter().try_fold(element as u64, |bytes, side| bytes.checked_mul((*side).max(1) as u64));
    let Some(bytes) = bytes else {
        return Err(exhausted(format!("{what} of shape {shape:?} is larger than any memory")));
    };
    check_bytes(&format!("{what} of shape {shape:?}"), bytes)?;
    // The product of all sides is at most the one that was checked.
    Ok(shape.iter().product())
}

/// An empty list with room for a value of that shape.
///
/// # Errors
/// As [`check_bytes`], and when the system refuses.
pub(crate) fn numbers(shape: &[usize]) -> Result<Vec<f32>, NodeError> {
    let count = check_shape("a value", shape, size_of::<f32>())?;
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(count).map_err(|error| {
        exhausted(format!("a value of shape {shape:?} was refused by the system: {error}"))
    })?;
    Ok(numbers)
}

/// A host tensor of zeros.
///
/// # Errors
/// As [`check_bytes`].
pub(crate) fn zeros(what: &str, shape: &[usize]) -> Result<Tensor, NodeError> {
    check_shape(what, shape, size_of::<f32>())?;
    Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?)
}

/// Tensors behind each other along `dim`.
///
/// # Errors
/// As [`check_bytes`], and when the shapes do not go together.
pub(crate) fn cat(tensors: &[&Tensor], dim: usize) -> Result<Tensor, NodeError> {
    let bytes = |tensor: &&Tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
    let total = tensors.iter().map(bytes).fold(0u64, u64::saturating_add);
    check_bytes("the joined value", total)?;
    Ok(Tensor::cat(tensors, dim)?)
}

/// Checks that a text may have so many bytes.
///
/// # Errors
/// `MemoryError` beyond [`MAX_TEXT`].
pub(crate) fn check_text(bytes: usize) -> Result<(), NodeError> {
    if bytes > MAX_TEXT {
        return Err(NodeError::new(
            "MemoryError",
            format!("a text of {bytes} bytes is too long, the limit is {MAX_TEXT}"),
        ));
    }
    Ok(())
}

/// A text with every `find` replaced, as [`str::replace`] does it.
///
/// # Errors
/// As [`check_text`].
pub(crate) fn replace_text(text: &str, find: &str, replace: &str) -> Result<String, NodeError> {
    let count = text.matches(find).count();
    check_text((text.len() - count * find.len()).saturating_add(count.saturating_mul(replace.len())))?;
    Ok(text.replace(find, replace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_any_size_are_refused_before_anything_is_allocated() {
        for shape in [
            &[4096, 16384, 16384, 3][..],
            &[usize::MAX, usize::MAX],
            // Empty, but with a side to walk along.
            &[1 << 60, 0, 4],
        ] {
            let error = numbers(shape).unwrap_err().to_string();
            assert!(error.contains("torch.OutOfMemoryError"), "{error}");
        }
        assert!(numbers(&[2, 3]).unwrap().capacity() >= 6);
        assert_eq!(check_shape("x", &[3, 0, 5], 4).unwrap(), 0);
    }

    #[test]
    fn a_replaced_text_is_measured_first() {
        assert_eq!(replace_text("aXbX", "X", "--").unwrap(), "a--b--");
        let long = "x".repeat(10_000);
        assert!(replace_text(&long, "", &long).unwrap_err().to_string().contains("MemoryError"));
    }
}
