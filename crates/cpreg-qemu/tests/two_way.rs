//! Streams whose sender waits for an answer: their end is seen without anybody closing, and of a postcopy migration the package is all that
//! is held back.

mod common;

use common::{bytes, fixtures, index, shorter};
use cpreg_qemu::Stream;
use cpreg_qemu::flow::{Flow, Held, Phase};

/// Shows a stream in pieces until it opens; gives what passed, what was held back, and how much of the stream had come by then.
fn flow(stream: &[u8], size: usize) -> Option<(Vec<u8>, Held, usize)> {
    let mut flow = Flow::two_way();
    let mut passed = Vec::new();
    let (mut from, mut to) = (0, 0);
    while to < stream.len() {
        to = stream.len().min(to + size);
        let taken = flow.go_over(&stream[from..to], false).ok()?;
        passed.extend_from_slice(&stream[from..from + taken.pass]);
        from += taken.pass + taken.held;
        if flow.may_be_complete() {
            let held = flow.take_held().expect("device state has come");
            if held.stream().is_ok() {
                return Some((passed, held, from));
            }
            flow.put_back(held);
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
            let (passed, held, taken) =
                flow(shown, size).unwrap_or_else(|| panic!("{name}: no end in pieces of {size}"));
            assert_eq!(taken, end, "{name}");
            let stream = held.stream().unwrap();
            assert_eq!(stream.vm().unwrap(), file.vm().unwrap(), "{name}");
            assert_eq!(stream.ram_blocks(), file.ram_blocks(), "{name}");

            let edit = stream.edit(&held, &shorter(&stream)).unwrap();
            let mut changed = passed;
            held.write(&edit, &mut changed).unwrap();
            changed.extend_from_slice(&whole[taken..]);
            let expected = file.edit(&whole, &shorter(&file)).unwrap();
            assert!(changed == bytes(&expected.over(&whole)), "{name}");
        }
        match file.package() {
            Some(_) => postcopy += 1,
            None => precopy += 1,
        }
    }
    assert!(precopy >= 25 && postcopy >= 1, "{precopy}, {postcopy}");
}

#[test]
fn an_outline_is_known_before_the_first_page() {
    for fixture in fixtures() {
        let source = fixture.open();
        let whole = bytes(&source);
        let file = Stream::open(&source).unwrap();
        let mut flow = Flow::two_way();
        let (mut from, mut to) = (0, 0);
        while flow.outline().is_none() && to < whole.len() {
            to += 1;
            match flow.go_over(&whole[from..to], false) {
                Ok(taken) => from += taken.pass + taken.held,
                // mapped-ram, at its header.
                Err(_) => break,
            }
        }
        let Some(outline) = flow.outline() else {
            assert!(fixture.name.contains("mapped"), "{}", fixture.name);
            continue;
        };
        assert!(flow.phase() < Phase::Ram, "{}", fixture.name);
        assert_eq!(outline.machine.as_deref(), file.machine());
        let shape = file.shape();
        assert!(shape.ram.starts_with(&outline.ram) && !outline.ram.is_empty());
    }
}
