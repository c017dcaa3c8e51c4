//! What a loader does with an extension: a subsection of QEMU's `cpu` section, or 5.2's `env.features`.
//!
//! | extension | known since | sent |
//! |---|---|---|
//! | `cpu/vfp`, `cpu/irq-line-state` | before 5.2 | always |
//! | `cpu/serror`, `cpu/sve` | before 5.2 | when pending; when the vCPU has SVE |
//! | `cpu/sme` | 7.0 | while SME state is live |
//! | `cpu/vfp/fpcr_fpsr` | 9.1 | when FPCR or FPSR holds bits that FPSCR has not |
//! | `cpu/wfxt-timer` | 9.1 | by 10.0 for CPUs with FEAT_WFxT, by 11.1 for all emulated ones |
//! | `cpu/syndrome64`, `cpu/pstate64` | 10.2 | when the upper half is not zero |
//! | `cpu/zt0`, `cpu/event` | 11.0 | when the vCPU has SME2; while the event register is set |
//! | `cpu/fpmr` | 11.1 | when the vCPU has FEAT_FPMR |
//! | `env.features` | up to 5.2 | always |
//!
//! Sources: QEMU `target/arm/machine.c` of v5.2.0 to v11.0.3 (read); loads of edited streams by 5.2.0, 7.2.22, 10.0.13 and 11.1.3.
//! What is done about one does not live here; see [`crate::plan`].

use super::loader::Program;
use super::{DestinationVcpu, Loader, Version};
use crate::register::RegisterId;
use crate::vm::{Content, Extension, Vcpu};

/// What becomes of an extension in a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionOutcome {
    /// It is read.
    Loads,
    /// The section fails.
    Refused,
    /// The program dies.
    Aborts,
    /// Nothing tells.
    Unknown,
}

/// The first version that knows each subsection.
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

/// The first version that gives every CPU a WFxT timer; before, the subsection kills a vCPU without one.
const FIRST_WFXT_TIMER_FOR_ALL: Version = Version::new(11, 1);

/// Up to this version the feature bits in the stream replace the vCPU's own.
const LAST_FEATURES_VERSION: Version = Version::new(5, 2);

/// The version that an extension came with, if that is known and not lost in time.
pub(super) fn first_version(extension: &Extension) -> Option<Version> {
    let of = |(name, _): &&(&str, Version)| *name == extension.name;
    let since = FIRST_VERSIONS.iter().find(of).map(|(_, since)| *since);
    since.filter(|version| version.major != 0)
}

/// The last version that writes an extension.
pub(super) fn last_version(extension: &Extension) -> Option<Version> {
    (extension.name == Extension::FEATURES).then_some(LAST_FEATURES_VERSION)
}

/// What `loader` does with an extension that arrives for the destination's vCPU `host`.
pub fn predict_outcome(
    loader: Loader,
    host: &DestinationVcpu,
    extension: &Extension,
) -> ExtensionOutcome {
    let there = host.extension(&extension.name);
    if extension.name == Extension::FEATURES {
        // Other bits make other registers of those that are listed.
        let is_own = there.is_none_or(|there| there.content == extension.content);
        return if is_own || !loads_features(loader) {
            ExtensionOutcome::Loads
        } else {
            ExtensionOutcome::Unknown
        };
    }
    if there.is_some() {
        return ExtensionOutcome::Loads;
    }
    if loader.can_execute_plans() {
        // It loads registers; pieces that are none are the VMM's own to carry.
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
                // It has none to offer for this CPU.
                version if version < Version::new(11, 0) => ExtensionOutcome::Aborts,
                _ => ExtensionOutcome::Unknown,
            }
        }
        Some(_) => ExtensionOutcome::Loads,
    }
}

/// Whether it is one that some version may know for CPUs that nobody has recorded: those without an MMU, ThumbEE, iwMMXt.
fn is_rare(name: &str) -> bool {
    let rare = ["cpu/m", "cpu/pmsa", "cpu/thumb", "cpu/iwmmxt"];
    rare.iter().any(|rare| name.starts_with(rare))
}

/// Why nothing is lost if the vCPU's extension is left out, or `None` if something is.
pub fn idle_reason(vcpu: &Vcpu, extension: &Extension) -> Option<&'static str> {
    let has = |id| vcpu.registers.get(id).is_some();
    match (&*extension.name, &extension.content) {
        (Extension::WFXT_TIMER, Content::Number(u64::MAX)) => {
            Some("the timer is not running, which is what holds without it")
        }
        // The list of registers holds the same, and is written after the subsections: under TCG. KVM's FPCR and FPSR are in no list.
        ("cpu/vfp/fpcr_fpsr", _) if has(FPCR) && has(FPSR) => {
            Some("the registers FPCR and FPSR hold the same")
        }
        ("cpu/fpmr", _) if has(RegisterId::FPMR) => Some("the register FPMR holds the same"),
        // WFE does not wait in emulators that do not know it; under KVM the kernel keeps the event register to itself.
        ("cpu/event", _) => Some("a program that does not know it never waits for an event"),
        _ => None,
    }
}

/// Whether the loader would take the vCPU's feature bits from an input that has none, so that nothing else can be right.
pub fn clears_features(loader: Loader, host: &DestinationVcpu, arriving: &[Extension]) -> bool {
    loads_features(loader)
        && host.extension(Extension::FEATURES).is_some()
        && !arriving
            .iter()
            .any(|extension| extension.name == Extension::FEATURES)
}

/// Whether the loader replaces the vCPU's feature bits by those that arrive.
pub fn loads_features(loader: Loader) -> bool {
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
    fn what_nobody_knows_is_refused_by_those_that_were_tried() {
        let of = |loader, name| {
            let extension = extension(name, Content::Bytes(Vec::new()));
            predict_outcome(loader, &DestinationVcpu::default(), &extension)
        };
        for name in ["cpu/nobody", "cpu/vfp/nobody"] {
            assert_eq!(of(Loader::qemu(10, 0), name), ExtensionOutcome::Refused);
            assert_eq!(of(Loader::qemu(11, 1), name), ExtensionOutcome::Refused);
            assert_eq!(of(Loader::qemu(12, 0), name), ExtensionOutcome::Unknown);
        }
        assert_eq!(
            of(Loader::qemu(10, 0), "cpu/m-security"),
            ExtensionOutcome::Unknown
        );
    }

    #[test]
    fn feature_bits_load_where_they_are_its_own() {
        let own = extension(Extension::FEATURES, Content::Number(7));
        let other = extension(Extension::FEATURES, Content::Number(6));
        let host = DestinationVcpu::new([], alloc::vec![own.clone()]);
        assert_eq!(
            predict_outcome(Loader::qemu(5, 2), &host, &own),
            ExtensionOutcome::Loads
        );
        assert_eq!(
            predict_outcome(Loader::qemu(5, 2), &host, &other),
            ExtensionOutcome::Unknown
        );
        assert_eq!(
            predict_outcome(Loader::qemu(7, 2), &host, &other),
            ExtensionOutcome::Loads
        );
    }
}
