//! [`RunStatus`]: the events of a process, put together. Schema `cpreg.run-status/1`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run_event::{
    BlockingJson, ChangedValue, RegisterName, RegisterValue, RunEvent, RunEventDetails,
    SettingJson, join,
};

/// Schema of the document.
pub const STATUS_SCHEMA: &str = "cpreg.run-status/1";

/// Name of the memory file in which a process keeps its events.
pub const STATUS_FILE: &str = "cpreg-run";

/// Registers that were ignored, set, remembered and dropped in the VM of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RunStatus {
    /// `"cpreg.run-status/1"`.
    #[schemars(extend("const" = STATUS_SCHEMA))]
    pub schema: String,
    /// Process id of the VMM.
    pub process: u32,
    /// Registers that the host lacks and the VMM lists.
    pub remembered: Vec<RegisterName>,
    /// Registers of the host that the VMM does not list.
    pub dropped: Vec<RegisterName>,
    /// Settings that each vCPU has.
    pub settings: Vec<SettingJson>,
    /// Settings that the VMM replaced.
    pub replaced_settings: Vec<RegisterValue>,
    /// vCPUs that have loaded.
    pub loaded: Vec<LoadedVcpu>,
    /// Registers that blocked a load.
    pub blocking: Vec<BlockingJson>,
    /// Properties of the hosts that blocked a load, in words.
    pub blocking_hardware: Vec<String>,
    /// `true` if later events are missing, because the log of the process is full.
    pub truncated: bool,
}

/// vCPU that has loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LoadedVcpu {
    /// Number of the vCPU.
    pub vcpu: usize,
    /// Incoming registers that were left out.
    pub ignored: Vec<RegisterValue>,
    /// Registers that hold another value than the incoming one.
    pub changed: Vec<ChangedValue>,
}

impl RunStatus {
    /// Puts the events of a process together. A vCPU that loads again replaces its last load.
    pub fn new(process: u32, events: impl IntoIterator<Item = RunEvent>) -> Self {
        let mut status = Self {
            schema: STATUS_SCHEMA.to_owned(),
            process,
            remembered: Vec::new(),
            dropped: Vec::new(),
            settings: Vec::new(),
            replaced_settings: Vec::new(),
            loaded: Vec::new(),
            blocking: Vec::new(),
            blocking_hardware: Vec::new(),
            truncated: false,
        };
        let mut loaded = BTreeMap::new();
        for event in events {
            match event.event {
                RunEventDetails::Listed {
                    remembered,
                    dropped,
                } => {
                    status.remembered = remembered;
                    status.dropped = dropped;
                }
                RunEventDetails::SettingsMade { settings }
                | RunEventDetails::SettingsRefused { settings, .. } => status.settings = settings,
                RunEventDetails::SettingReplaced { register, .. } => {
                    status.replaced_settings.push(register);
                }
                RunEventDetails::Loaded {
                    vcpu,
                    ignored,
                    changed,
                } => {
                    loaded.insert(
                        vcpu,
                        LoadedVcpu {
                            vcpu,
                            ignored,
                            changed,
                        },
                    );
                }
                RunEventDetails::Refused {
                    registers,
                    hardware,
                } => {
                    status.blocking = registers;
                    status.blocking_hardware = hardware;
                }
                RunEventDetails::Truncated => status.truncated = true,
            }
        }
        status.loaded = loaded.into_values().collect();
        status
    }

    /// Parses the complete lines of a process's memory file. The process may be writing the last
    /// one.
    ///
    /// # Errors
    /// Returns an error for a line that is not an event.
    pub fn from_lines(process: u32, text: &str) -> Result<Self, serde_json::Error> {
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let events = complete.lines().map(serde_json::from_str);
        Ok(Self::new(process, events.collect::<Result<Vec<_>, _>>()?))
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |registers: &[RegisterName]| {
            let names: Vec<_> = registers.iter().map(|it| it.name.as_str()).collect();
            join(&names)
        };
        writeln!(f, "process {}", self.process)?;
        writeln!(f, "remembered: {}", names(&self.remembered))?;
        writeln!(f, "dropped: {}", names(&self.dropped))?;
        writeln!(f, "settings: {}", join(&self.settings))?;
        writeln!(f, "replaced settings: {}", join(&self.replaced_settings))?;
        for LoadedVcpu {
            vcpu,
            ignored,
            changed,
        } in &self.loaded
        {
            writeln!(
                f,
                "vCPU {vcpu}: ignored: {}; changed: {}",
                join(ignored),
                join(changed)
            )?;
        }
        for register in &self.blocking {
            writeln!(
                f,
                "blocked: {} (vCPU {}): {}",
                register.name, register.vcpus, register.reason
            )?;
        }
        for text in &self.blocking_hardware {
            writeln!(f, "blocked: {text}")?;
        }
        if self.truncated {
            writeln!(f, "later events are missing")?;
        }
        Ok(())
    }
}

impl fmt::Display for SettingJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if self.mask != format!("{:#x}", u64::MAX) {
            write!(f, " (bits {})", self.mask)?;
        }
        write!(f, " = {}", self.value)?;
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cpreg::register::{RegisterId, Value};

    use super::*;
    use crate::event::Event;

    #[test]
    fn the_last_load_of_a_vcpu_counts_and_an_incomplete_line_does_not() {
        let line = |value| {
            let event = Event::Loaded {
                vcpu: 1,
                ignored: vec![(RegisterId::PIR_EL1, Value::U64(value))],
                changed: Vec::new(),
            };
            let event = RunEvent::new(0.0, 7, RunEventDetails::from_event(&event));
            serde_json::to_string(&event).expect("JSON")
        };
        let text = format!("{}\n{}\n{}", line(8), line(9), &line(7)[..20]);
        let status = RunStatus::from_lines(7, &text).expect("a status");
        assert_eq!(status.loaded.len(), 1);
        assert_eq!(status.loaded[0].ignored[0].value.as_deref(), Some("0x9"));
        assert!(
            status
                .to_string()
                .contains("vCPU 1: ignored: PIR_EL1 = 0x9; changed: none\n")
        );
        let json = serde_json::to_string(&status).expect("JSON");
        assert_eq!(
            serde_json::from_str::<RunStatus>(&json).expect("a status"),
            status
        );
        assert!(RunStatus::from_lines(7, "{}\n").is_err());
    }
}
