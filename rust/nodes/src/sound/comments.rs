//! Vorbis comments: the texts of FLAC and Ogg files.

/// Who wrote the file.
const VENDOR: &str = concat!("Rushlight ", env!("CARGO_PKG_VERSION"));

/// Keyword and text of each comment.
pub(crate) type Comments = Vec<(String, String)>;

/// The comments as both formats hold them: vendor, number, then each with its length before it.
///
/// A keyword is printable ASCII without `=`; others are left out.
pub(crate) fn vorbis(comments: &Comments) -> Vec<u8> {
    let lines: Vec<String> = comments
        .iter()
        .filter(|(keyword, _)| {
            !keyword.is_empty() && keyword.bytes().all(|byte| (0x20..0x7e).contains(&byte) && byte != b'=')
        })
        .map(|(keyword, text)| format!("{keyword}={text}"))
        .collect();
    let mut out = Vec::new();
    push(&mut out, VENDOR);
    out.extend_from_slice(&(lines.len() as u32).to_le_bytes());
    for line in &lines {
        push(&mut out, line);
    }
    out
}

fn push(out: &mut Vec<u8>, text: &str) {
    // Texts are far below 4 GiB: requests are bounded.
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_counted_and_measured() {
        let comments = vec![("prompt".into(), "{}".into()), ("a=b".into(), "left out".into())];
        let bytes = vorbis(&comments);
        let rest = &bytes[4 + VENDOR.len()..];
        assert_eq!(rest, b"\x01\0\0\0\x09\0\0\0prompt={}");
    }
}
