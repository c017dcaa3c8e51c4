//! Streams that flow through in pieces of every size: what passes, what is held back, and that the whole is what an edit
//! of the file would be.

mod common;

use std::io::{self, Read};

use common::made::Made;
use common::{bytes, fixture, fixtures, index};
use cpreg_qemu::flow::{Flow, Held, Phase, pump};
use cpreg_qemu::stream::{CpuEdit, Edit, Opened, Stream};
use cpreg_qemu::{Error, ErrorKind};

/// Numbers that look random and are the same each time (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        index(self.next() % most as u64)
    }
}

/// Pushes a stream in pieces; gives what passed and what was held back.
fn flow(
    stream: &[u8],
    mut piece: impl FnMut() -> usize,
    mut see: impl FnMut(Phase, u64),
) -> (Vec<u8>, Result<Held, Error>) {
    let mut flow = Flow::new();
    let mut passed = Vec::new();
    let (mut from, mut to) = (0, 0);
    loop {
        let piece = piece();
        let last = to == stream.len();
        to = stream.len().min(to + piece);
        match flow.go_over(&stream[from..to], last) {
            Ok(taken) => {
                passed.extend_from_slice(&stream[from..from + taken.pass]);
                from += taken.pass + taken.held;
                assert_eq!(flow.offset(), from as u64);
                // What is shown again is little, early sections aside.
                assert!(to - from < 3 << 20, "{} bytes are waiting", to - from);
                see(flow.phase(), flow.offset());
            }
            Err(error) => return (passed, Err(error)),
        }
        if last {
            return (passed, flow.finish());
        }
    }
}

fn at_once(stream: &[u8]) -> (Vec<u8>, Result<Held, Error>) {
    flow(stream, || stream.len().max(1), |_, _| {})
}

/// The whole stream that comes out.
fn out(passed: &[u8], held: &Held, edit: &Edit) -> Vec<u8> {
    let mut whole = passed.to_vec();
    held.write(edit, &mut whole).unwrap();
    whole
}

/// An edit of every vCPU that makes it shorter: every third register is taken away.
fn shorter(stream: &Stream) -> Vec<CpuEdit> {
    let vm = stream.vm().unwrap();
    let edits = vm.vcpus.iter().map(|vcpu| CpuEdit {
        registers: Some(
            vcpu.registers
                .iter()
                .enumerate()
                .filter(|(number, _)| number % 3 != 0)
                .map(|(_, (id, value))| (id, value.as_u64().unwrap()))
                .collect(),
        ),
        extensions: Vec::new(),
    });
    edits.collect()
}

/// Without a change it is the same stream, and with one it is what `convert` would write of the file.
fn compare(name: &str, whole: &[u8], passed: &[u8], held: &Held) {
    let file = Stream::open(&whole).unwrap();
    let stream = held
        .stream()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(stream.vm().unwrap(), file.vm().unwrap(), "{name}");
    assert_eq!(stream.sections(), file.sections(), "{name}");
    assert_eq!(stream.ram_blocks(), file.ram_blocks(), "{name}");
    assert_eq!(stream.configuration(), file.configuration(), "{name}");
    assert_eq!(stream.length(), file.length(), "{name}");
    assert_eq!(stream.description(), file.description(), "{name}");
    assert!(held.start() + held.length() == whole.len() as u64);

    let unchanged = Edit::unchanged(whole.len() as u64);
    assert!(out(passed, held, &unchanged) == whole, "{name}");
    let edit = stream.edit(held, &shorter(&stream)).unwrap();
    assert!(!edit.is_identity(), "{name}");
    let expected = file.edit(&whole, &shorter(&file)).unwrap();
    let changed = out(passed, held, &edit);
    assert!(changed == bytes(&expected.over(&whole)), "{name}");
    let edited = held.edited(&edit).unwrap();
    let expected = Stream::open(&changed).unwrap();
    assert_eq!(edited.vm().unwrap(), expected.vm().unwrap(), "{name}");
}

/// The names of recorded streams, by whether a filter carries them.
fn is_carried(name: &str, stream: &Stream) -> Result<(), &'static str> {
    let mapped = stream
        .configuration()
        .is_some_and(|it| it.has_capability("mapped-ram"));
    match () {
        () if mapped => Err("mapped-ram"),
        () if name.contains("snapshot") => Err("background snapshot"),
        () if name.contains("postcopy") => Err("postcopy"),
        () => Ok(()),
    }
}

/// All recorded streams: at once, and in pieces of a few sizes.
#[test]
fn recorded_streams() {
    let mut carried = 0;
    let mut refused = Vec::new();
    for fixture in fixtures() {
        let source = fixture.open();
        let stream = match Stream::open(&source) {
            Ok(stream) => stream,
            Err(error) => panic!("{}: {error}", fixture.name),
        };
        let whole = bytes(&source);
        let mut random = Random(whole.len() as u64);
        let sizes: [&mut dyn FnMut() -> usize; 3] =
            [&mut || usize::MAX >> 1, &mut || 4097, &mut || {
                1 + random.below(300_000)
            }];
        for size in sizes {
            let mut phases = vec![Phase::Header];
            let (passed, held) = flow(&whole, size, |phase, _| {
                if phases.last() != Some(&phase) {
                    phases.push(phase);
                }
            });
            match (is_carried(&fixture.name, &stream), held) {
                (Ok(()), Ok(held)) => {
                    assert!(phases.is_sorted(), "{}: {phases:?}", fixture.name);
                    assert_eq!(phases.last(), Some(&Phase::DeviceState));
                    let records = held.stream().unwrap().record_counts();
                    let expected = Stream::from_the_front(&source).unwrap();
                    assert_eq!(records, expected.record_counts(), "{}", fixture.name);
                    compare(&fixture.name, &whole, &passed, &held);
                    carried += 1;
                }
                (Err(why), Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    assert!(error.to_string().contains(why), "{error}");
                    assert!(error.advice().is_some());
                    refused.push(why);
                    // Nothing of the device state went on.
                    let first = stream.sections()[0].range.start;
                    assert!(passed.len() as u64 <= first, "{}", fixture.name);
                }
                (expected, Ok(_)) => panic!("{}: not refused: {expected:?}", fixture.name),
                (Ok(()), Err(error)) => panic!("{}: {error}", fixture.name),
            }
        }
    }
    assert!(carried >= 3 * 25, "{carried}");
    refused.sort_unstable();
    refused.dedup();
    assert_eq!(refused, ["background snapshot", "mapped-ram", "postcopy"]);
}
