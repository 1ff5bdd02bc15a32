//! `[edge.tls]`: a certificate and the key that belongs to it, read at every start and every reload, so that what can't be used
//! is told before clients find out.

use std::path::Path;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::checked::TlsConfig;
use super::load::{ConfigError, value};
use super::raw::RawTls;

const CERT: &str = "edge.tls.cert";
const KEY: &str = "edge.tls.key";

/// The checked form. Whether the certificate holds today is not asked: a clock that is wrong must not keep the gateway down.
pub(super) fn check(raw: RawTls) -> Result<TlsConfig, ConfigError> {
    let chain =
        chain(&raw.cert).map_err(|why| refused(CERT, &raw.cert, &why, "the certificate and those above it, in PEM"))?;
    let key = PrivateKeyDer::from_pem_file(&raw.key)
        .map_err(|err| refused(KEY, &raw.key, &words(&err), "the certificate's private key, in PEM"))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|err| {
        let both = format!("{err}, with the certificate {}", raw.cert.display());
        refused(KEY, &raw.key, &both, "the private key that the certificate was asked for with")
    })?;
    Ok(TlsConfig { cert: raw.cert, key: raw.key })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|err| words(&err))?;
    let chain = read.collect::<Result<Vec<_>, _>>().map_err(|err| words(&err))?;
    if chain.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    for der in &chain {
        x509_parser::parse_x509_certificate(der).map_err(|err| format!("holds a certificate that is none: {err}"))?;
    }
    Ok(chain)
}

/// What is wrong with a file. Never what is in it.
fn words(err: &pem::Error) -> String {
    if let pem::Error::Io(err) = err {
        err.to_string()
    } else if matches!(err, pem::Error::NoItemsFound) {
        "holds no private key".to_owned()
    } else {
        "is no PEM file, or was damaged".to_owned()
    }
}

fn refused(key: &str, path: &Path, why: &str, wanted: &str) -> ConfigError {
    value(key, format!("{}: {why}; give {wanted}, in a file that this user can read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::generate_simple_self_signed;

    #[test]
    fn files_that_cant_be_used_are_named_with_their_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let made = generate_simple_self_signed(vec!["edge.test".to_owned()]).unwrap();
        let other = generate_simple_self_signed(vec!["other.test".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        std::fs::write(path("cert"), &cert).unwrap();
        std::fs::write(path("key"), &key).unwrap();
        std::fs::write(path("other"), other.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("empty"), "").unwrap();
        std::fs::write(path("text"), "no PEM at all").unwrap();
        std::fs::write(path("cut"), &cert[..cert.len() / 2]).unwrap();
        std::fs::write(path("junk"), cert.replace("MII", "!!!")).unwrap();
        std::fs::write(path("hollow"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let said = |cert: &str, key: &str| {
            check(RawTls { cert: path(cert), key: path(key) }).map(drop).map_err(|err| err.to_string())
        };
        assert_eq!(said("cert", "key"), Ok(()));
        for name in ["gone", "empty", "text", "cut", "junk", "hollow", "key"] {
            let said = said(name, "key").unwrap_err();
            assert!(said.starts_with("edge.tls.cert: ") && said.contains(path(name).to_str().unwrap()), "{said}");
        }
        for name in ["gone", "empty", "text", "cert", "other"] {
            let said = said("cert", name).unwrap_err();
            assert!(said.starts_with("edge.tls.key: ") && said.contains(path(name).to_str().unwrap()), "{said}");
            assert!(!said.contains(key.lines().nth(1).unwrap()), "no key in {said}");
        }
    }
}
