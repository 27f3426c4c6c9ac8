//! A file's tensors by name, cheap to view under a prefix, rename, slice and join.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;

use super::dtype::{self, FileDtype};
use super::header::{self, Limits};
use super::torch;
use crate::error::{Error, Result};

/// Where the bytes of tensors live.
pub(super) enum Bytes {
    Mapped(memmap2::Mmap),
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} bytes", self.as_slice().len())
    }
}

/// One stored tensor: its bytes are in a file or buffer that the entry keeps alive.
#[derive(Debug, Clone)]
pub struct Entry {
    bytes: Arc<Bytes>,
    start: usize,
    end: usize,
    /// Type of the bytes.
    dtype: FileDtype,
    /// Eight-bit float type that the numbers are rounded to whenever they are read.
    rounding: Option<FileDtype>,
    /// Shape as stored, before `transposed`.
    stored_shape: Vec<usize>,
    transposed: bool,
}

impl Entry {
    /// An entry over owned little-endian bytes.
    ///
    /// # Errors
    /// When `bytes` is not as long as `shape` and `dtype` say.
    pub fn from_bytes(bytes: Vec<u8>, dtype: FileDtype, shape: Vec<usize>) -> Result<Self> {
        let expected = shape.iter().try_fold(dtype.size(), |size, &d| size.checked_mul(d));
        if expected != Some(bytes.len()) {
            return Err(Error::Format {
                what: "tensor in memory".into(),
                reason: format!("{} bytes are not a {dtype:?} tensor of shape {shape:?}", bytes.len()),
            });
        }
        let range = 0..bytes.len();
        Ok(Self::from_range(Arc::new(Bytes::Owned(bytes)), range, dtype, shape))
    }

    /// An entry over a range of a file that was checked to be inside it and of the right length.
    pub(super) fn from_range(
        bytes: Arc<Bytes>,
        range: Range<usize>,
        dtype: FileDtype,
        shape: Vec<usize>,
    ) -> Self {
        Self {
            bytes,
            start: range.start,
            end: range.end,
            dtype,
            rounding: None,
            stored_shape: shape,
            transposed: false,
        }
    }

    /// Element type: the file's, or the one that it is rounded to.
    pub fn dtype(&self) -> FileDtype {
        self.rounding.unwrap_or(self.dtype)
    }

    /// Shape of the tensor.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.stored_shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// The bytes in the file (before any transposition and rounding).
    fn file_bytes(&self) -> &[u8] {
        // The range was checked against the buffer when the entry was made.
        self.bytes.as_slice().get(self.start..self.end).unwrap_or(&[])
    }

    /// The bytes of the elements in [`Self::dtype`] (before any transposition).
    pub(crate) fn raw_bytes(&self) -> Cow<'_, [u8]> {
        match self.rounding {
            Some(rounding) => {
                Cow::Owned(dtype::to_eight_bits(&dtype::to_f32(self.file_bytes(), self.dtype), rounding))
            }
            None => Cow::Borrowed(self.file_bytes()),
        }
    }

    /// The `index`-th of `count` equal parts along the first dimension, without copying.
    /// `None` when the dimension does not divide.
    pub fn chunk(&self, index: usize, count: usize) -> Option<Self> {
        let rows = *self.stored_shape.first()?;
        if self.transposed || count == 0 || index >= count || !rows.is_multiple_of(count) {
            return None;
        }
        let part = (self.end - self.start) / count;
        let mut chunk = self.clone();
        chunk.start = self.start + part * index;
        chunk.end = chunk.start + part;
        *chunk.stored_shape.first_mut()? = rows / count;
        Some(chunk)
    }

    /// The matrix with its two dimensions exchanged; other ranks are returned unchanged.
    pub fn transpose(&self) -> Self {
        let mut entry = self.clone();
        entry.transposed = self.stored_shape.len() == 2 && !self.transposed;
        entry
    }

    /// The tensor with its bytes in the order of its shape: a transposed matrix becomes a copy.
    pub(crate) fn materialised(&self) -> Self {
        let (true, [rows, columns]) = (self.transposed, self.stored_shape.as_slice()) else {
            return self.clone();
        };
        let (size, bytes) = (self.dtype().size(), self.raw_bytes());
        let turned: Vec<u8> = (0..*columns)
            .flat_map(|column| (0..*rows).map(move |row| (row * columns + column) * size))
            .flat_map(|at| bytes.get(at..at + size).unwrap_or_default().iter().copied())
            .collect();
        let range = 0..turned.len();
        Self::from_range(Arc::new(Bytes::Owned(turned)), range, self.dtype(), self.shape())
    }

    /// A tensor of other numbers in the same type and shape. Numbers that the type does not hold are rounded to the
    /// nearest that it does.
    pub(super) fn with_numbers(&self, numbers: &[f32]) -> Result<Self> {
        let dtype = self.dtype();
        let greatest = dtype.greatest();
        let bounded: Vec<f32> = numbers.iter().map(|number| number.clamp(-greatest, greatest)).collect();
        Self::from_bytes(dtype::from_f32(&bounded, dtype), dtype, self.shape())
    }

    /// Entries of equal width behind each other along the first dimension, `None` when they do not go together.
    pub fn stacked(parts: &[Self]) -> Option<Self> {
        let first = parts.first()?;
        let (dtype, mut shape) = (first.dtype(), first.shape());
        let rest = shape.get(1..)?.to_vec();
        let mut bytes = Vec::new();
        let mut rows = 0;
        for part in parts {
            let part = part.materialised();
            if part.dtype() != dtype || part.stored_shape.get(1..)? != rest.as_slice() {
                return None;
            }
            rows += part.stored_shape.first()?;
            bytes.extend_from_slice(&part.raw_bytes());
        }
        *shape.first_mut()? = rows;
        Self::from_bytes(bytes, dtype, shape).ok()
    }

    /// The same bytes under another shape of as many elements.
    pub fn reshape(&self, shape: Vec<usize>) -> Option<Self> {
        let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if self.transposed || count(&shape)? != count(&self.stored_shape)? {
            return None;
        }
        Some(Self { stored_shape: shape, ..self.clone() })
    }

    /// The tensor in `dtype` on `device`.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn tensor(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = dtype::to_tensor(&self.raw_bytes(), self.dtype(), &self.stored_shape, dtype, device)?;
        Ok(if self.transposed { tensor.t()?.contiguous()? } else { tensor })
    }

    /// The bytes of elements of one byte each, as `u8` on `device`.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub(super) fn byte_tensor(&self, device: &Device) -> Result<Tensor> {
        let tensor = Tensor::from_vec(self.raw_bytes().into_owned(), self.stored_shape.as_slice(), device)?;
        Ok(if self.transposed { tensor.t()?.contiguous()? } else { tensor })
    }

    /// Tells the system that the file's pages of this tensor are not needed in memory now; they are read again when
    /// they are.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &*self.bytes {
            let length = self.end - self.start;
            // SAFETY: the map is of a file and never written to, so what is dropped here is read again from the file
            // with the same content; the range is inside the map.
            let advised =
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, self.start, length) };
            // Advice that is not taken costs memory only.
            if let Err(error) = advised {
                tracing::debug!(%error, "pages of a model file stay in memory");
            }
        }
    }

    /// The values as `f32`, row-major as stored.
    pub fn to_f32(&self) -> Vec<f32> {
        dtype::to_f32(&self.raw_bytes(), self.dtype())
    }
}

