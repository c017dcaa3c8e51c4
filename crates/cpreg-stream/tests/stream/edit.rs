//! Edits of recorded and synthetic streams: the requested changes and no others.

use std::borrow::Cow;
use std::ops::Range;

use crate::common::synthetic::SyntheticStream;
use crate::common::{bytes, fixture, fixtures, index};
use cpreg::hardware::HardwareFacts;
use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Content, Extension, Vm};
use cpreg_stream::{CpuEdit, Edit, ExtensionChange, OpenMethod, ReadAt};
use cpreg_stream::{ErrorKind, Stream};
use proptest::prelude::*;

const N1: &str = "kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1";

fn id(raw: u64) -> RegisterId {
    RegisterId::from_raw(raw)
}

fn number(name: &'static str, number: u64) -> Extension {
    Extension {
        name: Cow::Borrowed(name),
        content: Content::Number(number),
    }
}

/// Edits the stream so that it holds `vm`; checks that only CPU state has changed.
fn edit_and_check(source: &dyn ReadAt, stream: &Stream, vm: &Vm) -> Vec<u8> {
    let changes = stream.diff_to(vm).unwrap();
    let edit = stream.edit(source, &changes).unwrap();
    assert_prefix_is_fixed(stream, &edit);
    let edited = bytes(&edit.apply_to(source));
    assert_eq!(edited.len() as u64, edit.new_length());
    let reopened = Stream::verify(&edited).unwrap();
    // The order of extensions may differ: the edit appends new ones.
    assert!(
        sorted(reopened.vm().unwrap()) == sorted(vm.clone()),
        "the state differs"
    );
    assert_eq!(reopened.shape(), stream.shape());
    assert_eq!(reopened.run_state(), stream.run_state());
    if stream.description().is_some() {
        assert_eq!(*reopened.open_method(), OpenMethod::Verified);
        assert!(reopened.is_described_exactly());
    }
    let old = untouched_bytes(stream, &bytes(source));
    assert!(
        old == untouched_bytes(&reopened, &edited),
        "other bytes changed"
    );
    edited
}

fn assert_prefix_is_fixed(stream: &Stream, edit: &Edit) {
    let first = edit.replacements().first();
    let first = first.map_or(edit.old_length(), |replacement| replacement.range.start);
    let prefix_len = stream.fixed_prefix_len();
    assert!(prefix_len <= first, "{prefix_len:#x} is after {first:#x}");
}

fn sorted(mut vm: Vm) -> Vm {
    // The accelerator decides which GIC a VM has, and an edited list may not identify it.
    vm.source_hardware = HardwareFacts::UNKNOWN;
    for vcpu in &mut vm.vcpus {
        vcpu.extensions.sort_by(|a, b| a.name.cmp(&b.name));
    }
    vm
}

/// Returns all bytes except `cpu` payloads, the description and the package's length.
fn untouched_bytes(stream: &Stream, bytes: &[u8]) -> Vec<u8> {
    let mut holes: Vec<Range<u64>> = stream
        .cpus()
        .iter()
        .map(|cpu| cpu.section().payload.clone())
        .collect();
    holes.extend(stream.description().map(|range| range.start - 4..range.end));
    holes.extend(
        stream
            .package()
            .map(|package| package.length_field..package.length_field + 4),
    );
    holes.sort_by_key(|hole| hole.start);
    let mut rest = Vec::new();
    let mut at = 0;
    for hole in holes {
        rest.extend(&bytes[at..index(hole.start)]);
        at = index(hole.end);
    }
    rest.extend(&bytes[at..]);
    rest
}

/// Compares with an edit by another program that a real destination has loaded.
#[test]
fn dropped_registers_give_the_stream_that_a_real_host_loaded() {
    let source = fixture(N1);
    let stream = Stream::open(&source).unwrap();
    let mut vm = stream.vm().unwrap();
    for raw in [
        0x6030_0000_0013_c103,
        0x6030_0000_0013_c512,
        0x6030_0000_0013_c513,
    ] {
        assert!(vm.vcpus[0].registers.remove(id(raw)).is_some());
    }
    let edited = edit_and_check(&source, &stream, &vm);
    let loaded =
        fixture("edited/6.12.107__q10.0__neoverse-n1__virt10.0-smp1-e1-drop-tcr2-pire0-pir");
    let loaded = bytes(&loaded);
    let end = index(Stream::open(&edited).unwrap().end());
    // Compare up to the description, which the other program did not change.
    assert_eq!(edited[..end], loaded[..end]);
}

