//! Guests that write perfect imitations of a stream's parts into what they control: RAM, and what devices hold.

use std::thread;
use std::time::Duration;

use cpreg_relay::{MigrationOutcome, VmLocation};
use cpreg_stream::{OpenMethod, Stream};

use crate::common::damage::Random;
use crate::common::shortening_edits;
use crate::common::synthetic::SyntheticStream;
use crate::garbage::parse_in_chunks;
use crate::harness::{
    NETS, Net, PolicyAction, RelayHarness, assert_no_stream, convert_stream, device_state_range,
    unwrap_error, unwrap_result,
};

fn small_stream(payload: Vec<u8>) -> SyntheticStream {
    SyntheticStream {
        vcpus: 1,
        registers: 6,
        pages: 40,
        payloads: vec![payload],
        ..SyntheticStream::default()
    }
}

/// Passes it in pieces, between which there is time; what arrives is what `convert` makes of the whole.
fn assert_forwarded_unharmed(whole: &[u8], net: Net, pieces: &[usize]) {
    let stage = RelayHarness::new(net);
    let (migrated, (), arrived) = stage.run(
        PolicyAction::Shorten,
        |stage| {
            let mut socket = stage.source();
            let mut from = 0;
            for to in pieces.iter().copied().chain([whole.len()]) {
                assert!(socket.send(&whole[from..to]));
                from = to;
                thread::sleep(Duration::from_millis(3));
            }
            socket.half_close();
            socket.read_to_close();
        },
        |stage| stage.destination().read_to_close(),
    );
    let ended = unwrap_result(migrated);
    assert!(
        matches!(ended.outcome, MigrationOutcome::Completed),
        "{ended:?}"
    );
    assert!(
        arrived == convert_stream(whole, PolicyAction::Shorten),
        "{pieces:?}"
    );
}

/// A stream with pages that hold how RAM ends, the devices, EOF and the description; and where in it they do.
fn imitation_in_pages(postcopy: bool) -> (Vec<u8>, std::ops::Range<usize>) {
    let made = SyntheticStream {
        postcopy,
        ..small_stream(vec![1; 7])
    };
    let mut whole = made.bytes();
    let held = device_state_range(&whole);
    // The end of the records of RAM's last part, its footer, and all that follows.
    let part_end = held.start - if postcopy { 13 } else { 13 + 18 };
    let imitation = whole[part_end..].to_vec();
    assert!(imitation.len() < 4096, "{}", imitation.len());
    let first = part_end - 39 * 4104 + 8;
    for page in [1, 2, 20] {
        let at = first + page * 4104;
        whole[at..at + imitation.len()].copy_from_slice(&imitation);
    }
    let at = first + 4104;
    (whole, at..at + imitation.len())
}

#[test]
fn pages_that_imitate_the_rest_of_a_stream() {
    for postcopy in [false, true] {
        let (whole, at) = imitation_in_pages(postcopy);
        if !postcopy {
            let cut = &whole[..at.end];
            let opened = Stream::open(&cut).unwrap();
            assert_eq!(
                opened.open_method(),
                &OpenMethod::Description,
                "the imitation is good"
            );
        }
        for net in NETS {
            assert_forwarded_unharmed(&whole, net, &[]);
            // As if the stream had ended there, or began again.
            assert_forwarded_unharmed(&whole, net, &[at.start, at.end, at.end + 9]);
            let mut random = Random(at.end as u64);
            let mut pieces: Vec<_> = (0..20).map(|_| random.next_below(whole.len())).collect();
            pieces.sort_unstable();
            assert_forwarded_unharmed(&whole, net, &pieces);
        }
    }
}

