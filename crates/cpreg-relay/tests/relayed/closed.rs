//! A side that dies: at every phase of a migration, and at random places, half of them in the last 64 KiB of it.
//!
//! | who dies | must hold |
//! |---|---|
//! | the source | what arrives is a part of what was to arrive, and opens as complete only if what was sent is complete |
//! | the destination | the source's connection ends; nobody says that the VM is at a destination that has not got all of it |

use cpreg_relay::{Ended, Outcome, Whereabouts};
use cpreg_stream::Stream;

use crate::common::damage::Random;
use crate::common::made::Made;
use crate::common::{bytes, fixture};
use crate::identity::with_return_path;
use crate::play::{Act, NETS, Net, Socket, Stage, converted, device_state, ended, is_no_stream};

/// How a side ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Closes,
    Resets,
}

fn ends(socket: Socket, how: How) {
    match how {
        How::Closes => drop(socket),
        How::Resets => socket.reset(),
    }
}

/// A migration, and where its device state is.
struct Case {
    whole: Vec<u8>,
    act: Act,
    expected: Vec<u8>,
    held: std::ops::Range<usize>,
    /// Where the device state ends that goes to the destination.
    goes_to: usize,
}

impl Case {
    fn new(whole: Vec<u8>, act: Act) -> Self {
        let expected = converted(&whole, act);
        Self {
            held: device_state(&whole),
            goes_to: device_state(&expected).end,
            expected,
            act,
            whole,
        }
    }

    /// The source dies when it has sent so much.
    fn source_dies(&self, net: Net, how: How, cut: usize) {
        let what = format!(
            "{net:?}, the source {how:?} behind {cut} of {}",
            self.whole.len()
        );
        let stage = Stage::new(net);
        let (migrated, (), arrived) = stage.play(
            self.act,
            |stage| {
                let mut socket = stage.source();
                socket.send(&self.whole[..cut]);
                ends(socket, how);
            },
            |stage| {
                let socket = stage.destination_within(std::time::Duration::from_secs(10));
                socket
                    .map(|mut socket| socket.read_up())
                    .unwrap_or_default()
            },
        );
        let ended = ended(migrated);
        let was_complete = Stream::from_the_front(&&self.whole[..cut]).is_ok();
        if Stream::from_the_front(&arrived).is_ok() {
            assert!(was_complete, "{what}: {} bytes open", arrived.len());
        }
        if self.expected.starts_with(&arrived) {
            // All of it or nothing.
            let count = arrived.len();
            assert!(
                count <= self.held.start || count >= self.goes_to,
                "{what}: {count} arrived"
            );
        } else {
            // Without its description it is complete as well, and what convert would write of that.
            assert!(arrived == converted(&self.whole[..cut], self.act), "{what}");
        }
        if arrived.len() < self.goes_to {
            assert!(!is_said_to_be_there(&ended), "{what}: {ended:?}");
        } else {
            // Who has a return path says so, which this destination does not.
            let may_be = ended.whereabouts == Whereabouts::Unknown || is_said_to_be_there(&ended);
            assert!(may_be, "{what}: {ended:?}");
        }
        if cut < self.held.end {
            assert!(
                matches!(ended.outcome, Outcome::Broken(_)),
                "{what}: {ended:?}"
            );
            assert_ne!(ended.whereabouts, Whereabouts::Unknown, "{what}");
        }
    }

    /// The destination dies when it has read so much.
    fn destination_dies(&self, net: Net, how: How, cut: usize) {
        let what = format!("{net:?}, the destination {how:?} behind {cut}");
        let stage = Stage::new(net);
        let (migrated, _, arrived) = stage.play(
            self.act,
            |stage| {
                let mut socket = stage.source();
                socket.send(&self.whole);
                socket.half_close();
                // It ends, or the watch barks.
                socket.read_up()
            },
            |stage| {
                let mut socket = stage.destination();
                let arrived = socket.read_some(cut);
                ends(socket, how);
                arrived
            },
        );
        let ended = ended(migrated);
        assert!(self.expected.starts_with(&arrived), "{what}");
        if arrived.len() < self.held.start {
            is_no_stream(&arrived, &what);
        }
        if arrived.len() < self.goes_to {
            assert!(!is_said_to_be_there(&ended), "{what}: {ended:?}");
        }
        assert_ne!(ended.whereabouts, Whereabouts::Destination, "{what}");
    }
}

/// Whether it is said that the VM is at the destination, or may be.
fn is_said_to_be_there(ended: &Ended) -> bool {
    use Whereabouts::{Destination, ProbablyDestination};
    matches!(ended.whereabouts, Destination | ProbablyDestination)
}

/// Everything that is live: a recorded migration of two phases, one with a package, and short ones.
fn cases() -> Vec<Case> {
    let recorded = |name| bytes(&fixture(name));
    vec![
        Case::new(
            recorded("kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1"),
            Act::Shorten,
        ),
        Case::new(
            recorded("tcg/q11.1__virt-11.1-cortex-a57-smp2-postcopy"),
            Act::Shorten,
        ),
        Case::new(with_return_path(false, true), Act::Shorten),
        Case::new(with_return_path(true, true), Act::Keep),
        Case::new(
            Made {
                description: false,
                pages: 3,
                ..Made::default()
            }
            .bytes(),
            Act::Shorten,
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
            length - random.below(span)
        })
        .collect()
}

/// The last byte of each phase and the first of the next.
fn edges(case: &Case) -> Vec<usize> {
    let description = Stream::open(&case.whole)
        .unwrap()
        .description()
        .map_or(case.held.end, |it| usize::try_from(it.start).unwrap());
    let all = [
        0,
        4,
        8,
        100,
        case.held.start,
        case.held.end,
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
            for how in [How::Closes, How::Resets] {
                // What is shorter is no connection of a migration.
                if edge >= 4 {
                    case.source_dies(net, how, edge);
                }
                case.destination_dies(net, how, edge.min(case.expected.len()));
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
        let how = [How::Closes, How::Resets][number / 2 % 2];
        case.source_dies(NETS[number / 4 % 2], how, cut.max(4));
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
        let how = [How::Closes, How::Resets][number / 2 % 2];
        case.destination_dies(NETS[number / 4 % 2], how, cut);
    }
}
