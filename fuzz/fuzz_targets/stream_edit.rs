//! An edit of a stream: the edited stream holds the requested state.
//!
//! The input is the number of changes, the changes and the stream.
#![no_main]

use arbitrary::Unstructured;
use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Content, Vm};
use cpreg_fuzz::{apply_edit, open};
use cpreg_stream::Stream;
use libfuzzer_sys::fuzz_target;

/// Applies one change of the state.
fn change(input: &mut Unstructured<'_>, vm: &mut Vm) -> arbitrary::Result<()> {
    let [kind, vcpu, index]: [u8; 3] = input.arbitrary()?;
    let number: u64 = input.arbitrary()?;
    let count = vm.vcpus.len();
    let vcpu = &mut vm.vcpus[usize::from(vcpu) % count];
    let nth = usize::from(index);
    let register = vcpu.registers.iter().nth(nth).map(|(id, _)| id);
    match (kind % 5, register) {
        (0, Some(id)) => {
            vcpu.registers.remove(id);
        }
        (1, Some(id)) => {
            vcpu.registers.insert(id, Value::from(number));
        }
        (2, _) => {
            let id = RegisterId::from_raw(number & !(0xf << 52) | (3 << 52));
            vcpu.registers.insert(id, Value::from(u64::from(index)));
        }
        (3, _) if nth < vcpu.extensions.len() => {
            vcpu.extensions.remove(nth);
        }
        (4, _) if nth < vcpu.extensions.len() => {
            let content = number.to_be_bytes().repeat(usize::from(index % 5));
            vcpu.extensions[nth].content = Content::Bytes(content);
        }
        _ => {}
    }
    Ok(())
}

/// Returns `true` if two VMs have the same state; the order of extensions does not matter.
fn is_same(one: &Vm, other: &Vm) -> bool {
    one.vcpus.len() == other.vcpus.len()
        && one.vcpus.iter().zip(&other.vcpus).all(|(one, other)| {
            one.registers == other.registers
                && one.extensions.len() == other.extensions.len()
                && one
                    .extensions
                    .iter()
                    .all(|extension| other.extensions.contains(extension))
        })
}

fn run(input: &[u8]) -> arbitrary::Result<()> {
    let mut input = Unstructured::new(input);
    let count: u8 = input.arbitrary()?;
    let mut changes = Unstructured::new(input.bytes(usize::from(count % 8) * 11)?);
    let stream = input.take_rest();
    let Ok((opened, mut vm)) = open(stream, Stream::open) else {
        return Ok(());
    };
    while !changes.is_empty() {
        change(&mut changes, &mut vm)?;
    }
    let Ok(edits) = opened.diff_to(&vm) else {
        return Ok(());
    };
    let Ok(edit) = opened.edit(&stream, &edits) else {
        return Ok(());
    };
    let written = apply_edit(&edit, stream);
    let (reopened, state) = open(&written, Stream::open).expect("an edited stream");
    assert!(is_same(&state, &vm));
    assert_eq!(reopened.open_method(), opened.open_method());
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    // Inputs that are too short for their changes are ignored.
    let _ = run(input);
});
