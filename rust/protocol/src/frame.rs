//! Binary frames: a big-endian `u32` event id, then the payload.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

const PREVIEW_IMAGE: u32 = 1;
const TEXT: u32 = 3;
const PREVIEW_IMAGE_WITH_METADATA: u32 = 4;

/// Encoding of a preview picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// JPEG, type 1 on the wire.
    Jpeg,
    /// PNG, type 2 on the wire.
    Png,
}

impl ImageFormat {
    fn wire_type(self) -> u32 {
        match self {
            ImageFormat::Jpeg => 1,
            ImageFormat::Png => 2,
        }
    }

    /// The MIME type.
    pub fn mime(self) -> &'static str {
        match self {
            ImageFormat::Jpeg => "image/jpeg",
            ImageFormat::Png => "image/png",
        }
    }
}

/// Which node a preview belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewMetadata {
    /// The node's id in the expanded graph.
    pub node_id: Arc<str>,
    /// The prompt.
    pub prompt_id: Arc<str>,
    /// The id a frontend shows it on.
    pub display_node_id: Arc<str>,
    /// The node that expanded into this one.
    pub parent_node_id: Option<Arc<str>>,
    /// The outermost node of the submitted prompt.
    pub real_node_id: Arc<str>,
}

/// A binary message before it is known which form a client takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BinaryFrame {
    /// A step preview.
    Preview {
        /// Encoding of `image`.
        format: ImageFormat,
        /// The encoded picture.
        image: Bytes,
        /// Whose preview it is; `None` only for previews sent by id from Python.
        metadata: Option<Arc<PreviewMetadata>>,
    },
    /// Progress text of a node.
    Text {
        /// The prompt, sent to clients with `supports_progress_text_metadata`.
        prompt_id: Arc<str>,
        /// The node.
        node_id: Arc<str>,
        /// The text.
        text: Arc<str>,
    },
    /// Bytes that a custom node sends under an id of its own.
    Raw {
        /// Event id.
        id: u32,
        /// Payload, unchanged.
        payload: Bytes,
    },
}

impl BinaryFrame {
    /// The frame for a client that takes previews with metadata or TEXT with the prompt id, or not.
    pub fn encode(&self, preview_metadata: bool, text_metadata: bool) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            BinaryFrame::Preview { format, image, metadata: Some(metadata) } if preview_metadata => {
                let mut json = serde_json::to_value(metadata.as_ref()).unwrap_or_default();
                if let Some(map) = json.as_object_mut() {
                    map.insert("image_type".into(), format.mime().into());
                }
                let json = json.to_string();
                out.reserve(8 + json.len() + image.len());
                out.put_u32(PREVIEW_IMAGE_WITH_METADATA);
                put_prefixed(&mut out, json.as_bytes());
                out.put_slice(image);
            }
            BinaryFrame::Preview { format, image, .. } => {
                out.reserve(8 + image.len());
                out.put_u32(PREVIEW_IMAGE);
                out.put_u32(format.wire_type());
                out.put_slice(image);
            }
            BinaryFrame::Text { prompt_id, node_id, text } => {
                out.put_u32(TEXT);
                if text_metadata {
                    put_prefixed(&mut out, prompt_id.as_bytes());
                }
                put_prefixed(&mut out, node_id.as_bytes());
                out.put_slice(text.as_bytes());
            }
            BinaryFrame::Raw { id, payload } => {
                out.reserve(4 + payload.len());
                out.put_u32(*id);
                out.put_slice(payload);
            }
        }
        out.freeze()
    }
}

fn put_prefixed(out: &mut BytesMut, bytes: &[u8]) {
    // A length beyond u32 cannot be framed; node ids and metadata are bounded far below it.
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}
