//! Reader of `tests/fixtures/recorded`: the registers of every recorded stream, and the outcomes of
//! its loads on other hosts. Several crates' tests use it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Content, Extension, Registers, Vcpu, Vm};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct LoadOutcome {
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) qemu: String,
    pub(crate) loads: bool,
    #[serde(rename = "says")]
    pub(crate) messages: Vec<String>,
}

pub(crate) fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/recorded")
        .join(name);
    let file = std::fs::File::open(&path).expect("the fixture is checked in");
    let mut text = String::new();
    lzma_rust2::XzReader::new(file, true)
        .read_to_string(&mut text)
        .expect("the fixture is a complete xz file");
    text
}

/// Parses the recorded VMs.
///
/// The format is `stream NAME`, then a line for each vCPU: `vcpu ID=VALUE … +EXTENSION=VALUE …`,
/// all hexadecimal.
pub(crate) fn recorded_vms() -> BTreeMap<String, Vm> {
    let text = fixture("registers.txt.xz");
    let mut vms: BTreeMap<String, Vm> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("stream ") {
            name.clone_into(&mut current);
            vms.insert(current.clone(), Vm::default());
        } else if let Some(rest) = line.strip_prefix("vcpu ") {
            let vm = vms.get_mut(&current).expect("a stream line comes first");
            vm.vcpus.push(vcpu(rest));
        }
    }
    vms
}

fn vcpu(line: &str) -> Vcpu {
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
    let mut pairs = Vec::new();
    let mut extensions = Vec::new();
    for word in line.split(' ') {
        if let Some(extension) = word.strip_prefix('+') {
            let (name, content) = match extension.split_once('=') {
                Some((name, value)) => (name, Content::Number(hex(value))),
                None => (extension, Content::Bytes(Vec::new())),
            };
            extensions.push(Extension {
                name: name.to_owned().into(),
                content,
            });
        } else {
            let (id, value) = word.split_once('=').expect("ID=VALUE");
            pairs.push((RegisterId::from_raw(hex(id)), Value::U64(hex(value))));
        }
    }
    Vcpu {
        registers: Registers::from_pairs(pairs).expect("no id twice"),
        extensions,
        ..Vcpu::default()
    }
}
