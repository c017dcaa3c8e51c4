//! Forwarding from pipe to pipe, where the kernel moves the bytes.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use crate::common::damage::{Random, synthetic_streams, with_live_sections};
use crate::common::forwarding::{assert_forwarded, assert_no_stream};
use crate::common::synthetic::SyntheticStream;
use crate::common::{bytes, fixture, index};
use cpreg_relay::io::{BlockingFd, forward_files};
use cpreg_stream::incremental::{DeviceStateBuffer, SetupBuffer};
use cpreg_stream::{Edit, Error, ErrorKind, Stream};

/// Writes a stream into a pipe in random chunks, and returns the output of `forward_files`.
fn through_pipes(whole: &[u8], max_chunk: usize) -> (Vec<u8>, Result<DeviceStateBuffer, Error>) {
    let (input, mut feeder) = io::pipe().unwrap();
    let (mut sink, output) = io::pipe().unwrap();
    if max_chunk.is_multiple_of(2) {
        // Non-blocking pipes, as a parent process may pass them.
        rustix::io::ioctl_fionbio(&input, true).unwrap();
        rustix::io::ioctl_fionbio(&output, true).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = Random(max_chunk as u64);
            let mut rest = whole;
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at(rest.len().min(1 + random.next_below(max_chunk)));
                if feeder.write_all(chunk).is_err() {
                    break;
                }
                rest = more;
            }
        });
        let out = scope.spawn(move || {
            let mut out = Vec::new();
            sink.read_to_end(&mut out).unwrap();
            out
        });
        let input = File::from(OwnedFd::from(input));
        let output = File::from(OwnedFd::from(output));
        let device_state = SetupBuffer::read(&mut BlockingFd(&input))
            .and_then(|beginning| forward_files(beginning, &input, &output, &mut |_, _| {}));
        if let Ok(device_state) = &device_state {
            // The reader gets the device state as well.
            let unchanged = Edit::identity(device_state.start() + device_state.length());
            device_state
                .write(&unchanged, &mut BlockingFd(&output))
                .unwrap();
        }
        drop((input, output));
        (out.join().unwrap(), device_state)
    })
}

#[test]
fn forwards_from_pipe_to_pipe() {
    let mut streams: Vec<_> = synthetic_streams()
        .into_iter()
        .map(|(_, whole)| whole)
        .collect();
    let recorded = fixture("kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1");
    streams.push(bytes(&recorded));
    streams.push(with_live_sections(&streams[0]));
    streams.push(
        SyntheticStream {
            pages: 3000,
            ..SyntheticStream::default()
        }
        .bytes(),
    );
    for whole in &streams {
        for max_chunk in [9, 4_999, 5_000, 200_001, 200_000, 2 << 20] {
            let (out, device_state) = through_pipes(whole, max_chunk);
            let device_state = device_state.unwrap();
            assert!(out == *whole);
            assert_forwarded(
                "pipes",
                whole,
                &out[..index(device_state.start())],
                &device_state,
            );
        }
        let truncated_len = index(Stream::open(whole).unwrap().sections()[0].range.start) - 1;
        let (forwarded, device_state) = through_pipes(&whole[..truncated_len], 5_000);
        assert_no_stream(&forwarded, "cut");
        assert_eq!(device_state.unwrap_err().kind(), ErrorKind::Truncated);
    }
}

/// The reader of a pipe may have exited.
#[test]
fn pipe_without_reader() {
    let whole = SyntheticStream {
        pages: 3000,
        ..SyntheticStream::default()
    }
    .bytes();
    let (input, mut feeder) = io::pipe().unwrap();
    let (sink, output) = io::pipe().unwrap();
    drop(sink);
    std::thread::scope(|scope| {
        scope.spawn(move || feeder.write_all(&whole));
        let (input, output) = (OwnedFd::from(input).into(), OwnedFd::from(output).into());
        let beginning = SetupBuffer::read(&mut BlockingFd(&input)).unwrap();
        let error = forward_files(beginning, &input, &output, &mut |_, _| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(
            error.hint().unwrap().contains("see its messages"),
            "{error}"
        );
    });
}
