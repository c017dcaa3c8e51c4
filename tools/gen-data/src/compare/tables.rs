//! Tables of real KVMs, with which [`super`] compares recorded hosts. A program in C wrote them,
//! independently of cpreg.
//!
//! The folder of hosts holds `KERNEL.tar.xz` for each kernel version, with text files of one
//! directory level:
//!
//! | line | content |
//! |---|---|
//! | `# UNAME RELEASE BUILD` | kernel: `uname -r` and `-v` |
//! | `# CAPS … masks 0\|1` | capabilities; `masks`: whether the kernel reports writable bits |
//! | `# outer cpu MODEL[+MODE]` | emulated CPU of the host |
//! | `# featureset NAME: n COUNT target T features MASK ipa BITS` | features, number of registers |
//! | `NAME ID SIZE VALUE get=ERRNO set=ERRNO` | register of a fresh vCPU; `set`: write-back |
//! | `writable ID MASK` | bits of an ID register that user space may change |
//!
//! The folder of probes holds `probes.tar.xz` with files `KERNEL__MODEL[+MODE]__all.txt`. They have
//! values that were tried on a vCPU of the feature set `all`, one per line: `ID VALUE set=ERRNO
//! readback=VALUE`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::record::{
    AtReset, Capabilities, GuestRecord, Identity, RegisterRecord, WriteTrial,
};

use crate::archive::unpack_xz;
use crate::error::Result;

/// A table of one guest of one host.
#[derive(Debug)]
pub(crate) struct Table {
    /// Host, with the file name of its record: `6.12.107__max+nested`.
    pub(crate) host: String,
    /// Name of the feature set in the tables: `all+el2`.
    pub(crate) set: String,
    pub(crate) identity: Identity,
    pub(crate) capabilities: Capabilities,
    pub(crate) features: Features,
    pub(crate) guest: GuestRecord,
}

/// Values tried on a host's guest with all features, by register.
pub(crate) type Probes = BTreeMap<RegisterId, Vec<WriteTrial>>;

/// Returns the tables in a folder, by host and then by name.
pub(crate) fn read(folder: &Path) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(version) = name.strip_suffix(".tar.xz") else {
            continue;
        };
        for (name, text) in unpack_xz(&path)? {
            let table = Table::parse(version, &text);
            let with_path = |error| format!("{}: {name}: {error}", path.display());
            tables.push(table.map_err(with_path)?);
        }
    }
    if tables.is_empty() {
        return Err(format!("{} has no KERNEL.tar.xz", folder.display()).into());
    }
    tables.sort_by(|one, other| (&one.host, &one.set).cmp(&(&other.host, &other.set)));
    Ok(tables)
}

/// Returns the tried values, by host.
pub(crate) fn probes(folder: &Path) -> Result<BTreeMap<String, Probes>> {
    let path = folder.join("probes.tar.xz");
    let mut hosts = BTreeMap::new();
    for (name, text) in unpack_xz(&path)? {
        let malformed = |problem: &str| format!("{}: {name}: {problem}", path.display());
        let (host, _) = name
            .rsplit_once("__")
            .ok_or_else(|| malformed("no KERNEL__CPU__FEATURES"))?;
        let mut probes = Probes::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let entry = parse_trial(line).ok_or_else(|| malformed(line))?;
            if let (id, Some(trial)) = entry {
                probes.entry(id).or_default().push(trial);
            }
        }
        hosts.insert(host.to_owned(), probes);
    }
    Ok(hosts)
}

/// Parses the line of a tried value. The trial is `None` for values of more than 64 bits, on which
/// no decision depends.
fn parse_trial(line: &str) -> Option<(RegisterId, Option<WriteTrial>)> {
    let [id, value, errno, reads] = line.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let id = RegisterId::from_raw(parse_hex(id).ok()?);
    let errno = errno.strip_prefix("set=")?.parse().ok()?;
    let reads = reads.strip_prefix("readback=")?;
    if id.size_bytes() > Some(8) {
        return Some((id, None));
    }
    let trial = WriteTrial {
        value: parse_hex(value).ok()?,
        errno,
        read_back: parse_hex(reads).ok()?,
    };
    Some((id, Some(trial)))
}

