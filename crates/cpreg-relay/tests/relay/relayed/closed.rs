//! Migrations of which a side dies: in every phase, and at random offsets, half of them in the last
//! 64 KiB.
//!
//! - If the source dies, the received data is a part of the expected data. It opens as complete
//!   only if the sent data is complete.
//! - If the destination dies, the source's connection ends. A destination that has not received the
//!   whole VM is never reported to have it.

use cpreg_relay::{MigrationOutcome, MigrationResult, VmLocation};
use cpreg_stream::Stream;

use super::harness::{
    NETS, Net, PolicyAction, RelayHarness, Socket, assert_no_stream, convert_stream,
    device_state_range, unwrap_result,
};
use super::identity::with_return_path;
use crate::common::damage::Random;
use crate::common::synthetic::SyntheticStream;
use crate::common::{bytes, fixture};

/// End of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseKind {
    Close,
    Reset,
}

fn close_socket(socket: Socket, kind: CloseKind) {
    match kind {
        CloseKind::Close => drop(socket),
        CloseKind::Reset => socket.reset(),
    }
}

/// A migration, with the range of its device state.
struct Case {
    whole: Vec<u8>,
    action: PolicyAction,
    expected: Vec<u8>,
    device_state: std::ops::Range<usize>,
    /// End of the device state as sent to the destination.
    sent_end: usize,
}

impl Case {
    fn new(whole: Vec<u8>, action: PolicyAction) -> Self {
        let expected = convert_stream(&whole, action);
        Self {
            device_state: device_state_range(&whole),
            sent_end: device_state_range(&expected).end,
            expected,
            action,
            whole,
        }
    }

    /// Runs a migration whose source dies after `cut` bytes.
    fn run_source_death(&self, net: Net, kind: CloseKind, cut: usize) {
        let context = format!(
            "{net:?}, the source {kind:?} after {cut} of {}",
            self.whole.len()
        );
        let harness = RelayHarness::new(net);
        let (result, (), arrived) = harness.run(
            self.action,
            |harness| {
                let mut socket = harness.source();
                socket.send(&self.whole[..cut]);
                close_socket(socket, kind);
            },
            |harness| {
                let socket = harness.destination_within(std::time::Duration::from_secs(10));
                socket
                    .map(|mut socket| socket.read_to_close())
                    .unwrap_or_default()
            },
        );
        let result = unwrap_result(result);
        let is_sent_complete = Stream::open_by_full_scan(&&self.whole[..cut]).is_ok();
        if Stream::open_by_full_scan(&arrived).is_ok() {
            assert!(is_sent_complete, "{context}: {} bytes open", arrived.len());
        }
        if self.expected.starts_with(&arrived) {
            // The destination has received all of the device state, or none of it.
            let count = arrived.len();
            assert!(
                count <= self.device_state.start || count >= self.sent_end,
                "{context}: {count} arrived"
            );
        } else {
            // The sent part of the stream was complete, without its description. The output is
            // then that of `convert` for this part.
            assert!(
                arrived == convert_stream(&self.whole[..cut], self.action),
                "{context}"
            );
        }
        if arrived.len() < self.sent_end {
            assert!(!is_destination_possible(&result), "{context}: {result:?}");
        } else {
            // With a return path, the location is unknown, because this destination sends no SHUT.
            let is_plausible =
                result.vm_location == VmLocation::Unknown || is_destination_possible(&result);
            assert!(is_plausible, "{context}: {result:?}");
        }
        if cut < self.device_state.end {
            assert!(
                matches!(result.outcome, MigrationOutcome::Failed(_)),
                "{context}: {result:?}"
            );
            assert_ne!(result.vm_location, VmLocation::Unknown, "{context}");
        }
    }

