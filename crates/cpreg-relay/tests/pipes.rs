//! A stream from pipe to pipe, which the kernel moves.

#[path = "../../cpreg-stream/tests/common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use common::damage::{Random, synthetic_streams, with_live_sections};
use common::forwarding::{assert_forwarded, assert_no_stream};
use common::synthetic::SyntheticStream;
use common::{bytes, fixture, index};
use cpreg_relay::io::{BlockingFd, forward_files};
use cpreg_stream::incremental::DeviceStateBuffer;
use cpreg_stream::{Edit, Error, ErrorKind, Stream};

/// What comes out of a pipe, of a stream that goes into another, in pieces.
fn through_pipes(whole: &[u8], most: usize) -> (Vec<u8>, Result<DeviceStateBuffer, Error>) {
    let (input, mut feeder) = io::pipe().unwrap();
    let (mut sink, output) = io::pipe().unwrap();
    if most.is_multiple_of(2) {
        // Whoever opened them did not want to wait.
        rustix::io::ioctl_fionbio(&input, true).unwrap();
        rustix::io::ioctl_fionbio(&output, true).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = Random(most as u64);
            let mut rest = whole;
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(1 + random.next_below(most)));
                if feeder.write_all(piece).is_err() {
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
        let held = forward_files(&input, &output, &mut |_, _| {});
        if let Ok(held) = &held {
            // Whoever reads gets the rest as well.
            let unchanged = Edit::identity(held.start() + held.length());
            held.write(&unchanged, &mut BlockingFd(&output)).unwrap();
        }
        drop((input, output));
        (out.join().unwrap(), held)
    })
}

#[test]
fn from_pipe_to_pipe() {
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
        for most in [9, 4_999, 5_000, 200_001, 200_000, 2 << 20] {
            let (out, held) = through_pipes(whole, most);
            let held = held.unwrap();
            assert!(out == *whole);
            assert_forwarded("pipes", whole, &out[..index(held.start())], &held);
        }
        let cut = index(Stream::open(whole).unwrap().sections()[0].range.start) - 1;
        let (passed, held) = through_pipes(&whole[..cut], 5_000);
        assert_no_stream(&passed, "cut");
        assert_eq!(held.unwrap_err().kind(), ErrorKind::Truncated);
    }
}

/// Whoever reads may be gone.
#[test]
fn a_pipe_that_nobody_reads() {
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
        let error = forward_files(&input, &output, &mut |_, _| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(
            error.hint().unwrap().contains("see its messages"),
            "{error}"
        );
    });
}
