//! How requests reach a provider: one trait, one implementation over reqwest.

use std::{error::Error, io, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

/// A request to a provider.
pub struct ProviderRequest {
    /// GET or POST.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Header fields; those that carry a credential are marked sensitive.
    pub headers: HeaderMap,
    /// The form, for POST.
    pub body: Bytes,
    /// The largest answer that is read, in bytes.
    pub answer_limit: usize,
    /// What it goes over.
    pub connection: Connection,
}

/// What a request goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// One that earlier requests went over, if there is one. The provider may close it at the very moment, and then nobody
    /// knows whether the request arrived.
    Kept,
    /// One of its own, for what may be sent only once. Where it cannot be made, nothing was sent.
    New,
}

/// A provider's answer, whole.
pub struct ProviderAnswer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl ProviderAnswer {
    /// A header field as text, if it is there and is text.
    pub fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer. What matters is whether the provider may have acted on the request.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// It never left: no address, no connection, no TLS.
    #[error("cannot connect to {host}")]
    NotSent {
        /// The provider's host.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It may have arrived and its answer is lost: timeout, connection cut, answer too large.
    #[error("the answer of {host} was lost")]
    AnswerLost {
        /// The provider's host.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What kept a connection from coming about, as far as it can be told: for whoever must mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionTrouble {
    /// Nobody listens there.
    Refused,
    /// No network leads there.
    NoRoute,
    /// Nothing came back in time.
    TimedOut,
    /// The certificate was issued by nobody that is trusted here.
    UntrustedCertificate,
    /// The certificate is another host's.
    CertificateOfAnotherHost,
    /// The certificate is over.
    CertificateExpired,
    /// The certificate is good later only, or a clock is wrong.
    CertificateNotYetValid,
    /// The certificate does not pass for another reason.
    BadCertificate,
    /// What answers does not speak TLS: most likely plain http.
    NotTls,
    /// The other side ended the handshake, or the connection.
    Closed,
    /// None of these.
    Other,
}

impl TransportError {
    /// What kept the connection from coming about.
    pub fn trouble(&self) -> ConnectionTrouble {
        let mut next: Option<&(dyn Error + 'static)> = Some(self);
        let mut trouble = ConnectionTrouble::Other;
        while let Some(error) = next {
            // The innermost that says something says the most.
            trouble = ConnectionTrouble::of(error).unwrap_or(trouble);
            // An `io::Error` made of another error is not that one's parent: it passes on its source.
            let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match within {
                Some(within) => Some(within as &(dyn Error + 'static)),
                None => error.source(),
            };
        }
        trouble
    }
}

impl ConnectionTrouble {
    fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(Self::of_tls(error));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => Some(Self::Refused),
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(Self::NoRoute),
                io::ErrorKind::TimedOut => Some(Self::TimedOut),
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                    Some(Self::Closed)
                }
                _ => None,
            };
        }
        error.downcast_ref::<reqwest::Error>().filter(|error| error.is_timeout()).map(|_| Self::TimedOut)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError, InvalidMessage};
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::UnknownIssuer => Self::UntrustedCertificate,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::CertificateOfAnotherHost
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::CertificateExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::CertificateNotYetValid
                }
                _ => Self::BadCertificate,
            },
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            rustls::Error::AlertReceived(_) => Self::Closed,
            _ => Self::Other,
        }
    }
}

/// Carries requests to providers. Dropping the future abandons the request, which the provider may still act on.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and reads the whole answer. Redirects are not followed.
    async fn send(&self, request: ProviderRequest) -> Result<ProviderAnswer, TransportError>;
}

/// How the [`HttpTransport`] connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// Connecting and TLS may take this long.
    pub connect_timeout: Duration,
    /// A whole request may take this long.
    pub timeout: Duration,
    /// Certificates trusted besides the system's, in PEM.
    pub extra_roots: Vec<Vec<u8>>,
    /// Past any proxy that the environment names (`HTTPS_PROXY` and others).
    pub past_proxies: bool,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
            extra_roots: Vec::new(),
            past_proxies: false,
        }
    }
}

/// How long an idle connection is kept. Node.js and uvicorn close theirs after five seconds: a request that goes out at that
/// very moment is one whose answer is lost.
const KEPT_FOR: Duration = Duration::from_secs(4);

/// The transport over the network: HTTP/1.1, TLS by rustls, connections that are kept for the next request.
pub struct HttpTransport {
    kept: reqwest::Client,
    new: reqwest::Client,
}

impl HttpTransport {
    /// Fails where a certificate of `options` is none, or the system's cannot be read.
    pub fn new(options: &TransportOptions) -> Result<Self, reqwest::Error> {
        let mut roots = Vec::new();
        for pem in &options.extra_roots {
            roots.extend(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        let client = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("freshgate/", env!("CARGO_PKG_VERSION")))
                // A redirect would carry the client's credentials to where nobody meant them.
                .redirect(reqwest::redirect::Policy::none())
                // Whether a token request may be repeated is the engine's to decide.
                .retry(reqwest::retry::never())
                .connect_timeout(options.connect_timeout)
                .timeout(options.timeout)
                .tls_info(true);
            let builder = if options.past_proxies { builder.no_proxy() } else { builder };
            roots.iter().cloned().fold(builder, reqwest::ClientBuilder::add_root_certificate)
        };
        Ok(Self {
            kept: client().pool_idle_timeout(KEPT_FOR).build()?,
            new: client().pool_max_idle_per_host(0).build()?,
        })
    }
}

impl HttpTransport {
    /// The certificate that whoever answers at this address shows, in DER: `None` if there is none, or no answer. It has
    /// passed every check of TLS. For who wants to know how long it is good.
    pub async fn certificate(&self, url: &Url) -> Option<Vec<u8>> {
        let response = self.kept.get(url.clone()).send().await.ok()?;
        Some(response.extensions().get::<reqwest::tls::TlsInfo>()?.peer_certificate()?.to_vec())
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: ProviderRequest) -> Result<ProviderAnswer, TransportError> {
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let answer_limit = request.answer_limit;
        let client = match request.connection {
            Connection::Kept => &self.kept,
            Connection::New => &self.new,
        };
        let sent = client
            .request(request.method, request.url)
            .headers(request.headers)
            .body(request.body)
            .send()
            .await;
        let mut response = match sent {
            Ok(response) => response,
            // `without_url`: an error is logged, and an address may carry a credential.
            Err(error) if error.is_connect() || error.is_builder() => {
                return Err(TransportError::NotSent { host, source: Box::new(error.without_url()) });
            }
            Err(error) => {
                return Err(TransportError::AnswerLost { host, source: Box::new(error.without_url()) });
            }
        };
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= answer_limit => body.extend_from_slice(&chunk),
                Ok(Some(_)) => {
                    let source =
                        format!("it is larger than {answer_limit} bytes, the most that is read").into();
                    return Err(TransportError::AnswerLost { host, source });
                }
                Ok(None) => return Ok(ProviderAnswer { status, headers, body: body.into() }),
                Err(error) => {
                    return Err(TransportError::AnswerLost { host, source: Box::new(error.without_url()) });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
