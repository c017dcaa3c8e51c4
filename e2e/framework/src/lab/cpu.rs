//! CPU models of the emulated hosts, and modes in which a CPU or its kernel runs.

use std::fmt;

use crate::Result;

/// CPU models of QEMU 11.1 that have EL2.
pub const MODELS: [&str; 6] = [
    "cortex-a57",
    "cortex-a76",
    "neoverse-n1",
    "neoverse-v1",
    "neoverse-n2",
    "max",
];

/// Models in modes that change what a host offers its guests. The lab records these hosts too.
pub const MODELS_WITH_MODES: [&str; 3] = ["max+mte", "max+nested", "neoverse-n1+nvhe"];

/// Modes by name.
const MODES: [(&str, Mode); 5] = [
    ("nested", Mode::Nested),
    ("nvhe", Mode::Nvhe),
    ("mte", Mode::Mte),
    ("cntfrq24", Mode::Counter24),
    ("sve256", Mode::Sve256),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// KVM offers guests an EL2: `kvm-arm.mode=nested`, on a CPU with FEAT_NV2.
    Nested,
    /// KVM runs without VHE: `kvm-arm.mode=nvhe`.
    Nvhe,
    /// The machine's memory has tags.
    Mte,
    /// The system counter has 24 MHz, as on Apple's machines.
    Counter24,
    /// The greatest SVE vector length is 256 bits.
    Sve256,
}

/// A CPU model with modes: `max+nested`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    model: &'static str,
    modes: Vec<Mode>,
}

impl Cpu {
    /// Parses `neoverse-n1` or `max+nested`.
    ///
    /// # Errors
    ///
    /// Returns an error with all names if no model or mode has the given name.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = text.split('+');
        let name = words.next().unwrap_or_default();
        let model = MODELS.into_iter().find(|model| *model == name);
        let model = model.ok_or_else(|| {
            format!(
                "unknown CPU model {name:?}; expected one of {}",
                MODELS.join(", ")
            )
        })?;
        let mut modes = Vec::new();
        for word in words {
            let entry = MODES.iter().find(|(name, _)| *name == word);
            let names = MODES.map(|(name, _)| name).join(", ");
            let (_, mode) =
                entry.ok_or_else(|| format!("unknown mode {word:?}; expected one of {names}"))?;
            modes.push(*mode);
        }
        Ok(Self { model, modes })
    }

    /// Returns the features of a guest of QEMU with `-cpu host`, as in the name of a recorded host.
    pub fn guest_features(&self) -> &'static str {
        match self.model {
            "max" => "pmu,sve,ptrauth",
            "neoverse-v1" | "neoverse-n2" => "pmu,sve",
            _ => "pmu",
        }
    }

    /// Returns `true` if the host runs in a mode other than the default.
    pub fn has_mode(&self) -> bool {
        !self.modes.is_empty()
    }

    /// Returns the value of `-cpu` for a kernel of this release.
    pub fn option(&self, release: &str) -> String {
        let mut option = self.model.to_owned();
        if self.model == "max" {
            // Arm's algorithm for pointer authentication is slow to emulate; QEMU's own needs no
            // cipher.
            option += ",pauth-impdef=on";
            // 5.10 does not boot on a CPU with 52-bit addresses in 4 KiB pages.
            if release.starts_with("5.") {
                option += ",lpa2=off";
            }
        }
        if self.modes.contains(&Mode::Counter24) {
            option += ",cntfrq=24000000";
        }
        if self.modes.contains(&Mode::Sve256) {
            option += ",sve-max-vq=2";
        }
        option
    }

    /// Returns the addition to `-machine`.
    pub fn machine(&self) -> &'static str {
        if self.modes.contains(&Mode::Mte) {
            ",mte=on"
        } else {
            ""
        }
    }

    /// Returns the addition to the kernel's command line.
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
            let entry = MODES.iter().find(|(_, other)| other == mode);
            write!(f, "+{}", entry.map_or("", |(name, _)| name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_modes_round_trip() {
        for text in ["neoverse-n1", "max+nested", "max+mte", "neoverse-n1+nvhe"] {
            assert_eq!(Cpu::parse(text).unwrap().to_string(), text);
        }
        assert!(
            Cpu::parse("max+unknown")
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
    fn options_depend_on_the_kernel() {
        let max = Cpu::parse("max+mte").unwrap();
        assert_eq!(max.option("5.10.223"), "max,pauth-impdef=on,lpa2=off");
        assert_eq!(max.option("6.1.176"), "max,pauth-impdef=on");
        let other = Cpu::parse("max+cntfrq24+sve256").unwrap();
        assert_eq!(
            other.option("6.1.176"),
            "max,pauth-impdef=on,cntfrq=24000000,sve-max-vq=2"
        );
        assert_eq!(max.machine(), ",mte=on");
        assert_eq!(max.command_line(), "");
    }
}
