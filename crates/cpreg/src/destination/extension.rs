//! The handling of extensions by loaders. Extensions are the subsections of QEMU's `cpu` section,
//! and `env.features` of QEMU 5.2.
//!
//! | extension | known since | sent |
//! |---|---|---|
//! | `cpu/vfp`, `cpu/irq-line-state` | before 5.2 | always |
//! | `cpu/serror`, `cpu/sve` | before 5.2 | when pending; when the vCPU has SVE |
//! | `cpu/sme` | 7.0 | while SME state is live |
//! | `cpu/vfp/fpcr_fpsr` | 9.1 | when FPCR or FPSR holds bits that FPSCR lacks |
//! | `cpu/wfxt-timer` | 9.1 | 10.0: for CPUs with FEAT_WFxT; 11.1: for all emulated CPUs |
//! | `cpu/syndrome64`, `cpu/pstate64` | 10.2 | when the upper half is not zero |
//! | `cpu/zt0`, `cpu/event` | 11.0 | when the vCPU has SME2; while the event register is set |
//! | `cpu/fpmr` | 11.1 | when the vCPU has FEAT_FPMR |
//! | `env.features` | up to 5.2 | always |
//! | `hvf-list-order` (cpreg's name) | up to 10.1 | under HVF |
//!
//! Sources: QEMU `target/arm/machine.c` of v5.2.0 to v11.0.3 (read); loads of edited streams by
//! 5.2.0, 7.2.22, 10.0.13 and 11.1.3. [`crate::plan`] decides about extensions.

use super::loader::Program;
use super::{DestinationVcpu, Loader, Version};
use crate::register::RegisterId;
use crate::vm::{Content, Extension, Vcpu};

/// Outcome of an extension in a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionOutcome {
    /// The loader loads or ignores the extension.
    Loads,
    /// The loader fails the section.
    Refused,
    /// The program aborts.
    Aborts,
    /// The outcome is not known.
    Unknown,
}

/// Subsections, each with the first version of QEMU that knows the subsection. Version 0.0 stands
/// for any version before 5.2.
const FIRST_VERSIONS: [(&str, Version); 12] = [
    ("cpu/vfp", Version::new(0, 0)),
    ("cpu/irq-line-state", Version::new(0, 0)),
    ("cpu/serror", Version::new(0, 0)),
    ("cpu/sve", Version::new(0, 0)),
    ("cpu/sme", Version::new(7, 0)),
    ("cpu/vfp/fpcr_fpsr", Version::new(9, 1)),
    (Extension::WFXT_TIMER, Version::new(9, 1)),
    ("cpu/syndrome64", Version::new(10, 2)),
    ("cpu/pstate64", Version::new(10, 2)),
    ("cpu/zt0", Version::new(11, 0)),
    ("cpu/event", Version::new(11, 0)),
    ("cpu/fpmr", Version::new(11, 1)),
];

const FPCR: RegisterId = RegisterId::sysreg(3, 3, 4, 4, 0);
const FPSR: RegisterId = RegisterId::sysreg(3, 3, 4, 4, 1);

/// First version that gives every CPU a WFxT timer. In earlier versions the subsection makes QEMU
/// abort if the vCPU has no such timer.
const FIRST_WFXT_TIMER_FOR_ALL: Version = Version::new(11, 1);

/// Last version in which the feature bits in the stream replace the vCPU's own bits.
const LAST_FEATURES_VERSION: Version = Version::new(5, 2);

/// Returns the first version with an extension, or `None` if the version is unknown or before 5.2.
pub(super) fn first_version(extension: &Extension) -> Option<Version> {
    let is_extension = |(name, _): &&(&str, Version)| *name == extension.name;
    let since = FIRST_VERSIONS
        .iter()
        .find(is_extension)
        .map(|(_, since)| *since);
    since.filter(|version| version.major != 0)
}

/// Returns the last version that writes an extension, or `None` if all later versions write it too.
pub(super) fn last_version(extension: &Extension) -> Option<Version> {
    (extension.name == Extension::FEATURES).then_some(LAST_FEATURES_VERSION)
}

