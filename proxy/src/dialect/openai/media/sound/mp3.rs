//! The frames of MPEG audio (ISO/IEC 11172-3 and 13818-3), which need no decoding to be counted.

/// Bit rates in kbit/s of MPEG-1 layers I, II, III, then of MPEG-2 layers I, and II or III.
const RATES: [[u16; 16]; 5] = [
    [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0],
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0],
];
/// A frame lasts a millisecond a byte at most, and one of so many bytes one millisecond longer: its size is rounded down.
pub(super) const SPARE_BYTES: u64 = 64;
/// How many frames in a row make a file one of these.
const CHAIN: usize = 4;

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes, its head among them.
    pub(super) bytes: u64,
    /// Samples of each channel.
    pub(super) samples: u64,
    /// Samples a second.
    pub(super) rate: u64,
}

/// Reads a frame's head, four bytes.
pub(super) fn frame(head: &[u8]) -> Option<Frame> {
    let [sync, kind, form, _] = *head.first_chunk::<4>()?;
    if sync != 0xff || kind & 0xe0 != 0xe0 {
        return None;
    }
    let (version, layer) = ((kind >> 3) & 3, (kind >> 1) & 3);
    let base: u64 = match (form >> 2) & 3 {
        0 => 44_100,
        1 => 48_000,
        2 => 32_000,
        _ => return None,
    };
    let (first, rate) = match version {
        3 => (true, base),
        2 => (false, base / 2),
        0 => (false, base / 4),
        _ => return None,
    };
    let (table, samples) = match (first, layer) {
        (true, 3) => (0, 384),
        (true, 2) => (1, 1152),
        (true, 1) => (2, 1152),
        (false, 3) => (3, 384),
        (false, 2) => (4, 1152),
        (false, 1) => (4, 576),
        _ => return None,
    };
    let bits = u64::from(*RATES.get(table)?.get(usize::from(form >> 4))?) * 1_000;
    let padding = u64::from((form >> 1) & 1);
    let bytes = if samples == 384 { (12 * bits / rate + padding) * 4 } else { samples / 8 * bits / rate + padding };
    (bits > 0 && bytes > 4).then_some(Frame { bytes, samples, rate })
}

/// Where the first frame stands: behind a tag, where there is one.
fn start(file: &[u8]) -> usize {
    tag_bytes(file).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The bytes of an ID3 tag that begins here.
pub(super) fn tag_bytes(head: &[u8]) -> Option<u64> {
    let [b'I', b'D', b'3', _, _, flags, a, b, c, d] = *head.first_chunk::<10>()? else { return None };
    let size = [a, b, c, d].iter().fold(0_u64, |size, byte| (size << 7) | u64::from(byte & 0x7f));
    Some(10 + size + if flags & 0x10 == 0 { 0 } else { 10 })
}

/// How long a file says that it is, in its first frame, 0 where it says nothing; `None` where it is not one of these.
pub(super) fn claimed_ms(file: &[u8]) -> Option<u64> {
    let start = start(file);
    let (mut at, mut chain) = (start, 0);
    while chain < CHAIN && at < file.len() {
        at = at.checked_add(usize::try_from(frame(file.get(at..)?)?.bytes).ok()?)?;
        chain += 1;
    }
    let first = frame(file.get(start..)?)?;
    let body = file.get(start..at.min(file.len()))?.get(..usize::try_from(first.bytes).ok()?).unwrap_or_default();
    let tag = memchr::memmem::find(body, b"Xing").or_else(|| memchr::memmem::find(body, b"Info"));
    let number = |at: usize| body.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes).map(u64::from);
    let frames = tag.filter(|at| number(at + 4).is_some_and(|flags| flags & 1 == 1)).and_then(|at| number(at + 8));
    let older = memchr::memmem::find(body, b"VBRI").and_then(|at| number(at + 14));
    let frames = frames.unwrap_or(0).max(older.unwrap_or(0));
    Some(frames.saturating_mul(first.samples).saturating_mul(1_000) / first.rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_the_standard_has_them() {
        let read = |head: [u8; 4]| frame(&head).map(|frame| (frame.bytes, frame.samples, frame.rate));
        assert_eq!(read([0xff, 0xfb, 0x90, 0x00]), Some((417, 1152, 44_100)), "MPEG-1 layer III at 128 kbit/s");
        assert_eq!(read([0xff, 0xfb, 0x92, 0x00]), Some((418, 1152, 44_100)), "with padding");
        assert_eq!(read([0xff, 0xf3, 0x84, 0xc4]), Some((192, 576, 24_000)));
        assert_eq!(read([0xff, 0xe3, 0x18, 0x00]), Some((72, 576, 8_000)), "MPEG-2.5");
        for bad in [
            [0xff, 0xfb, 0x00, 0],
            [0xff, 0xfb, 0xf0, 0],
            [0xff, 0xfb, 0x9c, 0],
            [0xff, 0xf9, 0x90, 0],
            [0xff, 0xeb, 0x90, 0],
            [0x7f, 0xfb, 0x90, 0],
        ] {
            assert_eq!(read(bad), None, "{bad:x?}");
        }
    }

    #[test]
    fn no_frame_lasts_longer_than_a_millisecond_a_byte() {
        for kind in 0..=255 {
            for form in 0..=255 {
                if let Some(frame) = frame(&[0xff, kind, form, 0]) {
                    let most = frame.bytes * (SPARE_BYTES + 1);
                    assert!(frame.samples * 1_000 * SPARE_BYTES <= most * frame.rate, "{kind:x} {form:x} {frame:?}");
                }
            }
        }
    }
}
