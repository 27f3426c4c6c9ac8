//! [`Pixels`]: a batch of pictures, masks or latent planes as plain numbers on the host.

use candle_core::{DType, Device, Tensor};
use rushlight_runtime::NodeError;

use crate::memory;

/// A batch in row-major order: `[batch, height, width, channels]` for pictures (masks have one channel).
///
/// IMAGE, MASK and LATENT values live in host memory between nodes; models move what they need to their device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pixels {
    /// Pictures.
    pub(crate) batch: usize,
    /// Rows.
    pub(crate) height: usize,
    /// Columns.
    pub(crate) width: usize,
    /// Values a pixel.
    pub(crate) channels: usize,
    /// `batch * height * width * channels` values.
    pub(crate) data: Vec<f32>,
}

/// A tensor's values as f32 in row-major order.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>, NodeError> {
    memory::check_shape("the values", tensor.dims(), size_of::<f32>())?;
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// A host tensor of that shape.
pub(crate) fn tensor(data: Vec<f32>, shape: &[usize]) -> Result<Tensor, NodeError> {
    Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
}

impl Pixels {
    /// A batch of one value.
    ///
    /// # Errors
    /// When it would not fit the memory.
    pub(crate) fn filled(
        batch: usize,
        height: usize,
        width: usize,
        channels: usize,
        value: f32,
    ) -> Result<Self, NodeError> {
        let count = memory::check_shape("a value", &[batch, height, width, channels], size_of::<f32>())?;
        Ok(Self { batch, height, width, channels, data: vec![value; count] })
    }

    /// From an IMAGE `[B, H, W, C]` (or one picture `[H, W, C]`).
    pub(crate) fn from_image(image: &Tensor) -> Result<Self, NodeError> {
        let (batch, height, width, channels) = match image.dims() {
            [b, h, w, c] => (*b, *h, *w, *c),
            [h, w, c] => (1, *h, *w, *c),
            other => {
                return Err(NodeError::value(format!(
                    "an image must have 4 dimensions [B, H, W, C], got {other:?}"
                )));
            }
        };
        Ok(Self { batch, height, width, channels, data: values(image)? })
    }

    /// From a MASK: the last two dimensions are rows and columns, all before them the batch.
    pub(crate) fn from_mask(mask: &Tensor) -> Result<Self, NodeError> {
        let dims = mask.dims();
        let [before @ .., height, width] = dims else {
            return Err(NodeError::value(format!("a mask must have dimensions [B, H, W], got {dims:?}")));
        };
        Ok(Self {
            batch: before.iter().product(),
            height: *height,
            width: *width,
            channels: 1,
            data: values(mask)?,
        })
    }

    /// As an IMAGE.
    pub(crate) fn into_image(self) -> Result<Tensor, NodeError> {
        tensor(self.data, &[self.batch, self.height, self.width, self.channels])
    }

    /// As a MASK; there must be one channel.
    pub(crate) fn into_mask(self) -> Result<Tensor, NodeError> {
        tensor(self.data, &[self.batch, self.height, self.width])
    }

    /// Values of one picture.
    pub(crate) fn picture_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The pictures one by one.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks(self.picture_len().max(1))
    }

    /// The value at a place; 0 outside.
    pub(crate) fn at(&self, picture: usize, y: usize, x: usize, channel: usize) -> f32 {
        self.data.get(self.index(picture, y, x, channel)).copied().unwrap_or(0.0)
    }

    /// Where a value stands in `data`.
    pub(crate) fn index(&self, picture: usize, y: usize, x: usize, channel: usize) -> usize {
        ((picture * self.height + y) * self.width + x) * self.channels + channel
    }

    /// A batch of the given size whose values come from a function of (picture, row, column, channel).
    ///
    /// # Errors
    /// When it would not fit the memory.
    pub(crate) fn build(
        batch: usize,
        height: usize,
        width: usize,
        channels: usize,
        mut value: impl FnMut(usize, usize, usize, usize) -> f32,
    ) -> Result<Self, NodeError> {
        let mut data = memory::numbers(&[batch, height, width, channels])?;
        for picture in 0..batch {
            for y in 0..height {
                for x in 0..width {
                    for channel in 0..channels {
                        data.push(value(picture, y, x, channel));
                    }
                }
            }
        }
        Ok(Self { batch, height, width, channels, data })
    }

    /// Every value through a function.
    pub(crate) fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for value in &mut self.data {
            *value = f(*value);
        }
        self
    }

    /// A rectangle of every picture; parts outside the pictures are cut off.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn crop(&self, y: usize, x: usize, height: usize, width: usize) -> Result<Self, NodeError> {
        let y = y.min(self.height);
        let x = x.min(self.width);
        let height = height.min(self.height - y);
        let width = width.min(self.width - x);
        Self::build(self.batch, height, width, self.channels, |b, row, column, c| {
            self.at(b, y + row, x + column, c)
        })
    }

    /// The batch brought to `count` pictures: repeated from the start, or cut.
    ///
    /// # Errors
    /// When it would not fit the memory.
    pub(crate) fn with_batch(&self, count: usize) -> Result<Self, NodeError> {
        if count == self.batch || self.batch == 0 {
            return Ok(self.clone());
        }
        let mut data = memory::numbers(&[count, self.height, self.width, self.channels])?;
        let length = count * self.picture_len();
        data.extend(self.data.iter().copied().cycle().take(length));
        Ok(Self { batch: count, data, ..*self })
    }

    /// 8-bit values, cut towards zero as upstream does on its way to PIL.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.data.iter().map(|value| to_byte(*value)).collect()
    }
}

/// 0..1 to 0..255, clamped and cut towards zero.
pub(crate) fn to_byte(value: f32) -> u8 {
    (255.0 * value).clamp(0.0, 255.0) as u8
}
