//! A file's content on its way to a tenant: piece by piece, whatever its size, or a range of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use http::{Method, header};
use openclawmu_sandbox::{PathError, RelPath};

use super::serve::guard;
use super::with;
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::refusal::Refusal;
use crate::sandbox::blocking;
use crate::session::Session;

/// How much is read at once.
const PIECE_BYTES: usize = 256 << 10;

/// A part of a file: from where, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    from: u64,
    length: u64,
}

impl Gateway {
    pub(super) async fn get(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        path: RelPath,
    ) -> Result<(), Stop> {
        let opened = with((&self.shared, caller), move |root| {
            let file = root.read(&path)?;
            let size = file.metadata().map_err(PathError::Io)?.len();
            Ok((file, size))
        });
        let (file, size) = opened.await?;
        let range = session.get_header(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let part = range.as_deref().and_then(|range| part(range, size));
        let whole = Part { from: 0, length: size };
        let (status, wanted) = match part {
            None => (200, whole),
            Some(Some(part)) => (206, part),
            Some(None) => {
                return Err(Refusal::Bad {
                    status: 416,
                    param: Some("range".into()),
                    code: Some("range_not_satisfiable"),
                    message: format!("The file has {size} bytes."),
                }
                .into());
            }
        };
        ctx.status = status;
        let bodiless = session.req_header().method == Method::HEAD;
        let client = &mut Client::Http(session.again());
        let mut head = Head::of(status, ctx.request_id, ctx.dialect)?;
        guard(&mut head);
        head.set("accept-ranges", "bytes");
        if status == 206 {
            let last = (wanted.from + wanted.length).saturating_sub(1);
            head.set("content-range", format_args!("bytes {}-{last}/{size}", wanted.from));
        }
        if bodiless || wanted.length == 0 {
            head.set("x-openclawmu-size-bytes", size);
            return Ok(head.send(client, "application/octet-stream", Bytes::new()).await?);
        }
        head.set("content-type", "application/octet-stream");
        head.begin(client).await?;
        send(client, file, wanted).await
    }
}

/// Sends a part. A file that got shorter meanwhile breaks off, so that it never looks whole.
async fn send(client: &mut Client<'_>, file: File, Part { from, length }: Part) -> Result<(), Stop> {
    let (mut file, mut left, mut seek) = (file, length, Some(from));
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let read = blocking(move || {
            let mut piece = vec![0; wanted];
            let read = seek
                .map_or(Ok(0), |from| file.seek(SeekFrom::Start(from)))
                .and_then(|_| file.read(&mut piece))
                .map(|length| piece.truncate(length));
            (file, read.map(|()| piece))
        });
        let (back, piece) = read.await?;
        (file, seek) = (back, None);
        match piece {
            Ok(piece) if !piece.is_empty() => {
                left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                client.piece(piece.into()).await?;
            }
            Ok(_) | Err(_) => return Err(Stop::Io(client.cut())),
        }
    }
    Ok(client.last(Bytes::new()).await?)
}

/// Reads a `Range` header of one range (RFC 9110, 14.2): `None` where it is to be ignored, `Some(None)` where nothing of the
/// file is in it.
fn part(range: &str, size: u64) -> Option<Option<Part>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let length = last.parse::<u64>().ok()?.min(size);
        return Some((length > 0).then(|| Part { from: size - length, length }));
    }
    let from = first.parse::<u64>().ok()?;
    let last = match last {
        "" => size.saturating_sub(1),
        last => last.parse::<u64>().ok().filter(|last| *last >= from)?.min(size.saturating_sub(1)),
    };
    Some((from < size).then(|| Part { from, length: last - from + 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let some = |from, length| Some(Some(Part { from, length }));
        for (range, wanted) in [
            ("bytes=0-4", some(0, 5)),
            ("bytes=5-", some(5, 5)),
            ("bytes=-3", some(7, 3)),
            ("bytes=-30", some(0, 10)),
            ("bytes=9-100", some(9, 1)),
            ("bytes=10-", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes=a-b", None),
        ] {
            assert_eq!(part(range, 10), wanted, "{range}");
        }
        assert_eq!(part("bytes=0-0", 0), Some(None));
    }
}
