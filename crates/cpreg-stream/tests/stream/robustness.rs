//! Damaged streams: a clear error with its offset or a right result, no panic, and bounded reads.

use crate::common::synthetic::SyntheticStream;
use crate::common::{bytes, fixture, index, is_content_error};
use cpreg_stream::{CountingSource, OpenMethod, Stream};
use cpreg_stream::{Error, ErrorKind};

/// Returns a recorded stream without RAM, short enough for some hundred thousand reads.
fn without_pages(name: &str) -> Vec<u8> {
    let whole = fixture(name);
    let stream = Stream::open(&whole).unwrap();
    let edit = stream.without_ram(&[]).unwrap();
    bytes(&edit.apply_to(&whole))
}

/// Opens a stream by every method; checks that the result can be translated and edited.
fn open(bytes: &Vec<u8>) -> Result<Stream, Error> {
    let source = CountingSource::new(bytes);
    let opened = Stream::open(&source);
    match &opened {
        Ok(stream) => {
            let vm = stream.vm().unwrap();
            let unchanged = stream.diff_to(&vm).unwrap();
            assert!(stream.edit(&source, &unchanged).unwrap().is_identity());
            assert_eq!(stream.shape().vcpu_count, vm.vcpus.len());
            if *stream.open_method() == OpenMethod::Description {
                match Stream::verify(&source) {
                    Ok(verified) => assert!(verified.vm().unwrap() == vm),
                    Err(error) => assert_clear_error(&error),
                }
            }
        }
        // `open` has tried both methods.
        Err(error) => assert_clear_error(error),
    }
    let limit = 64 * bytes.len() as u64 + (1 << 20);
    assert!(
        source.bytes() < limit,
        "{} bytes read of {}",
        source.bytes(),
        bytes.len()
    );
    opened
}

/// Checks that the error has an offset and a kind of a damaged file.
fn assert_clear_error(error: &Error) {
    let kind = error.kind();
    assert!(is_content_error(kind), "{error:?}");
    assert!(
        error.offset().is_some() || kind == ErrorKind::NotArm,
        "{error:?}"
    );
    assert!(!error.message().is_empty());
}

#[test]
fn every_cut_of_recorded_device_state() {
    let whole = without_pages("kvm/6.12.107__q10.0__max__virt10.0-smp4");
    assert!(whole.len() > 64 << 10);
    let stream = Stream::open(&whole).unwrap();
    let vm = stream.vm().unwrap();
    let mut opened = 0;
    for cut in 0..whole.len() {
        let prefix = &whole[..cut];
        match Stream::open(&prefix) {
            // Without its description the stream is complete.
            Ok(part) => {
                assert_eq!(cut as u64, stream.end());
                assert!(part.vm().unwrap() == vm);
                opened += 1;
            }
            Err(error) => {
                assert_clear_error(&error);
                assert!(
                    matches!(error.kind(), ErrorKind::Truncated | ErrorKind::NotAStream),
                    "cut at {cut}: {error:?}"
                );
            }
        }
    }
    assert_eq!(opened, 1);
}

#[test]
fn every_cut_of_recorded_ram() {
    let mut part = bytes(&fixture("tcg/q10.0__virt-7.2-cortex-a57-smp1"));
    part.truncate(64 << 10);
    while part.pop().is_some() {
        let error = Stream::open(&part).unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::Truncated | ErrorKind::NotAStream),
            "{error:?}"
        );
    }
}

/// Cuts streams with elements that recordings lack at every byte.
#[test]
fn every_cut_of_synthetic_streams() {
    for postcopy in [false, true] {
        let synthetic = SyntheticStream {
            has_early_section: true,
            has_early_section_after_start: true,
            snapshot: !postcopy,
            postcopy,
            pages: 3,
            ..SyntheticStream::default()
        };
        let whole = synthetic.bytes();
        let stream = Stream::open(&whole).unwrap();
        for cut in 0..whole.len() {
            let result = open(&whole[..cut].to_vec());
            assert_eq!(result.is_ok(), cut as u64 == stream.end(), "cut at {cut}");
        }
    }
}

#[test]
fn every_flipped_bit_of_headers_and_a_recorded_cpu_section() {
    let opened = flip_every_bit(&without_pages(
        "kvm/5.10.223__q10.0__neoverse-n1__virt10.0-smp1",
    ));
    // Most of a section is register values, and any value is valid.
    assert!(opened > 10_000, "only {opened} opened");
}

