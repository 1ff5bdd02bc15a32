//! Samples in RIFF.

use super::little;

/// The formats whose samples have a size of their own: integers, floats, A-law, mu-law, and the extended head.
const PLAIN: [u16; 5] = [1, 3, 6, 7, 0xfffe];

/// How many bytes a second has, from the content of a `fmt ` chunk; `None` where that is not sure.
pub(super) fn bytes_per_second(format: &[u8]) -> Option<u64> {
    let (tag, channels) = (u16::from_le_bytes(little(format, 0)?), u16::from_le_bytes(little(format, 2)?));
    let (rate, stated) = (u32::from_le_bytes(little(format, 4)?), u32::from_le_bytes(little(format, 8)?));
    let (align, bits) = (u16::from_le_bytes(little(format, 12)?), u16::from_le_bytes(little(format, 14)?));
    let whole = u32::from(channels) * u32::from(bits);
    let plain = PLAIN.contains(&tag) && whole == u32::from(align) * 8 && align > 0;
    let product = u64::from(rate) * u64::from(align);
    (plain && product == u64::from(stated) && product > 0).then_some(product)
}

/// How long a file is: as if all of it were samples, or as it says where that is more.
pub(super) fn length_ms(file: &[u8]) -> Option<u64> {
    if file.get(..4)? != b"RIFF" || file.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut at, mut rate) = (12_usize, None);
    loop {
        let (id, size) = (file.get(at..at + 4)?, u32::from_le_bytes(little(file, at + 4)?));
        let size = usize::try_from(size).ok()?;
        at += 8;
        match id {
            b"fmt " if rate.is_some() => return None,
            b"fmt " => {
                let format = file.get(at..at.checked_add(size)?)?;
                // The extended head's own format begins its identifier.
                let extended = u16::from_le_bytes(little(format, 0)?) == 0xfffe;
                if extended && !matches!(u16::from_le_bytes(little(format, 24)?), 1 | 3 | 6 | 7) {
                    return None;
                }
                rate = Some(bytes_per_second(format)?);
            }
            b"data" => {
                // What streams say that don't know their size.
                let claimed = if size >= usize::try_from(i32::MAX).ok()? { 0 } else { size };
                let bytes = u64::try_from(file.len().max(claimed)).ok()?;
                return Some(bytes.checked_mul(1_000)?.div_ceil(rate?));
            }
            _ => {}
        }
        at = at.checked_add(size)?.checked_add(size % 2)?;
    }
}
