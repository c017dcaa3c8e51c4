//! [`CpuModel`]: CPU models by MIDR_EL1, with the clouds, servers and boards that have them.
//!
//! A model has the name that QEMU's `-cpu` gives it, or else a name in the same style. People
//! rather know the machine, such as Graviton2. Sources: Linux v7.3
//! `arch/arm64/include/asm/cputype.h`, Arm's Technical Reference Manuals, util-linux
//! `sys-utils/lscpu-arm.c` (Phytium), and m1n1 `src/midr.h` (Apple M3 and later). Vendors publish
//! the cores of their machines.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;

/// A CPU model: the implementer and part number of MIDR_EL1.
///
/// ```
/// use cpreg::cpu_model::CpuModel;
///
/// let model = CpuModel::from_midr(0x413f_d0c1).expect("a known CPU");
/// assert_eq!(model.name(), "neoverse-n1");
/// assert_eq!(model.machines(), ["Graviton2", "Altra"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuModel {
    implementer: u8,
    part: u16,
    name: &'static str,
    machines: &'static [&'static str],
}

const fn model(
    implementer: u8,
    part: u16,
    name: &'static str,
    machines: &'static [&'static str],
) -> CpuModel {
    CpuModel {
        implementer,
        part,
        name,
        machines,
    }
}

