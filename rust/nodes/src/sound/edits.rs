//! The edit list of an MP4 file: how much of the start is the encoder's run-up and not to be heard.
//!
//! ISO/IEC 14496-12: `moov/trak/edts/elst` says which part of a track is shown, in units that `moov/trak/mdia/mdhd`
//! gives.

/// A box: its type and its content.
type Part<'a> = (&'a [u8], &'a [u8]);

/// The boxes that follow each other in `bytes`, up to the first that is cut.
fn parts(bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u64::from(u32::from_be_bytes(*rest.first_chunk()?));
        let kind = rest.get(4..8)?;
        let (start, length) = match length {
            // To the end of the file.
            0 => (8, rest.len()),
            1 => {
                let wide = u64::from_be_bytes(*rest.get(8..)?.first_chunk()?);
                (16, usize::try_from(wide).ok()?)
            }
            length => (8, usize::try_from(length).ok()?),
        };
        let content = rest.get(start..length)?;
        rest = rest.get(length..)?;
        Some((kind, content))
    })
}

fn part<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    parts(bytes).find(|(found, _)| found == kind).map(|(_, content)| content)
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?)))
}

/// Where the first edit of a track starts, over the units of a second.
fn first_edit(track: &[u8]) -> Option<(u64, u64)> {
    let media = part(track, b"mdia")?;
    // Version and flags, a reserved word, then the kind of media.
    if part(media, b"hdlr")?.get(8..12)? != b"soun" {
        return None;
    }
    let header = part(media, b"mdhd")?;
    let units = number(header, if header.first()? == &1 { 20 } else { 12 })?;
    let list = part(part(track, b"edts")?, b"elst")?;
    let start = if list.first()? == &1 {
        number(list, 16)?.checked_shl(32)? | number(list, 20)?
    } else {
        match number(list, 12)? {
            // An empty edit: silence before the track.
            0xffff_ffff => return None,
            start => start,
        }
    };
    Some((start, units))
}

/// Samples at the start of the first sound track of an MP4 file that are not to be heard; 0 for other files.
pub(crate) fn leading_samples(file: &[u8], rate: u32) -> usize {
    let samples = || {
        if file.get(4..8)? != b"ftyp" {
            return None;
        }
        let movie = part(file, b"moov")?;
        let track = parts(movie).filter(|(kind, _)| kind == b"trak").find_map(|(_, track)| first_edit(track));
        let (start, units) = track?;
        usize::try_from(start.checked_mul(u64::from(rate))?.checked_div(units)?).ok()
    };
    samples().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut out = ((content.len() + 8) as u32).to_be_bytes().to_vec();
        out.extend_from_slice(kind);
        out.extend_from_slice(content);
        out
    }

    fn movie(kind: &[u8; 4], start: u32) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let handler = [&[0; 8][..], kind, &[0; 12]].concat();
        let media = [boxed(b"mdhd", &words(&[0, 0, 0, 24_000, 0])), boxed(b"hdlr", &handler)].concat();
        let edits = boxed(b"edts", &boxed(b"elst", &words(&[0, 1, 500, start, 0x1_0000])));
        let track = boxed(b"trak", &[edits, boxed(b"mdia", &media)].concat());
        [boxed(b"ftyp", b"M4A \0\0\0\0"), boxed(b"mdat", &[7; 40]), boxed(b"moov", &track)].concat()
    }

    #[test]
    fn the_first_edit_says_how_much_is_run_up() {
        assert_eq!(leading_samples(&movie(b"soun", 1024), 48_000), 2048);
        assert_eq!(leading_samples(&movie(b"vide", 1024), 48_000), 0);
        assert_eq!(leading_samples(&movie(b"soun", u32::MAX), 48_000), 0);
    }

    #[test]
    fn cut_files_have_no_edits() {
        let file = movie(b"soun", 1024);
        for length in 0..file.len() {
            assert_eq!(leading_samples(&file[..length], 48_000), 0);
        }
    }
}
