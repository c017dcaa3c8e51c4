//! Profiles, as `cpreg probe` writes them.
#![no_main]

use cpreg_hosts::Profile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(profile) = Profile::from_json(json) else {
        return;
    };
    let written = profile.to_json().expect("what was read");
    let again = Profile::from_json(written.as_bytes()).expect("what was written");
    assert_eq!(again.to_json().expect("what was read"), written);
});
