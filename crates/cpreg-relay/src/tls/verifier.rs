//! [`LocalQemuVerifier`]: check of the certificate that the QEMU of this host presents.
//!
//! The relay connects to an address of its own host, at which libvirt's QEMU listens with the
//! certificate of the same folder. The relay compares the certificate, not a name. The certificate
//! need not have the name by which the relay connects, and may have only a common name, which
//! GnuTLS accepts too.

use std::fmt;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Verifier that accepts one certificate: that of this host, signed by its authority.
pub(super) struct LocalQemuVerifier {
    roots: RootCertStore,
    own: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl LocalQemuVerifier {
    pub(super) fn new(
        roots: RootCertStore,
        own: CertificateDer<'static>,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            roots,
            own,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl fmt::Debug for LocalQemuVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalQemuVerifier").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for LocalQemuVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if **end_entity != *self.own {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
