//! Guests that write imitations of parts of a stream into RAM and device state.

use std::thread;
use std::time::Duration;

use cpreg_relay::{MigrationOutcome, VmLocation};
use cpreg_stream::{OpenMethod, Stream};

use super::garbage::parse_in_chunks;
use super::harness::{
    NETS, Net, PolicyAction, RelayHarness, assert_no_stream, convert_stream, device_state_range,
    unwrap_error, unwrap_result,
};
use crate::common::damage::Random;
use crate::common::shortening_edits;
use crate::common::synthetic::SyntheticStream;

fn small_stream(payload: Vec<u8>) -> SyntheticStream {
    SyntheticStream {
        vcpus: 1,
        registers: 6,
        pages: 40,
        payloads: vec![payload],
        ..SyntheticStream::default()
    }
}

/// Asserts that a stream that is sent in chunks with pauses gives the output of `convert` on the
/// whole stream.
fn assert_forwarded(whole: &[u8], net: Net, chunk_ends: &[usize]) {
    let harness = RelayHarness::new(net);
    let (result, (), arrived) = harness.run(
        PolicyAction::Shorten,
        |harness| {
            let mut socket = harness.source();
            let mut start = 0;
            for end in chunk_ends.iter().copied().chain([whole.len()]) {
                assert!(socket.send(&whole[start..end]));
                start = end;
                thread::sleep(Duration::from_millis(3));
            }
            socket.half_close();
            socket.read_to_close();
        },
        |harness| harness.destination().read_to_close(),
    );
    let result = unwrap_result(result);
    assert!(
        matches!(result.outcome, MigrationOutcome::Completed),
        "{result:?}"
    );
    assert!(
        arrived == convert_stream(whole, PolicyAction::Shorten),
        "{chunk_ends:?}"
    );
}

/// Returns a stream whose pages contain the end of RAM, the devices, EOF and the description, and
/// the range of one imitation.
fn imitation_in_pages(postcopy: bool) -> (Vec<u8>, std::ops::Range<usize>) {
    let options = SyntheticStream {
        postcopy,
        ..small_stream(vec![1; 7])
    };
    let mut whole = options.bytes();
    let device_state = device_state_range(&whole);
    // The end of the records of RAM's last part, its footer, and everything after it.
    let part_end = device_state.start - if postcopy { 13 } else { 13 + 18 };
    let imitation = whole[part_end..].to_vec();
    assert!(imitation.len() < 4096, "{}", imitation.len());
    let first = part_end - 39 * 4104 + 8;
    for page in [1, 2, 20] {
        let offset = first + page * 4104;
        whole[offset..offset + imitation.len()].copy_from_slice(&imitation);
    }
    let offset = first + 4104;
    (whole, offset..offset + imitation.len())
}

#[test]
fn pages_that_imitate_the_rest_of_a_stream() {
    for postcopy in [false, true] {
        let (whole, imitation) = imitation_in_pages(postcopy);
        if !postcopy {
            let cut = &whole[..imitation.end];
            let opened = Stream::open(&cut).unwrap();
            assert_eq!(
                opened.open_method(),
                &OpenMethod::Description,
                "the imitation opens"
            );
        }
        for net in NETS {
            assert_forwarded(&whole, net, &[]);
            // Pauses at the points where the stream seems to end or to begin again.
            assert_forwarded(
                &whole,
                net,
                &[imitation.start, imitation.end, imitation.end + 9],
            );
            let mut random = Random(imitation.end as u64);
            let mut chunk_ends: Vec<_> = (0..20).map(|_| random.next_below(whole.len())).collect();
            chunk_ends.sort_unstable();
            assert_forwarded(&whole, net, &chunk_ends);
        }
    }
}

/// A source that dies after the imitation has not sent a VM.
#[test]
fn imitation_in_pages_is_not_an_end() {
    for net in NETS {
        let (whole, imitation) = imitation_in_pages(false);
        let harness = RelayHarness::new(net);
        let (result, (), arrived) = harness.run(
            PolicyAction::Keep,
            |harness| {
                let mut socket = harness.source();
                socket.send(&whole[..imitation.end]);
            },
            |harness| harness.destination().read_to_close(),
        );
        let result = unwrap_result(result);
        unwrap_error(&result);
        assert_eq!(result.vm_location, VmLocation::SourceRunning);
        assert_no_stream(&arrived, "it ended in RAM");
    }
}

/// Devices that contain cpu sections, footers, and EOF with descriptions whose length matches the
/// data so far.
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
    let options = small_stream(payload.clone());
    let whole = options.bytes();
    let offset = whole
        .windows(payload.len())
        .position(|window| window == payload)
        .unwrap();
    let ends: Vec<_> = ends.iter().map(|end| offset + end).collect();
    for net in NETS {
        assert_forwarded(&whole, net, &ends);
        let start = device_state_range(&whole).start;
        for size in [64, 1000, 4096] {
            let chunk_ends: Vec<_> = (start..whole.len()).step_by(size).collect();
            assert_forwarded(&whole, net, &chunk_ends);
        }
    }
    // Without connections, for every size of chunks. Each imitated end looks like the real one.
    let expected = convert_stream(&whole, PolicyAction::Shorten);
    for size in (1..200).chain(ends) {
        let (mut out, device_state) = parse_in_chunks(&whole, || size);
        let (device_state, stream, consumed) = device_state.expect("the stream is complete");
        assert_eq!(consumed, whole.len(), "{size}");
        let edit = stream
            .edit(&device_state, &shortening_edits(&stream))
            .unwrap();
        device_state.write(&edit, &mut out).unwrap();
        assert!(out == expected, "{size}");
    }
}

/// A device contains a perfect end of a stream, and the source pauses right after it. The received
/// data is a complete stream to the last byte, so the relay must forward it. When more data
/// follows, the relay does not send it to the destination, which has no valid VM.
#[test]
fn device_that_imitates_the_end_and_a_pause_after_it() {
    let first = small_stream(vec![1; 50]).bytes();
    let device_state = device_state_range(&first);
    let payload = first[device_state.clone()]
        .windows(50)
        .rposition(|window| window == [1; 50])
        .unwrap()
        + device_state.start;
    // The same payload continues with all data after it, and more.
    let imitating = [&first[payload..], &[9; 200]].concat();
    let whole = small_stream(imitating).bytes();
    let pause = first.len();
    assert!(whole.starts_with(&first) && whole.len() > pause + 200);
    for net in NETS {
        // Without a pause, it is a normal device.
        assert_forwarded(&whole, net, &[]);
        assert_forwarded(&whole, net, &[pause - 1]);

        let harness = RelayHarness::new(net);
        let (result, (), arrived) = harness.run(
            PolicyAction::Shorten,
            |harness| {
                let mut socket = harness.source();
                socket.send(&whole[..pause]);
                harness.events.wait_for("device-state-sent", 1);
                socket.send(&whole[pause..]);
                socket.half_close();
                socket.read_to_close();
            },
            |harness| harness.destination().read_to_close(),
        );
        let result = unwrap_result(result);
        assert!(
            matches!(result.outcome, MigrationOutcome::Failed(_)),
            "{result:?}"
        );
        assert_eq!(result.vm_location, VmLocation::Unknown);
        assert!(arrived == convert_stream(&first, PolicyAction::Shorten));
    }
}
