//! Settings as a custom CPU template of Firecracker.
//!
//! Firecracker writes the registers of a template with `KVM_SET_ONE_REG` before the guest runs. In
//! the bitmaps `x` leaves a bit unchanged (its docs/cpu_templates/cpu-templates.md). Its guests
//! have no PMU, SVE or pointer authentication by default.

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::{Field, RegisterId};
use cpreg_fleet::baseline::Baseline;

use super::model::{FeatureModifier, FirecrackerTemplate, RegisterModifier, Template};

/// Returns the template for a baseline of guests with the features that Firecracker gives them.
/// `summary` is the verdict in words.
pub(super) fn template(baseline: &Baseline, summary: String) -> FirecrackerTemplate {
    // Mask and value of each register.
    let mut registers: BTreeMap<RegisterId, (u64, u64)> = BTreeMap::new();
    for setting in &baseline.settings {
        let mask = setting.field.map_or(u64::MAX, Field::mask);
        let (known, value) = registers.entry(setting.register).or_default();
        *known |= mask;
        *value = setting.apply(*value);
    }
    let modifiers = registers.into_iter().map(|(id, (mask, value))| {
        let bytes = id.size_bytes().unwrap_or(8).min(8);
        RegisterModifier {
            addr: format!("{:#x}", id.raw()),
            bitmap: bitmap(mask, value, 8 * bytes),
        }
    });
    FirecrackerTemplate {
        template: Template {
            vcpu_features: feature_modifiers(baseline.features),
            reg_modifiers: modifiers.collect(),
        },
        missing: baseline
            .vector_limit
            .iter()
            .map(|limit| format!("SVE vectors of at most {} bits", limit.max_bits))
            .collect(),
        verdict: baseline.verdict().into(),
        summary,
    }
}

fn bitmap(mask: u64, value: u64, bits: usize) -> String {
    let digits = (0..bits)
        .rev()
        .map(|bit| match (mask >> bit & 1, value >> bit & 1) {
            (0, _) => 'x',
            (_, 0) => '0',
            _ => '1',
        });
    "0b".chars().chain(digits).collect()
}

/// Returns the bits of `kvm_vcpu_init.features` that give a guest these features.
fn feature_modifiers(features: Features) -> Vec<FeatureModifier> {
    const BITS: usize = 7;
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
        bitmap: bitmap(mask, mask, BITS),
    });
    modifier.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_outside_the_mask_are_unchanged() {
        assert_eq!(bitmap(0b0110, 0b0100, 4), "0bx10x");
        assert_eq!(bitmap(u64::MAX, 1, 64).len(), 66);
        let modifiers = feature_modifiers(Features::SVE | Features::POINTER_AUTHENTICATION);
        assert_eq!(modifiers[0].bitmap, "0b111xxxx");
        assert!(feature_modifiers(Features::NONE).is_empty());
    }
}
