//! [`ServeHandler`]: handles one migration of several: its destination, its policy and its log
//! line.
//!
//! If the destination's QEMU cannot be queried, the VM is forwarded unchanged: the migration then
//! has the same result as without a relay, and the log names the reason.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use cpreg::plan::Consents;
use cpreg::tolerance::Tolerances;
use cpreg_relay::check_policy::CheckPolicy;
use cpreg_relay::serve::{IncomingMigration, MigrationHandler, ServerEvent};
use cpreg_relay::{
    CancelToken, Channel, Decision, Event, MigrationOutcome, MigrationPolicy, MigrationResult,
    Observer, VmLocation,
};
use cpreg_report::check::CheckFindings;
use cpreg_report::check::model::{Blocker, CheckReport};
use cpreg_report::names::{RelayOutcome, Verdict};
use cpreg_report::printer::Verbosity;
use cpreg_report::relay::event::EventDetails;
use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Edit, Stream};

use super::super::config::{RelayConfig, RelayDestination};
use super::super::log::{Log, outcome_name};
use super::super::planner::{MigrationPlanner, describe_rejection};
use super::local_qemu::{LocalQemu, ProfileCache};
use super::metrics::Metrics;
use crate::arguments;
use crate::destination::{self, DestinationSpec};
use crate::failure::Failure;
use crate::input::Input;
use crate::journal::Journal;
use crate::printer::Printer;

/// Reason to forward TLS unparsed.
const NO_CREDENTIALS: &str = "not checked: the connection uses TLS, and the relay has no \
                              certificates; start it with --tls-creds";
/// Maximum number of blockers that a log line names.
const MAX_LOGGED_BLOCKERS: usize = 8;

/// Handler of all migrations of the service.
pub(super) struct ServeHandler<'a> {
    arguments: &'a arguments::Relay,
    tolerances: Tolerances,
    consents: Consents,
    cancel: CancelToken,
    profiles: ProfileCache,
    pub(super) metrics: Metrics,
    /// Journal for the ends of migrations; `None` if standard error does not lead to it.
    journal: Option<Journal>,
    /// Number of migrations so far.
    count: AtomicUsize,
    /// `true` if the log has a line about a connection that was not redirected. Later ones are not
    /// logged.
    has_logged_direct_connection: AtomicBool,
}

/// Result of one migration, for the log.
struct Summary {
    verdict: Option<Verdict>,
    reasons: Vec<String>,
    outcome: RelayOutcome,
    location: VmLocation,
    bytes: u64,
    other_channel_bytes: u64,
}

impl<'a> ServeHandler<'a> {
    pub(super) fn new(
        arguments: &'a arguments::Relay,
        tolerances: Tolerances,
        consents: Consents,
        cancel: CancelToken,
    ) -> Self {
        Self {
            arguments,
            tolerances,
            consents,
            cancel,
            profiles: ProfileCache::default(),
            metrics: Metrics::default(),
            journal: Journal::open(),
            count: AtomicUsize::new(0),
            has_logged_direct_connection: AtomicBool::new(false),
        }
    }

    /// Returns the destination of a migration.
    fn destination(
        &self,
        qemu: Result<&LocalQemu, Failure>,
    ) -> Result<RelayDestination<'a>, Failure> {
        let loader = &self.arguments.loader;
        let spec = if let Some(to) = &self.arguments.to {
            destination::find(to, false, &Printer::default())?
        } else {
            let qemu = qemu?;
            if qemu.uses_kvm {
                destination::find(Path::new("kvm"), false, &Printer::default())?
            } else {
                let profile = self.profiles.profile(qemu)?;
                let name = Path::new("the QEMU that listens at the address");
                DestinationSpec::File(Box::new(Input::from_probe(name, profile)))
            }
        };
        Ok(match spec.resolve_fixed(loader)? {
            Some(resolved) => RelayDestination::Fixed(Box::new(resolved)),
            None => RelayDestination::PerGuest(spec),
        })
    }

    /// Runs a migration with the policy of `check`.
    fn run_checked(
        &self,
        migration: IncomingMigration,
        destination: RelayDestination<'_>,
        observer: &ServeObserver<'_>,
    ) -> Summary {
        let config = RelayConfig {
            arguments: self.arguments,
            tolerances: self.tolerances.clone(),
            consents: self.consents.clone(),
            destination,
            preflight: None,
            is_rehearsed: false,
        };
        let resolved = OnceCell::new();
        let planner = MigrationPlanner::new(&config, None, &resolved);
        let mut policy = CheckPolicy::new(config.policy_config(), planner);
        let result = migration.run(&mut policy, observer, &self.cancel);
        let mut summary = Summary::new(result);
        let rejections = policy.setup_rejections().iter();
        let rejections = rejections.map(|reason| describe_rejection(reason, true));
        summary.reasons.splice(0..0, rejections);
        let (planner, failure) = policy.into_parts();
        if let Some(failure) = failure {
            summary.reasons.push(failure_line(&failure));
        }
        if let Some(findings) = planner.into_findings() {
            summary.verdict = Some(findings.verdict().into());
            summary.reasons.extend(describe_blockers(&findings));
        }
        summary
    }

    /// Runs a migration unchanged, because its destination is not known.
    fn run_unchecked(
        &self,
        migration: IncomingMigration,
        failure: &Failure,
        observer: &ServeObserver<'_>,
    ) -> Summary {
        let result = migration.run(&mut UncheckedPolicy, observer, &self.cancel);
        let mut summary = Summary::new(result);
        let reason = format!(
            "not checked, forwarded unchanged: {}",
            failure_line(failure)
        );
        summary.reasons.insert(0, reason);
        summary
    }

    fn is_verbose(&self) -> bool {
        self.arguments.verbosity.verbosity() == Verbosity::Verbose
    }
}

