//! FLAC (RFC 9639), where silence takes hardly a byte: each frame says how many samples it holds.

/// How long a file is: all that could be a frame of it together, or what its first block claims where that is more. `None` where
/// it is another kind of file.
pub(super) fn length_ms(file: &[u8]) -> Option<u64> {
    let info = file.strip_prefix(b"fLaC")?.get(4..38)?;
    let rate = (number(info, 10, 3)?) >> 4;
    let claimed = number(info, 13, 5)? & 0xf_ffff_ffff;
    let claimed_ms = claimed.saturating_mul(1_000).checked_div(rate).unwrap_or(0);
    let mut micros = 0_u64;
    for at in memchr::memchr_iter(0xff, file) {
        if let Some((samples, own)) = file.get(at..).and_then(frame) {
            let rate = if own == 0 { rate } else { own };
            let length = samples.saturating_mul(1_000_000).checked_div(rate).unwrap_or(0);
            micros = micros.saturating_add(length);
        }
    }
    Some(micros.div_ceil(1_000).max(claimed_ms))
}

/// Samples of each channel in a frame that begins here, and how many it has a second, 0 where its file says that.
fn frame(head: &[u8]) -> Option<(u64, u64)> {
    const RATES: [u64; 12] =
        [0, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000];
    let &[0xff, 0xf8 | 0xf9, form, _, number_first] = head.first_chunk::<5>()? else { return None };
    // The frame's number is written as UTF-8 writes one, in up to seven bytes.
    let coded = match number_first.leading_ones() {
        0 => 1,
        ones @ 2..=7 => usize::try_from(ones).ok()?,
        _ => return None,
    };
    let mut at = 4 + coded;
    let mut take = |bytes: usize| {
        let value = number(head, at, bytes);
        at += bytes;
        value
    };
    let samples = match form >> 4 {
        1 => 192,
        code @ 2..=5 => 576 << (code - 2),
        6 => take(1)? + 1,
        7 => take(2)? + 1,
        code @ 8..=15 => 256 << (code - 8),
        _ => return None,
    };
    let rate = match form & 15 {
        12 => take(1)? * 1_000,
        13 => take(2)?,
        14 => take(2)? * 10,
        15 => return None,
        code => *RATES.get(usize::from(code))?,
    };
    (checksum(head.get(..at)?) == *head.get(at)?).then_some((samples, rate))
}

/// Bytes as a number, the first the highest.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// The checksum of a frame's head.
fn checksum(head: &[u8]) -> u8 {
    head.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 0x80 == 0 { crc << 1 } else { (crc << 1) ^ 0x07 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of frames with so many samples each at 16 kHz, all silent.
    fn file(claimed: u64, frames: u8, samples: u16) -> Vec<u8> {
        let mut file = b"fLaC\x80\0\0\x22".to_vec();
        let mut info = vec![0; 34];
        info[10..13].copy_from_slice(&(16_000_u32 << 4).to_be_bytes()[1..]);
        info[13..18].copy_from_slice(&claimed.to_be_bytes()[3..]);
        file.extend(info);
        for number in 0..frames {
            let mut head = vec![0xff, 0xf8, 0x70, 0x08, number];
            head.extend((samples - 1).to_be_bytes());
            head.push(checksum(&head));
            file.extend(head);
            file.extend([0; 4]);
        }
        file
    }

    #[test]
    fn silence_is_as_long_as_its_frames_say() {
        assert_eq!(length_ms(&file(0, 10, 16_000)), Some(10_000));
        assert_eq!(length_ms(&file(32_000, 1, 16_000)), Some(2_000), "what is claimed counts where it is more");
        assert_eq!(length_ms(&file(1, 10, 16_000)), Some(10_000), "and not where it is less");
        let mut torn = file(0, 1, 16_000);
        let last = torn.len() - 5;
        torn[last] ^= 1;
        assert_eq!(length_ms(&torn), Some(0), "what is no frame to a decoder is none");
        assert_eq!(length_ms(b"fLaC"), None);
        assert_eq!(length_ms(b"RIFF"), None);
    }
}
