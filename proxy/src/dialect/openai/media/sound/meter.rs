//! The length of an answer that comes piece by piece: of samples, of frames that say how long they are, or of what the file
//! states of itself. The provider wrote it, so what it states is believed.

use super::{little, mp3, small, wav};

/// `OpenAI`'s samples without a head: 24,000 of 16 bits a second, one channel.
const BARE_BYTES_PER_SECOND: u64 = 48_000;
const NANOS: u64 = 1_000_000_000;

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Not known yet.
    Unseen,
    /// A kind that is not measured.
    Other,
    /// Chunks of RIFF, and how many bytes a second has, once that was said.
    Riff(Option<u64>),
    /// Samples, so many bytes a second.
    Samples(u64),
    /// MPEG audio.
    Mpeg,
    /// AAC with a head on each frame.
    Adts,
    /// Pages of Ogg with Opus in them.
    Ogg,
}

/// Measures.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    format: Format,
    /// Samples alone were asked for.
    bare: bool,
    /// A head that is not whole yet.
    head: Vec<u8>,
    /// Bytes that say nothing more.
    skip: u64,
    nanos: u64,
}

/// What a head says.
enum Step {
    /// So many bytes of it are needed.
    Need(usize),
    /// It is over; so many bytes follow that say nothing, and so long is what they hold.
    Skip(u64, u64),
    /// It is none: the next may begin with the next byte.
    Next,
    /// From here on the bytes are read so.
    Become(Format),
}

impl Meter {
    /// A meter; `bare` where samples alone were asked for.
    pub(crate) fn new(bare: bool) -> Self {
        Self { format: Format::Unseen, bare, head: Vec::new(), skip: 0, nanos: 0 }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            if let Format::Samples(rate) = self.format {
                let bytes = u64::try_from(rest.len()).unwrap_or(u64::MAX);
                self.nanos = self.nanos.saturating_add(bytes.saturating_mul(NANOS) / rate);
                return;
            }
            if self.format == Format::Other {
                return;
            }
            if self.skip > 0 {
                let skipped = rest.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= u64::try_from(skipped).unwrap_or(0);
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            match self.step() {
                Step::Need(bytes) => {
                    let wanted = bytes.saturating_sub(self.head.len()).min(rest.len());
                    let (taken, left) = rest.split_at_checked(wanted.max(1)).unwrap_or((rest, &[]));
                    self.head.extend_from_slice(taken);
                    rest = left;
                    self.settle();
                }
                Step::Skip(..) | Step::Next | Step::Become(_) => self.settle(),
            }
        }
    }

    /// Takes in every head that is whole.
    fn settle(&mut self) {
        loop {
            match self.step() {
                Step::Need(_) => return,
                Step::Skip(bytes, nanos) => {
                    self.head.clear();
                    self.skip = bytes;
                    self.nanos = if self.format == Format::Ogg {
                        self.nanos.max(nanos)
                    } else {
                        self.nanos.saturating_add(nanos)
                    };
                    return;
                }
                Step::Next => drop(self.head.drain(..1.min(self.head.len()))),
                Step::Become(format) => {
                    let mut head = std::mem::take(&mut self.head);
                    if matches!((self.format, format), (Format::Riff(_), Format::Samples(_))) {
                        head.clear();
                    }
                    self.format = format;
                    self.push(&head);
                    return;
                }
            }
        }
    }

    /// What the head says that has come so far.
    fn step(&self) -> Step {
        let head = &self.head;
        match self.format {
            Format::Unseen if head.len() < 12 => Step::Need(12),
            Format::Unseen => Step::Become(self.sniffed()),
            Format::Riff(rate) => riff(head, rate),
            Format::Mpeg => match (head.len() < 10, mp3::tag_bytes(head), mp3::frame(head)) {
                (true, ..) => Step::Need(10),
                (_, Some(tag), _) => Step::Skip(tag.saturating_sub(10), 0),
                (_, _, Some(frame)) => {
                    Step::Skip(frame.bytes.saturating_sub(10), frame.samples.saturating_mul(NANOS) / frame.rate)
                }
                (_, None, None) => Step::Next,
            },
            Format::Adts => adts(head),
            Format::Ogg => ogg(head),
            Format::Samples(_) | Format::Other => Step::Need(usize::MAX),
        }
    }

    fn sniffed(&self) -> Format {
        match self.head.as_slice() {
            [b'R', b'I', b'F', b'F', ..] => Format::Riff(None),
            [b'O', b'g', b'g', b'S', ..] => Format::Ogg,
            [b'I', b'D', b'3', ..] => Format::Mpeg,
            _ if self.bare => Format::Samples(BARE_BYTES_PER_SECOND),
            [0xff, kind, ..] if kind & 0xf6 == 0xf0 => Format::Adts,
            head if mp3::frame(head).is_some() => Format::Mpeg,
            _ => Format::Other,
        }
    }

    /// How long it was so far, in milliseconds; `None` where that can't be told.
    pub(crate) fn ms(&self) -> Option<u32> {
        match self.format {
            Format::Other => None,
            Format::Unseen | Format::Riff(_) | Format::Samples(_) | Format::Mpeg | Format::Adts | Format::Ogg => {
                (self.nanos > 0).then(|| small(self.nanos.div_ceil(1_000_000)))
            }
        }
    }
}

