//! Lines of VMMs with their own snapshot formats are parsed, and any other line is accepted without
//! a panic.

use cpreg_explain::Symptom;
use cpreg_explain::snapshot::{looks_like_an_error, parse};
use proptest::prelude::*;

#[test]
fn both_spellings_of_an_id_are_the_same_register() {
    let id = |line: &str| match parse(line).pop().map(|statement| statement.symptom) {
        Some(
            Symptom::ValueNotAccepted { register, .. } | Symptom::UnknownToKvm { register, .. },
        ) => register.id,
        other => panic!("{other:?}"),
    };
    let hexadecimal = id(
        "Failed to set register 0x603000000013c083 to value 0x0000000000000001: Invalid argument (os error 22)",
    );
    let decimal = id(&format!(
        "Failed to set register {}: No such file or directory (os error 2)",
        0x6030_0000_0013_c083_u64
    ));
    assert!(hexadecimal.is_some());
    assert_eq!(hexadecimal, decimal);
}

#[test]
fn registers_of_other_programs_are_ignored() {
    for line in [
        "Failed to set registers for remote call",
        "Failed to set system registers: 5",
        "Failed to set register pointer",
    ] {
        assert_eq!(parse(line), [], "{line}");
    }
}

proptest! {
    #[test]
    fn any_line_is_read(parts in prop::collection::vec(prop_oneof![
        4 => prop::sample::select(vec![
            "Failed to set register ", "0x", " to value ", ": ", "(os error ", ")", "SetSysRegister(",
            "Failed to set system register", "Could not set the vCPU state", "Failed to restore the VM's GIC state",
            "Invalid data version: ", "18446744073709551616", "ä", "\\n",
        ]).prop_map(str::to_owned),
        1 => ".{0,12}",
    ], 0..24)) {
        let line = parts.concat();
        let _ = parse(&line);
        let _ = looks_like_an_error(&line);
    }
}
