//! [`TlsCredentials`]: a folder with certificates in the layout of QEMU's `tls-creds-x509`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::handshake::{HANDSHAKE_TIMEOUT, handshake};
use super::pump;
use super::verifier::LocalQemuVerifier;
use crate::error::{Error, ErrorKind};
use crate::io::cancel::CancelToken;
use crate::io::connection::Connection;

const CA_CERT: &str = "ca-cert.pem";
const CA_CRL: &str = "ca-crl.pem";
const SERVER_CERT: &str = "server-cert.pem";
const SERVER_KEY: &str = "server-key.pem";
const CLIENT_CERT: &str = "client-cert.pem";
const CLIENT_KEY: &str = "client-key.pem";

/// Folder with the certificates of this host: libvirt's `/etc/pki/qemu`.
///
/// The files are read for each connection, so that renewed certificates are used at once.
pub struct TlsCredentials {
    folder: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl TlsCredentials {
    /// Opens the folder, and checks that its files can be used.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Connection`] if a file is missing or cannot be used.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let credentials = Self {
            folder: folder.to_owned(),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        };
        credentials.server_config()?;
        credentials.client_config()?;
        Ok(credentials)
    }

    /// Terminates the TLS of a connection from the source's QEMU. Returns the connection for the
    /// plain bytes.
    ///
    /// # Errors
    /// Returns an error if the handshake fails or takes too long.
    pub(crate) fn accept(
        &self,
        mut connection: Connection,
        cancel: &CancelToken,
    ) -> Result<Connection, Error> {
        let mut tls = ServerConnection::new(Arc::new(self.server_config()?)).map_err(Error::tls)?;
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        handshake(&mut tls, &mut connection, deadline, cancel)?;
        pump::start(tls.into(), connection)
    }

    /// Begins TLS on a connection to the destination's QEMU. Returns the connection for the plain
    /// bytes.
    ///
    /// # Errors
    /// Returns an error if the handshake fails or takes too long.
    pub(crate) fn connect(
        &self,
        mut connection: Connection,
        cancel: &CancelToken,
    ) -> Result<Connection, Error> {
        // The verifier compares the certificate, not the name. rustls sends no address as a name.
        let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
        let config = Arc::new(self.client_config()?);
        let mut tls = ClientConnection::new(config, name).map_err(Error::tls)?;
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        handshake(&mut tls, &mut connection, deadline, cancel)?;
        pump::start(tls.into(), connection)
    }

    /// Returns the configuration for connections from other hosts. The client must present a
    /// certificate of the same authority.
    fn server_config(&self) -> Result<ServerConfig, Error> {
        let roots = Arc::new(self.roots()?);
        let mut verifier =
            WebPkiClientVerifier::builder_with_provider(roots, self.provider.clone());
        let lists = self.revocation_lists()?;
        if !lists.is_empty() {
            verifier = verifier
                .with_crls(lists)
                .allow_unknown_revocation_status()
                .only_check_end_entity_revocation();
        }
        let verifier = verifier.build().map_err(|error| {
            self.unusable(CA_CERT, io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(Error::tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.certificates(SERVER_CERT)?, self.key(SERVER_KEY)?)
            .map_err(|error| self.unusable_pair(SERVER_CERT, error))?;
        // The source never reads from a multifd channel. Unread tickets would make its close reset
        // the connection.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Returns the configuration for connections to the QEMU of this host.
    fn client_config(&self) -> Result<ClientConfig, Error> {
        let own = self.certificates(SERVER_CERT)?.into_iter().next();
        let own = own.ok_or_else(|| self.unusable(SERVER_CERT, no_certificate()))?;
        let verifier = LocalQemuVerifier::new(self.roots()?, own, &self.provider);
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(Error::tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = if self.folder.join(CLIENT_CERT).exists() {
            builder
                .with_client_auth_cert(self.certificates(CLIENT_CERT)?, self.key(CLIENT_KEY)?)
                .map_err(|error| self.unusable_pair(CLIENT_CERT, error))?
        } else {
            builder.with_no_client_auth()
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(CA_CERT)? {
            roots.add(certificate).map_err(|error| {
                self.unusable(CA_CERT, io::Error::new(io::ErrorKind::InvalidData, error))
            })?;
        }
        Ok(roots)
    }

    fn certificates(&self, name: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates: Vec<_> = CertificateDer::pem_file_iter(self.folder.join(name))
            .and_then(Iterator::collect)
            .map_err(|error| self.unusable(name, pem_error(error)))?;
        if certificates.is_empty() {
            return Err(self.unusable(name, no_certificate()));
        }
        Ok(certificates)
    }

    fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        let path = self.folder.join(CA_CRL);
        if !path.exists() {
            return Ok(Vec::new());
        }
        CertificateRevocationListDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| self.unusable(CA_CRL, pem_error(error)))
    }

    fn key(&self, name: &str) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_file(self.folder.join(name))
            .map_err(|error| self.unusable(name, pem_error(error)))
    }

    fn unusable_pair(&self, name: &str, error: rustls::Error) -> Error {
        self.unusable(name, io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn unusable(&self, name: &str, error: io::Error) -> Error {
        let path = self.folder.join(name);
        Error::new(
            ErrorKind::Connection,
            format!("cannot use {}", path.display()),
        )
        .with_source(error)
        .with_hint(
            "name the folder that QEMU uses: ca-cert.pem, server-cert.pem, server-key.pem, \
             client-cert.pem and client-key.pem, readable for cpreg",
        )
    }
}

impl fmt::Debug for TlsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsCredentials").field(&self.folder).finish()
    }
}

fn pem_error(error: pem::Error) -> io::Error {
    match error {
        pem::Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

fn no_certificate() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it holds no certificate")
}
