//! As much of the ZIP format as PyTorch writes: stored (uncompressed) members, found through the
//! central directory, with 64-bit sizes where needed.

use std::ops::Range;

/// Longest comment at the end of an archive.
const MAX_COMMENT: usize = 0xffff;

/// A stored member: its name and where its bytes are.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) range: Range<usize>,
}

/// Lists the members of an archive.
pub(super) fn members(bytes: &[u8]) -> Result<Vec<Member>, String> {
    let (mut at, count) = directory(bytes)?;
    let mut members = Vec::new();
    for _ in 0..count {
        let header = bytes.get(at..).ok_or("the directory ends early")?;
        if !header.starts_with(b"PK\x01\x02") {
            return Err("the directory is damaged".into());
        }
        let method = u16_at(header, 10)?;
        let name_length = usize::from(u16_at(header, 28)?);
        let extra_length = usize::from(u16_at(header, 30)?);
        let comment_length = usize::from(u16_at(header, 32)?);
        let name = header.get(46..46 + name_length).ok_or("a name ends early")?;
        let name = String::from_utf8_lossy(name).into_owned();
        let extra =
            header.get(46 + name_length..46 + name_length + extra_length).ok_or("a field ends early")?;
        // Sizes of all ones stand for 64-bit ones in the extra field, in this order.
        let mut wide = wide_fields(extra).into_iter();
        let mut field = |narrow: u32| -> Result<u64, String> {
            match narrow {
                u32::MAX => wide.next().ok_or_else(|| "a 64-bit size is missing".to_string()),
                narrow => Ok(u64::from(narrow)),
            }
        };
        let size = field(u32_at(header, 24)?)?;
        let stored = field(u32_at(header, 20)?)?;
        let offset = field(u32_at(header, 42)?)?;
        if method != 0 || size != stored {
            return Err(format!("member {name:?} is compressed; PyTorch stores members as they are"));
        }
        let range =
            data_range(bytes, offset, size).ok_or_else(|| format!("member {name:?} is not in the file"))?;
        members.push(Member { name, range });
        at += 46 + name_length + extra_length + comment_length;
    }
    Ok(members)
}

/// Start of the central directory and the number of members.
fn directory(bytes: &[u8]) -> Result<(usize, u64), String> {
    let from = bytes.len().saturating_sub(22 + MAX_COMMENT);
    let tail = bytes.get(from..).unwrap_or_default();
    let end = tail.windows(4).rposition(|window| window == b"PK\x05\x06").ok_or("it has no directory")?;
    let record = tail.get(end..).unwrap_or_default();
    let (count, offset) = (u16_at(record, 10)?, u32_at(record, 16)?);
    if count != u16::MAX && offset != u32::MAX {
        return Ok((offset as usize, u64::from(count)));
    }
    // The 64-bit record is found through a locator just before.
    let locator = (from + end).checked_sub(20).and_then(|at| bytes.get(at..)).ok_or("it has no directory")?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Err("its 64-bit directory is missing".into());
    }
    let at = usize::try_from(u64_at(locator, 8)?).map_err(|e| e.to_string())?;
    let record =
        bytes.get(at..).filter(|r| r.starts_with(b"PK\x06\x06")).ok_or("its 64-bit directory is missing")?;
    let offset = usize::try_from(u64_at(record, 48)?).map_err(|e| e.to_string())?;
    Ok((offset, u64_at(record, 32)?))
}

/// The 64-bit numbers of the extra field of kind 1.
fn wide_fields(mut extra: &[u8]) -> Vec<u64> {
    while let (Ok(kind), Ok(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let length = usize::from(length);
        let Some(body) = extra.get(4..4 + length) else { break };
        if kind == 1 {
            let (words, _) = body.as_chunks::<8>();
            return words.iter().map(|w| u64::from_le_bytes(*w)).collect();
        }
        extra = extra.get(4 + length..).unwrap_or_default();
    }
    Vec::new()
}

/// Where a member's bytes are: after its local header, whose name and field lengths may differ from
/// the directory's.
fn data_range(bytes: &[u8], offset: u64, size: u64) -> Option<Range<usize>> {
    let at = usize::try_from(offset).ok()?;
    let header = bytes.get(at..)?;
    if !header.starts_with(b"PK\x03\x04") {
        return None;
    }
    let skip = 30 + usize::from(u16_at(header, 26).ok()?) + usize::from(u16_at(header, 28).ok()?);
    let start = at.checked_add(skip)?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    bytes.get(start..end).map(|_| start..end)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    bytes.get(at..).and_then(|b| b.first_chunk::<N>()).copied().ok_or_else(|| "it ends early".to_string())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    array(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes: Vec<u8>, tail: [u8; 18]) {
            let _ = members(&bytes);
            bytes.extend_from_slice(b"PK\x05\x06");
            bytes.extend_from_slice(&tail);
            let _ = members(&bytes);
        }
    }
}
