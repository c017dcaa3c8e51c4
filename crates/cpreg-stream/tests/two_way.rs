//! Streams whose sender waits for an answer: their end is seen without anybody closing, and of a postcopy migration the package is all that
//! is held back. The vCPUs are found before the rest has come, and can go on as they will be in the end.

mod common;

use common::{bytes, fixtures, index, shortening_edits};
use cpreg_stream::Cpu;
use cpreg_stream::Stream;
use cpreg_stream::incremental::{
    DeviceStateBuffer, EarlyOutput, IncrementalParser, Phase, VcpuScanner,
};

/// Shows a stream in pieces until it opens; gives what passed, what was held back, and how much of the stream had come by then.
fn forward_until_complete(
    stream: &[u8],
    size: usize,
) -> Option<(Vec<u8>, DeviceStateBuffer, usize)> {
    let mut flow = IncrementalParser::bidirectional();
    let mut passed = Vec::new();
    let (mut from, mut to) = (0, 0);
    while to < stream.len() {
        to = stream.len().min(to + size);
        let taken = flow.feed(&stream[from..to], false).ok()?;
        passed.extend_from_slice(&stream[from..from + taken.forward]);
        from += taken.forward + taken.buffered;
        if flow.looks_complete() {
            let held = flow.take_device_state().expect("device state has come");
            if held.open_stream().is_ok() {
                return Some((passed, held, from));
            }
            flow.restore_device_state(held);
        }
    }
    None
}

#[test]
fn recorded_streams_end_where_they_end() {
    let (mut precopy, mut postcopy) = (0, 0);
    for fixture in fixtures() {
        let name = &fixture.name;
        let source = fixture.open();
        let file = Stream::open(&source).unwrap();
        let mapped = file
            .configuration()
            .is_some_and(|it| it.has_capability("mapped-ram"));
        if mapped || name.contains("snapshot") {
            continue;
        }
        let whole = bytes(&source);
        // Padding is a file's, and so is what stands behind a stream without description.
        let end = match (file.package(), file.description()) {
            (Some(package), _) => index(package.range.end),
            (None, Some(description)) => index(description.end),
            (None, None) => continue,
        };
        for size in [usize::MAX >> 1, 4097, 300_001] {
            let shown = match file.package() {
                Some(_) => &whole[..],
                None => &whole[..end],
            };
            let (passed, held, taken) = forward_until_complete(shown, size)
                .unwrap_or_else(|| panic!("{name}: no end in pieces of {size}"));
            assert_eq!(taken, end, "{name}");
            let stream = held.open_stream().unwrap();
            assert_eq!(stream.vm().unwrap(), file.vm().unwrap(), "{name}");
            assert_eq!(stream.ram_blocks(), file.ram_blocks(), "{name}");

            let edit = stream.edit(&held, &shortening_edits(&stream)).unwrap();
            let mut changed = passed;
            held.write(&edit, &mut changed).unwrap();
            changed.extend_from_slice(&whole[taken..]);
            let expected = file.edit(&whole, &shortening_edits(&file)).unwrap();
            assert!(changed == bytes(&expected.apply_to(&whole)), "{name}");
        }
        match file.package() {
            Some(_) => postcopy += 1,
            None => precopy += 1,
        }
    }
    assert!(precopy >= 25 && postcopy >= 1, "{precopy}, {postcopy}");
}

/// The same as [`shorter`], of one vCPU.
fn shorten_cpu(cpu: &Cpu) -> Cpu {
    let mut vcpu = cpu.vcpu().unwrap();
    let ids: Vec<_> = vcpu.registers.iter().map(|(id, _)| id).collect();
    for id in ids.iter().step_by(3) {
        vcpu.registers.remove(*id);
    }
    cpu.with_state(&vcpu).unwrap()
}

