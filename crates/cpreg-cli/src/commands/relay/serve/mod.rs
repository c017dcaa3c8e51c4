//! `cpreg relay --serve`: many migrations at once, which a firewall rule redirects to the relay.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | start and end of the service |
//! | `migration` | one migration: its destination, its policy and its log line |
//! | `local_qemu` | the QEMU that listens at a migration's address, and its profile |
//! | `metrics` | the metrics file |

mod local_qemu;
mod metrics;
mod migration;

use std::time::Duration;

use cpreg_relay::serve::{PACKET_MARK, Server};
use cpreg_relay::{Address, CancelOnDrop, CancelToken, TlsCredentials};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;

use self::metrics::Metrics;
use self::migration::ServeHandler;
use super::config::{reject_severity, reject_stdin};
use super::log::Log;
use crate::arguments;
use crate::consents;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::printer::Printer;
use crate::tolerances;
use cpreg_report::value::ValueFormat;

/// Default port: the port before libvirt's first migration port.
const DEFAULT_PORT: u16 = 49151;
/// First descriptor that a service manager passes (`sd_listen_fds`).
const FIRST_PASSED_FD: i32 = 3;
/// Interval between two writes of changed metrics.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &arguments::Relay, printer: &Printer) -> Result<Status, Failure> {
    let user_cancel = CancelToken::new()
        .map_err(|error| Failure::new("cannot install a handler for Ctrl-C").with_cause(error))?;
    interrupt::on_interrupt({
        let user_cancel = user_cancel.clone();
        move || user_cancel.cancel()
    })?;
    let handler = prepare(arguments, &user_cancel, printer)?;
    let credentials = arguments
        .service
        .tls_creds
        .as_deref()
        .map(TlsCredentials::open);
    let credentials = credentials
        .transpose()
        .map_err(|error| Failure::new("cannot use --tls-creds").with_hinted_cause(error))?;
    if let Some(path) = &arguments.service.metrics {
        let created = Metrics::create(path);
        created.map_err(|error| Failure::io("write", path, error))?;
    }
    raise_descriptor_limit();
    let mut server = bind(arguments.listen.as_ref())?;
    if let Some(credentials) = credentials {
        server = server.with_tls(credentials);
    }
    if !Server::can_mark_packets() {
        printer.note(format_args!(
            "packets are not marked ({PACKET_MARK:#x}), which needs CAP_NET_ADMIN; a firewall \
             that redirects local connections must exempt them by the relay's user"
        ));
    }
    let log = Log::new(arguments.log_format);
    log.listening(server.address(), &"the original destinations");
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        printer.note(format_args!("cannot notify the service manager: {error}"));
    }
    let served = std::thread::scope(|scope| {
        let end = CancelToken::new()?;
        // The thread ends on every path, also on a panic.
        let _end = CancelOnDrop(&end);
        if let Some(path) = &arguments.service.metrics {
            let (handler, end) = (&handler, end.clone());
            scope.spawn(move || handler.metrics.write_changes(path, METRICS_INTERVAL, &end));
        }
        server
            .run(&handler, &user_cancel)
            .map_err(std::io::Error::other)
    });
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    served.map_err(|error| Failure::new("cannot serve migrations").with_cause(error))?;
    Ok(Status::Success)
}

/// Checks everything that can fail before the relay listens.
fn prepare<'a>(
    arguments: &'a arguments::Relay,
    cancel: &CancelToken,
    printer: &Printer,
) -> Result<ServeHandler<'a>, Failure> {
    let mut accelerator = None;
    if let Some(to) = &arguments.to {
        reject_stdin(to)?;
        let spec = destination::find(to, false, printer)?;
        spec.require_possible_verdict(&crate::command_line::typed_relay(arguments))?;
        accelerator = spec.accelerator();
    }
    destination::parse_loader(&arguments.loader)?;
    let tolerances = tolerances::read(&arguments.consents.tolerances, printer)?;
    let naming = ValueFormat::new(accelerator, arguments.show_secrets).naming;
    let consents = consents::read_for_any_vm(&arguments.consents, naming)?;
    reject_severity("--serve", &consents)?;
    Ok(ServeHandler::new(
        arguments,
        tolerances,
        consents,
        cancel.clone(),
    ))
}

/// Listens on the given address, on the socket that the service manager passed, or on the default
/// port of all addresses.
fn bind(listen: Option<&Address>) -> Result<Server, Failure> {
    let failure =
        |error: cpreg_relay::Error| Failure::new("cannot listen").with_hinted_cause(error);
    if let Some(address) = listen {
        return Server::bind(address).map_err(failure);
    }
    if has_passed_socket() {
        return Server::bind(&Address::Fd(FIRST_PASSED_FD)).map_err(failure);
    }
    let all = |host: &str| Address::Tcp {
        host: host.to_owned(),
        port: DEFAULT_PORT,
    };
    // A host without IPv6 has no address `::`.
    Server::bind(&all("::"))
        .or_else(|_| Server::bind(&all("0.0.0.0")))
        .map_err(failure)
}

/// Returns `true` if a service manager passed a socket to this process (`sd_listen_fds`).
fn has_passed_socket() -> bool {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    number("LISTEN_PID") == Some(std::process::id())
        && number("LISTEN_FDS").is_some_and(|count| count > 0)
}

/// Raises the limit of open descriptors to the maximum. A migration needs about ten for each
/// channel, and the usual limit is 1024.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Without the right to raise the limit, fewer connections are possible at the same time.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
