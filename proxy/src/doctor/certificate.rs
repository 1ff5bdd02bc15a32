//! The edge's certificate: does it hold now, does its key belong to it, do its parts follow each other.

use std::path::Path;

use openclawmu_store::{Clock, SystemClock, UnixMs};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

use super::Finding;
use crate::config::{Config, TlsConfig};

/// The check's name.
const CHECK: &str = "edge.tls";
/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A certificate that ends within this many days should be renewed by now.
const SOON_DAYS: i64 = 21;

/// Looks at it, where there is one.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    config.edge.tls.as_ref().map(|tls| judge(tls, SystemClock.now())).unwrap_or_default()
}

fn judge(TlsConfig { cert, key }: &TlsConfig, now: UnixMs) -> Vec<Finding> {
    let chain = match chain(cert) {
        Ok(chain) => chain,
        Err(err) => {
            let hint = "give the certificate and those above it in one PEM file that this user can read";
            return vec![Finding::fail(CHECK, format!("{}: {err}", cert.display()), hint)];
        }
    };
    vec![validity(cert, &chain, now), order(cert, &chain), belongs(key, chain)]
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|err| err.to_string())?;
    let chain = read.collect::<Result<Vec<_>, _>>().map_err(|err| err.to_string())?;
    if chain.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(chain) }
}

fn parsed<'c>(chain: &'c [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'c>>, String> {
    let parse = |der: &'c CertificateDer<'_>| parse_x509_certificate(der).map(|(_, parsed)| parsed);
    chain.iter().map(parse).collect::<Result<_, _>>().map_err(|err| err.to_string())
}

/// Whether every certificate of the chain holds now.
fn validity(path: &Path, chain: &[CertificateDer<'_>], now: UnixMs) -> Finding {
    let certificates = match parsed(chain) {
        Ok(certificates) => certificates,
        Err(err) => return Finding::fail(CHECK, format!("{}: {err}", path.display()), "give X.509 certificates"),
    };
    let renew = "renew it, then restart the gateway with --upgrade: certificates are read at the start";
    let (mut ends, mut whose) = (i64::MAX, String::new());
    for certificate in &certificates {
        let (from, to) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        if from.saturating_mul(1_000) > now.0 {
            let seen = format!("{}: {} does not hold yet", path.display(), certificate.subject());
            return Finding::fail(CHECK, seen, "wait, or set the clock");
        }
        if to < ends {
            (ends, whose) = (to, certificate.subject().to_string());
        }
    }
    let days = ends.saturating_mul(1_000).saturating_sub(now.0).div_euclid(DAY_MS);
    if days < 0 {
        Finding::fail(CHECK, format!("{}: {whose} has expired", path.display()), renew)
    } else if days < SOON_DAYS {
        Finding::warn(CHECK, format!("{whose} expires in {days} days"), renew)
    } else {
        Finding::ok(CHECK, format!("{whose} holds for {days} days"))
    }
}

/// Whether each certificate is followed by its issuer's.
fn order(path: &Path, chain: &[CertificateDer<'_>]) -> Finding {
    let check = "edge.tls.chain";
    let Ok(certificates) = parsed(chain) else {
        return Finding::fail(check, "can't be read", "give X.509 certificates");
    };
    for pair in certificates.windows(2) {
        if let [below, above] = pair
            && below.issuer() != above.subject()
        {
            let seen = format!("{}: {} is not followed by {}", path.display(), below.subject(), below.issuer());
            return Finding::fail(check, seen, "put the certificate first, then its issuer, and so on");
        }
    }
    let alone = certificates.len() == 1 && certificates.first().is_some_and(|only| only.issuer() != only.subject());
    if alone {
        let hint = "clients that don't know its issuer will refuse: add the certificates above it to the file";
        return Finding::warn(check, "the file holds one certificate, and not its issuer's", hint);
    }
    Finding::ok(check, format!("{} certificates in their order", certificates.len()))
}

/// Whether the key is the certificate's.
fn belongs(path: &Path, chain: Vec<CertificateDer<'static>>) -> Finding {
    let check = "edge.tls.key";
    let hint = "give the private key that the certificate was asked for with, in PEM";
    let key = match PrivateKeyDer::from_pem_file(path) {
        Ok(key) => key,
        Err(err) => return Finding::fail(check, format!("{}: {err}", path.display()), hint),
    };
    match CertifiedKey::from_der(chain, key, &default_provider()) {
        Ok(_) => Finding::ok(check, "belongs to the certificate"),
        Err(err) => Finding::fail(check, format!("{}: {err}", path.display()), hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn tls(&self) -> TlsConfig {
            TlsConfig { cert: self.dir.path().join("cert.pem"), key: self.dir.path().join("key.pem") }
        }

        fn judged(&self, now: &str) -> Vec<State> {
            let findings = judge(&self.tls(), UnixMs::parse_rfc3339(now).unwrap());
            findings.into_iter().map(|finding| finding.state).collect()
        }
    }

    fn params(name: &str, to: i32) -> CertificateParams {
        let mut params = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(to, 1, 1));
        params
    }

    /// A certificate and its issuer's, in this order or the other; the key, or another's.
    fn files(in_order: bool, own_key: bool) -> Files {
        let files = Files { dir: tempfile::tempdir().unwrap() };
        let (above, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let issuer = params("issuer", 2030);
        let root = issuer.self_signed(&above).unwrap();
        let leaf = params("edge", 2028).signed_by(&key, &Issuer::new(issuer, &above)).unwrap();
        let parts = if in_order { [leaf.pem(), root.pem()] } else { [root.pem(), leaf.pem()] };
        std::fs::write(files.tls().cert, parts.concat()).unwrap();
        std::fs::write(files.tls().key, if own_key { &key } else { &above }.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_certificate_is_judged_by_its_time_its_order_and_its_key() {
        use State::{Fail, Ok, Warn};
        let good = files(true, true);
        assert_eq!(good.judged("2026-11-26T00:00:00Z"), [Ok, Ok, Ok]);
        assert_eq!(good.judged("2027-12-20T00:00:00Z"), [Warn, Ok, Ok], "renew it");
        assert_eq!(good.judged("2028-01-02T00:00:00Z"), [Fail, Ok, Ok], "it has expired");
        assert_eq!(good.judged("2025-12-31T00:00:00Z"), [Fail, Ok, Ok], "it does not hold yet");
        assert_eq!(files(true, false).judged("2026-11-26T00:00:00Z"), [Ok, Ok, Fail]);
        assert_eq!(files(false, true).judged("2026-11-26T00:00:00Z"), [Ok, Fail, Fail]);
        std::fs::write(good.tls().cert, "no certificate").unwrap();
        assert_eq!(good.judged("2026-11-26T00:00:00Z"), [Fail]);
    }
}
