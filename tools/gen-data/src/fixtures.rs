//! `gen-fixtures FOLDER`: generates tests/fixtures/recorded from a folder of recorded streams and
//! recorded outcomes.
//!
//! The folder holds `streams/{kvm,tcg,edited}/NAME.stream.xz` (or `.stream.ch0.xz`, the main
//! channel of a multifd migration) and `outcomes/{kvm,tcg}.jsonl`. The fixtures have the registers
//! and extensions of each stream, and the stream, the destination, the success and the output of
//! each outcome.
//!
//! `probes/probes.tar.xz` is from hosts on which other values were written to the registers of a
//! fresh vCPU. It has a file `KERNEL__CPU__FEATURES.txt` for each host, with a line for each value
//! (`ID VALUE set=ERRNO …`). The fixtures have the information which values were accepted. The
//! recordings are from real QEMUs on real kernels; docs/testing.md describes how to make them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use cpreg::vm::{Content, Vm};
use cpreg_stream::Stream;
use serde_json::{Value, json};

use crate::archive::unpack_xz;
use crate::error::Result;
use crate::paths::repository;

/// Generates the fixtures.
pub(crate) fn run(folder: &Path) -> Result<()> {
    let mut streams: BTreeMap<String, Vm> = BTreeMap::new();
    for kind in ["edited", "kvm", "tcg"] {
        let mut paths: Vec<_> = fs::read_dir(folder.join("streams").join(kind))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(stem) = name
                .strip_suffix(".stream.xz")
                .or_else(|| name.strip_suffix(".stream.ch0.xz"))
            else {
                continue;
            };
            let mut bytes = Vec::new();
            lzma_rust2::XzReader::new(File::open(&path)?, true).read_to_end(&mut bytes)?;
            let stream = Stream::open(&bytes.as_slice())
                .map_err(|error| format!("{}: {error}", path.display()))?;
            streams.insert(format!("{kind}/{stem}"), stream.vm()?);
        }
    }
    let mut outcomes = String::new();
    let mut omitted = 0;
    for (file, convert) in [
        (
            "kvm",
            kvm_outcome as fn(&Value, &BTreeMap<String, Vm>) -> Option<Value>,
        ),
        ("tcg", tcg_outcome),
    ] {
        let text = fs::read_to_string(folder.join("outcomes").join(format!("{file}.jsonl")))?;
        for line in text.lines() {
            let row: Value = serde_json::from_str(line)?;
            if row.get("dst").is_none() && row.get("dst_qemu").is_none() {
                // This row is a save, not a load.
                continue;
            }
            match convert(&row, &streams) {
                Some(outcome) => writeln!(outcomes, "{outcome}")?,
                None => omitted += 1,
            }
        }
    }
    let fixtures = repository().join("tests/fixtures/recorded");
    fs::create_dir_all(&fixtures)?;
    pack(&fixtures.join("registers.txt.xz"), &registers(&streams)?)?;
    pack(&fixtures.join("outcomes.jsonl.xz"), &outcomes)?;
    let probes = probes(&folder.join("probes/probes.tar.xz"))?;
    pack(&fixtures.join("probes.txt.xz"), &probes)?;
    println!(
        "{} streams, {} outcomes; {omitted} outcomes left out, because their streams are not kept",
        streams.len(),
        outcomes.lines().count()
    );
    Ok(())
}

/// Returns `host KERNEL/CPU`, then a line for each tried value: `ID=VALUE taken` or `ID=VALUE
/// refused`, both hexadecimal.
fn probes(archive: &Path) -> Result<String> {
    let mut text = String::new();
    for (name, file) in unpack_xz(archive)? {
        let malformed = |problem: &str| format!("{}: {name}: {problem}", archive.display());
        let mut parts = name.split("__");
        let (Some(kernel), Some(cpu)) = (parts.next(), parts.next()) else {
            return Err(malformed("no KERNEL__CPU__FEATURES").into());
        };
        writeln!(text, "host {kernel}/{cpu}")?;
        for line in file.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let (Some(id), Some(value), Some(errno)) = (words.next(), words.next(), words.next())
            else {
                return Err(malformed(line).into());
            };
            let value = value.strip_prefix("0x").ok_or_else(|| malformed(line))?;
            if value.len() > 16 {
                // No decision depends on the values of wider registers.
                continue;
            }
            let result = if errno == "set=0" { "taken" } else { "refused" };
            writeln!(text, "{id}={value} {result}")?;
        }
    }
    Ok(text)
}

