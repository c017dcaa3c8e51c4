//! Lists of QEMU under HVF, made by an edit of a recorded stream. There is no recording of a Mac.

use cpreg::destination::{Accelerator, hvf};
use cpreg::register::RegisterId;
use cpreg::vm::Extension;
use cpreg_stream::{CpuEdit, Stream, convert};

use crate::common::{bytes, fixture, fixtures};

const MDSCR_EL1: RegisterId = RegisterId::sysreg(2, 0, 0, 2, 2);

/// Returns a list as QEMU 8.2.4 has it: not sorted, with ID_AA64PFR1_EL1 under the wrong id.
fn old_list() -> Vec<(RegisterId, u64)> {
    let debug = (0..16).flat_map(|crm| (4..8).map(move |op2| (2, 0, 0, crm, op2)));
    let others = [
        (3, 0, 0, 4, 2),
        (3, 0, 0, 5, 0),
        (3, 0, 0, 6, 0),
        (2, 0, 0, 2, 2),
        (3, 0, 1, 0, 0),
        (3, 0, 4, 0, 0),
        (3, 0, 4, 0, 1),
        (3, 0, 4, 1, 0),
        (3, 4, 4, 1, 0),
    ];
    let ids = debug.chain(others);
    ids.map(|(op0, op1, crn, crm, op2)| RegisterId::sysreg(op0, op1, crn, crm, op2))
        .zip(100..)
        .collect()
}

fn edited(list: &[(RegisterId, u64)]) -> Vec<u8> {
    let source = fixture("tcg/q10.0__virt-7.2-cortex-a57-smp1");
    let stream = Stream::open(&source).unwrap();
    let edit = CpuEdit {
        registers: Some(list.to_vec()),
        ..CpuEdit::default()
    };
    let edit = stream.edit(&source, &[edit]).unwrap();
    bytes(&edit.apply_to(&source))
}

#[test]
fn the_order_of_a_list_is_kept_and_can_be_changed() {
    let list = old_list();
    let file = edited(&list);
    let stream = Stream::open(&file).unwrap();
    assert_eq!(stream.accelerator(), Some(Accelerator::Hvf));
    let mut vm = stream.vm().unwrap();
    let is_order = |it: &Extension| it.name == Extension::HVF_ORDER;
    assert!(vm.vcpus[0].extensions.iter().any(is_order));
    assert!(convert(&stream, &file, &vm).unwrap().is_identity());

    // The correct id has the place of the wrong one.
    let value = vm.vcpus[0].registers.remove(RegisterId::ID_AA64PFR2_EL1);
    let registers = &mut vm.vcpus[0].registers;
    registers.insert(RegisterId::ID_AA64PFR1_EL1, value.unwrap());
    let renamed = bytes(&convert(&stream, &file, &vm).unwrap().apply_to(&file));
    let mut expected = list.clone();
    for (id, _) in &mut expected {
        if *id == RegisterId::ID_AA64PFR2_EL1 {
            *id = RegisterId::ID_AA64PFR1_EL1;
        }
    }
    let registers = |file: &Vec<u8>| -> Vec<_> {
        let stream = Stream::verify(file).unwrap();
        stream.cpus()[0].registers().collect()
    };
    assert_eq!(registers(&renamed), expected);

    // Without the extension the list is ascending, and the extension brings the order back.
    vm.vcpus[0].extensions.retain(|it| !is_order(it));
    let sorted = bytes(&convert(&stream, &file, &vm).unwrap().apply_to(&file));
    let ids: Vec<_> = registers(&sorted).into_iter().map(|(id, _)| id).collect();
    assert!(ids.is_sorted());
    assert!(ids.contains(&MDSCR_EL1));
    let stream = Stream::open(&sorted).unwrap();
    vm.vcpus[0].extensions.push(Extension {
        name: Extension::HVF_ORDER.into(),
        content: cpreg::vm::Content::Number(1),
    });
    let edit = convert(&stream, &sorted, &vm).unwrap();
    assert_eq!(bytes(&edit.apply_to(&sorted)), renamed);
}

#[test]
fn no_recorded_list_is_that_of_hvf() {
    for recorded in fixtures() {
        let name = &recorded.name;
        let source = recorded.open();
        let stream = Stream::open(&source).unwrap();
        let accelerator = stream.accelerator().unwrap();
        assert_ne!(accelerator, Accelerator::Hvf, "{name}");
        for cpu in stream.cpus() {
            let registers = cpu.registers().map(|(id, _)| id);
            let ids: Vec<_> = registers.collect();
            assert!(!hvf::is_unsorted_order(&ids), "{name}");
            // TCG is not taken for HVF without its AArch32 registers either.
            let only_64 = ids.iter().filter(|id| id.raw() >> 56 == 0x60);
            let only_64 = only_64.filter(|id| id.raw() & !0xffff == 0x6030_0000_0013_0000);
            let accelerator = Accelerator::from_registers(only_64.copied());
            assert_eq!(accelerator, None, "{name}");
        }
    }
}
