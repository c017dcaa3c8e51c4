//! Streams whose sender waits for an answer. Their end is detected on an open connection, and of a
//! postcopy migration only the package is buffered. The vCPUs are found before the rest arrives,
//! and can be sent early in their final form.

use crate::common::{bytes, can_be_live, fixtures, index, shorten_cpu, shortening_edits};
use cpreg_stream::Stream;
use cpreg_stream::incremental::{
    DeviceStateBuffer, EarlyOutput, IncrementalParser, Phase, VcpuScanner,
};

/// Feeds a stream in pieces until it opens.
///
/// Returns the forwarded bytes, the buffer, and the number of bytes consumed.
fn forward_until_complete(
    stream: &[u8],
    size: usize,
) -> Option<(Vec<u8>, DeviceStateBuffer, usize)> {
    let mut parser = IncrementalParser::bidirectional();
    let mut forwarded = Vec::new();
    let (mut from, mut to) = (0, 0);
    while to < stream.len() {
        to = stream.len().min(to + size);
        let consumed = parser.feed(&stream[from..to], false).ok()?;
        forwarded.extend_from_slice(&stream[from..from + consumed.forward]);
        from += consumed.forward + consumed.buffered;
        if parser.looks_complete() {
            let buffer = parser
                .take_device_state()
                .expect("device state has arrived");
            if buffer.open_stream().is_ok() {
                return Some((forwarded, buffer, from));
            }
            parser.restore_device_state(buffer);
        }
    }
    None
}

#[test]
fn end_of_recorded_streams_is_detected() {
    let (mut precopy, mut postcopy) = (0, 0);
    for fixture in fixtures() {
        let name = &fixture.name;
        let source = fixture.open();
        let file = Stream::open(&source).unwrap();
        if !can_be_live(&fixture, &file) {
            continue;
        }
        let whole = bytes(&source);
        // Padding, and bytes after a stream without description, exist only in files.
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
            let (forwarded, buffer, consumed) = forward_until_complete(shown, size)
                .unwrap_or_else(|| panic!("{name}: no end in pieces of {size}"));
            assert_eq!(consumed, end, "{name}");
            let stream = buffer.open_stream().unwrap();
            assert_eq!(stream.vm().unwrap(), file.vm().unwrap(), "{name}");
            assert_eq!(stream.ram_blocks(), file.ram_blocks(), "{name}");

            let edit = stream.edit(&buffer, &shortening_edits(&stream)).unwrap();
            let mut changed = forwarded;
            buffer.write(&edit, &mut changed).unwrap();
            changed.extend_from_slice(&whole[consumed..]);
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

/// Feeds a stream and edits its vCPUs early.
///
/// Returns the early output, the number of bytes buffered at that time, and the complete buffer.
fn forward_early(stream: &[u8], size: usize) -> Option<(Vec<u8>, usize, DeviceStateBuffer)> {
    let mut parser = IncrementalParser::bidirectional();
    let mut vcpus = VcpuScanner::default();
    let mut early_output = EarlyOutput::default();
    let mut number = 0;
    let mut early = None;
    let (mut from, mut to) = (0, 0);
    while to < stream.len() {
        to = stream.len().min(to + size);
        let consumed = parser.feed(&stream[from..to], false).ok()?;
        from += consumed.forward + consumed.buffered;
        vcpus.scan(&parser);
        for cpu in vcpus.cpus().iter().skip(number) {
            early_output
                .push(&parser, &vcpus, &shorten_cpu(cpu))
                .unwrap();
            number += 1;
        }
        if vcpus.is_complete() && early.is_none() {
            // Too few vCPUs and too many are errors.
            assert!(EarlyOutput::default().finish(&vcpus).is_err());
            let last = vcpus.cpus().last().unwrap();
            assert!(early_output.push(&parser, &vcpus, last).is_err());
            let (bytes, before) = std::mem::take(&mut early_output).finish(&vcpus).unwrap();
            assert!(before < bytes.len());
            early = Some((bytes, parser.device_state().unwrap().1.len()));
        }
        if parser.looks_complete() {
            let buffer = parser.take_device_state().unwrap();
            if buffer.open_stream().is_ok() {
                let (bytes, buffered_len) = early?;
                return Some((bytes, buffered_len, buffer));
            }
            parser.restore_device_state(buffer);
        }
    }
    None
}

#[test]
fn early_vcpus_match_the_complete_stream() {
    let (mut precopy, mut postcopy, mut early_count) = (0, 0, 0);
    for fixture in fixtures() {
        let name = &fixture.name;
        let source = fixture.open();
        let file = Stream::open(&source).unwrap();
        if !can_be_live(&fixture, &file) {
            continue;
        }
        let whole = bytes(&source);
        // Feed pieces of the device state, and all at once.
        for size in [4097, 300_001, usize::MAX >> 1] {
            let Some((bytes, buffered_len, buffer)) = forward_early(&whole, size) else {
                assert!(
                    file.package().is_none() && file.description().is_none()
                        || name.contains("5.2"),
                    "{name}: nothing early in pieces of {size}"
                );
                continue;
            };
            assert!(buffered_len <= index(buffer.length()));
            early_count += usize::from(buffered_len < index(buffer.length()));
            let stream = buffer.open_stream().unwrap();
            let edit = stream.edit(&buffer, &shortening_edits(&stream)).unwrap();
            let mut all = Vec::new();
            buffer.write(&edit, &mut all).unwrap();
            assert!(all.starts_with(&bytes), "{name} in pieces of {size}");
            assert!(bytes.len() < all.len());
            match file.package() {
                Some(_) => postcopy += 1,
                None => precopy += 1,
            }
        }
    }
    assert!(
        precopy >= 60 && postcopy >= 3 && early_count >= 20,
        "{precopy}, {postcopy}, {early_count}"
    );
}

#[test]
fn setup_is_known_before_the_first_page() {
    for fixture in fixtures() {
        let source = fixture.open();
        let whole = bytes(&source);
        let file = Stream::open(&source).unwrap();
        let mut parser = IncrementalParser::bidirectional();
        let (mut from, mut to) = (0, 0);
        while parser.setup().is_none() && to < whole.len() {
            to += 1;
            match parser.feed(&whole[from..to], false) {
                Ok(consumed) => from += consumed.forward + consumed.buffered,
                // mapped-ram is rejected at its header.
                Err(_) => break,
            }
        }
        let Some(setup) = parser.setup() else {
            assert!(fixture.name.contains("mapped"), "{}", fixture.name);
            continue;
        };
        assert!(parser.phase() < Phase::Ram, "{}", fixture.name);
        assert_eq!(setup.machine.as_deref(), file.machine());
        let shape = file.shape();
        assert!(shape.ram.starts_with(&setup.ram) && !setup.ram.is_empty());
    }
}
