//! Tenant tokens as text, `tk_<tenant>_<12 id><43 secret><6 CRC-32>`: taken apart and forged, to try the gateway's checks one at a time.

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID: usize = 12;
const CRC: usize = 6;

/// The parts of a token's text.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Everything up to and with the second underscore.
    pub prefix: String,
    /// The public id.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// The checksum.
    pub crc: String,
}

impl Parts {
    /// Takes a token apart; panics when it hasn't the contract's form.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let at = token.rfind('_').expect("a token has underscores") + 1;
        let (prefix, tail) = token.split_at(at);
        assert!(prefix.starts_with("tk_"), "a tenant token starts with tk_: {prefix}");
        assert_eq!(tail.len(), ID + 43 + CRC, "12 id + 43 secret + 6 CRC");
        let (id, rest) = tail.split_at(ID);
        let (secret, crc) = rest.split_at(43);
        Self { prefix: prefix.into(), id: id.into(), secret: secret.into(), crc: crc.into() }
    }

    /// The token's text with the checksum that belongs to its other parts.
    #[must_use]
    pub fn sealed(&self) -> String {
        let body = format!("{}{}{}", self.prefix, self.id, self.secret);
        let sum = checksum(&body);
        format!("{body}{sum}")
    }

    /// The same token with another secret of the right alphabet.
    #[must_use]
    pub fn with_other_secret(&self) -> Self {
        Self { secret: rotated(&self.secret), ..self.clone() }
    }

    /// The same token with an id that nobody has.
    #[must_use]
    pub fn with_other_id(&self) -> Self {
        Self { id: rotated(&self.id), ..self.clone() }
    }
}

/// Every character moved on by one within base62.
fn rotated(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            let at = BASE62.iter().position(|known| *known == byte).expect("base62");
            char::from(BASE62[(at + 1) % BASE62.len()])
        })
        .collect()
}

/// CRC-32 (IEEE) of everything before it, as six base62 digits, most significant first.
#[must_use]
pub fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CRC];
    for digit in digits.iter_mut().rev() {
        let at = usize::try_from(rest % 62).expect("below 62");
        *digit = BASE62[at];
        rest /= 62;
    }
    String::from_utf8(digits.to_vec()).expect("ASCII")
}