/// All known models, ascending by implementer and part number.
static MODELS: &[CpuModel] = &[
    model(0x00, 0x051, "max", &[]),
    model(0x41, 0xd02, "cortex-a34", &[]),
    model(0x41, 0xd03, "cortex-a53", &["Raspberry Pi 3", "RK3399"]),
    model(0x41, 0xd04, "cortex-a35", &[]),
    model(0x41, 0xd05, "cortex-a55", &["RK3588"]),
    model(0x41, 0xd06, "cortex-a65", &[]),
    model(0x41, 0xd07, "cortex-a57", &["Jetson TX1", "Opteron A1100"]),
    model(
        0x41,
        0xd08,
        "cortex-a72",
        &["Graviton1", "Raspberry Pi 4", "RK3399", "LX2160A"],
    ),
    model(0x41, 0xd09, "cortex-a73", &[]),
    model(0x41, 0xd0a, "cortex-a75", &[]),
    model(0x41, 0xd0b, "cortex-a76", &["Raspberry Pi 5", "RK3588"]),
    model(0x41, 0xd0c, "neoverse-n1", &["Graviton2", "Altra"]),
    model(0x41, 0xd0d, "cortex-a77", &[]),
    model(0x41, 0xd0e, "cortex-a76ae", &[]),
    model(0x41, 0xd40, "neoverse-v1", &["Graviton3"]),
    model(0x41, 0xd41, "cortex-a78", &[]),
    model(0x41, 0xd42, "cortex-a78ae", &["Jetson Orin"]),
    model(0x41, 0xd43, "cortex-a65ae", &[]),
    model(0x41, 0xd44, "cortex-x1", &[]),
    model(0x41, 0xd46, "cortex-a510", &[]),
    model(0x41, 0xd47, "cortex-a710", &[]),
    model(0x41, 0xd48, "cortex-x2", &[]),
    model(0x41, 0xd49, "neoverse-n2", &["Yitian 710"]),
    model(0x41, 0xd4a, "neoverse-e1", &[]),
    model(0x41, 0xd4b, "cortex-a78c", &[]),
    model(0x41, 0xd4c, "cortex-x1c", &[]),
    model(0x41, 0xd4d, "cortex-a715", &[]),
    model(0x41, 0xd4e, "cortex-x3", &[]),
    model(0x41, 0xd4f, "neoverse-v2", &["Graviton4", "Grace", "Axion"]),
    model(0x41, 0xd80, "cortex-a520", &[]),
    model(0x41, 0xd81, "cortex-a720", &[]),
    model(0x41, 0xd82, "cortex-x4", &[]),
    model(0x41, 0xd83, "neoverse-v3ae", &[]),
    model(0x41, 0xd84, "neoverse-v3", &["Graviton5"]),
    model(0x41, 0xd85, "cortex-x925", &[]),
    model(0x41, 0xd87, "cortex-a725", &[]),
    model(0x41, 0xd89, "cortex-a720ae", &[]),
    model(0x41, 0xd8e, "neoverse-n3", &["Axion N4A"]),
    model(0x42, 0x100, "brahma-b53", &[]),
    model(0x42, 0x516, "vulcan", &["ThunderX2"]),
    model(0x43, 0x0a1, "thunderx", &[]),
    model(0x43, 0x0a2, "thunderx-81xx", &[]),
    model(0x43, 0x0a3, "thunderx-83xx", &[]),
    model(0x43, 0x0af, "thunderx2", &["ThunderX2"]),
    model(0x46, 0x001, "a64fx", &["A64FX"]),
    model(0x46, 0x003, "monaka", &[]),
    model(0x48, 0xd01, "tsv110", &["Kunpeng 920"]),
    model(0x48, 0xd02, "hip09", &["Kunpeng 920B"]),
    model(0x4e, 0x003, "denver", &[]),
    model(0x4e, 0x004, "carmel", &["Xavier"]),
    model(0x4e, 0x010, "olympus", &["Vera"]),
    model(0x50, 0x000, "potenza", &["X-Gene"]),
    model(0x51, 0x001, "oryon", &["Snapdragon X"]),
    model(0x51, 0xc00, "falkor", &[]),
    model(0x61, 0x022, "apple-m1-icestorm", &["Apple M1"]),
    model(0x61, 0x023, "apple-m1-firestorm", &["Apple M1"]),
    model(0x61, 0x024, "apple-m1-pro-icestorm", &["Apple M1 Pro"]),
    model(0x61, 0x025, "apple-m1-pro-firestorm", &["Apple M1 Pro"]),
    model(0x61, 0x028, "apple-m1-max-icestorm", &["Apple M1 Max"]),
    model(0x61, 0x029, "apple-m1-max-firestorm", &["Apple M1 Max"]),
    model(0x61, 0x032, "apple-m2-blizzard", &["Apple M2"]),
    model(0x61, 0x033, "apple-m2-avalanche", &["Apple M2"]),
    model(0x61, 0x034, "apple-m2-pro-blizzard", &["Apple M2 Pro"]),
    model(0x61, 0x035, "apple-m2-pro-avalanche", &["Apple M2 Pro"]),
    model(0x61, 0x038, "apple-m2-max-blizzard", &["Apple M2 Max"]),
    model(0x61, 0x039, "apple-m2-max-avalanche", &["Apple M2 Max"]),
    model(0x61, 0x042, "apple-m3-sawtooth", &["Apple M3"]),
    model(0x61, 0x043, "apple-m3-everest", &["Apple M3"]),
    model(0x61, 0x044, "apple-m3-pro-sawtooth", &["Apple M3 Pro"]),
    model(0x61, 0x045, "apple-m3-pro-everest", &["Apple M3 Pro"]),
    model(0x61, 0x048, "apple-m3-max-sawtooth", &["Apple M3 Max"]),
    model(0x61, 0x049, "apple-m3-max-everest", &["Apple M3 Max"]),
    model(0x61, 0x052, "apple-m4-e-core", &["Apple M4"]),
    model(0x61, 0x053, "apple-m4-p-core", &["Apple M4"]),
    model(0x61, 0x054, "apple-m4-pro-e-core", &["Apple M4 Pro"]),
    model(0x61, 0x055, "apple-m4-pro-p-core", &["Apple M4 Pro"]),
    model(0x61, 0x058, "apple-m4-max-e-core", &["Apple M4 Max"]),
    model(0x61, 0x059, "apple-m4-max-p-core", &["Apple M4 Max"]),
    model(0x61, 0x062, "apple-m5-e-core", &["Apple M5"]),
    model(0x61, 0x063, "apple-m5-p-core", &["Apple M5"]),
    model(0x6d, 0xd49, "azure-cobalt-100", &["Cobalt 100"]),
    model(0x70, 0x660, "ftc660", &[]),
    model(0x70, 0x661, "ftc661", &[]),
    model(0x70, 0x662, "ftc662", &[]),
    model(0x70, 0x663, "ftc663", &[]),
    model(0xc0, 0xac3, "ampere1", &["AmpereOne"]),
    model(0xc0, 0xac4, "ampere1a", &["AmpereOne"]),
];

impl CpuModel {
    /// Returns the model of a CPU with this MIDR_EL1, if it is known.
    pub fn from_midr(midr: u64) -> Option<&'static Self> {
        let key = (implementer(midr), (midr >> 4 & 0xfff) as u16);
        let position = MODELS.binary_search_by_key(&key, |it| (it.implementer, it.part));
        position.ok().and_then(|position| MODELS.get(position))
    }

    /// Returns all known models, ascending by implementer and part number.
    pub fn all() -> &'static [Self] {
        MODELS
    }

    /// Returns the models in a machine, such as `graviton2`, `Raspberry Pi 4` or `rk3588`.
    ///
    /// Case, spaces, `-` and `_` do not matter. A leading vendor (`aws`, `ampere`, …) is optional.
    /// A machine with two kinds of cores has two models.
    pub fn for_machine(name: &str) -> impl Iterator<Item = &'static Self> {
        let name = normalize_machine(name);
        MODELS.iter().filter(move |model| {
            let mut machines = model.machines.iter();
            machines.any(|machine| normalize_machine(machine) == name)
        })
    }

    /// Returns the name of the model: `neoverse-n1`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the machines that are known to have this CPU, most common first.
    pub const fn machines(&self) -> &'static [&'static str] {
        self.machines
    }
}

