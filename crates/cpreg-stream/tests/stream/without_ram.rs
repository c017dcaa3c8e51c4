//! Streams without their RAM: everything else is present, and no page is read.

use crate::common::{bytes, fixtures, synthetic::SyntheticStream};
use cpreg_stream::Stream;
use cpreg_stream::{CountingSource, OpenMethod, ReadAt, SectionChange};

/// Returns the payloads of the sections, with their names, instances and versions.
fn devices(stream: &Stream, source: &dyn ReadAt) -> Vec<(String, u32, u32, Vec<u8>)> {
    let sections = stream.sections().iter();
    sections
        .map(|section| {
            let mut payload =
                vec![0; crate::common::index(section.payload.end - section.payload.start)];
            source
                .read_exact_at(&mut payload, section.payload.start)
                .unwrap();
            (
                section.name.clone(),
                section.instance,
                section.version,
                payload,
            )
        })
        .collect()
}

fn blocks(stream: &Stream) -> Vec<(&str, u64)> {
    let blocks = stream.ram_blocks().iter();
    blocks
        .map(|block| (block.name.as_str(), block.length))
        .collect()
}

#[test]
fn recorded_streams_keep_all_but_ram() {
    for fixture in fixtures() {
        let source = fixture.open();
        let source = CountingSource::new(&source);
        let stream = Stream::open(&source).unwrap();
        let before = source.bytes();
        let edit = stream.without_ram(&[]).unwrap();
        assert_eq!(source.bytes(), before, "{} was read again", fixture.name);
        let short = bytes(&edit.apply_to(&source));
        assert!(short.len() < 512 << 10, "{}: {}", fixture.name, short.len());
        let ramless = Stream::verify(&short).unwrap();
        assert_eq!(devices(&ramless, &short), devices(&stream, &source));
        assert_eq!(blocks(&ramless), blocks(&stream));
        assert_eq!(ramless.machine(), stream.machine());
        assert_eq!(ramless.run_state(), stream.run_state());
        assert!(ramless.vm().unwrap() == stream.vm().unwrap());
        let counts = ramless.record_counts().unwrap();
        assert_eq!(counts, cpreg_stream::RecordCounts::default());
        if *stream.open_method() == OpenMethod::Description {
            assert_eq!(
                *ramless.open_method(),
                OpenMethod::Verified,
                "{}",
                fixture.name
            );
        }
        // A second removal changes nothing.
        let again = ramless.without_ram(&[]).unwrap();
        assert_eq!(bytes(&again.apply_to(&short)), short, "{}", fixture.name);
    }
}

/// A file of `xen-save-devices-state` is a stream without what precedes the devices' sections.
#[test]
fn a_device_state_gets_the_setup_of_a_stream() {
    for fixture in fixtures() {
        let source = fixture.open();
        let complete = Stream::open(&source).unwrap();
        let edit = complete.without_ram(&[]).unwrap();
        let short = bytes(&edit.apply_to(&source));
        let stream = Stream::open(&short).unwrap();
        let start = crate::common::index(stream.sections()[0].range.start);
        let devices_only = [&short[..8], &short[start..]].concat();
        let device_state = Stream::open(&devices_only).unwrap();
        assert!(device_state.is_device_state_only(), "{}", fixture.name);
        assert!(!stream.is_device_state_only(), "{}", fixture.name);

        let edit = device_state.with_setup_of(&stream).unwrap();
        let completed = bytes(&edit.apply_to(&devices_only));
        let completed_stream = Stream::open(&completed).unwrap();
        assert_eq!(completed_stream.machine(), stream.machine());
        assert_eq!(blocks(&completed_stream), blocks(&stream));
        assert_eq!(
            devices(&completed_stream, &completed),
            devices(&stream, &short)
        );
    }
}

#[test]
fn sections_are_extracted_from_a_postcopy_package() {
    for early in [false, true] {
        let synthetic = SyntheticStream {
            postcopy: true,
            has_early_section: early,
            description: false,
            ..SyntheticStream::default()
        };
        let whole = synthetic.bytes();
        let stream = Stream::open(&whole).unwrap();
        assert!(stream.package().is_some());
        let short = bytes(&stream.without_ram(&[]).unwrap().apply_to(&whole));
        let ramless = Stream::open(&short).unwrap();
        assert!(ramless.package().is_none());
        assert_eq!(devices(&ramless, &short), devices(&stream, &whole));
    }
}

#[test]
fn sections_can_be_omitted_and_changed() {
    let fixture = crate::common::fixture("tcg/q10.0__virt-7.2-cortex-a57-smp1");
    let stream = Stream::open(&fixture).unwrap();
    let rtc = stream
        .sections()
        .iter()
        .position(|section| section.name == "pl031");
    let uart = stream
        .sections()
        .iter()
        .position(|section| section.name == "pl011");
    let (rtc, uart) = (rtc.unwrap(), uart.unwrap());
    let length = stream.sections()[uart].payload.end - stream.sections()[uart].payload.start;
    let zeros = vec![0; crate::common::index(length)];
    let timer = stream
        .sections()
        .iter()
        .position(|section| section.name == "timer");
    let timer = timer.unwrap();
    let changes = [
        (rtc, SectionChange::Omit),
        (uart, SectionChange::Payload(zeros.clone())),
        (timer, SectionChange::Patch(6, vec![0xee; 2])),
        (timer, SectionChange::Patch(1, vec![0xdd])),
    ];
    let short = bytes(&stream.without_ram(&changes).unwrap().apply_to(&fixture));
    let ramless = Stream::open(&short).unwrap();
    let mut expected = devices(&stream, &fixture);
    expected[uart].3 = zeros;
    expected[timer].3[6..8].fill(0xee);
    expected[timer].3[1] = 0xdd;
    expected.remove(rtc);
    assert_eq!(devices(&ramless, &short), expected);
    assert!(stream.without_ram(&[(999, SectionChange::Omit)]).is_err());
}
