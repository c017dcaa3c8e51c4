//! Termination of the TLS of QEMU's migration channels, with the certificates of this host.
//!
//! | file | contents |
//! |---|---|
//! | `credentials` | [`TlsCredentials`]: a folder in the layout of QEMU's `tls-creds-x509` |
//! | `verifier` | check of the certificate that the local QEMU presents |
//! | `handshake` | both handshakes |
//! | `pump` | copying between the encrypted and the plain side of a connection |
//!
//! ```text
//! source's QEMU ──TLS──> pump ──socket pair──> session ──socket pair──> pump ──TLS──> QEMU here
//! ```
//!
//! QEMU begins TLS with the first byte of each channel, with the source as the client. The session
//! sees plain connections, so that every rule about the end of a connection also holds for TLS.

mod credentials;
mod handshake;
mod pump;
mod verifier;

pub use credentials::TlsCredentials;
