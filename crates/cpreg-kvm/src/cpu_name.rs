//! Names of CPUs by MIDR_EL1: the name for QEMU's `-cpu` if QEMU has one, otherwise a name in the
//! same style.
//!
//! Sources: Linux v7.3 `arch/arm64/include/asm/cputype.h`, and MIDR_EL1 in Arm's Technical
//! Reference Manuals.

/// Implementer, part number, name; ascending.
const NAMES: [(u8, u16, &str); 69] = [
    (0x00, 0x051, "max"),
    (0x41, 0xd02, "cortex-a34"),
    (0x41, 0xd03, "cortex-a53"),
    (0x41, 0xd04, "cortex-a35"),
    (0x41, 0xd05, "cortex-a55"),
    (0x41, 0xd06, "cortex-a65"),
    (0x41, 0xd07, "cortex-a57"),
    (0x41, 0xd08, "cortex-a72"),
    (0x41, 0xd09, "cortex-a73"),
    (0x41, 0xd0a, "cortex-a75"),
    (0x41, 0xd0b, "cortex-a76"),
    (0x41, 0xd0c, "neoverse-n1"),
    (0x41, 0xd0d, "cortex-a77"),
    (0x41, 0xd0e, "cortex-a76ae"),
    (0x41, 0xd40, "neoverse-v1"),
    (0x41, 0xd41, "cortex-a78"),
    (0x41, 0xd42, "cortex-a78ae"),
    (0x41, 0xd43, "cortex-a65ae"),
    (0x41, 0xd44, "cortex-x1"),
    (0x41, 0xd46, "cortex-a510"),
    (0x41, 0xd47, "cortex-a710"),
    (0x41, 0xd48, "cortex-x2"),
    (0x41, 0xd49, "neoverse-n2"),
    (0x41, 0xd4a, "neoverse-e1"),
    (0x41, 0xd4b, "cortex-a78c"),
    (0x41, 0xd4c, "cortex-x1c"),
    (0x41, 0xd4d, "cortex-a715"),
    (0x41, 0xd4e, "cortex-x3"),
    (0x41, 0xd4f, "neoverse-v2"),
    (0x41, 0xd80, "cortex-a520"),
    (0x41, 0xd81, "cortex-a720"),
    (0x41, 0xd82, "cortex-x4"),
    (0x41, 0xd83, "neoverse-v3ae"),
    (0x41, 0xd84, "neoverse-v3"),
    (0x41, 0xd85, "cortex-x925"),
    (0x41, 0xd87, "cortex-a725"),
    (0x41, 0xd89, "cortex-a720ae"),
    (0x41, 0xd8e, "neoverse-n3"),
    (0x42, 0x100, "brahma-b53"),
    (0x42, 0x516, "vulcan"),
    (0x43, 0x0a1, "thunderx"),
    (0x43, 0x0a2, "thunderx-81xx"),
    (0x43, 0x0a3, "thunderx-83xx"),
    (0x43, 0x0af, "thunderx2"),
    (0x46, 0x001, "a64fx"),
    (0x46, 0x003, "monaka"),
    (0x48, 0xd01, "tsv110"),
    (0x48, 0xd02, "hip09"),
    (0x4e, 0x003, "denver"),
    (0x4e, 0x004, "carmel"),
    (0x4e, 0x010, "olympus"),
    (0x50, 0x000, "potenza"),
    (0x51, 0x001, "oryon"),
    (0x51, 0xc00, "falkor"),
    (0x61, 0x022, "apple-m1-icestorm"),
    (0x61, 0x023, "apple-m1-firestorm"),
    (0x61, 0x024, "apple-m1-pro-icestorm"),
    (0x61, 0x025, "apple-m1-pro-firestorm"),
    (0x61, 0x028, "apple-m1-max-icestorm"),
    (0x61, 0x029, "apple-m1-max-firestorm"),
    (0x61, 0x032, "apple-m2-blizzard"),
    (0x61, 0x033, "apple-m2-avalanche"),
    (0x61, 0x034, "apple-m2-pro-blizzard"),
    (0x61, 0x035, "apple-m2-pro-avalanche"),
    (0x61, 0x038, "apple-m2-max-blizzard"),
    (0x61, 0x039, "apple-m2-max-avalanche"),
    (0x6d, 0xd49, "azure-cobalt-100"),
    (0xc0, 0xac3, "ampere1"),
    (0xc0, 0xac4, "ampere1a"),
];

/// Returns the implementer of the CPU: MIDR_EL1 bits 31:24, where 0 means software.
pub fn implementer(midr: u64) -> u8 {
    midr.to_le_bytes()[3]
}

/// Returns the name of the CPU model without its revision; `midr-0x…` if it is unknown.
pub fn from_midr(midr: u64) -> String {
    let key = (implementer(midr), (midr >> 4 & 0xfff) as u16);
    let position = NAMES.binary_search_by_key(&key, |(implementer, part, _)| (*implementer, *part));
    let name = position.ok().and_then(|position| NAMES.get(position));
    name.map_or_else(
        || format!("midr-{midr:#x}"),
        |(_, _, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_implementer_and_part() {
        assert!(NAMES.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        assert_eq!(from_midr(0x414f_d0c1), "neoverse-n1");
        assert_eq!(from_midr(0x410f_d0c1), "neoverse-n1");
        assert_eq!(from_midr(0x000f_0510), "max");
        assert_eq!(from_midr(0x123f_4560), "midr-0x123f4560");
    }
}
