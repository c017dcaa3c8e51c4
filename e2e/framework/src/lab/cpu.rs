//! The CPU models of the emulated hosts, and the modes that they and their kernel can be in.

use std::fmt;

use crate::Result;

/// Models of QEMU 11.1 that a host can have, each with EL2.
pub const MODELS: [&str; 6] = [
    "cortex-a57",
    "cortex-a76",
    "neoverse-n1",
    "neoverse-v1",
    "neoverse-n2",
    "max",
];

/// The modes in which a host gives guests what it otherwise does not, or does it another way: recorded beside the models.
pub const MODELS_WITH_MODES: [&str; 3] = ["max+mte", "max+nested", "neoverse-n1+nvhe"];

/// A mode, by its name, and what it says.
const MODES: [(&str, Mode); 3] = [
    ("nested", Mode::Nested),
    ("nvhe", Mode::Nvhe),
    ("mte", Mode::Mte),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// KVM offers guests an EL2: `kvm-arm.mode=nested`, on a CPU with FEAT_NV2.
    Nested,
    /// KVM runs without VHE: `kvm-arm.mode=nvhe`.
    Nvhe,
    /// The machine's memory has tags.
    Mte,
}

/// A CPU model with modes: `max+nested`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    model: &'static str,
    modes: Vec<Mode>,
}

impl Cpu {
    /// Reads `neoverse-n1` or `max+nested`.
    ///
    /// # Errors
    /// If there is no such model or mode; the text names all.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = text.split('+');
        let name = words.next().unwrap_or_default();
        let model = MODELS.into_iter().find(|model| *model == name);
        let model = model.ok_or_else(|| format!("no CPU model {name:?}: {}", MODELS.join(", ")))?;
        let mut modes = Vec::new();
        for word in words {
            let found = MODES.iter().find(|(name, _)| *name == word);
            let names = MODES.map(|(name, _)| name).join(", ");
            let (_, mode) = found.ok_or_else(|| format!("no mode {word:?}: {names}"))?;
            modes.push(*mode);
        }
        Ok(Self { model, modes })
    }

    /// Whether it is to run in other than the usual mode.
    pub fn has_mode(&self) -> bool {
        !self.modes.is_empty()
    }

    /// What `-cpu` gets, for a kernel of that release.
    pub fn option(&self, release: &str) -> String {
        let mut option = self.model.to_owned();
        if self.model == "max" {
            // Pointer authentication as Arm defines it is slow to emulate; QEMU's own needs no cipher.
            option += ",pauth-impdef=on";
            // 5.10 does not come up on a CPU with 52-bit addresses in 4 KiB pages.
            if release.starts_with("5.") {
                option += ",lpa2=off";
            }
        }
        option
    }

    /// What is added to `-machine`.
    pub fn machine(&self) -> &'static str {
        if self.modes.contains(&Mode::Mte) {
            ",mte=on"
        } else {
            ""
        }
    }

    /// What is added to the kernel's command line.
    pub fn command_line(&self) -> &'static str {
        if self.modes.contains(&Mode::Nested) {
            " kvm-arm.mode=nested"
        } else if self.modes.contains(&Mode::Nvhe) {
            " kvm-arm.mode=nvhe"
        } else {
            ""
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model)?;
        for mode in &self.modes {
            let named = MODES.iter().find(|(_, other)| other == mode);
            write!(f, "+{}", named.map_or("", |(name, _)| name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_modes_are_read_and_written_alike() {
        for text in ["neoverse-n1", "max+nested", "max+mte", "neoverse-n1+nvhe"] {
            assert_eq!(Cpu::parse(text).unwrap().to_string(), text);
        }
        assert!(
            Cpu::parse("max+odd")
                .unwrap_err()
                .to_string()
                .contains("nvhe")
        );
        assert!(
            Cpu::parse("z80")
                .unwrap_err()
                .to_string()
                .contains("cortex-a57")
        );
    }

    #[test]
    fn options_fit_the_kernel() {
        let max = Cpu::parse("max+mte").unwrap();
        assert_eq!(max.option("5.10.223"), "max,pauth-impdef=on,lpa2=off");
        assert_eq!(max.option("6.1.176"), "max,pauth-impdef=on");
        assert_eq!(max.machine(), ",mte=on");
        assert_eq!(max.command_line(), "");
    }
}