/// A source that dies behind the imitation has not sent a VM.
#[test]
fn an_imitation_in_pages_is_no_end() {
    for net in NETS {
        let (whole, at) = imitation_in_pages(false);
        let stage = RelayHarness::new(net);
        let (migrated, (), arrived) = stage.run(
            PolicyAction::Keep,
            |stage| {
                let mut socket = stage.source();
                socket.send(&whole[..at.end]);
            },
            |stage| stage.destination().read_to_close(),
        );
        let ended = unwrap_result(migrated);
        unwrap_error(&ended);
        assert_eq!(ended.vm_location, VmLocation::SourceRunning);
        assert_no_stream(&arrived, "it ended in RAM");
    }
}

/// Devices that hold cpu sections, footers, and EOF with descriptions whose length fits what has come so far.
#[test]
fn devices_that_imitate_ends() {
    let other = small_stream(vec![2; 9]).bytes();
    let devices = device_state_range(&other);
    let mut payload = other[devices].to_vec();
    let mut ends = Vec::new();
    for length in [2_u32, 7, 30] {
        payload.extend(b"\x7e\0\0\0\x0d\0\x06");
        payload.extend(length.to_be_bytes());
        let json = format!("{{{}}}", " ".repeat(length as usize - 2));
        payload.extend(json.as_bytes());
        ends.push(payload.len());
    }
    payload.extend([3; 100]);
    let made = small_stream(payload.clone());
    let whole = made.bytes();
    let at = whole
        .windows(payload.len())
        .position(|it| it == payload)
        .unwrap();
    let ends: Vec<_> = ends.iter().map(|end| at + end).collect();
    for net in NETS {
        assert_forwarded_unharmed(&whole, net, &ends);
        let start = device_state_range(&whole).start;
        for size in [64, 1000, 4096] {
            let pieces: Vec<_> = (start..whole.len()).step_by(size).collect();
            assert_forwarded_unharmed(&whole, net, &pieces);
        }
    }
    // Without connections, of every size: each end is shown as if it were the last.
    let expected = convert_stream(&whole, PolicyAction::Shorten);
    for size in (1..200).chain(ends) {
        let (mut out, held) = parse_in_chunks(&whole, || size);
        let (held, stream, taken) = held.expect("it is whole");
        assert_eq!(taken, whole.len(), "{size}");
        let edit = stream.edit(&held, &shortening_edits(&stream)).unwrap();
        held.write(&edit, &mut out).unwrap();
        assert!(out == expected, "{size}");
    }
}

/// A device that holds a perfect tail of a stream, and the source pauses just behind it: what has come is a whole stream to the
/// last byte, and nobody can know better. It goes on, and when more comes the destination is not told the rest: it has no VM.
#[test]
fn a_device_that_imitates_the_end_and_a_pause_behind_it() {
    let first = small_stream(vec![1; 50]).bytes();
    let held = device_state_range(&first);
    let payload = first[held.clone()]
        .windows(50)
        .rposition(|it| it == [1; 50])
        .unwrap()
        + held.start;
    // The same payload goes on with all that stood behind it, and more.
    let imitating = [&first[payload..], &[9; 200]].concat();
    let whole = small_stream(imitating).bytes();
    let pause = first.len();
    assert!(whole.starts_with(&first) && whole.len() > pause + 200);
    for net in NETS {
        // Without a pause it is a device like others.
        assert_forwarded_unharmed(&whole, net, &[]);
        assert_forwarded_unharmed(&whole, net, &[pause - 1]);

        let stage = RelayHarness::new(net);
        let (migrated, (), arrived) = stage.run(
            PolicyAction::Shorten,
            |stage| {
                let mut socket = stage.source();
                socket.send(&whole[..pause]);
                stage.events.wait_for("device-state-sent", 1);
                socket.send(&whole[pause..]);
                socket.half_close();
                socket.read_to_close();
            },
            |stage| stage.destination().read_to_close(),
        );
        let ended = unwrap_result(migrated);
        assert!(
            matches!(ended.outcome, MigrationOutcome::Failed(_)),
            "{ended:?}"
        );
        assert_eq!(ended.vm_location, VmLocation::Unknown);
        assert!(arrived == convert_stream(&first, PolicyAction::Shorten));
    }
}