    /// Runs a migration whose destination dies after reading `cut` bytes.
    fn run_destination_death(&self, net: Net, kind: CloseKind, cut: usize) {
        let context = format!("{net:?}, the destination {kind:?} after {cut}");
        let harness = RelayHarness::new(net);
        let (result, _, arrived) = harness.run(
            self.action,
            |harness| {
                let mut socket = harness.source();
                socket.send(&self.whole);
                socket.half_close();
                // The connection ends, or the watchdog aborts.
                socket.read_to_close()
            },
            |harness| {
                let mut socket = harness.destination();
                let arrived = socket.read_some(cut);
                close_socket(socket, kind);
                arrived
            },
        );
        let result = unwrap_result(result);
        assert!(self.expected.starts_with(&arrived), "{context}");
        if arrived.len() < self.device_state.start {
            assert_no_stream(&arrived, &context);
        }
        if arrived.len() < self.sent_end {
            assert!(!is_destination_possible(&result), "{context}: {result:?}");
        }
        assert_ne!(result.vm_location, VmLocation::Destination, "{context}");
    }
}

/// Returns `true` if the VM is reported to be at the destination, confirmed or not.
fn is_destination_possible(result: &MigrationResult) -> bool {
    use VmLocation::{Destination, DestinationUnconfirmed};
    matches!(result.vm_location, Destination | DestinationUnconfirmed)
}

/// Returns live migrations: a recorded one of two phases, one with a package, and short ones.
fn cases() -> Vec<Case> {
    let recorded = |name| bytes(&fixture(name));
    vec![
        Case::new(
            recorded("kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1"),
            PolicyAction::Shorten,
        ),
        Case::new(
            recorded("tcg/q11.1__virt-11.1-cortex-a57-smp2-postcopy"),
            PolicyAction::Shorten,
        ),
        Case::new(with_return_path(false, true), PolicyAction::Shorten),
        Case::new(with_return_path(true, true), PolicyAction::Keep),
        Case::new(
            SyntheticStream {
                description: false,
                pages: 3,
                ..SyntheticStream::default()
            }
            .bytes(),
            PolicyAction::Shorten,
        ),
    ]
}

/// Returns offsets in a stream: random, half of them in its last 64 KiB.
fn offsets(length: usize, count: usize, random: &mut Random) -> Vec<usize> {
    (0..count)
        .map(|number| {
            let span = if number % 2 == 0 {
                length
            } else {
                length.min(64 << 10)
            };
            length - random.next_below(span)
        })
        .collect()
}

/// Returns the last offset of each phase and the first of the next.
fn edges(case: &Case) -> Vec<usize> {
    let description = Stream::open(&case.whole)
        .unwrap()
        .description()
        .map_or(case.device_state.end, |range| {
            usize::try_from(range.start).unwrap()
        });
    let all = [
        0,
        4,
        8,
        100,
        case.device_state.start,
        case.device_state.end,
        description,
        case.whole.len(),
    ];
    let mut edges: Vec<_> = all
        .iter()
        .flat_map(|offset| [offset.saturating_sub(1), *offset, offset + 1])
        .filter(|offset| *offset <= case.whole.len())
        .collect();
    edges.dedup();
    edges
}

#[test]
fn sides_that_die_at_phase_boundaries() {
    for case in cases() {
        for (number, edge) in edges(&case).into_iter().enumerate() {
            let net = NETS[number % 2];
            for kind in [CloseKind::Close, CloseKind::Reset] {
                // Fewer than 4 bytes do not make a connection of a migration.
                if edge >= 4 {
                    case.run_source_death(net, kind, edge);
                }
                case.run_destination_death(net, kind, edge.min(case.expected.len()));
            }
        }
    }
}

#[test]
fn source_dies_anywhere() {
    let mut random = Random(5);
    let case = &cases()[0];
    for (number, cut) in offsets(case.whole.len(), 200, &mut random)
        .into_iter()
        .enumerate()
    {
        let kind = [CloseKind::Close, CloseKind::Reset][number / 2 % 2];
        case.run_source_death(NETS[number / 4 % 2], kind, cut.max(4));
    }
}

#[test]
fn destination_dies_anywhere() {
    let mut random = Random(6);
    let case = &cases()[0];
    for (number, cut) in offsets(case.expected.len(), 200, &mut random)
        .into_iter()
        .enumerate()
    {
        let kind = [CloseKind::Close, CloseKind::Reset][number / 2 % 2];
        case.run_destination_death(NETS[number / 4 % 2], kind, cut);
    }
}