/// What may go on early, and how much of the device state had come by then and in the end; what the device state becomes.
fn forward_early(stream: &[u8], size: usize) -> Option<(Vec<u8>, usize, DeviceStateBuffer)> {
    let mut flow = IncrementalParser::bidirectional();
    let mut vcpus = VcpuScanner::default();
    let mut changed = EarlyOutput::default();
    let mut number = 0;
    let mut found = None;
    let (mut from, mut to) = (0, 0);
    while to < stream.len() {
        to = stream.len().min(to + size);
        let taken = flow.feed(&stream[from..to], false).ok()?;
        from += taken.forward + taken.buffered;
        vcpus.scan(&flow);
        for cpu in vcpus.cpus().iter().skip(number) {
            changed.push(&flow, &vcpus, &shorten_cpu(cpu)).unwrap();
            number += 1;
        }
        if vcpus.is_complete() && found.is_none() {
            // Not all of them are not enough, and more there are not.
            assert!(EarlyOutput::default().finish(&vcpus).is_err());
            let last = vcpus.cpus().last().unwrap();
            assert!(changed.push(&flow, &vcpus, last).is_err());
            let (bytes, before) = std::mem::take(&mut changed).finish(&vcpus).unwrap();
            assert!(before < bytes.len());
            found = Some((bytes, flow.device_state().unwrap().1.len()));
        }
        if flow.looks_complete() {
            let held = flow.take_device_state().unwrap();
            if held.open_stream().is_ok() {
                let (bytes, by_then) = found?;
                return Some((bytes, by_then, held));
            }
            flow.restore_device_state(held);
        }
    }
    None
}

#[test]
fn vcpus_are_found_early_and_are_what_they_are_in_the_end() {
    let (mut precopy, mut postcopy, mut before_the_end) = (0, 0, 0);
    for fixture in fixtures() {
        let name = &fixture.name;
        let source = fixture.open();
        let file = Stream::open(&source).unwrap();
        let mapped = file
            .configuration()
            .is_some_and(|it| it.has_capability("mapped-ram"));
        if mapped || name.contains("snapshot") {
            continue;
        }
        let whole = bytes(&source);
        // RAM at once, and pieces of the device state.
        for size in [4097, 300_001, usize::MAX >> 1] {
            let Some((bytes, by_then, held)) = forward_early(&whole, size) else {
                assert!(
                    file.package().is_none() && file.description().is_none()
                        || name.contains("5.2"),
                    "{name}: nothing early in pieces of {size}"
                );
                continue;
            };
            assert!(by_then <= index(held.length()));
            before_the_end += usize::from(by_then < index(held.length()));
            let stream = held.open_stream().unwrap();
            let edit = stream.edit(&held, &shortening_edits(&stream)).unwrap();
            let mut all = Vec::new();
            held.write(&edit, &mut all).unwrap();
            assert!(all.starts_with(&bytes), "{name} in pieces of {size}");
            assert!(bytes.len() < all.len());
            match file.package() {
                Some(_) => postcopy += 1,
                None => precopy += 1,
            }
        }
    }
    assert!(
        precopy >= 60 && postcopy >= 3 && before_the_end >= 20,
        "{precopy}, {postcopy}, {before_the_end}"
    );
}

#[test]
fn an_outline_is_known_before_the_first_page() {
    for fixture in fixtures() {
        let source = fixture.open();
        let whole = bytes(&source);
        let file = Stream::open(&source).unwrap();
        let mut flow = IncrementalParser::bidirectional();
        let (mut from, mut to) = (0, 0);
        while flow.setup().is_none() && to < whole.len() {
            to += 1;
            match flow.feed(&whole[from..to], false) {
                Ok(taken) => from += taken.forward + taken.buffered,
                // mapped-ram, at its header.
                Err(_) => break,
            }
        }
        let Some(outline) = flow.setup() else {
            assert!(fixture.name.contains("mapped"), "{}", fixture.name);
            continue;
        };
        assert!(flow.phase() < Phase::Ram, "{}", fixture.name);
        assert_eq!(outline.machine.as_deref(), file.machine());
        let shape = file.shape();
        assert!(shape.ram.starts_with(&outline.ram) && !outline.ram.is_empty());
    }
}