impl Table {
    fn parse(kernel: &str, text: &str) -> std::result::Result<Self, String> {
        let header = |start: &str| {
            let mut lines = text.lines();
            lines
                .find_map(|line| {
                    line.strip_prefix(start)
                        .filter(|rest| !rest.contains("_errno"))
                })
                .ok_or_else(|| format!("no line `{start}…`"))
        };
        let uname = header("# UNAME ")?;
        let (release, build) = uname.split_once(' ').ok_or("no build in `# UNAME`")?;
        let capabilities = header("# CAPS ")?;
        let reports_masks = word_after(capabilities, "masks")? == "1";
        let cpu_and_mode = header("# outer cpu ")?;
        let (cpu, mode) = cpu_and_mode.split_once('+').unwrap_or((cpu_and_mode, ""));
        let set = header("# featureset ")?;
        let mask = word_after(set, "features")?;
        let name = set.split(':').next().unwrap_or_default();
        let mut features = features(parse_hex(mask)?);
        // MTE is a capability of the VM, so the bits of the vCPU's features do not contain it.
        if name.split('+').any(|part| part == "mte") {
            features = features | Features::MTE;
        }
        let (registers, masks) = parse_registers(text)?;
        let count = word_after(set, "n")?;
        if count != registers.len().to_string() {
            return Err(format!(
                "the header announces {count} registers, but the table has {}",
                registers.len()
            ));
        }
        let midr = registers
            .iter()
            .find(|register| register.id == RegisterId::MIDR_EL1);
        let midr = match midr.map(|register| &register.at_reset) {
            Some(AtReset::Value(value)) => value.as_u64(),
            _ => None,
        };
        Ok(Self {
            host: format!("{kernel}__{cpu_and_mode}"),
            set: name.to_owned(),
            identity: Identity {
                release: release.to_owned(),
                version: build.to_owned(),
                midr: midr.unwrap_or_default(),
                cpu: cpu.to_owned(),
                mode: mode.to_owned(),
                emulated: true,
                cpus: Vec::new(),
            },
            capabilities: parse_capabilities(capabilities),
            features,
            guest: GuestRecord {
                registers,
                writable: reports_masks.then_some(masks),
            },
        })
    }
}

/// Returns the capabilities of a `# CAPS` line, with KVM's names.
fn parse_capabilities(line: &str) -> Capabilities {
    let names = [
        ("pmu", "KVM_CAP_ARM_PMU_V3"),
        ("sve", "KVM_CAP_ARM_SVE"),
        ("el1_32", "KVM_CAP_ARM_EL1_32BIT"),
        ("el2", "KVM_CAP_ARM_EL2"),
        ("mte", "KVM_CAP_ARM_MTE"),
        ("ipa", "KVM_CAP_ARM_VM_IPA_SIZE"),
        ("masks", "KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES"),
    ];
    let known = names.into_iter().filter_map(|(word, name)| {
        let number = word_after(line, word).ok()?.parse().ok()?;
        (number != 0).then(|| (name.to_owned(), number))
    });
    let mut capabilities: Capabilities = known.collect();
    if word_after(line, "ptrauth") == Ok("1/1") {
        for name in ["KVM_CAP_ARM_PTRAUTH_ADDRESS", "KVM_CAP_ARM_PTRAUTH_GENERIC"] {
            capabilities.insert(name.to_owned(), 1);
        }
    }
    capabilities
}

/// Registers, and the masks of the ID registers.
type RegisterList = (Vec<RegisterRecord>, BTreeMap<RegisterId, u64>);

fn parse_registers(text: &str) -> std::result::Result<RegisterList, String> {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let mut writable = BTreeMap::new();
    for line in lines() {
        if let ["writable", id, mask] = line.split(' ').collect::<Vec<_>>()[..] {
            writable.insert(RegisterId::from_raw(parse_hex(id)?), parse_hex(mask)?);
        }
    }
    let mut listed = Vec::new();
    for line in lines().filter(|line| !line.starts_with("writable ")) {
        let words = words(line);
        let malformed = || format!("malformed line:  {line}");
        let [_, id, size, value, get, set] = &words[..] else {
            return Err(malformed());
        };
        let id = RegisterId::from_raw(parse_hex(id)?);
        let errno = |word: &str, name: &str| {
            let errno = word.strip_prefix(name).and_then(|errno| errno.parse().ok());
            errno.ok_or_else(malformed)
        };
        let size: usize = size.parse().map_err(|_| malformed())?;
        let at_reset = match errno(get, "get=")? {
            0 => AtReset::from_value(id, value_of(value, size).ok_or_else(malformed)?),
            errno => AtReset::Unreadable(errno),
        };
        listed.push(RegisterRecord {
            id,
            at_reset,
            // The tables are of one vCPU.
            differs_by_vcpu: false,
            write_back: errno(set, "set=")?,
            trials: Vec::new(),
            fields: None,
        });
    }
    listed.sort_by_key(|register| register.id);
    Ok((listed, writable))
}

/// Returns the word that follows `word` in the line.
fn word_after<'a>(line: &'a str, word: &str) -> std::result::Result<&'a str, String> {
    let mut words = line.split(' ').skip_while(|other| *other != word);
    words
        .nth(1)
        .ok_or_else(|| format!("no `{word}` in `{line}`"))
}

