//! Settings as a custom CPU template of Firecracker.
//!
//! Firecracker's guests have no PMU, SVE or pointer authentication by default.

use std::collections::BTreeMap;

use cpreg::register::{Field, RegisterId};
use cpreg_fleet::baseline::Baseline;

use super::model::FirecrackerTemplate;
use crate::firecracker_template::{RegisterModifier, Template};

/// Returns the template for a baseline. `summary` is the verdict in words.
pub(super) fn template(baseline: &Baseline, summary: String) -> FirecrackerTemplate {
    // Mask and value of each register.
    let mut registers: BTreeMap<RegisterId, (u64, u64)> = BTreeMap::new();
    for setting in &baseline.settings {
        let mask = setting.field.map_or(u64::MAX, Field::mask);
        let (known, value) = registers.entry(setting.register).or_default();
        *known |= mask;
        *value = setting.apply(*value);
    }
    let modifiers = registers.into_iter();
    let modifiers = modifiers.map(|(id, (mask, value))| RegisterModifier::new(id, mask, value));
    FirecrackerTemplate {
        template: Template::new(baseline.features, modifiers.collect()),
        missing: baseline
            .vector_limit
            .iter()
            .map(|limit| format!("SVE vectors of at most {} bits", limit.max_bits))
            .collect(),
        verdict: baseline.verdict().into(),
        summary,
    }
}