/// Predicts the outcome in `loader` of an incoming extension for the destination's vCPU.
pub fn predict_outcome(
    loader: Loader,
    destination_vcpu: &DestinationVcpu,
    extension: &Extension,
) -> ExtensionOutcome {
    let own_extension = destination_vcpu.extension(&extension.name);
    if extension.name == Extension::FEATURES {
        // Other feature bits change what the listed registers do, so the outcome is not known.
        let is_own =
            own_extension.is_none_or(|own_extension| own_extension.content == extension.content);
        return if is_own || !loads_features(loader) {
            ExtensionOutcome::Loads
        } else {
            ExtensionOutcome::Unknown
        };
    }
    if own_extension.is_some() {
        return ExtensionOutcome::Loads;
    }
    if extension.name == Extension::HVF_ORDER {
        return ExtensionOutcome::Refused;
    }
    if loader.can_execute_plans() {
        // cpreg loads registers. The VMM itself transfers all other state.
        return ExtensionOutcome::Loads;
    }
    let since = FIRST_VERSIONS
        .iter()
        .find(|(name, _)| *name == extension.name)
        .map(|(_, since)| *since);
    match since {
        None if loader.is_observed() && !is_rare(&extension.name) => ExtensionOutcome::Refused,
        None => ExtensionOutcome::Unknown,
        Some(since) if loader.version < since => ExtensionOutcome::Refused,
        Some(_) if extension.name == Extension::WFXT_TIMER => {
            match loader.version {
                version if version >= FIRST_WFXT_TIMER_FOR_ALL => ExtensionOutcome::Loads,
                // QEMU has no timer for this CPU.
                version if version < Version::new(11, 0) => ExtensionOutcome::Aborts,
                _ => ExtensionOutcome::Unknown,
            }
        }
        Some(_) => ExtensionOutcome::Loads,
    }
}

/// Returns `true` if the extension belongs to CPUs that were never recorded: those without an MMU,
/// with ThumbEE, or with iwMMXt. QEMU may know such an extension.
fn is_rare(name: &str) -> bool {
    let rare = ["cpu/m", "cpu/pmsa", "cpu/thumb", "cpu/iwmmxt"];
    rare.iter().any(|rare| name.starts_with(rare))
}

/// Returns the reason why a load without the vCPU's extension loses nothing, or `None` if state
/// would be lost.
pub(crate) fn idle_reason(vcpu: &Vcpu, extension: &Extension) -> Option<&'static str> {
    let has = |id| vcpu.registers.get(id).is_some();
    match (&*extension.name, &extension.content) {
        (Extension::WFXT_TIMER, Content::Number(u64::MAX)) => {
            Some("the timer is not running, as in a vCPU without this extension")
        }
        // Under TCG the list of registers holds the same values and is written after the
        // subsections. Under KVM, FPCR and FPSR are in no list.
        ("cpu/vfp/fpcr_fpsr", _) if has(FPCR) && has(FPSR) => {
            Some("the registers FPCR and FPSR hold the same values")
        }
        ("cpu/fpmr", _) if has(RegisterId::FPMR) => Some("the register FPMR holds the same value"),
        // WFE does not wait in emulators without the event register. Under KVM the kernel does not
        // expose the event register.
        ("cpu/event", _) => Some("in a QEMU without it, WFE never waits"),
        _ => None,
    }
}

/// Returns `true` if the extension is the timer of a vCPU that waits in WFET or WFIT.
///
/// A vCPU whose timer is lost waits until the next interrupt, perhaps for ever. Without a wait the
/// instruction returns early, which the architecture allows at any time (Arm ARM, WFIT and WFET).
pub(crate) fn is_armed_timer(extension: &Extension) -> bool {
    extension.name == Extension::WFXT_TIMER
        && matches!(extension.content, Content::Number(number) if number != u64::MAX)
}

/// Returns `true` if nothing that handles extensions reads the content: opaque bytes, such as the
/// vector registers in `cpu/vfp`.
pub(crate) fn is_opaque(extension: &Extension) -> bool {
    matches!(extension.content, Content::Bytes(_))
        && extension.name != Extension::FEATURES
        && extension.name != Extension::HVF_ORDER
}

