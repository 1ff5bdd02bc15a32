//! How long recordings are, from their bytes alone. Nothing is decoded.
//!
//! What a file says of itself is not believed where it would make the recording shorter than its bytes can be heard.
//!
//! - `flac`: frames of FLAC
//! - `meter`: the length of an answer that comes piece by piece
//! - `mp3`: the frames of MPEG audio
//! - `ogg`: Opus in Ogg
//! - `wav`: samples in RIFF

mod flac;
mod meter;
mod mp3;
mod ogg;
mod wav;

pub(crate) use meter::Meter;

/// How long a byte can be heard in a file of a kind that is not taken apart here (MP4, WebM, Vorbis), in milliseconds: 4 kbit/s,
/// less than any codec for speech needs (AMR's least is 4.75, Opus's 6). That is plausible, not sure: a model's
/// `max_input_seconds` bounds it for good.
const PLAUSIBLE_MS_PER_BYTE: usize = 2;

/// How long a recording is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Length {
    /// What was measured; `None` for a kind of file that is not taken apart here.
    pub(crate) measured_ms: Option<u32>,
    /// It is no longer than this: surely where it was measured, else by the least bit rate that is plausible.
    pub(crate) most_ms: u32,
}

/// How long a file is.
pub(crate) fn length(file: &[u8]) -> Length {
    let same = |ms: u64| Length { measured_ms: Some(small(ms)), most_ms: small(ms) };
    if let Some(ms) = wav::length_ms(file).or_else(|| ogg::length_ms(file)).or_else(|| flac::length_ms(file)) {
        return same(ms);
    }
    if let Some(claimed_ms) = mp3::claimed_ms(file) {
        let mut meter = Meter::new(false);
        meter.push(file);
        let measured = meter.ms().map_or(0, u64::from);
        // No frame of MPEG audio lasts longer than that, wherever a decoder finds its frames.
        let bytes = u64::try_from(file.len()).unwrap_or(u64::MAX);
        let most = bytes.saturating_add(bytes / mp3::SPARE_BYTES).max(claimed_ms).max(measured);
        return Length { measured_ms: Some(small(measured)), most_ms: small(most) };
    }
    let most = u64::try_from(file.len().saturating_mul(PLAUSIBLE_MS_PER_BYTE)).unwrap_or(u64::MAX);
    Length { measured_ms: None, most_ms: small(most) }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Bytes at a place, as a number.
fn little<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of samples.
    pub(crate) fn wav(rate: u32, channels: u16, bits: u16, data: &[u8]) -> Vec<u8> {
        let align = channels * bits / 8;
        let mut file = b"RIFF".to_vec();
        file.extend(u32::try_from(36 + data.len()).unwrap().to_le_bytes());
        file.extend(b"WAVEfmt ");
        file.extend(16_u32.to_le_bytes());
        file.extend(1_u16.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend((rate * u32::from(align)).to_le_bytes());
        file.extend(align.to_le_bytes());
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        file.extend(data);
        file
    }

    /// Frames of MPEG-2 layer III, 24 kHz, 64 kbit/s: 192 bytes and 24 ms each.
    pub(crate) fn mp3(frames: usize) -> Vec<u8> {
        let mut frame = vec![0xff, 0xf3, 0x84, 0xc4];
        frame.resize(192, 0);
        frame.repeat(frames)
    }

    #[test]
    fn samples_are_as_long_as_they_are() {
        assert_eq!(length(&wav(16_000, 1, 16, &[0; 32_000])), Length { measured_ms: Some(1_002), most_ms: 1_002 });
        let stereo = length(&wav(44_100, 2, 16, &vec![0; 441_000])).most_ms;
        assert!((2_500..=2_501).contains(&stereo), "{stereo}");
    }

    #[test]
    fn a_head_that_says_less_than_there_is_is_not_believed() {
        let mut short = wav(16_000, 1, 16, &[0; 32_000]);
        short[40..44].copy_from_slice(&10_u32.to_le_bytes());
        assert_eq!(length(&short).most_ms, 1_002);
        let mut long = wav(16_000, 1, 16, &[0; 32_000]);
        long[40..44].copy_from_slice(&320_000_u32.to_le_bytes());
        assert_eq!(length(&long).most_ms, 10_000, "nor is one that says more cut short");
        let mut slow = wav(1, 1, 8, &[0; 100]);
        assert!(length(&slow).most_ms >= 100_000);
        slow[28..32].copy_from_slice(&9_u32.to_le_bytes());
        assert_eq!(length(&slow).measured_ms, None, "a head that contradicts itself says nothing");
        let mut coded = wav(16_000, 1, 16, &[0; 32_000]);
        coded[20] = 2;
        assert_eq!(length(&coded), Length { measured_ms: None, most_ms: 64_088 });
    }

    #[test]
    fn frames_are_counted_and_a_byte_is_a_millisecond_at_most() {
        let file = mp3(100);
        assert_eq!(length(&file), Length { measured_ms: Some(2_400), most_ms: 19_500 });
        let tagged = [b"ID3\x04\0\0\0\0\x01\x00".as_slice(), &[7; 128], &file].concat();
        assert_eq!(length(&tagged).measured_ms, Some(2_400));
        let mut claims = file.clone();
        claims[13..17].copy_from_slice(b"Xing");
        claims[17..21].copy_from_slice(&1_u32.to_be_bytes());
        claims[21..25].copy_from_slice(&1_000_000_u32.to_be_bytes());
        assert_eq!(length(&claims).most_ms, 24_000_000, "the larger of what is there and what is claimed");
        let flac_behind_a_tag = [b"ID3\x04\0\0\0\0\0\0".as_slice(), b"fLaC", &[0; 900]].concat();
        assert_eq!(length(&flac_behind_a_tag).measured_ms, None);
        assert_eq!(length(&mp3(3)).measured_ms, Some(72));
        assert_eq!(length(&[&mp3(2)[..], b"OggS and more of something else"].concat()).measured_ms, None);
    }

    proptest! {
        #[test]
        fn any_file_has_some_bound(start in prop_oneof![Just(b"RIFF".to_vec()), Just(b"OggS".to_vec()), Just(b"ID3".to_vec()), Just([b"fLaC".as_slice(), &[0; 40]].concat()), Just(mp3(5)), Just(Vec::new())], rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let file = [start, rest].concat();
            let found = length(&file);
            prop_assert!(found.measured_ms.unwrap_or(0) <= found.most_ms);
        }
    }
}
