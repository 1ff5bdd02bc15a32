//! What is read of a connection, and where it is put.

use std::future::poll_fn;
use std::io::Result;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// What is read at once: a usual request, or some events of a stream.
pub(crate) const READ_BYTES: usize = 8 << 10;

/// Reads what is there; 0 at the connection's end. Nothing is lost where it is not waited for, and nothing is held meanwhile.
///
/// # Errors
/// When the connection is broken.
pub(crate) async fn read_some<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> Result<usize> {
    poll_fn(|cx| poll_some(Pin::new(stream), cx, buffer)).await
}

/// [`read_some`], through a space that is only there meanwhile, so that who waits holds none.
pub(crate) fn poll_some<S: AsyncRead>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
) -> Poll<Result<usize>> {
    let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
    let mut read = ReadBuf::uninit(&mut space);
    ready!(stream.poll_read(cx, &mut read))?;
    buffer.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}