/// Tensors by name, in the file's order.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    entries: IndexMap<String, Entry>,
    metadata: Arc<HashMap<String, String>>,
}

impl StateDict {
    /// Maps a model file into memory and checks its header: safetensors, or PyTorch's own format, which
    /// is read without running anything in it.
    ///
    /// # Errors
    /// When the file cannot be opened or its header is not truthful.
    pub fn open(path: &Path) -> Result<Self> {
        // Errors reach clients, who are to learn a file's name and not where it is.
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        let origin = name.display().to_string();
        let failed = |source: std::io::Error| {
            tracing::debug!(path = %path.display(), error = %source, "a model file cannot be opened");
            Error::Io { path: name.clone(), source }
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        // SAFETY: the map is read-only and private to this process, and every range taken from it
        // was checked against its length when the header was parsed. The one thing the operating
        // system cannot promise is that nobody truncates the file while it is mapped; that would
        // end in a bus error, as for every program that maps model files, and model folders are
        // written by their owner only (we write models by renaming complete files into place).
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Self::from_buffer(Bytes::Mapped(map), &origin, &Limits::default())
    }

    /// Reads a safetensors file that is part of the program.
    ///
    /// # Errors
    /// When its header is not truthful.
    pub fn from_static(bytes: &'static [u8], origin: &str) -> Result<Self> {
        Self::from_buffer(Bytes::Static(bytes), origin, &Limits::default())
    }

    /// Reads a safetensors file from shared memory.
    ///
    /// # Errors
    /// When its header is not truthful.
    pub fn from_shared(bytes: Arc<[u8]>, origin: &str) -> Result<Self> {
        Self::from_buffer(Bytes::Shared(bytes), origin, &Limits::default())
    }

    /// Reads a safetensors file from owned memory.
    ///
    /// # Errors
    /// When its header is not truthful.
    pub fn from_vec(bytes: Vec<u8>, origin: &str) -> Result<Self> {
        Self::from_buffer(Bytes::Owned(bytes), origin, &Limits::default())
    }

    fn from_buffer(bytes: Bytes, origin: &str, limits: &Limits) -> Result<Self> {
        if torch::is_torch(bytes.as_slice()) {
            return torch::read(bytes, origin);
        }
        if bytes.as_slice().starts_with(b"GGUF") {
            let why = "GGUF files are not read; use the safetensors file of this model".to_string();
            return Err(Error::Unsupported { what: origin.to_string(), why });
        }
        let header = header::parse(bytes.as_slice(), origin, limits)?;
        let bytes = Arc::new(bytes);
        let entries = header
            .entries
            .into_iter()
            .map(|e| (e.name, Entry::from_range(bytes.clone(), e.start..e.end, e.dtype, e.shape)))
            .collect();
        Ok(Self { entries, metadata: Arc::new(header.metadata) })
    }

    /// A dict of the given entries, without metadata.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Entry)>) -> Self {
        Self { entries: entries.into_iter().collect(), metadata: Arc::default() }
    }

