//! [`Domain`]: the parts of a domain's XML that decide about its CPU and machine.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};

use crate::description::Description;
use crate::error::{Error, ErrorKind};

/// Maximum depth of elements. libvirt's own documents have ten levels at most.
const MAX_DEPTH: usize = 256;
/// Maximum length in bytes of a value; libvirt's names are shorter.
const MAX_VALUE_LEN: usize = 4096;

/// Machine, CPU and memory of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Domain {
    /// Hypervisor (`kvm`, `qemu`, `hvf`).
    pub kind: String,
    /// Name of the domain.
    pub name: String,
    /// UUID of the domain, in the spelling of the XML.
    pub uuid: Option<String>,
    /// Architecture (`aarch64`).
    pub architecture: Option<String>,
    /// Machine type (`virt-7.2`).
    pub machine: Option<String>,
    /// Mode of the CPU (`host-passthrough`, `custom`).
    pub cpu_mode: Option<String>,
    /// Model of the CPU (`cortex-a57`).
    pub cpu_model: Option<String>,
    /// Features of the CPU with their policies (`sve`, `require`).
    pub cpu_features: Vec<(String, String)>,
    /// Number of vCPUs.
    pub vcpus: Option<u32>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Version of the interrupt controller (`3`).
    pub gic: Option<String>,
    /// `true` if the guest must have a PMU, `false` if it must not have one.
    pub pmu: Option<bool>,
    /// Path of the emulator.
    pub emulator: Option<String>,
    /// Words that the user adds to QEMU's command line (`qemu:arg`).
    pub arguments: Vec<String>,
}

