//! Profiles, as `cpreg probe` writes them.
#![no_main]

use cpreg_hosts::Profile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(profile) = Profile::from_json(json) else {
        return;
    };
    let written = profile.to_json().expect("a valid profile");
    let reread = Profile::from_json(written.as_bytes()).expect("the written profile");
    assert_eq!(reread.to_json().expect("a valid profile"), written);
});