/// Returns the features for `KVM_ARM_VCPU_*` bits (Linux `arch/arm64/include/uapi/asm/kvm.h`).
/// Leaves out PSCI 0.2, which every guest has, and the power state, which is not a feature.
fn features(mask: u64) -> Features {
    // Both halves of pointer authentication are always requested together.
    let bits = [
        (1, Features::EL1_32BIT),
        (3, Features::PMU),
        (4, Features::SVE),
        (5, Features::POINTER_AUTHENTICATION),
        (7, Features::EL2),
        (8, Features::EL2_E2H0),
    ];
    let selected = bits.into_iter().filter(|(bit, _)| mask >> bit & 1 == 1);
    selected.fold(Features::NONE, |all, (_, feature)| all | feature)
}

fn parse_hex(text: &str) -> std::result::Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|_| format!("`{text}` is not a hexadecimal number"))
}

/// Parses a value of `size` bytes. A wide value of zeros is written `0`.
fn value_of(text: &str, size: usize) -> Option<Value> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if size <= 8 {
        return u64::from_str_radix(digits, 16).ok().map(Value::U64);
    }
    let digits = format!("{digits:0>width$}", width = 2 * size);
    let bytes = digits.as_bytes().rchunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    (bytes.len() == size).then(|| Value::Bytes(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# UNAME 6.12.1-test #1 SMP PREEMPT Debian 6.12.1-1 (2026-08-29)
# CAPS pmu 1 sve 1 ptrauth 1/1 el1_32 1 el2 0 mte 1 ipa 52 masks 1
# outer cpu max+mte
# featureset all+mte: n 4 target 5 features 0x7c ipa 52
# featureset id size value get_errno set_errno(of the same value)
all+mte 603000000013c000 8 0x00000000000f0510 get=0 set=0
all+mte 603000000013c512 8 0x1de7ec7edbadc0de get=0 set=0
all+mte 606000000015ffff 64 0xffff get=0 set=1
all+mte 603000000013c4f6 8 0x0 get=22 set=0
writable 603000000013c000 0x00000000000000f0
";

    #[test]
    fn a_table_is_read() {
        let table = Table::parse("6.12.1", FILE).expect("a well-formed table");
        assert_eq!(table.host, "6.12.1__max+mte");
        let identity = &table.identity;
        assert_eq!(identity.release, "6.12.1-test");
        assert_eq!(identity.package(), Some("6.12.1-1"));
        assert_eq!((&*identity.cpu, &*identity.mode), ("max", "mte"));
        assert_eq!(identity.midr, 0xf0510);
        assert_eq!(table.features.to_string(), "pmu,sve,ptrauth,mte");
        assert_eq!(table.capabilities["KVM_CAP_ARM_VM_IPA_SIZE"], 52);
        assert!(!table.capabilities.contains_key("KVM_CAP_ARM_EL2"));
        let masks = BTreeMap::from([(RegisterId::MIDR_EL1, 0xf0)]);
        assert_eq!(table.guest.writable, Some(masks));
        let [midr, pmmir, pire0, vls] = &table.guest.registers[..] else {
            panic!(
                "expected four registers, found {}",
                table.guest.registers.len()
            );
        };
        assert_eq!(midr.at_reset, AtReset::Value(Value::U64(0xf0510)));
        assert_eq!(pire0.at_reset, AtReset::Poison);
        let mut lengths = [0; 64];
        lengths[..2].fill(0xff);
        assert_eq!(vls.at_reset, AtReset::Value(Value::Bytes(lengths.into())));
        assert_eq!(vls.write_back, 1);
        assert_eq!(pmmir.at_reset, AtReset::Unreadable(22));
    }

    #[test]
    fn tried_values_are_read() {
        let trial = WriteTrial {
            value: 1,
            errno: 22,
            read_back: 0x1_0001,
        };
        assert_eq!(
            parse_trial("6030000000140000 0x1 set=22 readback=0x10001"),
            Some((RegisterId::PSCI_VERSION, Some(trial)))
        );
        assert_eq!(parse_trial("6030000000140000 0x1 set=22"), None);
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let damaged = |from: &str, to: &str| {
            let text = FILE.replace(from, to);
            assert_ne!(text, FILE);
            Table::parse("6.12.1", &text).expect_err("a damaged table")
        };
        assert_eq!(
            damaged("n 4", "n 5"),
            "the header announces 5 registers, but the table has 4"
        );
        assert_eq!(damaged("# outer cpu", "# cpu"), "no line `# outer cpu …`");
        assert!(damaged(" get=22", "").starts_with("malformed line:  "));
    }
}