impl Domain {
    /// Parses the XML of a domain.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the text is not XML, has no domain, or is nested too deeply.
    pub fn parse(xml: &str) -> Result<Self, Error> {
        let mut reader = Reader::from_str(xml);
        let mut path: Vec<String> = Vec::new();
        let mut domain = Self::default();
        let mut memory_unit = String::new();
        // Text of the innermost element. References to characters are events of their own.
        let mut text = String::new();
        let invalid =
            |error: String| Error::new(ErrorKind::Malformed, format!("the domain's XML: {error}"));
        loop {
            let event = reader
                .read_event()
                .map_err(|error| invalid(error.to_string()))?;
            match event {
                Event::Start(element) => {
                    if path.len() == MAX_DEPTH {
                        return Err(invalid(format!("more than {MAX_DEPTH} levels")));
                    }
                    path.push(element.name().as_ref().to_owned());
                    domain.read_element(&path, &element, &mut memory_unit);
                    text.clear();
                }
                Event::Empty(element) => {
                    path.push(element.name().as_ref().to_owned());
                    domain.read_element(&path, &element, &mut memory_unit);
                    path.pop();
                }
                Event::Text(part) => text += &part,
                Event::GeneralRef(reference) => {
                    let name: &str = &reference;
                    match (
                        reference.resolve_char_ref(),
                        resolve_predefined_entity(name),
                    ) {
                        (Ok(Some(character)), _) => text.push(character),
                        (_, Some(characters)) => text += characters,
                        _ => return Err(invalid(format!("unknown entity {name}"))),
                    }
                }
                Event::End(_) => {
                    let value = text.trim();
                    if !value.is_empty() && value.len() <= MAX_VALUE_LEN {
                        domain.read_text(&path, value, &memory_unit);
                    }
                    text.clear();
                    path.pop();
                    if path.is_empty() {
                        break;
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        if domain.kind.is_empty() || domain.name.is_empty() {
            return Err(invalid("no domain with a type and a name".to_owned()));
        }
        Ok(domain)
    }

    fn read_element(&mut self, path: &[String], element: &BytesStart<'_>, unit: &mut String) {
        let attribute = |name: &str| {
            let found = element.try_get_attribute(name).ok().flatten()?;
            let value = unescape(&found.value).ok()?.into_owned();
            (value.len() <= MAX_VALUE_LEN).then_some(value)
        };
        match names(path)[..] {
            ["domain"] => self.kind = attribute("type").unwrap_or_default(),
            ["domain", "memory"] => {
                *unit = attribute("unit").unwrap_or_else(|| "KiB".to_owned());
            }
            ["domain", "os", "type"] => {
                self.architecture = attribute("arch");
                self.machine = attribute("machine");
            }
            ["domain", "features", "gic"] => self.gic = attribute("version"),
            ["domain", "features", "pmu"] => {
                // Without a state the feature is on.
                self.pmu = Some(attribute("state").as_deref() != Some("off"));
            }
            ["domain", "qemu:commandline", "qemu:arg"] => {
                self.arguments.extend(attribute("value"));
            }
            ["domain", "cpu"] => self.cpu_mode = attribute("mode"),
            ["domain", "cpu", "feature"] => {
                if let (Some(name), Some(policy)) = (attribute("name"), attribute("policy")) {
                    self.cpu_features.push((name, policy));
                }
            }
            ["domain", "vcpu"] => {
                self.vcpus = attribute("current").and_then(|count| count.parse().ok());
            }
            _ => {}
        }
    }

    fn read_text(&mut self, path: &[String], text: &str, memory_unit: &str) {
        match names(path)[..] {
            ["domain", "name"] => text.clone_into(&mut self.name),
            ["domain", "uuid"] => self.uuid = Some(text.to_owned()),
            ["domain", "memory"] => {
                let scale = bytes_per_unit(memory_unit);
                let count = text.parse::<u64>().ok();
                self.memory = count
                    .zip(scale)
                    .and_then(|(count, scale)| count.checked_mul(scale));
            }
            ["domain", "vcpu"] if self.vcpus.is_none() => self.vcpus = text.parse().ok(),
            ["domain", "cpu", "model"] => self.cpu_model = Some(text.to_owned()),
            ["domain", "devices", "emulator"] => self.emulator = Some(text.to_owned()),
            _ => {}
        }
    }

    /// Returns the properties of the domain, of which `container` holds the state.
    pub fn description(&self, container: String) -> Description {
        Description {
            container,
            name: Some(self.name.clone()),
            machine: self.machine.clone(),
            cpu: self.cpu_option(),
            vcpus: self.vcpus,
            memory: self.memory,
            resumes: None,
            command: self.qemu_command(),
            notes: Vec::new(),
        }
    }

    /// Returns the value of QEMU's option `-cpu`; `None` if the XML does not tell it.
    pub fn cpu_option(&self) -> Option<String> {
        let model = match (self.cpu_mode.as_deref(), &self.cpu_model) {
            (Some("host-passthrough"), _) => "host",
            (Some("maximum"), _) => "max",
            (_, Some(model)) => model,
            _ => return None,
        };
        let features =
            self.cpu_features
                .iter()
                .filter_map(|(name, policy)| match policy.as_str() {
                    "require" | "force" => Some(format!(",{name}=on")),
                    "disable" | "forbid" => Some(format!(",{name}=off")),
                    _ => None,
                });
        Some(features.fold(model.to_owned(), |option, feature| option + &feature))
    }

    /// Returns a QEMU command with the domain's machine, CPU and memory, and without its devices.
    ///
    /// `None` if the XML lacks machine or CPU, or holds a character that a shell interprets.
    pub fn qemu_command(&self) -> Option<String> {
        let architecture = self.architecture.as_deref()?;
        let accelerator = match self.kind.as_str() {
            "kvm" => "kvm",
            "hvf" => "hvf",
            "qemu" => "tcg",
            _ => return None,
        };
        let gic = self.gic.as_ref();
        let gic = gic.map_or_else(String::new, |version| format!(",gic-version={version}"));
        let mut command = format!(
            "qemu-system-{architecture} -machine {},accel={accelerator}{gic} -cpu {}",
            self.machine.as_deref()?,
            self.cpu_option()?
        );
        // A write to a string does not fail.
        if let Some(count) = self.vcpus {
            let _ = write!(command, " -smp {count}");
        }
        if let Some(memory) = self.memory {
            let _ = write!(command, " -m {}M", memory.div_ceil(1 << 20));
        }
        let is_plain =
            |character: char| character.is_ascii_alphanumeric() || " -_.,=+:/".contains(character);
        command.chars().all(is_plain).then_some(command)
    }
}

/// Returns the names of the first elements of a path, enough to tell every path of interest.
fn names(path: &[String]) -> Vec<&str> {
    path.iter().take(4).map(String::as_str).collect()
}

/// Returns the number of bytes of one of libvirt's units.
fn bytes_per_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "b" | "byte" | "bytes" => 1,
        "KB" => 1000,
        "k" | "K" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<domain type='kvm' id='3'>\n  <name>a &amp; b</name>\n\
        <memory unit='MiB'>128</memory><vcpu placement='static' current='2'>4</vcpu>\
        <os><type arch='aarch64' machine='virt-7.2'>hvm</type></os>\
        <features><acpi/><gic version='3'/></features>\
        <cpu mode='host-passthrough' check='none'><feature policy='disable' name='sve'/></cpu>\
        <devices><emulator>/usr/bin/qemu-system-aarch64</emulator>\
        <disk><name>other</name><vcpu>9</vcpu></disk></devices></domain>";

    #[test]
    fn machine_and_cpu_are_read() {
        let domain = Domain::parse(XML).unwrap();
        assert_eq!(domain.machine.as_deref(), Some("virt-7.2"));
        assert_eq!((domain.vcpus, domain.memory), (Some(2), Some(128 << 20)));
        assert_eq!(
            domain.qemu_command().as_deref(),
            Some(
                "qemu-system-aarch64 -machine virt-7.2,accel=kvm,gic-version=3 -cpu host,sve=off \
                 -smp 2 -m 128M"
            )
        );
    }

    #[test]
    fn features_and_arguments_are_read() {
        let domain = Domain::parse(XML).unwrap();
        assert_eq!((domain.uuid, domain.pmu), (None, None));
        assert!(domain.arguments.is_empty());
        let more = "<uuid>6a1b6a3e-0000-4000-8000-000000000001</uuid>\
            <features><pmu state='off'/></features><qemu:commandline>\
            <qemu:arg value='-machine'/><qemu:arg value='mte=on'/></qemu:commandline></domain>";
        let domain = Domain::parse(&XML.replace("</domain>", more)).unwrap();
        let uuid = "6a1b6a3e-0000-4000-8000-000000000001";
        assert_eq!(domain.uuid.as_deref(), Some(uuid));
        assert_eq!(domain.pmu, Some(false));
        assert_eq!(domain.arguments, ["-machine", "mte=on"]);
    }

    #[test]
    fn entities_in_names_are_resolved() {
        assert_eq!(Domain::parse(XML).unwrap().name, "a & b");
    }

    #[test]
    fn invalid_xml_is_rejected() {
        let deep = "<a>".repeat(100_000);
        for xml in [
            "",
            "no xml",
            "<domain>",
            "<domain type='kvm'></domain>",
            "<a></b>",
            &deep,
        ] {
            let error = Domain::parse(xml).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{xml:.20}");
        }
    }

    #[test]
    fn shell_characters_give_no_command() {
        let xml = XML.replace("virt-7.2", "virt;reboot");
        assert_eq!(Domain::parse(&xml).unwrap().qemu_command(), None);
    }
}
