//! Requests of HTTP/1.1.

use super::cut;
use crate::http1::transcript;

/// Wherever a connection's bytes are cut, the same requests are read, with the same bodies, and the same fault ends them.
pub(super) fn target(data: &[u8]) {
    let whole = transcript([data]);
    assert_eq!(transcript(cut::pieces(data)), whole, "cut anywhere");
    if data.len() < 1 << 9 {
        assert_eq!(transcript(data.chunks(1)), whole, "cut everywhere");
    }
    // The same bytes as a body, in chunks, and whatever follows it.
    let framed = [b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".as_slice(), data].concat();
    assert_eq!(transcript(cut::pieces(&framed)), transcript([framed.as_slice()]), "chunks, cut anywhere");
}
