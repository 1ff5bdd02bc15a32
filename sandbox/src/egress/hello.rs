//! The host that a TLS client names (SNI, RFC 6066, section 3), read from its hello (RFC 8446, section 4.1.2, in records of section
//! 5.1). The bytes are an attacker's: what is not exactly such a hello, with exactly one name in it, is none.

/// The longest hello that is read, in bytes of records. Real ones are below 3 KiB, with a post-quantum key share.
pub(super) const MAX_HELLO_BYTES: usize = 16 * 1024;

/// The largest record (RFC 8446, section 5.1).
const MAX_RECORD_BYTES: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// The real name is sealed (RFC 9849): nobody on the way knows which host is meant.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The beginning of a hello.
    Incomplete,
    /// A hello that names this host, in small letters.
    Names(String),
    /// A hello that names no host, more than one, or seals the name.
    Nameless,
    /// Not the hello of a TLS client.
    Malformed,
}

/// Reads what a client sent first. More bytes after the hello's last record are not looked at.
#[must_use]
pub fn server_name(bytes: &[u8]) -> Hello {
    match handshake(bytes) {
        Ok(Some(body)) => client_hello(&body),
        Ok(None) if bytes.len() >= MAX_HELLO_BYTES => Hello::Malformed,
        Ok(None) => Hello::Incomplete,
        Err(Malformed) => Hello::Malformed,
    }
}

struct Malformed;

/// The body of the hello out of its records; `None` as long as it isn't whole.
fn handshake(bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut records = Reader(bytes);
    let mut message = Vec::new();
    loop {
        // Whatever is wrong is told as soon as it is there: nobody waits for the rest of what can't be a hello.
        match records.0 {
            [kind, ..] if *kind != HANDSHAKE => return Err(Malformed),
            [_, major, ..] if *major != 3 => return Err(Malformed),
            _ => {}
        }
        let (Some(_kind_and_version), Some(length)) = (records.take(3), records.u16()) else { return Ok(None) };
        let length = usize::from(length);
        if length == 0 || length > MAX_RECORD_BYTES {
            return Err(Malformed);
        }
        let whole = records.0.len() >= length;
        message.extend_from_slice(records.take(length.min(records.0.len())).unwrap_or_default());
        let mut read = Reader(&message);
        if let Some(kind) = read.u8() {
            let long = read.take(3).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)));
            if kind != CLIENT_HELLO || long.is_some_and(|long| long > MAX_HELLO_BYTES) {
                return Err(Malformed);
            }
            if let Some(body) = long.and_then(|long| read.take(long)) {
                // Another message in the same record would be nobody's.
                return match (read.0, whole) {
                    ([], true) => Ok(Some(body.to_vec())),
                    ([], false) => Ok(None),
                    _ => Err(Malformed),
                };
            }
        }
        if !whole {
            return Ok(None);
        }
    }
}

fn client_hello(body: &[u8]) -> Hello {
    let mut read = Reader(body);
    let fixed = read.take(2 + 32).is_some(); // legacy_version, random
    let lists = fixed && read.list8().is_some() && read.list16().is_some() && read.list8().is_some(); // session, ciphers, compression
    if !lists {
        return Hello::Malformed;
    }
    if read.0.is_empty() {
        return Hello::Nameless; // before TLS 1.2 there need be no extensions
    }
    match (read.list16(), read.0) {
        (Some(extensions), []) => named(extensions).unwrap_or(Hello::Malformed),
        _ => Hello::Malformed,
    }
}

fn named(extensions: &[u8]) -> Option<Hello> {
    let mut read = Reader(extensions);
    let mut seen = Vec::new();
    let mut name = None;
    while !read.0.is_empty() {
        let kind = read.u16()?;
        let data = read.list16()?;
        // One of a kind (RFC 8446, section 4.2): of two names servers may take either.
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        if kind == SERVER_NAME {
            name = Some(only_name(data)?);
        }
    }
    let sealed = seen.contains(&ENCRYPTED_CLIENT_HELLO);
    Some(name.filter(|_| !sealed).map_or(Hello::Nameless, Hello::Names))
}

