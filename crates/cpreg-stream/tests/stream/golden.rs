//! Every recorded stream: both methods of opening agree, an edit to the same state changes nothing,
//! and the content matches the text file next to it.

use std::fmt::Write as _;

use crate::common::{Fixture, fixtures};
use cpreg::vm::Content;
use cpreg_stream::Stream;
use cpreg_stream::{CpuEdit, OpenMethod};

#[test]
fn recorded_streams_match_golden_files() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut mismatches = Vec::new();
    for fixture in fixtures() {
        let text = read(&fixture);
        let path = fixture.path.with_extension("").with_extension("txt");
        if bless {
            std::fs::write(&path, text).unwrap();
        } else if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            mismatches.push(fixture.name);
        }
    }
    assert!(
        mismatches.is_empty(),
        "golden files differ: {mismatches:#?}; to accept the new content, run \
         `BLESS=1 cargo test -p cpreg-stream --test stream golden`"
    );
}

fn read(fixture: &Fixture) -> String {
    let name = &fixture.name;
    let source = fixture.open();
    let stream = Stream::open(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
    // Postcopy streams have no description.
    let postcopy = name.ends_with("postcopy");
    assert_eq!(
        *stream.open_method() == OpenMethod::Description,
        !postcopy,
        "{name}"
    );
    assert_eq!(stream.package().is_some(), postcopy, "{name}");
    let verified = Stream::verify(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        *verified.open_method() == OpenMethod::Verified,
        !postcopy,
        "{name}"
    );
    assert_eq!(stream.vm().unwrap(), verified.vm().unwrap(), "{name}");
    assert_eq!(stream.shape(), verified.shape(), "{name}");

    let unchanged = stream.diff_to(&stream.vm().unwrap()).unwrap();
    assert_eq!(
        unchanged,
        vec![CpuEdit::default(); stream.cpus().len()],
        "{name}"
    );
    assert!(
        stream.edit(&source, &unchanged).unwrap().is_identity(),
        "{name}"
    );
    // Rewritten register lists give the same bytes.
    let rewritten: Vec<_> = stream
        .cpus()
        .iter()
        .map(|cpu| CpuEdit {
            registers: Some(cpu.registers().collect()),
            ..CpuEdit::default()
        })
        .collect();
    assert!(
        stream.edit(&source, &rewritten).unwrap().is_identity(),
        "{name}"
    );
    dump(&verified)
}

/// Returns everything that is read from a stream, as text.
fn dump(stream: &Stream) -> String {
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| writeln!(text, "{arguments}").unwrap();
    line(format_args!(
        "length {}, ends at {}",
        stream.length(),
        stream.end()
    ));
    if let Some(description) = stream.description() {
        let exact = stream.is_described_exactly();
        line(format_args!("description {description:?}, exact: {exact}"));
    }
    if let Some(package) = stream.package() {
        line(format_args!("{package:?}"));
    }
    let configuration = stream.configuration().unwrap();
    line(format_args!("{configuration:?}"));
    line(format_args!("{:?}", stream.accelerator().unwrap()));
    line(format_args!("run state {}", stream.run_state().unwrap()));
    for block in stream.ram_blocks() {
        line(format_args!("{block:?}"));
    }
    line(format_args!("{:?}", stream.record_counts().unwrap()));
    for live in stream.live_sections() {
        line(format_args!("{live:?}"));
    }
    for section in stream.sections() {
        line(format_args!(
            "section {} {} {} version {}: {:?}",
            section.id, section.name, section.instance, section.version, section.payload
        ));
    }
    let vm = stream.vm().unwrap();
    let mut first = None;
    for (cpu, vcpu) in stream.cpus().iter().zip(&vm.vcpus) {
        let core_fields = cpu.core_fields();
        line(format_args!(
            "cpu {}: pc {:#x} pstate {:#x} x0 {:#x} sp {:#x} sp_el {:x?} elr_el {:x?} spsr {:x?}",
            cpu.section().instance,
            core_fields.pc,
            core_fields.pstate,
            core_fields.x[0],
            core_fields.x[31],
            core_fields.sp_el,
            core_fields.elr_el,
            core_fields.banked_spsr,
        ));
        line(format_args!("  {:x?}", cpu.trailing_fields()));
        for subsection in cpu.all_subsections() {
            line(format_args!(
                "  {} version {}",
                subsection.name, subsection.version
            ));
        }
        for extension in &vcpu.extensions {
            match &extension.content {
                Content::Number(number) => line(format_args!("  {} {number:#x}", extension.name)),
                Content::Bytes(bytes) => line(format_args!(
                    "  {} {} bytes, {:016x}",
                    extension.name,
                    bytes.len(),
                    checksum(bytes)
                )),
            }
        }
        // For further vCPUs, print only differences from the first.
        line(format_args!("  {} registers", vcpu.registers.len()));
        for (id, value) in vcpu.registers.iter() {
            let same =
                first.is_some_and(|first: &cpreg::vm::Vcpu| first.registers.get(id) == Some(value));
            if !same {
                line(format_args!("  {:016x} {value}", id.raw()));
            }
        }
        first.get_or_insert(vcpu);
    }
    text
}

/// Returns the FNV-1a checksum, which detects a change.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
