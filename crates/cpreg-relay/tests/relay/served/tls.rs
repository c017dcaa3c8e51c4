//! TLS of QEMU's channels, with certificates that have only a common name, as GnuTLS accepts them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cpreg_relay::{ErrorKind, TlsCredentials};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned,
};

use super::harness::ServerHarness;
use super::migrations::{MULTIFD, read_to_end_or_reset, whole};
use crate::relayed::harness::{PolicyAction, assert_completed, convert_stream};

type TlsStream<C, S> = StreamOwned<C, S>;

/// Writes an authority and two certificates without a subject alternative name.
fn write_certificates(folder: &Path) {
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = params("authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&ca_key).unwrap();
    fs::write(folder.join("ca-cert.pem"), certificate.pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    for end in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let certificate = params("host-b").signed_by(&key, &issuer).unwrap();
        let path = |kind| folder.join(format!("{end}-{kind}.pem"));
        fs::write(path("cert"), certificate.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
    }
}

fn certificate(folder: &Path, end: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(format!("{end}-cert.pem"))).unwrap()
}

fn key(folder: &Path, end: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(folder.join(format!("{end}-key.pem"))).unwrap()
}

/// Source that, like GnuTLS, accepts the certificate by its common name.
#[derive(Debug)]
struct ExpectedCertificate(CertificateDer<'static>);

impl ServerCertVerifier for ExpectedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        assert_eq!(*end_entity, self.0);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Begins TLS like the source's QEMU.
fn encrypt_source(
    socket: TcpStream,
    expected: &Path,
    own: Option<&Path>,
) -> TlsStream<ClientConnection, TcpStream> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ExpectedCertificate(certificate(
            expected, "server",
        ))));
    let config = match own {
        Some(folder) => builder
            .with_client_auth_cert(vec![certificate(folder, "client")], key(folder, "client"))
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("host-b").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(tls, socket)
}

/// Ends TLS like the destination's QEMU, which verifies the relay's certificate. The handshake is
/// complete, because the relay connects one channel after the other.
fn decrypt_destination(socket: TcpStream, folder: &Path) -> TlsStream<ServerConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(folder, "ca")).unwrap();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate(folder, "server")], key(folder, "server"))
        .unwrap();
    let tls = ServerConnection::new(Arc::new(config)).unwrap();
    let mut stream = StreamOwned::new(tls, socket);
    // A relay that refuses the certificate closes.
    let _ = stream.conn.complete_io(&mut stream.sock);
    stream
}

fn finish<C, S>(stream: &mut TlsStream<C, TcpStream>)
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<S>>,
    S: rustls::SideData,
{
    stream.conn.send_close_notify();
    stream.flush().unwrap();
}

#[test]
fn a_migration_over_tls_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_certificates(folder);
    let harness = ServerHarness::new(1, PolicyAction::Shorten)
        .with_tls(TlsCredentials::open(folder).unwrap());
    harness.run(|harness| {
        let whole = whole(2000);
        let mut main = encrypt_source(harness.source(1), folder, Some(folder));
        main.write_all(&whole[..100]).unwrap();
        let mut destination = decrypt_destination(harness.destination(1), folder);
        let mut begin = [0; 4];
        destination.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"QEVM");

        // A multifd channel, and one that sends only its handshake, like postcopy-preempt.
        let mut multifd = encrypt_source(harness.source(1), folder, Some(folder));
        multifd.write_all(MULTIFD).unwrap();
        let mut multifd_destination = decrypt_destination(harness.destination(1), folder);
        let pages: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut silent = encrypt_source(harness.source(1), folder, Some(folder));
        silent.conn.complete_io(&mut silent.sock).unwrap();
        let mut silent_destination = decrypt_destination(harness.destination(1), folder);
        thread::scope(|scope| {
            scope.spawn(|| {
                multifd.write_all(&pages).unwrap();
                finish(&mut multifd);
                drop(multifd);
            });
            let mut arrived = Vec::new();
            multifd_destination.read_to_end(&mut arrived).unwrap();
            assert!(arrived == [MULTIFD, &pages].concat());
            finish(&mut multifd_destination);
        });
        silent_destination.write_all(b"page request").unwrap();
        let mut request = [0; 12];
        silent.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"page request");
        // QEMU before 9.2 closes without `close_notify`.
        silent.sock.shutdown(std::net::Shutdown::Both).unwrap();
        let mut rest = Vec::new();
        silent_destination.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
        finish(&mut silent_destination);
        drop(silent_destination);

        main.write_all(&whole[100..]).unwrap();
        finish(&mut main);
        let mut arrived = begin.to_vec();
        destination.read_to_end(&mut arrived).unwrap();
        assert!(arrived == convert_stream(&whole, PolicyAction::Shorten));
        finish(&mut destination);
        drop(destination);
        assert_eq!(main.read(&mut [0; 8]).unwrap(), 0);
        let results = harness.handler.wait_for_results(1);
        assert_completed(&results[0].1);
        assert_eq!(results[0].1.other_channel_bytes, 8 + 1_200_000 + 12);
    });
}

