//! Profiles of the first version of the schema, `tests/fixtures/profiles-fatal`.

use std::path::Path;

use cpreg::destination::{Accelerator, Loader, ValueOrigin};
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg_hosts::Profile;

#[test]
fn profiles_of_the_first_version_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/profiles-fatal");
    let files = std::fs::read_dir(&folder).expect("the fixtures");
    let paths = files.map(|file| file.expect("a file").path());
    let profiles = paths.filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    let mut count = 0;
    for path in profiles {
        let text = std::fs::read(&path).expect("a readable file");
        let profile =
            Profile::from_json(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let destination = &profile.destination;
        assert_eq!(profile.origin.kernel, "7.3.4");
        assert_eq!(destination.accelerator, Some(Accelerator::Kvm));
        assert_eq!(destination.loader, Some(Loader::qemu(11, 1)));
        assert_eq!(destination.value_origin, ValueOrigin::Reset);
        assert_eq!(destination.hardware, HardwareFacts::UNKNOWN);
        let midr = destination.vcpus[0].value(RegisterId::MIDR_EL1);
        assert_eq!(midr, Some(0x414f_d0c1), "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 8);
}
