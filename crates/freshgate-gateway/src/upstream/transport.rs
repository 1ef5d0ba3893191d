//! How an app is reached: by TCP, with TLS on it or without, or on a unix socket of this machine.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls_platform_verifier::Verifier;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, pem, pem::PemObject},
    },
};

const KEEPALIVE: TcpKeepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));

/// How an app is reached.
#[derive(Clone, Debug, Default)]
pub enum ReachedBy {
    /// By TCP, in the clear.
    #[default]
    Tcp,
    /// By TCP with TLS on it.
    Tls(AppTls),
    /// On a unix socket, whose path is the address.
    Unix,
}

/// By what an app's certificate is checked. Cheap to clone.
#[derive(Clone)]
pub struct AppTls {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for AppTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("AppTls").field(&self.name).finish()
    }
}

/// Why certificates of apps cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum AppTlsError {
    /// A file is not there, or may not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is none in the file, or one that is damaged.
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf, #[source] Option<pem::Error>),
    /// One of them is none that can vouch for others, or the system's own cannot be used.
    #[error("the certificates that are trusted cannot be used")]
    Unusable(#[source] rustls::Error),
    /// The name is none that a certificate can be for.
    #[error("{0:?} is no name that a certificate can be for")]
    Name(String),
}

impl AppTls {
    /// Expects a certificate for this name, by one of those that the system trusts, or, if there is a file, of those in it
    /// alone. Blocks while it reads.
    pub fn new(name: &str, ca_file: Option<&Path>) -> Result<Self, AppTlsError> {
        let unbracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let server_name =
            ServerName::try_from(unbracketed.to_owned()).map_err(|_| AppTlsError::Name(name.to_owned()))?;
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the versions that rustls takes for safe");
        let mut config = match ca_file {
            Some(file) => builder.with_root_certificates(roots(file)?).with_no_client_auth(),
            None => {
                let verifier = Verifier::new(provider).map_err(AppTlsError::Unusable)?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { name: server_name, config: Arc::new(config) })
    }
}

fn roots(file: &Path) -> Result<RootCertStore, AppTlsError> {
    let text = fs::read(file).map_err(|source| AppTlsError::Read { path: file.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate =
            certificate.map_err(|error| AppTlsError::NoCertificate(file.to_owned(), Some(error)))?;
        roots.add(certificate).map_err(AppTlsError::Unusable)?;
    }
    if roots.is_empty() { Err(AppTlsError::NoCertificate(file.to_owned(), None)) } else { Ok(roots) }
}

impl ReachedBy {
    /// A new connection. Takes as long as the app does; dropping the future closes it.
    pub(super) async fn connect(&self, address: &str) -> io::Result<AppTransport> {
        let tls = match self {
            Self::Unix => return Ok(AppTransport::Unix(UnixStream::connect(address).await?)),
            Self::Tcp => None,
            Self::Tls(tls) => Some(tls),
        };
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // A WebSocket may be silent for hours; its other end must not vanish unnoticed.
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        match tls {
            None => Ok(AppTransport::Tcp(stream)),
            Some(tls) => {
                let connector = TlsConnector::from(Arc::clone(&tls.config));
                let stream = connector.connect(tls.name.clone(), stream).await?;
                Ok(AppTransport::Tls(Box::new(stream)))
            }
        }
    }
}

/// A connection to an app.
#[derive(Debug)]
pub(super) enum AppTransport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

macro_rules! the_stream {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport.get_mut() {
            AppTransport::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            AppTransport::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
            AppTransport::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for AppTransport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        the_stream!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for AppTransport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        the_stream!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        the_stream!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        the_stream!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        the_stream!(self, stream => stream.poll_shutdown(context))
    }
}