/// QEMU 9.0 and later send the first byte of the main channel after the TLS of all multifd channels
/// is established, and a busy source begins it late.
#[test]
fn late_channels_are_connected_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_certificates(folder);
    let harness = ServerHarness::new(1, PolicyAction::Keep)
        .with_timeouts(|timeouts| timeouts.client_first = Duration::from_millis(20))
        .with_tls(TlsCredentials::open(folder).unwrap());
    harness.run(|harness| {
        let mut main = encrypt_source(harness.source(1), folder, Some(folder));
        main.conn.complete_io(&mut main.sock).unwrap();
        let multifd = harness.source(1);
        // Several times the time after which the relay would listen to a server without TLS.
        thread::sleep(Duration::from_millis(200));
        harness.assert_no_further_connection(1);
        let mut multifd = encrypt_source(multifd, folder, Some(folder));
        multifd.write_all(MULTIFD).unwrap();
        main.write_all(&whole(4)).unwrap();
        let mut destination = decrypt_destination(harness.destination(1), folder);
        let mut multifd_destination = decrypt_destination(harness.destination(1), folder);
        let mut first = [0; 4];
        destination.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"QEVM");
        let mut first = [0; 8];
        multifd_destination.read_exact(&mut first).unwrap();
        assert_eq!(first, MULTIFD);
        harness.assert_no_further_connection(1);
    });
}

#[test]
fn a_source_without_a_certificate_of_the_authority_is_refused() {
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write_certificates(folder.path());
    write_certificates(other.path());
    let harness = ServerHarness::new(1, PolicyAction::Keep)
        .with_tls(TlsCredentials::open(folder.path()).unwrap());
    harness.run(|harness| {
        for (count, own) in [(1, None), (2, Some(other.path()))] {
            let mut main = encrypt_source(harness.source(1), folder.path(), own);
            // TLS 1.3 tells the client of the refusal after its handshake.
            let _ = main.write_all(&whole(4));
            let _ = main.read(&mut [0; 8]).unwrap_err();
            harness.handler.wait_for("rejected tls: TLS failed", count);
        }
        // An unfinished handshake.
        let mut unfinished = harness.source(1);
        unfinished.write_all(b"\x16\x03\x01\x02\0\x01").unwrap();
        unfinished.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = read_to_end_or_reset(&unfinished);
        harness.handler.wait_for("rejected tls: TLS failed", 3);
    });
}

/// The relay sends the VM to no process but the QEMU with the certificate of this host.
#[test]
fn a_destination_with_another_certificate_receives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_certificates(folder);
    // The client's certificate has the same name and authority.
    let other = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("ca-cert", "ca-cert"),
        ("client-cert", "server-cert"),
        ("client-key", "server-key"),
    ] {
        let path = |folder: &Path, name: &str| folder.join(format!("{name}.pem"));
        fs::copy(path(folder, from), path(other.path(), to)).unwrap();
    }
    let harness =
        ServerHarness::new(1, PolicyAction::Keep).with_tls(TlsCredentials::open(folder).unwrap());
    harness.run(|harness| {
        let mut main = encrypt_source(harness.source(1), folder, Some(folder));
        main.write_all(&whole(4)).unwrap();
        let mut destination = decrypt_destination(harness.destination(1), other.path());
        let mut received = Vec::new();
        let _ = destination.read_to_end(&mut received).unwrap_err();
        assert!(received.is_empty());
        let _ = main.read(&mut [0; 8]);
        let errors = harness.handler.wait_for_errors(1);
        assert!(errors[0].contains("TLS failed"), "{errors:?}");
    });
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path());
    for name in [
        "ca-cert.pem",
        "server-cert.pem",
        "server-key.pem",
        "client-key.pem",
    ] {
        let path = folder.path().join(name);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = TlsCredentials::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection);
        assert!(error.to_string().contains(name), "{error}");
        fs::write(&path, "no PEM").unwrap();
        let error = TlsCredentials::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        fs::write(&path, content).unwrap();
    }
    TlsCredentials::open(folder.path()).unwrap();
}