#[test]
fn every_flipped_bit_of_headers_and_synthetic_cpu_sections() {
    for description in [false, true] {
        let synthetic = SyntheticStream {
            registers: 6,
            postcopy: !description,
            description,
            ..SyntheticStream::default()
        };
        let opened = flip_every_bit(&synthetic.bytes());
        assert!(opened > 1000, "only {opened} opened");
    }
}

/// Flips one bit after the other, of all headers and of the last `cpu` section.
///
/// Returns the number of damaged streams that could be opened.
fn flip_every_bit(bytes: &[u8]) -> usize {
    let stream = Stream::open(&bytes).unwrap();
    let vm = stream.vm().unwrap();
    let sections = stream.sections();
    let mut offsets: Vec<usize> = (0..index(sections[0].range.start)).collect();
    for section in sections {
        offsets.extend(index(section.range.start)..index(section.payload.start));
        offsets.extend(index(section.payload.end)..index(section.range.end));
    }
    let (cpu, others) = stream.cpus().split_last().unwrap();
    let payload = cpu.section().payload.clone();
    offsets.extend(index(payload.start)..index(payload.end));
    let end = index(sections.last().unwrap().range.end);
    offsets.extend(end..bytes.len().min(end + 200));
    let check = |part: &[usize]| {
        let mut bytes = bytes.to_vec();
        let mut opened = 0;
        for (offset, bit) in part
            .iter()
            .flat_map(|offset| (0..8).map(move |bit| (*offset, bit)))
        {
            bytes[offset] ^= 1 << bit;
            if let Ok(damaged) = open(&bytes) {
                opened += 1;
                // Only that vCPU's registers may have changed.
                let damaged = damaged.vm().unwrap();
                assert!(
                    damaged.vcpus.len() == vm.vcpus.len()
                        && damaged.vcpus[..others.len()] == vm.vcpus[..others.len()],
                    "bit {bit} of byte {offset:#x}"
                );
            }
            bytes[offset] ^= 1 << bit;
        }
        opened
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = offsets
            .chunks(offsets.len().div_ceil(4))
            .map(|part| scope.spawn(|| check(part)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

/// Reproducible pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next_below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit
    }
}

#[test]
fn ten_thousand_mutations() {
    let mut random = Random(0x05ee_d0fc_4a05);
    let originals = [
        without_pages("kvm/6.16.12__q5.2__max__virt5.2-smp1"),
        without_pages("tcg/q11.1__virt-7.2-cortex-a15-smp1"),
        SyntheticStream::default().bytes(),
        SyntheticStream {
            has_early_section: true,
            postcopy: true,
            ..SyntheticStream::default()
        }
        .bytes(),
        SyntheticStream {
            has_early_section: true,
            padding: 100,
            description: false,
            ..SyntheticStream::default()
        }
        .bytes(),
    ];
    let (mut opened, mut rejected) = (0, 0);
    for round in 0..10_000 {
        let mut bytes = originals[round % originals.len()].clone();
        for _ in 0..=random.next_below(3) {
            mutate(&mut bytes, &mut random);
        }
        match open(&bytes) {
            Ok(_) => opened += 1,
            Err(_) => rejected += 1,
        }
    }
    assert!(
        opened > 1000 && rejected > 1000,
        "{opened} opened, {rejected} rejected"
    );
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const INTERESTING_BYTES: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0x7e, 0x7f, 0xff];
    let at = random.next_below(bytes.len());
    let length = random.next_below(64).min(bytes.len() - at);
    match random.next_below(7) {
        0 => bytes[at] = INTERESTING_BYTES[random.next_below(INTERESTING_BYTES.len())],
        1 => bytes[at] ^= 1 << random.next_below(8),
        2 => drop(bytes.drain(at..at + length)),
        3 => {
            let copy = bytes[at..at + length].to_vec();
            let to = random.next_below(bytes.len());
            bytes.splice(to..to, copy);
        }
        4 => bytes[at..at + length]
            .fill(INTERESTING_BYTES[random.next_below(INTERESTING_BYTES.len())]),
        5 => {
            let copy = bytes[at..at + length].to_vec();
            let to = random.next_below(bytes.len() - length + 1);
            bytes[to..to + length].copy_from_slice(&copy);
        }
        _ => {
            // A number of four bytes becomes large, or off by one.
            let at = at.min(bytes.len() - 4);
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[at..at + 4]);
            let number = u32::from_be_bytes(number);
            let number = [
                u32::MAX,
                0x7fff_ffff,
                number.wrapping_add(1),
                number.wrapping_sub(1),
            ][random.next_below(4)];
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
    }
    if bytes.len() < 8 {
        bytes.resize(8, 0);
    }
}
