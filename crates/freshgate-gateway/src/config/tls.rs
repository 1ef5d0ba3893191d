//! The certificate that the listener shows.

use std::error::Error as _;

use super::{
    report::Report,
    setting::{Given, Sources, TLS_CERTIFICATE, TLS_KEY},
    streamlit_options::StreamlitOptions,
};
use crate::listener::{CertificateError, Tls};

/// A certificate, and what says so.
pub(super) struct GivenTls {
    pub(super) tls: Tls,
    pub(super) given: Given,
}

/// Reads the certificate: as freshgate was told itself, else as Streamlit was.
pub(super) fn read(
    sources: &Sources<'_>,
    streamlit: &StreamlitOptions,
    report: &mut Report,
) -> Option<GivenTls> {
    let ours = (sources.find(TLS_CERTIFICATE, report), sources.find(TLS_KEY, report));
    let (certificate, key) = match ours {
        (None, None) => (streamlit.certificate.clone(), streamlit.certificate_key.clone()),
        ours => ours,
    };
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return None,
        (Some(alone), None) => {
            return alone.refuse(
                "a certificate is of no use without its key",
                "name the file with its private key too: `--tls-key PATH`",
                report,
            );
        }
        (None, Some(alone)) => {
            return alone.refuse(
                "a key is of no use without its certificate",
                "name the file with the certificate too: `--tls-certificate PATH`",
                report,
            );
        }
    };
    // Both, so that what is wrong with either shows.
    let (path, key_path) = (certificate.path(report), key.path(report));
    let (path, key_path) = (path?, key_path?);
    match Tls::load(&path, &key_path) {
        Ok(tls) => Some(GivenTls { tls, given: certificate }),
        Err(error) => {
            let about_key = match &error {
                CertificateError::Read { path, .. } => *path == key_path,
                CertificateError::NoKey(..) => true,
                _ => false,
            };
            let (label, help) = match &error {
                CertificateError::Read { .. } => ("cannot be read", "name a file that freshgate may read"),
                CertificateError::NoCertificate(..) => (
                    "holds no certificate",
                    "name a file in PEM form: the certificate, then those that vouch for it",
                ),
                CertificateError::NoKey(..) => {
                    ("holds no private key", "name a file in PEM form, not protected by a password")
                }
                CertificateError::Mismatch(_) => (
                    "is not the certificate of the key",
                    "name the certificate and the key that were made together",
                ),
            };
            let mut problem = if about_key { &key } else { &certificate }.unusable(label);
            if let (CertificateError::Mismatch(_), false) = (&error, about_key) {
                problem = problem.beside(&key.item.place, "the key");
            }
            if let Some(cause) = error.source() {
                problem = problem.note(cause.to_string());
            }
            report.add(problem.help(help));
            None
        }
    }
}
