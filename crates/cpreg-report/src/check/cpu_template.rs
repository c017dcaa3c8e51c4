//! A custom CPU template of Firecracker: register values for the next VM.
//!
//! `reg_modifiers` has entries with `addr`, the id of a register, and `bitmap`: `0b` and the bits
//! from the highest to the lowest. `x` leaves a bit as it is, and so do missing characters in
//! front. Firecracker writes the registers before the guest runs (its
//! `docs/cpu_templates/cpu-templates.md`, 1.4 to 1.16).

use cpreg::plan::BirthValue;

use crate::value::id_digits;

/// Returns the template with these values as JSON on one line.
pub(super) fn json(values: &[BirthValue]) -> String {
    let modifiers = values.iter().map(|value| {
        format!(
            "{{\"addr\":\"{}\",\"bitmap\":\"{}\"}}",
            id_digits(value.register),
            bitmap(*value)
        )
    });
    let modifiers: Vec<_> = modifiers.collect();
    format!("{{\"reg_modifiers\":[{}]}}", modifiers.join(","))
}

fn bitmap(value: BirthValue) -> String {
    let bits = (0..64 - value.mask.leading_zeros()).rev();
    let bits = bits.map(
        |bit| match (value.mask >> bit & 1, value.value >> bit & 1) {
            (0, _) => 'x',
            (_, 0) => '0',
            _ => '1',
        },
    );
    format!("0b{}", bits.collect::<String>())
}

/// Returns the command that configures the template in a Firecracker that runs no VM yet.
pub(super) fn command(values: &[BirthValue]) -> String {
    format!(
        "curl --unix-socket SOCKET -X PUT http://localhost/cpu-config -d '{}'",
        json(values)
    )
}

#[cfg(test)]
mod tests {
    use cpreg::register::RegisterId;

    use super::*;

    #[test]
    fn a_bitmap_leaves_other_bits() {
        let value = |mask, value| {
            bitmap(BirthValue {
                register: RegisterId::PSCI_VERSION,
                mask,
                value,
            })
        };
        assert_eq!(value(0b1110, 0b0100), "0b010x");
        assert_eq!(value(u64::MAX, 1), format!("0b{}1", "0".repeat(63)));
        assert_eq!(value(0xf00, 0x100), "0b0001xxxxxxxx");
    }

    #[test]
    fn the_template_is_json() {
        let values = [BirthValue {
            register: RegisterId::PSCI_VERSION,
            mask: 0xf,
            value: 1,
        }];
        let json: serde_json::Value = serde_json::from_str(&json(&values)).expect("JSON");
        let modifier = &json["reg_modifiers"][0];
        assert_eq!(modifier["addr"], "0x6030000000140000");
        assert_eq!(modifier["bitmap"], "0b0001");
    }
}
