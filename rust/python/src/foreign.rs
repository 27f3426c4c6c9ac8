//! Memory that belongs to someone else, inside a `Vec`.
//!
//! Candle keeps a CPU tensor in a `Vec`, and a `Vec` gives its memory back to the global allocator. To put a
//! tensor of PyTorch or NumPy into candle without copying it, this crate's global allocator *adopts* the foreign
//! block: when the `Vec` is dropped, the allocator hands the block back to its owner in place of freeing it.
//!
//! The price is one relaxed atomic load for each freed block of at least [`ADOPT_MIN`] bytes while nothing is
//! adopted, and a short lock while something is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Smaller blocks are copied: looking them up would cost every small deallocation.
pub const ADOPT_MIN: usize = 4096;

/// Adopted blocks; the count is kept beside the list so that the common case needs no lock.
static ADOPTED: Mutex<Vec<Block>> = Mutex::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

struct Block {
    address: usize,
    bytes: usize,
    release: Release,
}

/// Gives a block back to its owner: called once, on any thread.
pub struct Release {
    /// The function.
    pub call: unsafe fn(usize),
    /// Its argument.
    pub argument: usize,
}

/// The system allocator, except that adopted blocks go back to their owners.
pub struct AdoptingAllocator;

// SAFETY: everything is passed to `System` unchanged except blocks registered by `adopt`, which `System` never
// made; for those, `dealloc` and `realloc` keep the contract by releasing them to their owner.
unsafe impl GlobalAlloc for AdoptingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(release) = take(ptr, layout.size()) {
            // SAFETY: the block is no longer in the list, so this is the only call.
            unsafe { (release.call)(release.argument) };
            return;
        }
        // SAFETY: not adopted, so `System` made it.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some(release) = take(ptr, layout.size()) else {
            // SAFETY: not adopted, so `System` made it.
            return unsafe { System.realloc(ptr, layout, new_size) };
        };
        // SAFETY: `new_size` is not zero by `realloc`'s contract and fits an allocation of this alignment.
        let fresh = unsafe { System.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if fresh.is_null() {
            // The old block must stay valid when `realloc` fails.
            put(Block { address: ptr as usize, bytes: layout.size(), release });
            return fresh;
        }
        // SAFETY: both blocks hold at least the copied length and do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(ptr, fresh, layout.size().min(new_size));
            (release.call)(release.argument);
        }
        fresh
    }
}

fn take(ptr: *mut u8, bytes: usize) -> Option<Release> {
    if bytes < ADOPT_MIN || COUNT.load(Ordering::Acquire) == 0 {
        return None;
    }
    let mut blocks = ADOPTED.lock();
    let place = blocks.iter().position(|block| block.address == ptr as usize && block.bytes == bytes)?;
    let block = blocks.swap_remove(place);
    COUNT.store(blocks.len(), Ordering::Release);
    Some(block.release)
}

fn put(block: Block) {
    let mut blocks = ADOPTED.lock();
    blocks.push(block);
    COUNT.store(blocks.len(), Ordering::Release);
}

/// Whether a block can be adopted: large and aligned enough, and not adopted already (one owner may lend the
/// same block twice, but a `Vec` must own its block alone).
pub fn can_adopt<T>(ptr: *const T, len: usize) -> bool {
    let bytes = len.saturating_mul(size_of::<T>());
    bytes >= ADOPT_MIN
        && ptr.is_aligned()
        && !ptr.is_null()
        && !ADOPTED.lock().iter().any(|block| block.address == ptr as usize)
}

/// A `Vec` over a foreign block of `len` elements that is handed to `release` when the `Vec` goes.
///
/// # Safety
/// [`can_adopt`] said yes and nobody adopted the block since; it holds `len` initialised elements, stays valid and
/// in place until `release` is called, and nobody writes to it through a Rust reference meanwhile.
pub unsafe fn adopt<T: Copy>(ptr: *mut T, len: usize, release: Release) -> Vec<T> {
    put(Block { address: ptr as usize, bytes: len * size_of::<T>(), release });
    // SAFETY: this allocator now owns the block with exactly this layout; the rest is the caller's promise.
    unsafe { Vec::from_raw_parts(ptr, len, len) }
}

/// Blocks adopted now, for tests.
pub fn adopted() -> usize {
    COUNT.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adopted_block_goes_back_to_its_owner_once() {
        static RELEASED: AtomicUsize = AtomicUsize::new(0);
        unsafe fn release(argument: usize) {
            RELEASED.fetch_add(argument, Ordering::SeqCst);
        }
        let mut owner = vec![1.5f32; 4096];
        let pointer = owner.as_mut_ptr();
        assert!(can_adopt(pointer, owner.len()));
        // SAFETY: `owner` outlives the adopted vector and is not touched meanwhile.
        let vector = unsafe { adopt(pointer, 4096, Release { call: release, argument: 7 }) };
        assert!(!can_adopt(pointer, 4096));
        assert_eq!(vector.as_ptr(), pointer.cast_const());
        let tensor = candle_core::Tensor::from_vec(vector, (64, 64), &candle_core::Device::Cpu).unwrap();
        assert_eq!(tensor.sum_all().unwrap().to_scalar::<f32>().unwrap(), 6144.0);
        assert_eq!(RELEASED.load(Ordering::SeqCst), 0);
        drop(tensor);
        assert_eq!(RELEASED.load(Ordering::SeqCst), 7);
        drop(owner);
    }

    #[test]
    fn growing_an_adopted_vector_moves_it() {
        unsafe fn release(_: usize) {}
        let mut owner = vec![2u8; 8192];
        // SAFETY: as above.
        let mut vector = unsafe { adopt(owner.as_mut_ptr(), 8192, Release { call: release, argument: 0 }) };
        vector.push(3);
        assert_ne!(vector.as_ptr(), owner.as_ptr());
        assert_eq!(vector.len(), 8193);
        assert_eq!(vector.first(), Some(&2));
    }
}
