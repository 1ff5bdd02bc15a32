//! What is read of a connection, without one: for fuzzers and tests, never for the gateway.

use bytes::BytesMut;

use super::body::Taken;
use super::request;

/// What is read of a connection on which these pieces come, request by request.
pub(crate) fn transcript<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<String> {
    let (mut pieces, mut buffer, mut told) = (pieces.into_iter(), BytesMut::new(), Vec::new());
    let mut more = |buffer: &mut BytesMut| pieces.next().map(|piece| buffer.extend_from_slice(piece));
    loop {
        let mut scan = request::Scan::default();
        let range = loop {
            match scan.find(&buffer) {
                Ok(Some(range)) => break range,
                Ok(None) => {}
                Err(fault) => {
                    told.push(fault.to_string());
                    return told;
                }
            }
            if more(&mut buffer).is_none() {
                return told;
            }
        };
        let raw = buffer.split_to(range.end).freeze().slice(range);
        let request::Asked { head, mut body, persists, fault } = match request::read(&raw) {
            Ok(asked) => asked,
            Err(fault) => {
                told.push(fault.to_string());
                return told;
            }
        };
        told.push(format!("{} {} {:?} {persists} {fault:?}", head.method, head.uri, head.headers));
        let mut whole = Vec::new();
        loop {
            match body.take(&mut buffer) {
                Ok(Taken::Piece(piece)) => whole.extend_from_slice(&piece),
                Ok(Taken::End) => break,
                Ok(Taken::More) if more(&mut buffer).is_some() => {}
                Ok(Taken::More) => {
                    told.push(format!("torn {whole:?}"));
                    return told;
                }
                Err(err) => {
                    told.push(format!("{err} {whole:?}"));
                    return told;
                }
            }
        }
        told.push(format!("{whole:?}"));
    }
}