impl MigrationHandler for ServeHandler<'_> {
    fn handle(&self, migration: IncomingMigration) {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.metrics.update(|numbers| numbers.active += 1);
        let log = Log::for_migration(self.arguments.log_format, number);
        let observer = ServeObserver {
            log: self.is_verbose().then_some(&log),
            added_downtime_us: AtomicU64::new(u64::MAX),
        };
        let start = Instant::now();
        let address = migration.original_destination();
        let source = migration.peer().map(|peer| {
            // A listener for both versions of IP has IPv4 clients too.
            SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string()
        });
        let is_recovery = migration.channel() == Channel::PostcopyRecovery;
        let qemu = LocalQemu::find(address);
        let vm = qemu.as_ref().ok().and_then(LocalQemu::vm_name);
        let summary = if is_recovery {
            // An earlier connection has carried the device state, and no policy decides.
            Summary::new(migration.run(&mut UncheckedPolicy, &observer, &self.cancel))
        } else {
            match self.destination(qemu.as_ref().map_err(copy_failure)) {
                Ok(destination) => self.run_checked(migration, destination, &observer),
                Err(failure) => self.run_unchecked(migration, &failure, &observer),
            }
        };
        let added_downtime = observer.added_downtime_us.load(Ordering::Relaxed);
        self.metrics.update(|numbers| {
            numbers.active -= 1;
            let outcome = summary.outcome.to_string();
            *numbers.migrations.entry(outcome).or_default() += 1;
            if let Some(verdict) = &summary.verdict {
                *numbers.verdicts.entry(verdict.to_string()).or_default() += 1;
            }
            numbers.bytes += summary.bytes + summary.other_channel_bytes;
            if added_downtime != u64::MAX {
                numbers.downtime.0 += 1;
                numbers.downtime.1 += added_downtime;
            }
        });
        summary.log(
            (&log, self.journal.as_ref()),
            vm,
            source,
            &address.to_string(),
            start.elapsed().as_millis(),
        );
    }

    fn on_event(&self, event: &ServerEvent<'_>) {
        let log = Log::new(self.arguments.log_format);
        match event {
            ServerEvent::Forwarding {
                destination,
                channel,
            } => {
                self.metrics.update(|numbers| numbers.forwarded += 1);
                let reason = (*channel == Channel::Tls).then_some(NO_CREDENTIALS);
                let reason_text = reason.map(|reason| format!(": {reason}"));
                log.line(
                    format_args!(
                        "forwarding a connection to {destination} unparsed{}",
                        reason_text.unwrap_or_default()
                    ),
                    EventDetails::Forwarding {
                        destination: destination.to_string(),
                        reason: reason.map(str::to_owned),
                    },
                );
            }
            ServerEvent::Rejected {
                destination,
                channel,
                reason,
            } => {
                self.metrics.update(|numbers| numbers.rejected += 1);
                let is_logged = match (destination, channel) {
                    (None, _) => !self
                        .has_logged_direct_connection
                        .swap(true, Ordering::Relaxed),
                    // Port scans would fill the log.
                    (Some(_), Channel::Other) => false,
                    (Some(_), _) => true,
                };
                if is_logged || self.is_verbose() {
                    let place = destination
                        .map(|it| format!(" to {it}"))
                        .unwrap_or_default();
                    log.line(
                        format_args!("connection{place} rejected ({}): {reason}", channel.name()),
                        EventDetails::ConnectionRejected {
                            channel: channel.name().to_owned(),
                            reason: (*reason).to_owned(),
                        },
                    );
                }
            }
            _ => {}
        }
    }
}

