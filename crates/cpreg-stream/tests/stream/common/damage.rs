//! Streams to damage, and reproducible random damage.

use cpreg_stream::Stream;

use super::synthetic::SyntheticStream;
use super::{bytes, fixture, index};

/// Reproducible pseudo-random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn next_below(&mut self, limit: usize) -> usize {
        index(self.next() % limit as u64)
    }
}

/// Returns short streams with elements that recordings lack.
pub fn synthetic_streams() -> Vec<(SyntheticStream, Vec<u8>)> {
    let mut all = Vec::new();
    for number in 0..32 {
        let has = |bit: u32| number & 1 << bit != 0;
        let synthetic = SyntheticStream {
            registers: 6,
            has_early_section: has(0),
            has_early_section_after_start: has(1),
            postcopy: has(2),
            description: has(3),
            padding: if has(4) { 100 } else { 0 },
            pages: if has(4) { 0 } else { 3 },
            ..SyntheticStream::default()
        };
        let whole = synthetic.bytes();
        all.push((synthetic, whole));
    }
    all
}

/// Returns the stream with other live sections between RAM's.
pub fn with_live_sections(whole: &[u8]) -> Vec<u8> {
    let find = |wanted: &[u8]| {
        whole
            .windows(wanted.len())
            .position(|window| window == wanted)
            .expect("RAM")
    };
    let part = find(b"\x02\0\0\0\x02\0\0\0\0\0\0\0");
    let end = find(b"\x03\0\0\0\x02\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02");
    let tag = |tag: u8| [0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0, tag];

    let mut new = whole[..part].to_vec();
    new.extend(b"\x01\0\0\0\x03\x110000:00:02.0/vfio\0\0\0\0\0\0\0\x01");
    new.extend([tag(3), tag(1)].concat());
    new.extend(b"\x7e\0\0\0\x03");
    new.extend(b"\x01\0\0\0\x04\x0cdirty-bitmap\0\0\0\0\0\0\0\x01\x01\x7e\0\0\0\x04");
    new.extend(&whole[part..end]);
    new.extend(b"\x02\0\0\0\x04\x1c\x02d0\x02b0\0\x01\0\0\x01");
    new.extend(b"\x40\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\x20\0");
    new.extend([0x7e; 0x2000]);
    new.extend(b"\x20\x01\x7e\0\0\0\x04");
    new.extend(b"\x02\0\0\0\x03");
    new.extend(tag(4));
    new.extend(70_000_u64.to_be_bytes());
    new.extend(vec![3; 70_000]);
    new.extend(tag(1));
    new.extend(b"\x7e\0\0\0\x03");
    new.extend(b"\x03\0\0\0\x04\x01\x7e\0\0\0\x04");
    new.extend(b"\x03\0\0\0\x03");
    new.extend(tag(2));
    // The configuration contains its end mark, without the footer.
    new.extend([tag(1), tag(1)].concat());
    new.extend([0x7e; 5000]);
    new.extend(tag(1));
    new.extend(b"\x7e\0\0\0\x03");
    new.extend(&whole[end..]);
    new
}

/// Damages a stream in one or a few places.
pub fn mutate(stream: &mut Vec<u8>, random: &mut Random, spare: &[u8]) {
    for _ in 0..=random.next_below(3) {
        let at = random.next_below(stream.len().max(1));
        let to = (at + random.next_below(200)).min(stream.len());
        match random.next_below(8) {
            0 => stream.truncate(at),
            1 => drop(stream.drain(at..to)),
            2 => {
                let copy = stream[at..to].to_vec();
                let into = random.next_below(stream.len());
                stream.splice(into..into, copy);
            }
            3 => {
                let from = random.next_below(spare.len());
                let until = (from + random.next_below(3000)).min(spare.len());
                stream.splice(at..at, spare[from..until].iter().copied());
            }
            4 => stream[at..to].fill(0xff),
            5 => {
                // An element's type, a flag, a length.
                let interesting = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x28, 0x7e, 0x80, 0xff];
                if let Some(byte) = stream.get_mut(at) {
                    *byte = interesting[random.next_below(interesting.len())];
                }
            }
            _ => {
                if let Some(byte) = stream.get_mut(at) {
                    *byte ^= 1 << random.next_below(8);
                }
            }
        }
        if stream.is_empty() {
            return;
        }
    }
}

/// Returns the streams to damage: synthetic ones of every kind, and a recorded one without RAM.
pub fn bases() -> Vec<Vec<u8>> {
    let mut bases: Vec<Vec<u8>> = synthetic_streams()
        .into_iter()
        .map(|(_, whole)| whole)
        .collect();
    let with_live: Vec<_> = bases.iter().step_by(5).cloned().collect();
    bases.extend(
        with_live
            .iter()
            .filter(|base| Stream::open(*base).unwrap().package().is_none())
            .map(|base| with_live_sections(base)),
    );
    let recorded = fixture("kvm/6.12.107__q10.0__max__virt10.0-smp4");
    let edit = Stream::open(&recorded).unwrap().without_ram(&[]).unwrap();
    bases.push(bytes(&edit.apply_to(&recorded)));
    bases
}