    pub(super) fn from_parts(entries: Vec<(String, Entry)>, metadata: HashMap<String, String>) -> Self {
        Self { entries: entries.into_iter().collect(), metadata: Arc::new(metadata) }
    }

    /// The `__metadata__` strings of the file.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names and tensors in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Bytes of all tensors as they are stored.
    pub fn stored_bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.end - entry.start).sum()
    }

    /// The entry of a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Whether a name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether any name starts with `prefix`.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.entries.keys().any(|name| name.starts_with(prefix))
    }

    /// Shape of a tensor, or `None` when it is not there.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.get(name).map(Entry::shape)
    }

    /// The tensors under `prefix`, without it.
    pub fn view(&self, prefix: &str) -> Self {
        self.rename(|name| name.strip_prefix(prefix).map(str::to_string))
    }

    /// The tensors that `rename` gives a new name to; the others are left out.
    pub fn rename(&self, rename: impl Fn(&str) -> Option<String>) -> Self {
        self.flat_map(|name, entry| rename(name).map(|name| (name, entry.clone())))
    }

    /// A dict of whatever `f` makes of each tensor (nothing, one, or several).
    pub fn flat_map<I: IntoIterator<Item = (String, Entry)>>(&self, f: impl Fn(&str, &Entry) -> I) -> Self {
        let entries = self.entries.iter().flat_map(|(name, entry)| f(name, entry)).collect();
        Self { entries, metadata: self.metadata.clone() }
    }

    /// The matrices and convolutions rounded to an eight-bit float type, as if the file held them so; other tensors as
    /// they are. They are rounded when they are read.
    pub fn rounded_to(&self, dtype: FileDtype) -> Self {
        self.flat_map(|name, entry| {
            let is_large = entry.stored_shape.len() > 1 && entry.dtype.is_float();
            let rounding = if is_large && entry.dtype() != dtype { Some(dtype) } else { entry.rounding };
            [(name.to_string(), Entry { rounding, ..entry.clone() })]
        })
    }

    /// Adds a tensor, replacing one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, entry: Entry) {
        self.entries.insert(name.into(), entry);
    }

    /// Adds all tensors of `other`, replacing those of the same name.
    pub fn extend(&mut self, other: &Self) {
        self.entries.extend(other.entries.iter().map(|(name, entry)| (name.clone(), entry.clone())));
    }

    /// Number of blocks numbered from 0 as `prefix0.`, `prefix1.`, …
    pub fn count_blocks(&self, prefix: &str) -> usize {
        (0..).take_while(|i| self.has_prefix(&format!("{prefix}{i}."))).count()
    }

    /// The floating-point type that most parameters are stored in: what the file "is".
    pub fn main_dtype(&self) -> FileDtype {
        let mut sizes: HashMap<FileDtype, usize> = HashMap::new();
        for entry in self.entries.values().filter(|e| e.dtype.is_float()) {
            *sizes.entry(entry.dtype()).or_default() += (entry.end - entry.start) / entry.dtype.size();
        }
        sizes.into_iter().max_by_key(|(_, n)| *n).map_or(FileDtype::F32, |(dtype, _)| dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(rows: usize, columns: usize) -> Entry {
        let bytes = (0..rows * columns).flat_map(|i| (i as f32).to_le_bytes()).collect();
        Entry::from_bytes(bytes, FileDtype::F32, vec![rows, columns]).unwrap()
    }

    #[test]
    fn chunks_are_rows_and_transposes_are_columns() {
        let whole = entry(6, 2);
        let middle = whole.chunk(1, 3).unwrap();
        assert_eq!(middle.shape(), [2, 2]);
        assert_eq!(middle.to_f32(), [4.0, 5.0, 6.0, 7.0]);
        assert!(whole.chunk(0, 4).is_none());
        let turned = middle.transpose().tensor(DType::F32, &Device::Cpu).unwrap();
        assert_eq!(turned.to_vec2::<f32>().unwrap(), [[4.0, 6.0], [5.0, 7.0]]);
    }

    #[test]
    fn views_strip_their_prefix_and_share_bytes() {
        let dict = StateDict::from_entries([
            ("a.x".to_string(), entry(1, 2)),
            ("a.y".to_string(), entry(2, 2)),
            ("b.x".to_string(), entry(1, 1)),
        ]);
        let view = dict.view("a.");
        assert_eq!(view.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(view.shape("y"), Some(vec![2, 2]));
    }

    #[test]
    fn a_missing_file_is_named_without_its_folder() {
        let error = StateDict::open(Path::new("/nowhere/x.safetensors")).unwrap_err().to_string();
        assert!(error.contains("x.safetensors") && !error.contains("nowhere"), "{error}");
    }
}