/// Returns the implementer of the CPU: MIDR_EL1 bits 31:24, where 0 means software.
pub fn implementer(midr: u64) -> u8 {
    midr.to_le_bytes()[3]
}

/// Returns the name of the CPU model without its revision; `midr-0x…` if it is unknown.
pub fn name_from_midr(midr: u64) -> String {
    let model = CpuModel::from_midr(midr);
    model.map_or_else(|| format!("midr-{midr:#x}"), |it| it.name.to_owned())
}

/// Returns the model, revision and machines of a CPU: `neoverse-n1 r3p1: Graviton2, Altra`.
///
/// Returns `None` if the model is unknown.
pub fn describe_midr(midr: u64) -> Option<String> {
    let model = CpuModel::from_midr(midr)?;
    let (variant, revision) = (midr >> 20 & 0xf, midr & 0xf);
    let model_text = format!("{} r{variant}p{revision}", model.name);
    Some(match model.machines {
        [] => model_text,
        machines => format!("{model_text}: {}", machines.join(", ")),
    })
}

/// Vendors that people write before the name of a machine.
const VENDORS: [&str; 8] = [
    "aws", "amazon", "ampere", "google", "nvidia", "azure", "apple", "rockchip",
];

/// Returns the name of a machine in lower case, without separators and vendor.
fn normalize_machine(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|it| it.to_ascii_lowercase()).collect();
    let name = match name.strip_prefix("rpi") {
        Some(number) => format!("raspberrypi{number}"),
        None => name,
    };
    let is_first_generation = name.ends_with("graviton");
    let name = if is_first_generation {
        name + "1"
    } else {
        name
    };
    let rest = VENDORS.iter().find_map(|vendor| name.strip_prefix(vendor));
    match rest {
        // `ampere` alone, and `ampereone`, name no other machine without the vendor.
        Some(rest) if !rest.is_empty() && rest != "one" => rest.to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn models_are_ordered_and_unique() {
        assert!(MODELS.is_sorted_by(|a, b| (a.implementer, a.part) < (b.implementer, b.part)));
        let mut names: Vec<_> = MODELS.iter().map(|it| it.name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }

    #[test]
    fn names_depend_on_implementer_and_part() {
        assert_eq!(name_from_midr(0x414f_d0c1), "neoverse-n1");
        assert_eq!(name_from_midr(0x410f_d0c1), "neoverse-n1");
        assert_eq!(name_from_midr(0x000f_0510), "max");
        assert_eq!(name_from_midr(0x123f_4560), "midr-0x123f4560");
    }

    #[test]
    fn descriptions_have_revision_and_machines() {
        let text = describe_midr(0x413f_d0c1);
        assert_eq!(text.as_deref(), Some("neoverse-n1 r3p1: Graviton2, Altra"));
        assert_eq!(
            describe_midr(0x411f_d070).as_deref(),
            Some("cortex-a57 r1p0: Jetson TX1, Opteron A1100")
        );
        assert_eq!(describe_midr(0x000f_0510).as_deref(), Some("max r0p0"));
        assert_eq!(describe_midr(0x123f_4560), None);
    }

    #[test]
    fn machines_have_models_in_every_usual_spelling() {
        let models = |name| -> Vec<_> { CpuModel::for_machine(name).map(CpuModel::name).collect() };
        for name in ["graviton2", "Graviton2", "AWS Graviton-2", "aws_graviton2"] {
            assert_eq!(models(name), ["neoverse-n1"], "{name}");
        }
        for name in ["altra", "Ampere Altra"] {
            assert_eq!(models(name), ["neoverse-n1"], "{name}");
        }
        assert_eq!(models("ampereone"), ["ampere1", "ampere1a"]);
        assert_eq!(models("graviton"), ["cortex-a72"]);
        assert_eq!(models("rk3588"), ["cortex-a55", "cortex-a76"]);
        assert_eq!(models("rpi4"), ["cortex-a72"]);
        assert_eq!(models("raspberry-pi-5"), ["cortex-a76"]);
        assert_eq!(models("m1"), ["apple-m1-icestorm", "apple-m1-firestorm"]);
        assert_eq!(models("Apple M4 Pro").len(), 2);
        assert_eq!(models("ampere"), [""; 0]);
        assert_eq!(models(""), [""; 0]);
    }
}