/// Returns `true` if loaders and plans handle the extensions of two vCPUs alike: the lists differ
/// at most in [opaque](is_opaque) contents.
pub(crate) fn are_alike(one: &[Extension], other: &[Extension]) -> bool {
    let is_alike = |(one, other): (&Extension, &Extension)| {
        one == other || one.name == other.name && is_opaque(one) && is_opaque(other)
    };
    one.len() == other.len() && one.iter().zip(other).all(is_alike)
}

/// Returns `true` if the loader would replace the vCPU's feature bits but the input has none. The
/// load cannot be correct then.
pub(crate) fn clears_features(
    loader: Loader,
    destination_vcpu: &DestinationVcpu,
    incoming: &[Extension],
) -> bool {
    loads_features(loader)
        && destination_vcpu.extension(Extension::FEATURES).is_some()
        && !incoming
            .iter()
            .any(|extension| extension.name == Extension::FEATURES)
}

/// Returns `true` if the loader needs its list in an order that the input lacks.
pub(crate) fn has_other_order(destination_vcpu: &DestinationVcpu, incoming: &[Extension]) -> bool {
    let is_order = |extension: &Extension| extension.name == Extension::HVF_ORDER;
    destination_vcpu.extensions.iter().any(is_order) && !incoming.iter().any(is_order)
}

/// Returns `true` if the loader replaces the vCPU's feature bits with those in the input.
pub(crate) fn loads_features(loader: Loader) -> bool {
    loader.program == Program::QEMU && loader.version <= LAST_FEATURES_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::Cow;
    use alloc::vec::Vec;

    fn extension(name: &'static str, content: Content) -> Extension {
        Extension {
            name: Cow::Borrowed(name),
            content,
        }
    }

    #[test]
    fn observed_loaders_refuse_unknown_extensions() {
        let outcome = |loader, name| {
            let extension = extension(name, Content::Bytes(Vec::new()));
            predict_outcome(loader, &DestinationVcpu::default(), &extension)
        };
        for name in ["cpu/unknown", "cpu/vfp/unknown"] {
            assert_eq!(
                outcome(Loader::qemu(10, 0), name),
                ExtensionOutcome::Refused
            );
            assert_eq!(
                outcome(Loader::qemu(11, 1), name),
                ExtensionOutcome::Refused
            );
            assert_eq!(
                outcome(Loader::qemu(12, 0), name),
                ExtensionOutcome::Unknown
            );
        }
        assert_eq!(
            outcome(Loader::qemu(10, 0), "cpu/m-security"),
            ExtensionOutcome::Unknown
        );
    }

    #[test]
    fn lists_that_differ_in_opaque_bytes_are_alike() {
        let vectors = |byte| extension("cpu/vfp", Content::Bytes(alloc::vec![byte]));
        let timer = |number| extension(Extension::WFXT_TIMER, Content::Number(number));
        let one = [vectors(1), timer(1)];
        assert!(are_alike(&one, &[vectors(2), timer(1)]));
        assert!(!are_alike(&one, &[vectors(1), timer(u64::MAX)]));
        assert!(!are_alike(&one, &[vectors(1)]));
        assert!(!are_alike(&one, &[timer(1), vectors(1)]));
        let features = |byte| extension(Extension::FEATURES, Content::Bytes(alloc::vec![byte]));
        assert!(!are_alike(&[features(1)], &[features(2)]));
    }

    #[test]
    fn feature_bits_load_if_they_are_the_loaders_own() {
        let own = extension(Extension::FEATURES, Content::Number(7));
        let other = extension(Extension::FEATURES, Content::Number(6));
        let destination_vcpu = DestinationVcpu::new([], alloc::vec![own.clone()]);
        assert_eq!(
            predict_outcome(Loader::qemu(5, 2), &destination_vcpu, &own),
            ExtensionOutcome::Loads
        );
        assert_eq!(
            predict_outcome(Loader::qemu(5, 2), &destination_vcpu, &other),
            ExtensionOutcome::Unknown
        );
        assert_eq!(
            predict_outcome(Loader::qemu(7, 2), &destination_vcpu, &other),
            ExtensionOutcome::Loads
        );
    }
}
