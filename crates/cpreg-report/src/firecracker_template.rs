//! Custom CPU templates of Firecracker: register values for the next VM.
//!
//! Firecracker writes the registers of a template with `KVM_SET_ONE_REG` before the guest runs (its
//! `docs/cpu_templates/cpu-templates.md`, 1.4 to 1.16).

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The document of a custom CPU template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Template {
    /// Bits of `kvm_vcpu_init.features`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vcpu_features: Vec<FeatureModifier>,
    /// Bits of registers.
    pub reg_modifiers: Vec<RegisterModifier>,
}

/// Bits of `kvm_vcpu_init.features`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FeatureModifier {
    /// Index of the word.
    pub index: u32,
    /// Bits: `0b`, then `0`, `1` or `x` (unchanged), from the most significant.
    pub bitmap: String,
}

/// Bits of a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RegisterModifier {
    /// The register's id, without leading zeros.
    pub addr: String,
    /// Bits: `0b`, then `0`, `1` or `x` (unchanged), from the most significant.
    pub bitmap: String,
}

impl Template {
    /// Returns a template for guests with these features.
    pub(crate) fn new(features: Features, reg_modifiers: Vec<RegisterModifier>) -> Self {
        Self {
            vcpu_features: feature_modifiers(features),
            reg_modifiers,
        }
    }
}

impl RegisterModifier {
    /// Returns a modifier that sets the bits of `mask` to those of `value`.
    pub(crate) fn new(id: RegisterId, mask: u64, value: u64) -> Self {
        Self {
            addr: format!("{:#x}", id.raw()),
            bitmap: bitmap(mask, value),
        }
    }
}

/// Returns the bits of `value` that `mask` selects, with `x` for the others.
///
/// Firecracker treats missing leading bits like `x`.
fn bitmap(mask: u64, value: u64) -> String {
    let bits = (0..u64::BITS - mask.leading_zeros()).rev();
    let digits = bits.map(|bit| match (mask >> bit & 1, value >> bit & 1) {
        (0, _) => 'x',
        (_, 0) => '0',
        _ => '1',
    });
    "0b".chars().chain(digits).collect()
}

/// Returns the modifier of `kvm_vcpu_init.features` that gives a guest these features.
fn feature_modifiers(features: Features) -> Vec<FeatureModifier> {
    let all = [
        (Features::PMU, 1 << 3),
        (Features::SVE, 1 << 4),
        (Features::POINTER_AUTHENTICATION, 0b11 << 5),
    ];
    let wanted = all
        .into_iter()
        .filter(|(feature, _)| features.contains(*feature));
    let mask = wanted.fold(0, |mask, (_, bits)| mask | bits);
    let modifier = (mask != 0).then(|| FeatureModifier {
        index: 0,
        bitmap: bitmap(mask, mask),
    });
    modifier.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_outside_the_mask_are_unchanged() {
        assert_eq!(bitmap(0b0110, 0b0100), "0b10x");
        assert_eq!(bitmap(0xf00, 0x100), "0b0001xxxxxxxx");
        assert_eq!(bitmap(u64::MAX, 1), format!("0b{}1", "0".repeat(63)));
        let modifiers = feature_modifiers(Features::SVE | Features::POINTER_AUTHENTICATION);
        assert_eq!(modifiers[0].bitmap, "0b111xxxx");
        assert!(feature_modifiers(Features::NONE).is_empty());
    }

    #[test]
    fn a_template_is_json() {
        let modifier = RegisterModifier::new(RegisterId::PSCI_VERSION, 0xf, 1);
        let template = Template::new(Features::NONE, vec![modifier]);
        let json = serde_json::to_value(&template).expect("JSON");
        let modifier = serde_json::json!({"addr": "0x6030000000140000", "bitmap": "0b0001"});
        assert_eq!(json, serde_json::json!({ "reg_modifiers": [modifier] }));
    }
}
