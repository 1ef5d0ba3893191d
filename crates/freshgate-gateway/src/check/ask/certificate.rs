//! What a certificate says of itself, as rustls reads it.

use std::time::Duration;

use freshgate_oidc::Timestamp;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use url::Url;
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::{check::facts::CertificateFacts, words::printable};

/// As many names are told at most.
const NAMES: usize = 10;

/// Of a chain, of which the first is the one for the host of this address.
pub(in crate::check) fn certificate(chain: &[CertificateDer<'_>], url: &Url) -> CertificateFacts {
    read(chain, url).unwrap_or_else(|error| CertificateFacts::Unreadable(printable(&error.to_string())))
}

fn read(chain: &[CertificateDer<'_>], url: &Url) -> Result<CertificateFacts, Error> {
    let parsed = chain.iter().map(EndEntityCert::try_from).collect::<Result<Vec<_>, _>>()?;
    let (mut from, mut to) = (Timestamp::from_unix_seconds(i64::MIN), Timestamp::from_unix_seconds(i64::MAX));
    for certificate in &parsed {
        let (its_from, its_to) = good(certificate)?;
        (from, to) = (from.max(its_from), to.min(its_to));
    }
    let first = parsed.first().ok_or(Error::BadDer)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_for_host =
        ServerName::try_from(host).is_ok_and(|host| first.verify_is_valid_for_subject_name(&host).is_ok());
    let names = first.valid_dns_names().take(NAMES).map(printable).collect();
    Ok(CertificateFacts::Read { from, to, is_for_host, names })
}

/// From when to when it is good. It tells when it is held against a time at which it is not.
fn good(certificate: &EndEntityCert<'_>) -> Result<(Timestamp, Timestamp), Error> {
    let at = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        certificate
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[],
                &[],
                time,
                KeyUsage::server_auth(),
                None,
                None,
            )
            .err()
            .unwrap_or(Error::BadDerTime)
    };
    let timestamp =
        |time: UnixTime| Timestamp::from_unix_seconds(time.as_secs().try_into().unwrap_or(i64::MAX));
    match (at(0), at(u64::MAX)) {
        (Error::CertNotValidYet { not_before, .. }, Error::CertExpired { not_after, .. }) => {
            Ok((timestamp(not_before), timestamp(not_after)))
        }
        (error, Error::CertExpired { .. }) | (_, error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(names: &[&str], from: i32, to: i32) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn certificates_tell_when_they_are_good_and_for_whom() {
        let year =
            |year: i64| Timestamp::from_unix_seconds(date_time_ymd(year as i32, 1, 1).unix_timestamp());
        let url = |host: &str| Url::parse(&format!("https://{host}/")).unwrap();
        let own = made(&["app.example.com", "*.example.org", "127.0.0.1", "::1"], 2020, 2030);
        for (host, is_for_host) in [
            ("app.example.com", true),
            ("APP.example.com:8443", true),
            ("a.example.org", true),
            ("127.0.0.1", true),
            ("[::1]:1", true),
            ("example.com", false),
            ("b.a.example.org", false),
            ("127.0.0.2", false),
        ] {
            let names = vec!["app.example.com".to_owned(), "*.example.org".to_owned()];
            let expected = CertificateFacts::Read { from: year(2020), to: year(2030), is_for_host, names };
            assert_eq!(certificate(std::slice::from_ref(&own), &url(host)), expected, "{host}");
        }
        // All of them must be good at the same time.
        let chain = [own, made(&["an authority"], 2021, 2025)];
        match certificate(&chain, &url("app.example.com")) {
            CertificateFacts::Read { from, to, .. } => assert_eq!((from, to), (year(2021), year(2025))),
            unreadable => panic!("{unreadable:?}"),
        }
        for broken in [&[][..], &[CertificateDer::from(b"0".to_vec())]] {
            let read = certificate(broken, &url("app.example.com"));
            assert!(matches!(read, CertificateFacts::Unreadable(_)), "{read:?}");
        }
    }
}
