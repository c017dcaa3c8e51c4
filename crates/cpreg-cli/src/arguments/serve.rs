//! Options of `cpreg relay --serve`.

use std::path::PathBuf;

use clap::Args;

/// Options of the service.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Relay all migrations to this host that a firewall rule redirects to --listen, many at once,
    /// until Ctrl-C.
    #[arg(long, conflicts_with_all = ["connect", "from", "source_qmp", "destination_qmp", "repeat", "format"])]
    pub(crate) serve: bool,
    /// End and begin the TLS of QEMU with the certificates in this folder, such as /etc/pki/qemu.
    #[arg(long, value_name = "DIR", requires = "serve")]
    pub(crate) tls_creds: Option<PathBuf>,
    /// Write metrics of --serve to this file, in the text format of Prometheus.
    #[arg(long, value_name = "FILE", requires = "serve")]
    pub(crate) metrics: Option<PathBuf>,
}
