//! Names that a user may mean, by meaning and by spelling.

use strsim::osa_distance;

/// Subject that people name when they mean its registers.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Name in messages.
    pub(crate) name: &'static str,
    /// Words for the subject, in lower case, without separators.
    words: &'static [&'static str],
    /// Registers and fields of the subject, most likely first.
    pub(crate) registers: &'static [&'static str],
}

const fn topic(
    name: &'static str,
    words: &'static [&'static str],
    registers: &'static [&'static str],
) -> Topic {
    Topic {
        name,
        words,
        registers,
    }
}

/// Subjects whose registers have other names. A subject that several registers describe lists the
/// one that decides whether a guest has the feature first.
const TOPICS: &[Topic] = &[
    topic(
        "PSCI",
        &["psci", "psciversion", "kvmpsciversion"],
        &["PSCI_VERSION"],
    ),
    topic(
        "the Spectre mitigations",
        &[
            "spectre",
            "spectrev2",
            "mitigation",
            "mitigations",
            "workaround",
            "workarounds",
        ],
        &[
            "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1",
            "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2",
            "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3",
            "ID_AA64PFR0_EL1.CSV2",
            "ID_AA64PFR0_EL1.CSV3",
        ],
    ),
    topic(
        "the mitigation of Spectre v4",
        &["ssbd", "ssb", "ssbs", "spectrev4"],
        &[
            "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2",
            "ID_AA64PFR1_EL1.SSBS",
        ],
    ),
    topic(
        "the mitigation of Spectre-BHB",
        &["bhb", "spectrebhb", "clrbhb"],
        &[
            "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3",
            "ID_AA64ISAR2_EL1.CLRBHB",
        ],
    ),
    topic(
        "KVM's hypercalls",
        &[
            "hypercall",
            "hypercalls",
            "firmware",
            "smccc",
            "bmap",
            "pvtime",
            "stolentime",
            "trng",
            "ptp",
        ],
        &[
            "KVM_REG_ARM_STD_BMAP",
            "KVM_REG_ARM_STD_HYP_BMAP",
            "KVM_REG_ARM_VENDOR_HYP_BMAP",
            "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
        ],
    ),
    topic(
        "the CPU model",
        &["cpu", "model", "cpumodel", "cpuid", "midr"],
        &["MIDR_EL1", "REVIDR_EL1", "AIDR_EL1"],
    ),
    topic(
        "the caches",
        &["cache", "caches", "cacheline", "cachesize", "ccsidr"],
        &["CLIDR_EL1", "CCSIDR_EL1[0]", "CTR_EL0"],
    ),
    topic(
        "the counters of time",
        &["counter", "counters", "clock", "time", "cntvct", "tsc"],
        &["KVM_REG_ARM_TIMER_CNT", "CNTPCT_EL0"],
    ),
    topic(
        "the timers",
        &["timer", "timers", "cntp", "cntv"],
        &[
            "CNTP_CTL_EL0",
            "CNTP_CVAL_EL0",
            "CNTV_CTL_EL0",
            "KVM_REG_ARM_TIMER_CVAL",
        ],
    ),
    topic(
        "the performance monitors",
        &["pmu", "perf", "pmuv3", "performancemonitors"],
        &["ID_AA64DFR0_EL1.PMUVer", "PMCR_EL0", "PMMIR_EL1"],
    ),
    topic(
        "SVE",
        &["sve", "sve2", "vectorlength", "vectorlengths"],
        &[
            "ID_AA64PFR0_EL1.SVE",
            "ID_AA64ZFR0_EL1",
            "KVM_REG_ARM64_SVE_VLS",
            "ZCR_EL1",
        ],
    ),
    topic(
        "SME",
        &["sme", "sme2"],
        &["ID_AA64PFR1_EL1.SME", "ID_AA64SMFR0_EL1"],
    ),
    topic(
        "pointer authentication",
        &[
            "pauth",
            "pac",
            "ptrauth",
            "paca",
            "pacg",
            "pointerauthentication",
        ],
        &[
            "ID_AA64ISAR1_EL1.APA",
            "ID_AA64ISAR1_EL1.API",
            "ID_AA64ISAR2_EL1.APA3",
        ],
    ),
    topic(
        "branch target identification",
        &["bti"],
        &["ID_AA64PFR1_EL1.BT"],
    ),
    topic(
        "memory tagging",
        &["mte", "memtag", "tagging"],
        &["ID_AA64PFR1_EL1.MTE"],
    ),
    topic(
        "LSE atomics",
        &["lse", "atomic", "atomics"],
        &["ID_AA64ISAR0_EL1.Atomic"],
    ),
    topic("RAS", &["ras"], &["ID_AA64PFR0_EL1.RAS", "DISR_EL1"]),
    topic(
        "permission overlays",
        &["poe", "overlay", "overlays", "pkeys"],
        &["ID_AA64MMFR3_EL1.S1POE", "POR_EL0", "POR_EL1"],
    ),
    topic(
        "permission indirection",
        &["pie", "s1pie", "permissionindirection"],
        &["ID_AA64MMFR3_EL1.S1PIE", "PIR_EL1", "PIRE0_EL1"],
    ),
    topic(
        "TCR2_EL1",
        &["tcrx"],
        &["ID_AA64MMFR3_EL1.TCRX", "TCR2_EL1"],
    ),
    topic(
        "SCTLR2_EL1",
        &["sctlrx"],
        &["ID_AA64MMFR3_EL1.SCTLRX", "SCTLR2_EL1"],
    ),
    topic(
        "8-bit floating point",
        &["fp8"],
        &["ID_AA64PFR2_EL1.FPMR", "FPMR"],
    ),
    topic("the OS lock", &["oslock", "debuglock"], &["OSLSR_EL1"]),
    topic(
        "the translation granules",
        &["pagesize", "granule", "granules", "pages"],
        &[
            "ID_AA64MMFR0_EL1.TGran4",
            "ID_AA64MMFR0_EL1.TGran16",
            "ID_AA64MMFR0_EL1.TGran64",
        ],
    ),
    topic(
        "the physical address size",
        &["ipa", "ipasize", "parange", "physicaladdress"],
        &["ID_AA64MMFR0_EL1.PARange"],
    ),
    topic(
        "the ASID width",
        &["asid", "asids"],
        &["ID_AA64MMFR0_EL1.ASIDBits"],
    ),
    topic("the VMID width", &["vmid"], &["ID_AA64MMFR1_EL1.VMIDBits"]),
    topic(
        "AArch32 state",
        &["aarch32", "32bit", "arm32"],
        &["ID_AA64PFR0_EL1.EL0", "ID_AA64PFR0_EL1.EL1"],
    ),
];

