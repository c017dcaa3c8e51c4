//! A side that dies: at every phase of a migration, and at random places, half of them in the last 64 KiB of it.
//!
//! | who dies | must hold |
//! |---|---|
//! | the source | what arrives is a part of what was to arrive, and opens as complete only if what was sent is complete |
//! | the destination | the source's connection ends; nobody says that the VM is at a destination that has not got all of it |

use cpreg_relay::{MigrationOutcome, MigrationResult, VmLocation};
use cpreg_stream::Stream;

use crate::common::damage::Random;
use crate::common::synthetic::SyntheticStream;
use crate::common::{bytes, fixture};
use crate::harness::{
    NETS, Net, PolicyAction, RelayHarness, Socket, assert_no_stream, convert_stream,
    device_state_range, unwrap_result,
};
use crate::identity::with_return_path;

/// How a side ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseKind {
    Close,
    Reset,
}

fn close_socket(socket: Socket, how: CloseKind) {
    match how {
        CloseKind::Close => drop(socket),
        CloseKind::Reset => socket.reset(),
    }
}

/// A migration, and where its device state is.
struct Case {
    whole: Vec<u8>,
    act: PolicyAction,
    expected: Vec<u8>,
    device_state: std::ops::Range<usize>,
    /// Where the device state ends that goes to the destination.
    sent_end: usize,
}

impl Case {
    fn new(whole: Vec<u8>, act: PolicyAction) -> Self {
        let expected = convert_stream(&whole, act);
        Self {
            device_state: device_state_range(&whole),
            sent_end: device_state_range(&expected).end,
            expected,
            act,
            whole,
        }
    }

    /// The source dies when it has sent so much.
    fn run_source_death(&self, net: Net, how: CloseKind, cut: usize) {
        let what = format!(
            "{net:?}, the source {how:?} behind {cut} of {}",
            self.whole.len()
        );
        let stage = RelayHarness::new(net);
        let (migrated, (), arrived) = stage.run(
            self.act,
            |stage| {
                let mut socket = stage.source();
                socket.send(&self.whole[..cut]);
                close_socket(socket, how);
            },
            |stage| {
                let socket = stage.destination_within(std::time::Duration::from_secs(10));
                socket
                    .map(|mut socket| socket.read_to_close())
                    .unwrap_or_default()
            },
        );
        let ended = unwrap_result(migrated);
        let was_complete = Stream::open_by_full_scan(&&self.whole[..cut]).is_ok();
        if Stream::open_by_full_scan(&arrived).is_ok() {
            assert!(was_complete, "{what}: {} bytes open", arrived.len());
        }
        if self.expected.starts_with(&arrived) {
            // All of it or nothing.
            let count = arrived.len();
            assert!(
                count <= self.device_state.start || count >= self.sent_end,
                "{what}: {count} arrived"
            );
        } else {
            // Without its description it is complete as well, and what convert would write of that.
            assert!(
                arrived == convert_stream(&self.whole[..cut], self.act),
                "{what}"
            );
        }
        if arrived.len() < self.sent_end {
            assert!(!is_destination_possible(&ended), "{what}: {ended:?}");
        } else {
            // Who has a return path says so, which this destination does not.
            let may_be =
                ended.vm_location == VmLocation::Unknown || is_destination_possible(&ended);
            assert!(may_be, "{what}: {ended:?}");
        }
        if cut < self.device_state.end {
            assert!(
                matches!(ended.outcome, MigrationOutcome::Failed(_)),
                "{what}: {ended:?}"
            );
            assert_ne!(ended.vm_location, VmLocation::Unknown, "{what}");
        }
    }

    /// The destination dies when it has read so much.
    fn run_destination_death(&self, net: Net, how: CloseKind, cut: usize) {
        let what = format!("{net:?}, the destination {how:?} behind {cut}");
        let stage = RelayHarness::new(net);
        let (migrated, _, arrived) = stage.run(
            self.act,
            |stage| {
                let mut socket = stage.source();
                socket.send(&self.whole);
                socket.half_close();
                // It ends, or the watch barks.
                socket.read_to_close()
            },
            |stage| {
                let mut socket = stage.destination();
                let arrived = socket.read_some(cut);
                close_socket(socket, how);
                arrived
            },
        );
        let ended = unwrap_result(migrated);
        assert!(self.expected.starts_with(&arrived), "{what}");
        if arrived.len() < self.device_state.start {
            assert_no_stream(&arrived, &what);
        }
        if arrived.len() < self.sent_end {
            assert!(!is_destination_possible(&ended), "{what}: {ended:?}");
        }
        assert_ne!(ended.vm_location, VmLocation::Destination, "{what}");
    }
}

/// Whether it is said that the VM is at the destination, or may be.
fn is_destination_possible(ended: &MigrationResult) -> bool {
    use VmLocation::{Destination, DestinationUnconfirmed};
    matches!(ended.vm_location, Destination | DestinationUnconfirmed)
}

/// Everything that is live: a recorded migration of two phases, one with a package, and short ones.
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

/// Places in a stream: random, half of them in its last 64 KiB.
fn places(length: usize, count: usize, random: &mut Random) -> Vec<usize> {
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

/// The last byte of each phase and the first of the next.
fn edges(case: &Case) -> Vec<usize> {
    let description = Stream::open(&case.whole)
        .unwrap()
        .description()
        .map_or(case.device_state.end, |it| {
            usize::try_from(it.start).unwrap()
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
        .flat_map(|at| [at.saturating_sub(1), *at, at + 1])
        .filter(|at| *at <= case.whole.len())
        .collect();
    edges.dedup();
    edges
}

#[test]
fn at_the_edges_of_every_phase() {
    for case in cases() {
        for (number, edge) in edges(&case).into_iter().enumerate() {
            let net = NETS[number % 2];
            for how in [CloseKind::Close, CloseKind::Reset] {
                // What is shortening_edits is no connection of a migration.
                if edge >= 4 {
                    case.run_source_death(net, how, edge);
                }
                case.run_destination_death(net, how, edge.min(case.expected.len()));
            }
        }
    }
}

#[test]
fn a_source_that_dies_anywhere() {
    let mut random = Random(5);
    let case = &cases()[0];
    for (number, cut) in places(case.whole.len(), 200, &mut random)
        .into_iter()
        .enumerate()
    {
        let how = [CloseKind::Close, CloseKind::Reset][number / 2 % 2];
        case.run_source_death(NETS[number / 4 % 2], how, cut.max(4));
    }
}

#[test]
fn a_destination_that_dies_anywhere() {
    let mut random = Random(6);
    let case = &cases()[0];
    for (number, cut) in places(case.expected.len(), 200, &mut random)
        .into_iter()
        .enumerate()
    {
        let how = [CloseKind::Close, CloseKind::Reset][number / 2 % 2];
        case.run_destination_death(NETS[number / 4 % 2], how, cut);
    }
}
