//! What kind of file a name or its first bytes say it is.

/// What a listing shows and a browser may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
    /// A 3D model.
    Model,
}

impl MediaKind {
    /// The name that nodes and clients use.
    pub fn as_str(self) -> &'static str {
        match self {
            MediaKind::Image => "image",
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
            MediaKind::Model => "model",
        }
    }
}

/// The kind that a name's extension says, if it is a medium at all.
pub fn kind_of_name(name: &str) -> Option<MediaKind> {
    let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
    if matches!(extension.as_str(), "gltf" | "glb" | "obj" | "fbx" | "stl" | "usdz" | "ply" | "splat") {
        return Some(MediaKind::Model);
    }
    match mime_of_name(name).split('/').next() {
        Some("image") => Some(MediaKind::Image),
        Some("audio") => Some(MediaKind::Audio),
        Some("video") => Some(MediaKind::Video),
        _ => None,
    }
}

/// The MIME type that a name's extension says; `application/octet-stream` when it says none.
pub fn mime_of_name(name: &str) -> String {
    mime_guess::from_path(name).first_or_octet_stream().essence_str().to_owned()
}

/// The MIME type of a raster picture, sound or video by its first bytes; `None` for everything else, which
/// includes every format that a browser could run (svg, html, pdf, …).
pub fn sniff(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if at(0, b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if at(0, b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if at(0, b"GIF87a") || at(0, b"GIF89a") {
        Some("image/gif")
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        Some("image/webp")
    } else if at(0, b"RIFF") && at(8, b"WAVE") {
        Some("audio/wav")
    } else if at(0, b"BM") && at(6, &[0, 0, 0, 0]) {
        Some("image/bmp")
    } else if at(0, b"II*\0") || at(0, b"MM\0*") {
        Some("image/tiff")
    } else if at(4, b"ftyp") {
        Some(match head.get(8..12) {
            Some(b"avif" | b"avis") => "image/avif",
            Some(b"M4A " | b"M4B ") => "audio/mp4",
            Some(b"qt  ") => "video/quicktime",
            _ => "video/mp4",
        })
    } else if at(0, b"\x1a\x45\xdf\xa3") {
        Some("video/webm")
    } else if at(0, b"fLaC") {
        Some("audio/flac")
    } else if at(0, b"OggS") {
        Some("audio/ogg")
    } else if at(0, b"ID3") || matches!(head, [0xff, second, ..] if second & 0xe6 == 0xe2) {
        Some("audio/mpeg")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_their_kind() {
        assert_eq!(kind_of_name("a.PNG"), Some(MediaKind::Image));
        assert_eq!(kind_of_name("a.webp"), Some(MediaKind::Image));
        assert_eq!(kind_of_name("a.flac"), Some(MediaKind::Audio));
        assert_eq!(kind_of_name("a.mp4"), Some(MediaKind::Video));
        assert_eq!(kind_of_name("a.glb"), Some(MediaKind::Model));
        assert_eq!(kind_of_name("a.safetensors"), None);
        assert_eq!(kind_of_name("png"), None);
    }

    #[test]
    fn bytes_say_their_type_and_text_never_does() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\nrest"), Some("image/png"));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        assert_eq!(sniff(b"\0\0\0\x20ftypisom"), Some("video/mp4"));
        for text in [&b"<svg xmlns=..."[..], b"<html>", b"%PDF-1.7", b"<?xml", b"", b"GIF"] {
            assert_eq!(sniff(text), None);
        }
    }
}
