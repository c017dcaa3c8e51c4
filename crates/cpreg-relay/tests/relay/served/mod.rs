//! A server of many migrations between fake QEMUs, without a firewall.
//!
//! | module | contents |
//! |---|---|
//! | [`harness`] | a server, its clients and destinations |
//! | [`migrations`] | migrations at the same time, further channels, refusals |
//! | [`strangers`] | connections that are not migrations: NBD, port scans, garbage, silence |
//! | [`tls`] | QEMU's TLS, with certificates that have only a common name |

mod harness;
mod migrations;
mod strangers;
mod tls;