/// A vCPU in WFIT whose timer is dropped must not wait: `halted`, the first field of `cpu_common`,
/// becomes 0, and nothing else of that section changes.
#[test]
fn a_vcpu_without_its_timer_is_woken() {
    for name in [
        "../tcg/qemu-11.1-max-wfit-armed",
        "../tcg/qemu-10.0-max-wfit-armed",
    ] {
        let source = fixture(name);
        let stream = Stream::open(&source).unwrap();
        let common = |stream: &Stream, file: &dyn ReadAt| {
            let mut sections = stream.sections().iter();
            let section = sections.find(|section| section.name == "cpu_common");
            let range = section.unwrap().payload.clone();
            bytes(file)[index(range.start)..index(range.end)].to_vec()
        };
        let before = common(&stream, &source);
        assert_eq!(before[..4], [0, 0, 0, 1], "{name} is halted");
        let mut vm = stream.vm().unwrap();
        let vcpu = &mut vm.vcpus[0];
        vcpu.extensions
            .retain(|extension| extension.name != Extension::WFXT_TIMER);
        let asleep = cpreg_stream::convert(&stream, &source, &vm).unwrap();
        let edited = bytes(&asleep.apply_to(&source));
        assert_eq!(common(&Stream::open(&edited).unwrap(), &edited), before);
        vm.vcpus[0].is_halted = Some(false);
        let awake = cpreg_stream::convert(&stream, &source, &vm).unwrap();
        assert_prefix_is_fixed(&stream, &awake);
        let edited = bytes(&awake.apply_to(&source));
        let woken = Stream::open(&edited).unwrap();
        assert_eq!(common(&woken, &edited)[..4], [0; 4]);
        assert_eq!(common(&woken, &edited)[4..], before[4..]);
        // Waking a vCPU that is awake changes nothing.
        let again = cpreg_stream::convert(&woken, &edited, &vm).unwrap();
        assert!(again.is_identity());
        // The section of the vCPU does not hold the state.
        let error = stream.cpus()[0].with_state(&vm.vcpus[0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadEdit);
    }
}

/// All pages of RAM lie in the part that no edit changes, so a copy can begin with them.
#[test]
fn fixed_prefix_holds_ram() {
    let source = fixture("tcg/q10.0__virt-7.2-cortex-a57-smp2-mappedram");
    let stream = Stream::open(&source).unwrap();
    let blocks = stream.ram_blocks().iter();
    let pages = blocks.filter_map(|block| block.mapped_ram.as_ref());
    let end = pages.map(|mapped| mapped.pages.end).max().unwrap();
    assert!(end <= stream.fixed_prefix_len());

    for postcopy in [false, true] {
        let synthetic = SyntheticStream {
            pages: 5,
            postcopy,
            ..SyntheticStream::default()
        };
        let stream = Stream::open(&synthetic.bytes()).unwrap();
        let first = stream.sections()[0].range.start;
        let first = stream.package().map_or(first, |it| it.length_field);
        assert_eq!(stream.fixed_prefix_len(), first);
    }
}

#[test]
fn every_kind_of_change_applies_to_every_recorded_stream() {
    for fixture in fixtures() {
        let source = fixture.open();
        // Uncompressed it has 207 MB; another test covers it.
        if source.length().unwrap() > 64 << 20 {
            continue;
        }
        let stream = Stream::open(&source).unwrap();
        let mut vm = stream.vm().unwrap();
        for (vcpu_number, vcpu) in (0u64..).zip(&mut vm.vcpus) {
            let ids: Vec<_> = vcpu.registers.iter().map(|(id, _)| id).collect();
            for removed in ids.iter().step_by(7) {
                vcpu.registers.remove(*removed);
            }
            vcpu.registers
                .insert(ids[1], Value::U64(0x1234_5678 + vcpu_number));
            vcpu.registers
                .insert(id(0x6030_0000_0013_ffff), Value::U64(u64::MAX));
            vcpu.registers
                .insert(id(0x4020_0000_0000_0001), Value::U64(1));
            vcpu.extensions.retain(|extension| {
                ![Extension::FEATURES, Extension::WFXT_TIMER, "cpu/sve"].contains(&&*extension.name)
            });
            vcpu.extensions
                .insert(0, number(Extension::FEATURES, 0x0123_4567_89ab_cdef));
            vcpu.extensions
                .push(number(Extension::WFXT_TIMER, u64::MAX));
        }
        edit_and_check(&source, &stream, &vm);
        // Edit back to the old state; removed subsections are appended.
        let edit = stream.edit(&source, &stream.diff_to(&vm).unwrap()).unwrap();
        let edited = bytes(&edit.apply_to(&source));
        let changed = Stream::open(&edited).unwrap();
        let reverse = changed.diff_to(&stream.vm().unwrap()).unwrap();
        let reverse = changed.edit(&edited, &reverse).unwrap();
        let restored = Stream::open(&reverse.apply_to(&edited)).unwrap();
        assert!(
            sorted(restored.vm().unwrap()) == sorted(stream.vm().unwrap()),
            "{}",
            fixture.name
        );
    }
}

#[test]
fn nested_subsection_is_added_and_removed() {
    let source = fixture(N1);
    let stream = Stream::open(&source).unwrap();
    let mut vm = stream.vm().unwrap();
    let at = vm.vcpus[0]
        .extensions
        .iter()
        .position(|extension| extension.name == "cpu/vfp")
        .unwrap();
    vm.vcpus[0].extensions.insert(
        at + 1,
        Extension {
            name: Cow::Borrowed("cpu/vfp/fpcr_fpsr"),
            content: Content::Bytes(vec![7; 16]),
        },
    );
    let edited = edit_and_check(&source, &stream, &vm);
    let changed = Stream::open(&edited).unwrap();
    assert_eq!(
        changed.cpus()[0].subsections()[0].subsections[0].name,
        "cpu/vfp/fpcr_fpsr"
    );
    let restored = edit_and_check(&edited, &changed, &stream.vm().unwrap());
    // The description now has an empty array where it had none.
    assert_eq!(
        Stream::open(&restored).unwrap().cpus()[0].bytes(),
        stream.cpus()[0].bytes()
    );
}

/// Returns a stream in which the content of `cpu/vfp` holds the header of `cpu/x` at offset 100.
/// The description has `subsection` in place of `cpu/vfp`.
fn with_header_in_content(subsection: &str) -> Vec<u8> {
    let mut stream = SyntheticStream {
        vcpus: 1,
        ..SyntheticStream::default()
    }
    .bytes();
    let name = b"\x07cpu/vfp";
    let at = stream
        .windows(name.len())
        .position(|it| it == name)
        .unwrap();
    let content = at + name.len() + 4;
    let header = b"\x05\x05cpu/x\0\0\0\x01";
    stream[content + 100..][..header.len()].copy_from_slice(header);
    let marker = b"{\"page_size\"";
    let json = stream.windows(marker.len()).position(|it| it == marker);
    let json = stream.split_off(json.unwrap());
    let text = String::from_utf8(json).unwrap();
    let described = r#"{"vmsd_name": "cpu/vfp", "version": 3, "fields": [{"name": "v", "type": "buffer", "size": 576}]}"#;
    assert!(text.contains(described));
    let text = text.replace(described, subsection);
    stream.truncate(stream.len() - 4);
    stream.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    stream.extend(text.as_bytes());
    stream
}

/// Returns the names and content lengths of the first vCPU's subsections.
fn subsections(stream: &Stream) -> Vec<(String, usize)> {
    let cpu = &stream.cpus()[0];
    let subsections = cpu.all_subsections();
    let described = subsections.iter();
    described
        .map(|it| (it.name.clone(), cpu.content(it).len()))
        .collect()
}

#[test]
fn description_does_not_change_a_length_that_qemu_reads() {
    let subsection = r#"{"vmsd_name": "cpu/vfp", "version": 3, "fields": [{"name": "v", "size": 100}]},
        {"vmsd_name": "cpu/x", "version": 1, "fields": [{"name": "v", "size": 465}]}"#;
    let bytes = with_header_in_content(subsection);
    let stream = Stream::open_by_description(&bytes).unwrap();
    let expected = [("cpu/vfp", 576), ("cpu/irq-line-state", 4)];
    assert_eq!(
        subsections(&stream),
        expected.map(|(name, length)| (name.to_owned(), length))
    );
}

#[test]
fn section_that_needs_its_description_stays_as_it_is() {
    // Without the description, the content looks like two subsections.
    let subsection =
        r#"{"vmsd_name": "cpu/vfx", "version": 3, "fields": [{"name": "v", "size": 576}]}"#;
    let mut bytes = with_header_in_content(subsection);
    let name = b"\x07cpu/vfp";
    let at = bytes.windows(name.len()).position(|it| it == name).unwrap();
    bytes[at + name.len() - 1] = b'x';
    let stream = Stream::open_by_description(&bytes).unwrap();
    assert_eq!(subsections(&stream)[0], ("cpu/vfx".to_owned(), 576));
    let mut vm = stream.vm().unwrap();
    let changes = stream.diff_to(&vm).unwrap();
    assert!(stream.edit(&bytes, &changes).unwrap().is_identity());
    let first = vm.vcpus[0].registers.iter().next().unwrap().0;
    vm.vcpus[0].registers.remove(first);
    let changes = stream.diff_to(&vm).unwrap();
    let error = stream.edit(&bytes, &changes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadEdit);
}

#[test]
fn mapped_ram_pages_keep_their_offsets() {
    let source = fixture("tcg/q10.0__virt-7.2-cortex-a57-smp2-mappedram");
    let stream = Stream::open(&source).unwrap();
    let mut vm = stream.vm().unwrap();
    for vcpu in &mut vm.vcpus {
        vcpu.extensions.push(number(Extension::WFXT_TIMER, 5));
        vcpu.registers
            .insert(id(0x6030_0000_0013_c4f6), Value::U64(0));
    }
    let changes = stream.diff_to(&vm).unwrap();
    let edit = stream.edit(&source, &changes).unwrap();
    let edited = edit.apply_to(&source);
    let reopened = Stream::verify(&edited).unwrap();
    assert_eq!(*reopened.open_method(), OpenMethod::Verified);
    assert_eq!(reopened.vm().unwrap(), vm);
    assert_eq!(reopened.ram_blocks(), stream.ram_blocks());
    let pages_end = stream
        .ram_blocks()
        .last()
        .unwrap()
        .mapped_ram
        .as_ref()
        .unwrap()
        .pages
        .end;
    assert!(edit.replacements()[0].range.start > pages_end);
}

#[test]
fn package_length_is_updated() {
    let synthetic = SyntheticStream {
        postcopy: true,
        ..SyntheticStream::default()
    };
    let source = synthetic.bytes();
    let stream = Stream::open(&source).unwrap();
    let mut vm = stream.vm().unwrap();
    vm.vcpus[1]
        .registers
        .remove(id(crate::common::synthetic::id(3)));
    let edited = edit_and_check(&source, &stream, &vm);
    let package = Stream::open(&edited)
        .unwrap()
        .package()
        .unwrap()
        .range
        .clone();
    let before = &stream.package().unwrap().range;
    assert_eq!(package.end - package.start, before.end - before.start - 16);
}

#[test]
fn stream_of_256_vcpus_is_edited() {
    let synthetic = SyntheticStream {
        vcpus: 256,
        registers: 300,
        ..SyntheticStream::default()
    };
    let source = synthetic.bytes();
    let stream = Stream::open(&source).unwrap();
    let mut vm = stream.vm().unwrap();
    for vcpu in &mut vm.vcpus {
        vcpu.registers.remove(id(crate::common::synthetic::id(150)));
    }
    edit_and_check(&source, &stream, &vm);
}

#[test]
fn lists_with_one_register_and_none() {
    let source = SyntheticStream::default().bytes();
    let stream = Stream::open(&source).unwrap();
    let mut vm = stream.vm().unwrap();
    vm.vcpus[0].registers = cpreg::vm::Registers::new();
    let first = vm.vcpus[1]
        .registers
        .iter()
        .next()
        .map(|(id, value)| (id, value.clone()));
    vm.vcpus[1].registers = cpreg::vm::Registers::from_pairs(first).unwrap();
    let edited = edit_and_check(&source, &stream, &vm);
    // QEMU writes no array_len for a single element.
    let text = edited;
    let at = text
        .windows(16)
        .position(|window| window == b"\"array_len\": 1, ")
        .unwrap();
    let mut shorter = text[..at].to_vec();
    shorter.extend(&text[at + 16..]);
    let length_at = index(Stream::open(&text).unwrap().description().unwrap().start) - 4;
    let length = u32::from_be_bytes(shorter[length_at..][..4].try_into().unwrap()) - 16;
    shorter[length_at..][..4].copy_from_slice(&length.to_be_bytes());
    let one = Stream::open(&shorter).unwrap();
    assert!(one.is_described_exactly());
    edit_and_check(&shorter, &one, &stream.vm().unwrap());
}

#[test]
fn invalid_edits_are_rejected() {
    let source = fixture(N1);
    let stream = Stream::open(&source).unwrap();
    let registers = |pairs: &[(u64, u64)]| CpuEdit {
        registers: Some(
            pairs
                .iter()
                .map(|(raw, value)| (id(*raw), *value))
                .collect(),
        ),
        ..CpuEdit::default()
    };
    let extension = |change| CpuEdit {
        extensions: vec![change],
        ..CpuEdit::default()
    };
    let set = |name: &'static str, bytes: usize| {
        extension(ExtensionChange::Set(Extension {
            name: Cow::Borrowed(name),
            content: Content::Bytes(vec![0; bytes]),
        }))
    };
    let a = 0x6030_0000_0013_c000;
    for (edit, words) in [
        (
            registers(&[(a + 1, 0), (a, 0)]),
            "cpu[0].cpreg_vmstate_indexes[1]: 0x603000000013c000 is not greater than the id",
        ),
        (registers(&[(a, 0), (a, 0)]), "is not greater than the id"),
        (
            registers(&[(0x6040_0000_0010_0000, 0)]),
            "is not a register id that QEMU accepts",
        ),
        (
            registers(&[(0x4020_0000_0000_0000, 1 << 32)]),
            "is a 32-bit register, but its value needs more bits",
        ),
        (
            extension(ExtensionChange::Remove("cpu/wfxt-timer".into())),
            "cpu[0].cpu/wfxt-timer: the subsection to remove",
        ),
        (set("cpu/wfxt-timer", 7), "cpu[0]"),
        (
            set("cpu/no-parent/inner", 1),
            "its parent subsection is missing",
        ),
        (set("gpu/x", 1), "not a valid subsection name"),
        (set(Extension::FEATURES, 8), "the content must be a number"),
        (set("cpu/vfp", 3), "cpu[0]"),
    ] {
        let error = stream.edit(&source, &[edit]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadEdit, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(
        stream.edit(&source, &[]).unwrap_err().kind(),
        ErrorKind::BadEdit
    );
    assert_eq!(
        stream.diff_to(&Vm::default()).unwrap_err().kind(),
        ErrorKind::BadEdit
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn any_change_of_registers_reads_back(
        vcpus in 1u32..4,
        postcopy: bool,
        description: bool,
        padding in prop_oneof![Just(0usize), Just(777)],
        removed in prop::collection::vec((0u32..3, 0u32..20), 0..30),
        set in prop::collection::vec((0u32..3, 0u64..64, any::<u64>()), 0..30),
    ) {
        let synthetic = SyntheticStream { vcpus, postcopy, description, padding, ..SyntheticStream::default() };
        let source = synthetic.bytes();
        let stream = Stream::open(&source).unwrap();
        let mut vm = stream.vm().unwrap();
        for (vcpu, register) in removed {
            if let Some(vcpu) = vm.vcpus.get_mut(vcpu as usize) {
                vcpu.registers.remove(id(crate::common::synthetic::id(register)));
            }
        }
        for (vcpu, offset, value) in set {
            if let Some(vcpu) = vm.vcpus.get_mut(vcpu as usize) {
                vcpu.registers.insert(id(0x6030_0000_0013_8000 + offset), Value::U64(value));
            }
        }
        let edited = edit_and_check(&source, &stream, &vm);
        // An edit back to the old state restores the same bytes.
        let changed = Stream::open(&edited).unwrap();
        let reverse: Edit = changed.edit(&edited, &changed.diff_to(&stream.vm().unwrap()).unwrap()).unwrap();
        prop_assert!(bytes(&reverse.apply_to(&edited)) == source);
    }
}