impl Summary {
    fn new(result: Result<MigrationResult, cpreg_relay::Error>) -> Self {
        match result {
            Ok(result) => Self {
                verdict: None,
                reasons: match &result.outcome {
                    MigrationOutcome::Failed(error) => vec![error.to_string_with_hint()],
                    _ => Vec::new(),
                },
                outcome: outcome_name(&result.outcome),
                location: result.vm_location,
                bytes: result.main_channel_bytes,
                other_channel_bytes: result.other_channel_bytes,
            },
            Err(error) => Self {
                verdict: None,
                reasons: vec![error.to_string_with_hint()],
                outcome: RelayOutcome::FAILED,
                location: VmLocation::SourceRunning,
                bytes: 0,
                other_channel_bytes: 0,
            },
        }
    }

    /// Logs the migration in one line.
    fn log(
        self,
        (log, journal): (&Log, Option<&Journal>),
        vm: Option<String>,
        source: Option<String>,
        destination: &str,
        milliseconds: u128,
    ) {
        let unknown = || "unknown".to_owned();
        let verdict = self.verdict.as_ref().map(|verdict| format!(" {verdict},"));
        let reasons: String = self.reasons.iter().flat_map(|it| ["; ", it]).collect();
        log.entry(
            journal,
            format_args!(
                "{}, from {} to {destination}:{} {}; the VM is {}; {} bytes, and {} on other \
                 channels, in {milliseconds} ms{reasons}",
                vm.clone().unwrap_or_else(|| "unnamed VM".to_owned()),
                source.clone().unwrap_or_else(unknown),
                verdict.unwrap_or_default(),
                self.outcome,
                self.location,
                self.bytes,
                self.other_channel_bytes,
            ),
            EventDetails::Served {
                vm,
                source,
                destination: destination.to_owned(),
                verdict: self.verdict,
                outcome: self.outcome.clone(),
                vm_location: self.location.name().to_owned(),
                bytes: self.bytes,
                other_channel_bytes: self.other_channel_bytes,
                reasons: self.reasons,
            },
        );
    }
}

/// Observer of one migration. It logs every event only with `--verbose`.
struct ServeObserver<'l> {
    log: Option<&'l Log>,
    /// Downtime that the relay added; `u64::MAX` before the device state is sent.
    added_downtime_us: AtomicU64,
}

impl Observer for ServeObserver<'_> {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::DeviceStateSent {
                added_downtime_us, ..
            } => self
                .added_downtime_us
                .store(*added_downtime_us, Ordering::Relaxed),
            // One terminal line cannot show several migrations.
            Event::Progress { .. } => return,
            _ => {}
        }
        if let Some(log) = self.log {
            log.on_event(event);
        }
    }
}

/// Policy that forwards the VM unchanged.
struct UncheckedPolicy;

impl MigrationPolicy for UncheckedPolicy {
    fn on_setup(&mut self, _: &StreamSetup) -> bool {
        true
    }

    fn on_device_state(&mut self, device_state: &DeviceStateBuffer, _: Stream) -> Decision {
        let end = device_state.start() + device_state.length();
        Decision::Forward(Edit::identity(end))
    }
}

/// Describes everything that blocks the load.
fn describe_blockers(findings: &CheckFindings<'_>) -> Vec<String> {
    let blockers = CheckReport::from(findings).blockers;
    let omitted = blockers.len().saturating_sub(MAX_LOGGED_BLOCKERS);
    let describe = |blocker: &Blocker| {
        let remedy = blocker.remedies.first();
        let remedy = remedy
            .map(|remedy| format!(" ({remedy})"))
            .unwrap_or_default();
        format!("{}: {}{remedy}", blocker.name, blocker.reason)
    };
    let mut lines: Vec<_> = blockers
        .iter()
        .take(MAX_LOGGED_BLOCKERS)
        .map(describe)
        .collect();
    if omitted > 0 {
        lines.push(format!("and {omitted} more"));
    }
    lines
}

/// Returns an error with its causes and hints in one line.
fn failure_line(failure: &Failure) -> String {
    let mut parts = vec![failure.to_string()];
    parts.extend(failure.causes());
    let text = parts.join(": ");
    let hints: String = failure
        .hints()
        .iter()
        .flat_map(|hint| ["; ", hint])
        .collect();
    format!("{text}{hints}").replace('\n', " ")
}

/// Returns an error with the same text, because the original is still needed.
fn copy_failure(failure: &Failure) -> Failure {
    Failure::new(failure_line(failure))
}
