//! Ogg pages (RFC 3533), as much as one stream of packets needs.

/// Segments that a page may have.
const MAX_SEGMENTS: usize = 255;
/// The flag of the first page of a stream.
const FIRST: u8 = 2;
/// The flag of the last.
const LAST: u8 = 4;

/// The position of a page on which no packet ends.
const NOWHERE: u64 = u64::MAX;

/// One logical stream that is written page by page; packets may span pages.
pub(crate) struct Writer {
    out: Vec<u8>,
    serial: u32,
    sequence: u32,
    segments: Vec<u8>,
    body: Vec<u8>,
    /// Whether the page goes on with a packet of the one before.
    continued: bool,
    /// Where the last packet that ends on the page ends.
    position: u64,
}

impl Writer {
    /// A stream with nothing in it.
    pub(crate) fn new(serial: u32) -> Self {
        Self {
            out: Vec::new(),
            serial,
            sequence: 0,
            segments: Vec::new(),
            body: Vec::new(),
            continued: false,
            position: NOWHERE,
        }
    }

    /// Adds a packet that ends at `position`. A page that becomes full goes out.
    pub(crate) fn packet(&mut self, packet: &[u8], position: u64) {
        // Segments of 255 bytes, and a shorter one (which may be empty) that ends the packet.
        let mut rest = packet;
        loop {
            let (segment, behind) = rest.split_at(rest.len().min(255));
            if self.segments.len() == MAX_SEGMENTS {
                self.page(0);
                self.continued = rest.len() != packet.len();
            }
            self.segments.push(segment.len() as u8);
            self.body.extend_from_slice(segment);
            rest = behind;
            if segment.len() < 255 {
                self.position = position;
                break;
            }
        }
    }

    /// Ends the page.
    pub(crate) fn flush(&mut self) {
        self.page(0);
        self.continued = false;
    }

    /// The file, after its last page.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.page(LAST);
        self.out
    }

    fn page(&mut self, flags: u8) {
        let flags = flags | u8::from(self.continued) | if self.sequence == 0 { FIRST } else { 0 };
        let start = self.out.len();
        self.out.extend_from_slice(b"OggS\0");
        self.out.push(flags);
        self.out.extend_from_slice(&self.position.to_le_bytes());
        self.position = NOWHERE;
        self.out.extend_from_slice(&self.serial.to_le_bytes());
        self.out.extend_from_slice(&self.sequence.to_le_bytes());
        let checksum_at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.out.push(self.segments.len() as u8);
        self.out.append(&mut self.segments);
        self.out.append(&mut self.body);
        let checksum = checksum(self.out.get(start..).unwrap_or_default());
        if let Some(place) = self.out.get_mut(checksum_at..checksum_at + 4) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        self.sequence += 1;
    }
}

/// CRC-32 with the polynomial 0x04c11db7, most significant bit first, from 0.
fn checksum(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = (index as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                value = if value >> 31 == 1 { (value << 1) ^ 0x04c1_1db7 } else { value << 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 24) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_format() {
        assert_eq!(checksum(b"123456789"), 0x89a1_897f);
    }

    #[test]
    fn a_packet_longer_than_a_page_goes_on_on_the_next() {
        let mut writer = Writer::new(7);
        writer.packet(b"head", 0);
        writer.flush();
        writer.packet(&vec![1; 70_000], 960);
        let file = writer.finish();
        let pages: Vec<usize> =
            file.windows(4).enumerate().filter(|(_, window)| window == b"OggS").map(|(at, _)| at).collect();
        assert_eq!(pages.len(), 3);
        let flags: Vec<u8> = pages.iter().map(|page| file[page + 5]).collect();
        assert_eq!(flags, [FIRST, 0, 1 | LAST]);
        // The packet does not end on the page that it fills.
        assert_eq!(file[pages[1] + 6..pages[1] + 14], [0xff; 8]);
        assert_eq!(file[pages[2] + 6..pages[2] + 14], 960u64.to_le_bytes());
    }
}