/// Returns the subject that a text names. Case, blanks, `-` and `_` do not matter.
pub(crate) fn find_topic(text: &str) -> Option<&'static Topic> {
    let letters = text.chars().filter(char::is_ascii_alphanumeric);
    let word: String = letters.map(|it| it.to_ascii_lowercase()).collect();
    let has_word = |topic: &&Topic| topic.words.contains(&word.as_str());
    TOPICS.iter().find(has_word)
}

/// Returns the name that a text misspells by at most one edit or one pair of swapped letters for
/// each three letters; `None` if no name is that near.
pub(crate) fn find_nearest<'a>(
    text: &str,
    names: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Longest compared text. No name is longer.
    const MAX_LEN: usize = 40;
    let text = text.trim().to_lowercase();
    if text.len() > MAX_LEN {
        return None;
    }
    let max_distance = text.len() / 3;
    let distances = names.map(|name| (osa_distance(&text, &name.to_lowercase()), name));
    let nearest = distances.min_by_key(|(distance, _)| *distance)?;
    (nearest.0 <= max_distance).then_some(nearest.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpreg::register::{RegisterField, RegisterId};

    #[test]
    fn every_topic_names_registers_and_fields() {
        for topic in TOPICS {
            assert!(!topic.registers.is_empty(), "{}", topic.name);
            for name in topic.registers {
                let is_valid = if name.contains('.') {
                    name.parse::<RegisterField>().is_ok()
                } else {
                    let id = name.parse::<RegisterId>();
                    id.is_ok_and(|id| id.to_string() == *name)
                };
                assert!(is_valid, "{}: {name}", topic.name);
            }
            for word in topic.words {
                let found = find_topic(word).expect(word);
                assert_eq!(found.name, topic.name, "{word} names two topics");
            }
        }
    }

    #[test]
    fn topics_are_found_in_every_spelling() {
        for (text, first) in [
            ("psci", "PSCI_VERSION"),
            ("Kvm-PSCI-version", "PSCI_VERSION"),
            ("SVE", "ID_AA64PFR0_EL1.SVE"),
            ("os lock", "OSLSR_EL1"),
        ] {
            let topic = find_topic(text).expect(text);
            assert_eq!(topic.registers.first(), Some(&first), "{text}");
        }
        for text in ["", "-", "sv", "PSCI_VERSION_2"] {
            assert!(find_topic(text).is_none(), "{text}");
        }
    }

    #[test]
    fn nearest_names_are_few_edits_away() {
        let severities = || ["low", "medium"].into_iter();
        for (text, nearest) in [
            ("lwo", Some("low")),
            ("LOW ", Some("low")),
            ("mediom", Some("medium")),
            ("mediun", Some("medium")),
            ("tiny", None),
            ("lo", None),
            ("", None),
        ] {
            assert_eq!(find_nearest(text, severities()), nearest, "{text}");
        }
        assert_eq!(find_nearest("low", [].into_iter()), None);
        assert_eq!(find_nearest(&"low".repeat(100), severities()), None);
    }
}