fn riff(head: &[u8], rate: Option<u64>) -> Step {
    // The file's own head is one chunk without a content that is passed over.
    let Some(id) = head.get(..4) else { return Step::Need(8) };
    if id == b"RIFF" {
        return if head.len() < 12 { Step::Need(12) } else { Step::Skip(0, 0) };
    }
    let Some(size) = little(head, 4).map(u32::from_le_bytes).map(u64::from) else { return Step::Need(8) };
    match (id, rate) {
        (b"fmt ", None) => match head.get(8..24) {
            None => Step::Need(24),
            // What is left of the chunk is read as a chunk's head would be, so only the usual size is taken.
            Some(format) if size == 16 => wav::bytes_per_second(format)
                .map_or(Step::Become(Format::Other), |rate| Step::Become(Format::Riff(Some(rate)))),
            Some(_) => Step::Become(Format::Other),
        },
        (b"data", Some(rate)) => Step::Become(Format::Samples(rate)),
        (b"data", None) => Step::Become(Format::Other),
        _ => Step::Skip(size + size % 2, 0),
    }
}

fn adts(head: &[u8]) -> Step {
    const RATES: [u64; 13] =
        [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
    let Some(&[sync, kind, form, a, b, c, d]) = head.first_chunk::<7>() else { return Step::Need(7) };
    let rate = RATES.get(usize::from((form >> 2) & 15)).copied();
    let bytes = (u64::from(a & 3) << 11) | (u64::from(b) << 3) | u64::from(c >> 5);
    match rate {
        Some(rate) if sync == 0xff && kind & 0xf6 == 0xf0 && bytes > 7 => {
            let samples = 1024 * (u64::from(d & 3) + 1);
            Step::Skip(bytes - 7, samples * NANOS / rate)
        }
        _ => Step::Next,
    }
}

fn ogg(head: &[u8]) -> Step {
    let Some(&segments) = head.get(26) else { return Step::Need(27) };
    if head.get(..4) != Some(b"OggS") {
        return Step::Next;
    }
    let Some(lacing) = head.get(27..27 + usize::from(segments)) else { return Step::Need(27 + usize::from(segments)) };
    let position = little(head, 6).map_or(0, i64::from_le_bytes);
    let nanos = u64::try_from(position).unwrap_or(0).saturating_mul(NANOS) / 48_000;
    Step::Skip(lacing.iter().map(|&bytes| u64::from(bytes)).sum(), nanos)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mp3, wav};
    use super::*;
    use proptest::prelude::*;

    fn measured(bare: bool, pieces: &[&[u8]]) -> Option<u32> {
        let mut meter = Meter::new(bare);
        pieces.iter().for_each(|piece| meter.push(piece));
        meter.ms()
    }

    /// Frames of AAC at 24 kHz, 100 bytes each.
    fn aac(frames: usize) -> Vec<u8> {
        let mut frame = vec![0xff, 0xf1, 0x58, 0x80, 0x0c, 0x9f, 0xfc];
        frame.resize(100, 0);
        frame.repeat(frames)
    }

    fn page(position: i64, bytes: u8) -> Vec<u8> {
        let mut page = b"OggS\0\0".to_vec();
        page.extend(position.to_le_bytes());
        page.extend([0; 12]);
        page.extend([1, bytes]);
        page.resize(page.len() + usize::from(bytes), 0);
        page
    }

    #[test]
    fn every_format_that_is_measured_is_as_long_as_its_bytes_say() {
        assert_eq!(measured(true, &[&[0; 48_000]]), Some(1_000));
        assert_eq!(measured(false, &[&wav(24_000, 1, 16, &[0; 96_000])]), Some(2_000));
        assert_eq!(
            measured(true, &[&wav(24_000, 1, 16, &[0; 96_000])]),
            Some(2_000),
            "a head is believed before the request"
        );
        assert_eq!(measured(false, &[&mp3(50)]), Some(1_200));
        assert_eq!(measured(false, &[&[b"ID3\x04\0\0\0\0\0\x05tag!!".as_slice(), &mp3(50)].concat()]), Some(1_200));
        assert_eq!(measured(false, &[&aac(30)]), Some(1_280));
        assert_eq!(measured(false, &[&[page(0, 19), page(48_000, 100), page(96_000, 200)].concat()]), Some(2_000));
        assert_eq!(measured(false, &[b"fLaC and so on, for a while"]), None);
        assert_eq!(measured(false, &[b"short"]), None);
        assert_eq!(measured(false, &[]), None);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_pieces_end(cuts in proptest::collection::vec(1..700_usize, 0..20), which in 0..5_usize) {
            let file = match which {
                0 => wav(24_000, 1, 16, &[0; 9_600]),
                1 => mp3(40),
                2 => aac(60),
                3 => [page(0, 19), page(480, 200), page(960, 255)].concat(),
                _ => vec![1; 4_800],
            };
            let mut meter = Meter::new(which == 4);
            let mut rest = file.as_slice();
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                meter.push(piece);
                rest = left;
            }
            meter.push(rest);
            let (found, whole) = (meter.ms().unwrap(), measured(which == 4, &[&file]).unwrap());
            prop_assert!(found.abs_diff(whole) <= 1, "{} {}", found, whole);
        }

        #[test]
        fn any_bytes_are_survived(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..12), bare: bool, start in 0..5_usize) {
            let start: &[u8] = [b"RIFF".as_slice(), b"OggS", b"ID3", &[0xff, 0xfb], &[0xff, 0xf1]][start];
            let mut meter = Meter::new(bare);
            meter.push(start);
            pieces.iter().for_each(|piece| meter.push(piece));
            let _ = meter.ms();
        }
    }
}