/// Returns `stream NAME`, then a line for each vCPU: `vcpu ID=VALUE … +EXTENSION=VALUE …`, all
/// hexadecimal.
fn registers(streams: &BTreeMap<String, Vm>) -> Result<String> {
    let mut text = String::new();
    for (name, vm) in streams {
        writeln!(text, "stream {name}")?;
        for vcpu in &vm.vcpus {
            text.push_str("vcpu");
            for (id, value) in vcpu.registers.iter() {
                let value = value
                    .as_u64()
                    .ok_or("a QEMU stream holds no wider registers")?;
                write!(text, " {:x}={value:x}", id.raw())?;
            }
            for extension in &vcpu.extensions {
                match &extension.content {
                    Content::Number(number) => write!(text, " +{}={number:x}", extension.name)?,
                    Content::Bytes(_) => write!(text, " +{}", extension.name)?,
                }
            }
            text.push('\n');
        }
    }
    Ok(text)
}

fn text<'v>(row: &'v Value, member: &str) -> &'v str {
    row.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the output of QEMU without its name and without warnings about old machine types.
fn qemu_messages(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.contains("is deprecated"))
        .map(|line| line.replacen("qemu-system-aarch64: ", "", 1))
        .collect()
}

/// Converts an outcome under KVM; `None` if one of its streams is not among `streams`.
fn kvm_outcome(row: &Value, streams: &BTreeMap<String, Vm>) -> Option<Value> {
    let variant = text(row, "variant");
    let from = format!(
        "{}__q{}__{}__{variant}",
        text(row, "src_kernel"),
        text(row, "src_qemu"),
        text(row, "src_cpu")
    );
    let source = [format!("edited/{from}"), format!("kvm/{from}")]
        .into_iter()
        .find(|name| streams.contains_key(name))?;
    // The name of an edited stream ends with the name of the edit.
    let unedited_variant = VARIANTS
        .into_iter()
        .filter(|known| variant.starts_with(known))
        .max_by_key(|known| known.len())?;
    let qemu = text(row, "dst_qemu");
    let (kernel, cpu) = (text(row, "dst_kernel"), text(row, "dst_cpu"));
    // A kernel lists the same registers for every QEMU.
    let destination = [qemu, "10.0", "11.1", "7.2"]
        .into_iter()
        .map(|qemu| format!("kvm/{kernel}__q{qemu}__{cpu}__{unedited_variant}"))
        .find(|name| streams.contains_key(name))?;
    Some(json!({
        "source": source,
        "destination": destination,
        "qemu": qemu,
        "loads": row.get("ok"),
        "says": qemu_messages(text(row, "stderr")),
    }))
}

/// Names of the recorded variants of the VM, without edits.
const VARIANTS: [&str; 10] = [
    "virt10.0-smp1",
    "virt10.0-smp1-its-off",
    "virt10.0-smp1-pmuoff",
    "virt10.0-smp1-psci11",
    "virt10.0-smp2-virtio",
    "virt10.0-smp4",
    "virt11.1-smp4",
    "virt5.2-smp1",
    "virt7.2-smp1",
    "virt7.2-smp4",
];

/// Converts an outcome under TCG; `None` if one of its streams is not among `streams`.
fn tcg_outcome(row: &Value, streams: &BTreeMap<String, Vm>) -> Option<Value> {
    let name = |qemu: &str| {
        let name = format!("tcg/q{qemu}__{}", text(row, "variant"));
        streams.contains_key(&name).then_some(name)
    };
    Some(json!({
        "source": name(text(row, "src"))?,
        "destination": name(text(row, "dst"))?,
        "qemu": text(row, "dst"),
        "loads": row.get("ok"),
        "says": qemu_messages(text(row, "err")),
    }))
}

fn pack(path: &Path, text: &str) -> Result<()> {
    let file = File::create(path)?;
    let options = lzma_rust2::XzOptions::with_preset(9);
    let mut writer = lzma_rust2::XzWriter::new(file, options)?;
    writer.write_all(text.as_bytes())?;
    writer.finish()?;
    Ok(())
}
