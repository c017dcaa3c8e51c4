//! Files of tolerances, which are TOML.
#![no_main]

#[path = "../../crates/cpreg-cli/src/failure.rs"]
#[allow(dead_code, reason = "only the command uses the rest")]
mod failure;
#[path = "../../crates/cpreg-cli/src/names.rs"]
#[allow(dead_code, reason = "only the command uses the rest")]
mod names;
#[path = "../../crates/cpreg-cli/src/suggestion.rs"]
#[allow(dead_code, reason = "only the command uses the rest")]
mod suggestion;
#[path = "../../crates/cpreg-cli/src/tolerance_file.rs"]
#[allow(dead_code, reason = "the command reads it from a file")]
mod tolerance_file;

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(failure) = tolerance_file::parse(text, Path::new("tolerances.toml")) {
        let _ = (failure.to_string(), failure.hints(), failure.causes());
    }
});
