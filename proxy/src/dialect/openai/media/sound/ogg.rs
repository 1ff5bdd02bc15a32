//! Opus in Ogg (RFC 3533, RFC 6716, RFC 7845): the length of its packets, each of which says how long it is.

use super::little;

/// No packet is longer, in microseconds.
const LONGEST_PACKET: u64 = 120_000;

/// How long a file is: its packets together, or the position that a page claims where that is more. `None` unless it is one
/// stream of Opus whose pages are whole and follow each other.
pub(super) fn length_ms(file: &[u8]) -> Option<u64> {
    let mut packets = Packets::default();
    let (mut at, mut serial, mut claimed) = (0, None, 0_u64);
    while at < file.len() {
        let rest = file.get(at..)?;
        if rest.get(..5)? != b"OggS\0" {
            return None;
        }
        let position = i64::from_le_bytes(little(rest, 6)?);
        claimed = claimed.max(u64::try_from(position).unwrap_or(0));
        let own = u32::from_le_bytes(little(rest, 14)?);
        let lacing = rest.get(27..27 + usize::from(*rest.get(26)?))?;
        let start = 27 + lacing.len();
        let end = start + lacing.iter().map(|&bytes| usize::from(bytes)).sum::<usize>();
        let page = rest.get(..end)?;
        if *serial.get_or_insert(own) != own || checksum(page) != u32::from_le_bytes(little(page, 22)?) {
            return None;
        }
        packets.page(lacing, page.get(start..)?)?;
        at += end;
    }
    (packets.count > 0).then(|| packets.micros.div_ceil(1_000).max(claimed.div_ceil(48)))
}

/// The packets so far.
#[derive(Default)]
struct Packets {
    count: u64,
    micros: u64,
    /// The first bytes of the one that has begun.
    begun: Vec<u8>,
}

impl Packets {
    fn page(&mut self, lacing: &[u8], mut body: &[u8]) -> Option<()> {
        for &bytes in lacing {
            let (segment, rest) = body.split_at_checked(usize::from(bytes))?;
            let wanted = 8_usize.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(segment.get(..wanted.min(segment.len()))?);
            body = rest;
            if bytes < 255 {
                self.end()?;
            }
        }
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        match self.count {
            0 if self.begun != b"OpusHead" => return None,
            1 if self.begun != b"OpusTags" => return None,
            0 | 1 => {}
            _ => self.micros += duration(&self.begun),
        }
        self.count += 1;
        self.begun.clear();
        Some(())
    }
}

/// How long a packet is, in microseconds (RFC 6716, section 3.1); one that can't be right counts as the longest.
fn duration(packet: &[u8]) -> u64 {
    let Some(&kind) = packet.first() else { return LONGEST_PACKET };
    let size = match kind >> 3 {
        config @ 0..12 => [10_000, 20_000, 40_000, 60_000].get(usize::from(config % 4)),
        config @ 12..16 => [10_000, 20_000].get(usize::from(config % 2)),
        config => [2_500, 5_000, 10_000, 20_000].get(usize::from(config % 4)),
    };
    let frames = match kind & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(0, |byte| u64::from(byte & 0x3f)),
    };
    let micros = size.copied().unwrap_or(LONGEST_PACKET) * frames;
    if micros == 0 { LONGEST_PACKET } else { micros.min(LONGEST_PACKET) }
}

/// Ogg's checksum of a page, its own field taken as zero.
fn checksum(page: &[u8]) -> u32 {
    page.iter().enumerate().fold(0_u32, |crc, (at, &byte)| {
        let byte = if (22..26).contains(&at) { 0 } else { byte };
        (0..8).fold(crc ^ (u32::from(byte) << 24), |crc, _| {
            if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04c1_1db7 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(serial: u32, position: i64, packets: &[&[u8]]) -> Vec<u8> {
        let mut page = b"OggS\0\0".to_vec();
        page.extend(position.to_le_bytes());
        page.extend(serial.to_le_bytes());
        page.extend([0; 8]);
        let lacing: Vec<u8> = packets
            .iter()
            .flat_map(|packet| {
                let mut lacing = vec![255; packet.len() / 255];
                lacing.push(u8::try_from(packet.len() % 255).unwrap());
                lacing
            })
            .collect();
        page.push(u8::try_from(lacing.len()).unwrap());
        page.extend(lacing);
        packets.iter().for_each(|packet| page.extend_from_slice(packet));
        let crc = checksum(&page);
        page[22..26].copy_from_slice(&crc.to_le_bytes());
        page
    }

    fn file(position: i64, packets: &[&[u8]]) -> Vec<u8> {
        [page(7, 0, &[b"OpusHead\x01\x01"]), page(7, 0, &[b"OpusTags"]), page(7, position, packets)].concat()
    }

    #[test]
    fn packets_say_how_long_they_are() {
        // 60 ms of SILK, two frames of 20 ms of CELT, three of 2.5 ms.
        let long = [0_u8; 300];
        let packets: [&[u8]; 4] = [&[0b0001_1000], &[0b1111_1001, 1], &[0b1000_0011, 3], &long];
        assert_eq!(length_ms(&file(48, &packets)), Some(60 + 40 + 8 + 10));
        assert_eq!(length_ms(&file(48_000, &packets)), Some(1_000), "what is claimed counts where it is more");
        assert_eq!(length_ms(&file(0, &[&[], &[0b0001_1011, 63], &[3]])), Some(360), "what can't be right is long");
    }

    #[test]
    fn what_is_not_one_whole_stream_of_opus_is_not_measured() {
        let good = file(48, &[&[0]]);
        assert_eq!(length_ms(&good), Some(10));
        let mut torn = good.clone();
        *torn.last_mut().unwrap() ^= 1;
        for bad in [
            torn,
            good[..good.len() - 1].to_vec(),
            [good.clone(), b"x".to_vec()].concat(),
            [good.clone(), page(8, 0, &[&[0]])].concat(),
            page(7, 0, &[b"\x01vorbis"]),
            page(7, 0, &[]),
            Vec::new(),
        ] {
            assert_eq!(length_ms(&bad), None);
        }
    }
}
