//! The signature of a request: Signature Version 4, as Amazon's own crate makes it. Pure: the time is a parameter.
//!
//! The path goes in as it goes out, escaped once. What is signed escapes it once more, as every service but S3 wants it; the
//! crate does that.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sign_request};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::{HeaderName, HeaderValue};
use openclawmu_store::UnixMs;

/// The service's name in signatures, for Converse as for all of Bedrock's runtime.
pub(crate) const SERVICE: &str = "bedrock";

/// Who signs, for which region and service.
#[derive(Clone, Copy)]
pub(crate) struct Signer<'a> {
    /// The public part of the access key.
    pub(crate) access_key_id: &'a str,
    /// Its secret part.
    pub(crate) secret_access_key: &'a str,
    /// Present where the key is temporary.
    pub(crate) session_token: Option<&'a str>,
    /// Such as `eu-central-1`.
    pub(crate) region: &'a str,
    /// [`SERVICE`].
    pub(crate) service: &'a str,
}

/// What is signed, all of it as it goes over the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// Such as `POST`.
    pub(crate) method: &'a str,
    /// `https://host/path?query`; the path escaped once.
    pub(crate) url: &'a str,
    /// Headers that are signed besides `host`: only such as nobody on the way changes.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub(crate) body: &'a [u8],
}

/// Why a request can't be signed. It says nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request can't be signed")]
pub(crate) struct SignError;

impl Signer<'_> {
    /// The headers to send with the request: the time, the token where there is one, and the signature.
    ///
    /// # Errors
    /// When the URL is none, or a value is no header.
    pub(crate) fn sign(&self, parts: &Parts<'_>, at: UnixMs) -> Result<Vec<(HeaderName, HeaderValue)>, SignError> {
        let token = self.session_token.map(str::to_owned);
        let credentials = Credentials::new(self.access_key_id, self.secret_access_key, token, None, "openclawmu");
        let identity: Identity = credentials.into();
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).map_err(|_| SignError)?);
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(at)
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| SignError)?;
        let headers = parts.headers.iter().copied();
        let body = SignableBody::Bytes(parts.body);
        let request = SignableRequest::new(parts.method, parts.url, headers, body).map_err(|_| SignError)?;
        let signed = sign_request(request, &params.into()).map_err(|_| SignError)?;
        let (headers, _) = signed.into_parts().0.into_parts();
        let mut out = Vec::with_capacity(headers.len());
        for header in headers {
            let name = HeaderName::try_from(header.name()).map_err(|_| SignError)?;
            let mut value = HeaderValue::try_from(header.value()).map_err(|_| SignError)?;
            value.set_sensitive(header.sensitive() || name == http::header::AUTHORIZATION);
            out.push((name, value));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: Signer<'static> = Signer {
        access_key_id: "AKIDEXAMPLE",
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        session_token: None,
        region: "us-east-1",
        service: "service",
    };
    /// 2015-08-30T12:36:00Z
    const AT: UnixMs = UnixMs(1_440_938_160_000);

    fn authorization(signer: &Signer<'_>, parts: &Parts<'_>) -> String {
        let headers = signer.sign(parts, AT).unwrap();
        let (_, value) = headers.iter().find(|(name, _)| name == "authorization").unwrap();
        assert!(value.is_sensitive());
        value.to_str().unwrap().to_owned()
    }

    fn plain(method: &'static str, url: &'static str) -> Parts<'static> {
        Parts { method, url, headers: &[], body: b"" }
    }

    #[test]
    fn amazons_published_vectors_hold() {
        for (method, url, signature) in [
            (
                "GET",
                "https://example.amazonaws.com/",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                "https://example.amazonaws.com/",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "GET",
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature={signature}"
            );
            assert_eq!(authorization(&SUITE, &plain(method, url)), expected, "{method} {url}");
        }
    }

    #[test]
    fn headers_are_signed_with_their_values() {
        let headers = [("My-Header1", "VALUE1")];
        let parts = Parts { headers: &headers, ..plain("POST", "https://example.amazonaws.com/") };
        assert!(authorization(&SUITE, &parts).ends_with(
            "SignedHeaders=host;my-header1;x-amz-date, \
             Signature=cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"
        ));
    }

    #[test]
    fn a_temporary_key_sends_and_signs_its_token() {
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let signer = Signer { session_token: Some(token), ..SUITE };
        let parts = plain("GET", "https://example.amazonaws.com/");
        assert!(authorization(&signer, &parts).ends_with(
            "SignedHeaders=host;x-amz-date;x-amz-security-token, \
             Signature=07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
        ));
        let headers = signer.sign(&parts, AT).unwrap();
        assert!(
            headers
                .iter()
                .any(|(name, value)| name == "x-amz-security-token" && value == token && value.is_sensitive())
        );
        assert!(headers.iter().any(|(name, value)| name == "x-amz-date" && value == "20150830T123600Z"));
    }

    /// The signature by the letter of the documentation, with the path that is signed given.
    fn by_hand(signed_path: &str, body: &[u8]) -> String {
        use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
        use sha2::{Digest as _, Sha256};

        let hash = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let canonical = format!(
            "POST\n{signed_path}\n\ncontent-type:application/json\nhost:bedrock-runtime.us-east-1.amazonaws.com\n\
             x-amz-date:20150830T123600Z\n\ncontent-type;host;x-amz-date\n{}",
            hash(body)
        );
        let text = format!(
            "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/bedrock/aws4_request\n{}",
            hash(canonical.as_bytes())
        );
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(AT.0).unwrap());
        let key = generate_signing_key(SUITE.secret_access_key, at, "us-east-1", SERVICE);
        calculate_signature(key, text.as_bytes())
    }

    #[test]
    fn a_models_name_is_escaped_twice_where_it_is_signed() {
        let signer = Signer { service: SERVICE, ..SUITE };
        for (sent, signed) in [
            (
                "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
                "/model/anthropic.claude-3-haiku-20240307-v1%253A0/converse",
            ),
            (
                "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x/converse-stream",
                "/model/arn%253Aaws%253Abedrock%253Aus-east-1%253A1%253Ainference-profile%252Fus.x/converse-stream",
            ),
        ] {
            let url = format!("https://bedrock-runtime.us-east-1.amazonaws.com{sent}");
            let headers = [("content-type", "application/json")];
            let parts = Parts { method: "POST", url: &url, headers: &headers, body: b"{}" };
            let signature = by_hand(signed, b"{}");
            assert!(authorization(&signer, &parts).ends_with(&format!("Signature={signature}")), "{sent}");
        }
    }

    #[test]
    fn what_can_not_be_signed_is_an_error() {
        assert_eq!(SUITE.sign(&plain("GET", "no url at all"), AT).unwrap_err(), SignError);
        assert_eq!(SUITE.sign(&plain("GET", "https://x.test/"), UnixMs(-1)).unwrap_err(), SignError);
    }
}
