//! `cpreg guest-check` on a machine that is no arm64 Linux, and its document. The lab runs the
//! command in guests (`cargo xtask lab busy-guest`).

use crate::models;

/// Report of a guest on an emulated host of Linux 6.12 with a CPU of the model `max`.
const RECORD: &str = include_str!("../../../cpreg-guest-check/tests/record.json");

#[test]
fn a_recorded_document_matches_its_schema() {
    models::round_trip(RECORD);
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn another_machine_is_an_error() {
    use crate::run::cpreg;

    for arguments in [
        &["guest-check", "record"][..],
        &["guest-check", "compare", "absent.json"],
        &["guest-check", "watch", "--seconds", "1"],
    ] {
        let text = cpreg(arguments);
        assert_eq!((text.status, text.stdout.as_str()), (Some(2), ""), "{text}");
        assert_eq!(
            text.stderr,
            "error: guest-check runs inside an arm64 Linux guest; this program is for another \
             machine\n"
        );
        let json = cpreg(&[arguments, &["--format", "json"]].concat());
        assert_eq!(json.status, Some(2), "{json}");
        assert_eq!(json.json()["kind"], "input");
    }
}
