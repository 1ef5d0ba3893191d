//! TLS on the listener: the certificate, which is followed while the gate runs, and the handshake.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::digest;
use freshgate_oidc::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::MissedTickBehavior,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
    server::TlsStream,
};
use tokio_util::sync::CancellationToken;

/// How often a running gate looks whether the files have changed.
const LOOK: Duration = Duration::from_secs(5);

/// How long a client that is turned away may go on sending, unheard.
const LINGER: Duration = Duration::from_secs(2);

/// HTTP/2 as ALPN calls it (RFC 9113 section 3.2).
pub(super) const HTTP_2: &[u8] = b"h2";

/// What a browser gets that speaks plain http here.
const SPEAK_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 66\r\nConnection: close\r\n\r\n\
    This address speaks https. Write https:// instead of http:// here.";

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is not there, or may not be read, or is not text.
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
    /// There is none in the file, or one that is damaged or encrypted.
    #[error("{} holds no private key in PEM form that can be used without a password", .0.display())]
    NoKey(PathBuf, #[source] pem::Error),
    /// They cannot be used, or not with each other.
    #[error("the certificate and the key do not go together")]
    Mismatch(#[source] rustls::Error),
}

/// The certificate that the listener shows, and its key. Cheap to clone; all clones follow the same files.
#[derive(Clone)]
pub struct Tls {
    certificate: Arc<Certificate>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Tls").field(&self.certificate.path).finish()
    }
}

/// A certificate in files, and what of them is in use.
struct Certificate {
    path: PathBuf,
    key_path: PathBuf,
    in_use: RwLock<Arc<CertifiedKey>>,
    /// What was read last, well or not.
    seen: RwLock<Digest>,
}

type Digest = [u8; 32];

impl Tls {
    /// Reads a certificate, with those that vouch for it, and its key from PEM files. Blocks while it reads.
    ///
    /// # Errors
    /// If the files cannot be read, or do not hold a certificate and the key that belongs to it.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = Files::read(certificate, key)?;
        let certificate = Arc::new(Certificate {
            in_use: RwLock::new(Arc::new(files.certified_key(certificate, key)?)),
            seen: RwLock::new(files.digest()),
            path: certificate.to_owned(),
            key_path: key.to_owned(),
        });
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the versions that rustls takes for safe")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(InUse(Arc::clone(&certificate))));
        config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
        Ok(Self { certificate, config: Arc::new(config) })
    }

    /// Whether both follow the same files.
    pub(crate) fn follows_the_files_of(&self, other: &Self) -> bool {
        let files = |tls: &Self| (tls.certificate.path.clone(), tls.certificate.key_path.clone());
        files(self) == files(other)
    }

    /// The certificate that is in use, first, and those that vouch for it.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.certificate.in_use.read().unwrap_or_else(PoisonError::into_inner).cert.clone()
    }

    /// Takes up changes of the files until `stop`. Spawn it once.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let certificate = Arc::clone(&self.certificate);
            // A disk can be slow. If the runtime is stopping there is nothing left to look for.
            let _ = tokio::task::spawn_blocking(move || certificate.take_up_changes()).await;
        }
    }

    /// Looks at the files now.
    #[cfg(test)]
    pub(super) fn look(&self) {
        self.certificate.take_up_changes();
    }

    /// Shakes hands with a client. `None`: it spoke plain http, was told so, and is gone.
    ///
    /// Takes as long as the client does; dropping the future closes the connection.
    pub(super) async fn accept(&self, mut stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
            // A method. Every TLS client begins with a record of type 22 (RFC 8446 section 5.1).
            turn_away(&mut stream).await?;
            return Ok(None);
        }
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await.map(Some)
    }
}

/// Says that this is not the way. What the client still sends is taken from it: else the kernel would answer that with a
/// reset, and it might never see why.
async fn turn_away(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(SPEAK_HTTPS).await?;
    stream.shutdown().await?;
    let mut unheard = [0; 1024];
    let hear_out = async { while stream.read(&mut unheard).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(LINGER, hear_out).await;
    Ok(())
}

impl Certificate {
    /// Reads the files again, and uses what they hold if it is good.
    fn take_up_changes(&self) {
        let path = self.path.display();
        let read = Files::read(&self.path, &self.key_path);
        let digest = read.as_ref().map_or([0; 32], Files::digest);
        if std::mem::replace(&mut *self.seen.write().unwrap_or_else(PoisonError::into_inner), digest)
            == digest
        {
            return;
        }
        match read.and_then(|files| files.certified_key(&self.path, &self.key_path)) {
            Ok(key) => {
                *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                tracing::info!(certificate = %path, "took up a new certificate");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(certificate = %path, error, "the new certificate cannot be used; the one before stays in use");
            }
        }
    }
}

/// Shows what is in use at the moment of each handshake.
struct InUse(Arc<Certificate>);

impl fmt::Debug for InUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("InUse").field(&self.0.path).finish()
    }
}

impl ResolvesServerCert for InUse {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.in_use.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What the files held.
struct Files {
    certificate: String,
    key: Secret,
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let read = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|source| CertificateError::Read { path: path.to_owned(), source })
        };
        Ok(Self { certificate: read(certificate)?, key: Secret::new(read(key)?) })
    }

    fn digest(&self) -> Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        // The length keeps the two apart.
        context.update(&self.certificate.len().to_be_bytes());
        context.update(self.certificate.as_bytes());
        context.update(self.key.expose().as_bytes());
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn certified_key(&self, path: &Path, key_path: &Path) -> Result<CertifiedKey, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CertificateError::NoCertificate(path.to_owned(), Some(error)))?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate(path.to_owned(), None));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes())
            .map_err(|error| CertificateError::NoKey(key_path.to_owned(), error))?;
        CertifiedKey::from_der(chain, key, &default_provider()).map_err(CertificateError::Mismatch)
    }
}
