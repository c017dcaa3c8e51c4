//! A custom CPU template of Firecracker with the values that the next VM needs.

use cpreg::destination::Features;
use cpreg::plan::BirthValue;

use crate::firecracker_template::{RegisterModifier, Template};

/// Returns the template with these values as JSON on one line.
pub(super) fn json(values: &[BirthValue]) -> String {
    let modifiers = values.iter();
    let modifiers =
        modifiers.map(|value| RegisterModifier::new(value.register, value.mask, value.value));
    let template = Template::new(Features::NONE, modifiers.collect());
    // Structures of strings have no value that JSON lacks.
    serde_json::to_string(&template).unwrap_or_default()
}

/// Returns the command that configures the template in a Firecracker that runs no VM yet.
pub(super) fn command(values: &[BirthValue]) -> String {
    format!(
        "curl --unix-socket SOCKET -X PUT http://localhost/cpu-config -d '{}'",
        json(values)
    )
}