/// The one name of the extension.
fn only_name(data: &[u8]) -> Option<String> {
    let mut data = Reader(data);
    let mut list = Reader(data.list16()?);
    let kind = list.u8()?;
    let name = list.list16()?;
    let alone = kind == HOST_NAME && list.0.is_empty() && data.0.is_empty();
    let plain = (1..=255).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    (alone && plain).then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// Takes bytes from the front, or none.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Bytes after their length in one byte.
    fn list8(&mut self) -> Option<&'a [u8]> {
        let count = self.u8()?;
        self.take(count.into())
    }

    /// Bytes after their length in two.
    fn list16(&mut self) -> Option<&'a [u8]> {
        let count = self.u16()?;
        self.take(count.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list16(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &list16(data)].concat()
    }

    fn sni(name: &str) -> Vec<u8> {
        extension(SERVER_NAME, &list16(&[&[HOST_NAME], &list16(name.as_bytes())[..]].concat()))
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(list16(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(list16(extensions));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &body].concat()
    }

    fn records(message: &[u8], each: usize) -> Vec<u8> {
        message.chunks(each).flat_map(|part| [&[HANDSHAKE, 3, 1], &list16(part)[..]].concat()).collect()
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        records(&message(extensions), MAX_RECORD_BYTES)
    }

    /// What rustls sends, so that what is read here is what clients mean.
    fn real(name: &'static str) -> Vec<u8> {
        let roots = rustls::RootCertStore::empty();
        let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = rustls::ClientConnection::new(config.into(), name.try_into().unwrap()).unwrap();
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        sent
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_cut() {
        let sent = real("PyPI.test");
        for end in 0..sent.len() {
            assert_eq!(server_name(&sent[..end]), Hello::Incomplete, "{end}");
        }
        let name = Hello::Names("pypi.test".into());
        assert_eq!(server_name(&sent), name);
        assert_eq!(server_name(&[&sent[..], b"early data"].concat()), name);
        for each in [1, 2, 5, 100] {
            let cut = records(&message(&sni("pypi.test")), each);
            assert_eq!(server_name(&cut), name, "records of {each}");
            assert_eq!(server_name(&cut[..cut.len() - 1]), Hello::Incomplete, "records of {each}");
        }
    }

    /// what a server might read in another way than this does.
    #[test]
    fn a_hello_with_no_name_or_two_names_no_host() {
        assert_eq!(server_name(&hello(&[])), Hello::Nameless);
        assert_eq!(server_name(&real("127.0.0.1")), Hello::Nameless, "an address is no name");
        let sealed = [sni("a.test"), extension(ENCRYPTED_CLIENT_HELLO, &[0])].concat();
        assert_eq!(server_name(&hello(&sealed)), Hello::Nameless);
        let name = [&[HOST_NAME], &list16(b"a.test")[..]].concat();
        for bad in [
            [sni("a.test"), sni("b.test")].concat(),
            extension(SERVER_NAME, &list16(&[name.clone(), name.clone()].concat())),
            extension(SERVER_NAME, &[list16(&name), vec![0]].concat()),
            extension(SERVER_NAME, &list16(&[&[1], &list16(b"a.test")[..]].concat())),
            extension(SERVER_NAME, &[]),
            sni(""),
            sni("a\0.test"),
            sni("a.test\n"),
            [sni("a.test"), vec![0]].concat(),
        ] {
            assert_eq!(server_name(&hello(&bad)), Hello::Malformed, "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_hello_is_known_by_its_first_bytes() {
        let mut two = message(&sni("a.test"));
        two.extend([14, 0, 0, 0]);
        for bad in [
            b"G".to_vec(),
            b"SSH-2.0-OpenSSH\r\n".to_vec(),
            vec![HANDSHAKE, 2],
            vec![HANDSHAKE, 3, 1, 0, 0],
            vec![HANDSHAKE, 3, 1, 0x40, 1],
            vec![HANDSHAKE, 3, 1, 0, 9, 2],
            vec![HANDSHAKE, 3, 1, 0, 9, 1, 1, 0, 0],
            records(&two, MAX_RECORD_BYTES),
        ] {
            assert_eq!(server_name(&bad), Hello::Malformed, "{bad:?}");
        }
        let endless = records(&[&[1, 0, 0x3f, 0xff][..], &[0; 12_000]].concat(), 1);
        assert_eq!(server_name(&endless[..MAX_HELLO_BYTES]), Hello::Malformed, "records of one byte each");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, at in 0_usize..400, with: u8) {
            let _read = server_name(&bytes);
            let mut sent = hello(&sni("pypi.test"));
            if let Some(byte) = sent.get_mut(at) {
                *byte = with;
            }
            let _read = server_name(&sent);
        }

        /// A longer prefix never takes back what a shorter one said.
        #[test]
        fn what_is_said_is_said_for_good(name in "[a-z]{1,20}\\.test", each in 1_usize..300, flip in 0_usize..400, with: u8) {
            let mut sent = records(&message(&sni(&name)), each);
            if let Some(byte) = sent.get_mut(flip) {
                *byte = with;
            }
            let mut said = Hello::Incomplete;
            for end in 0..=sent.len() {
                let now = server_name(&sent[..end]);
                prop_assert!(said == Hello::Incomplete || said == now, "{:?} then {:?}", said, now);
                said = now;
            }
        }
    }
}
