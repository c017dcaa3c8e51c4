//! `cargo xtask gen-history [--check] FOLDER`: makes `crates/cpreg-hosts/data/history.txt` out of recordings of real KVMs.
//!
//! FOLDER holds `KERNEL.tar.xz`, one for each kernel version, with text files of one directory level:
//!
//! | line | what it says |
//! |---|---|
//! | `# UNAME RELEASE … Debian PACKAGE (DATE)` | the kernel |
//! | `# CAPS … masks 0\|1` | whether it tells which bits may be written |
//! | `# outer cpu MODEL[+MODE]` | the emulated CPU that it ran on |
//! | `# featureset NAME: n COUNT target T features MASK ipa BITS` | how many registers follow, and `struct kvm_vcpu_init`'s features |
//! | `NAME ID SIZE VALUE get=ERRNO set=ERRNO` | a register of a fresh vCPU; `set`: writing back what was read |
//! | `writable ID MASK` | bits of an ID register that user space may change |
//!
//! The history is checked in, so that nothing needs the recordings but this task.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use cpreg::register::{RegisterId, Value};
use cpreg_hosts::history::{AtReset, History, Kernel, Listed, Recording};

use crate::{Result, repository};

const OUTPUT: &str = "crates/cpreg-hosts/data/history.txt";

const HEADER: &str = "\
# What recorded kernels list for a fresh vCPU, with which values: on emulated CPUs.
# Made by `cargo xtask gen-history FOLDER`, which says what was recorded; the form: crates/cpreg-hosts/src/history/text.rs.
";

/// Writes the history, or with `--check` compares it.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (check, folder) = match arguments {
        [folder] if *folder != "--check" => (false, *folder),
        ["--check", folder] => (true, *folder),
        _ => return Err("usage: cargo xtask gen-history [--check] FOLDER".into()),
    };
    let new = format!("{HEADER}{}", history(Path::new(folder))?.to_text());
    let path = repository().join(OUTPUT);
    if !check {
        return Ok(fs::write(path, new)?);
    }
    if fs::read_to_string(path)? == new {
        Ok(())
    } else {
        Err(
            format!("{OUTPUT} is not what {folder} gives: run cargo xtask gen-history {folder}")
                .into(),
        )
    }
}

fn history(folder: &Path) -> Result<History> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(version) = name.strip_suffix(".tar.xz") {
            archives.push((ordered(version)?, version.to_owned(), path.clone()));
        }
    }
    if archives.is_empty() {
        return Err(format!("{} has no KERNEL.tar.xz", folder.display()).into());
    }
    archives.sort();
    let mut history = History::default();
    for (_, version, path) in archives {
        let mut bytes = Vec::new();
        lzma_rust2::XzReader::new(File::open(&path)?, true).read_to_end(&mut bytes)?;
        let mut number = None;
        for (name, text) in
            unpack(&bytes).map_err(|error| format!("{}: {error}", path.display()))?
        {
            let within = |error| format!("{}: {name}: {error}", path.display());
            let file = Read::of(&text).map_err(within)?;
            let number = *number.get_or_insert_with(|| {
                history.add_kernel(Kernel {
                    version: version.clone(),
                    release: file.release.clone(),
                    package: file.package.clone(),
                })
            });
            if history.kernels().get(number).map(|kernel| &kernel.release) != Some(&file.release) {
                return Err(within(format!("it is of another kernel, {}", file.release)).into());
            }
            history.add(
                Recording {
                    kernel: number,
                    ..file.recording
                },
                file.listed,
            );
        }
    }
    Ok(history)
}

/// A version's numbers, to order versions by.
fn ordered(version: &str) -> Result<Vec<u32>> {
    let numbers = version.split('.').map(str::parse);
    numbers
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| format!("{version}.tar.xz: that is no kernel version").into())
}

/// The text files of a tar archive (POSIX ustar, or GNU's of names that fit), by name.
pub(crate) fn unpack(mut archive: &[u8]) -> std::result::Result<BTreeMap<String, String>, String> {
    const BLOCK: usize = 512;
    let mut files = BTreeMap::new();
    while let Some((header, rest)) = archive.split_at_checked(BLOCK) {
        archive = rest;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let text = |from: usize, to: usize| {
            let text = String::from_utf8_lossy(&header[from..to]);
            text.trim_matches([' ', '\0']).to_owned()
        };
        let size = usize::from_str_radix(&text(124, 136), 8)
            .map_err(|_| "a file of no size: this is no tar archive".to_owned())?;
        let content = archive.get(..size).ok_or("it ends within a file")?;
        let name = text(0, 100);
        match header[156] {
            b'0' | 0 => {
                let name = name.trim_start_matches("./").to_owned();
                files.insert(name, String::from_utf8_lossy(content).into_owned());
            }
            b'5' => {}
            kind => {
                return Err(format!(
                    "{name}: of kind {:?}, which is not read",
                    char::from(kind)
                ));
            }
        }
        let padded = size.next_multiple_of(BLOCK).min(archive.len());
        archive = &archive[padded..];
    }
    Ok(files)
}

/// One file of recordings.
struct Read {
    release: String,
    package: String,
    recording: Recording,
    listed: Vec<Listed>,
}

impl Read {
    fn of(text: &str) -> std::result::Result<Self, String> {
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
        let release = uname.split(' ').next().unwrap_or_default();
        let package = uname
            .split_once(" Debian ")
            .and_then(|(_, rest)| rest.split(' ').next())
            .ok_or("no package in `# UNAME`")?;
        let masks = after(header("# CAPS ")?, "masks")?;
        let cpu = header("# outer cpu ")?;
        let (cpu, mode) = cpu.split_once('+').unwrap_or((cpu, ""));
        let set = header("# featureset ")?;
        let mask = after(set, "features")?;
        let name = set.split(':').next().unwrap_or_default();
        let mut features = features(hexadecimal(mask)?);
        // A capability of the VM, not a feature of its vCPUs.
        if name.split('+').any(|part| part == "mte") {
            features.push("mte".to_owned());
        }
        let listed = listed(text)?;
        let count = after(set, "n")?;
        if count != listed.len().to_string() {
            return Err(format!(
                "{count} registers are announced, and {} are there",
                listed.len()
            ));
        }
        Ok(Self {
            release: release.to_owned(),
            package: package.to_owned(),
            recording: Recording {
                kernel: 0,
                cpu: cpu.to_owned(),
                mode: mode.to_owned(),
                features,
                tells_writable: masks == "1",
            },
            listed,
        })
    }
}

fn listed(text: &str) -> std::result::Result<Vec<Listed>, String> {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let mut writable = BTreeMap::new();
    for line in lines() {
        if let ["writable", id, mask] = line.split(' ').collect::<Vec<_>>()[..] {
            writable.insert(hexadecimal(id)?, hexadecimal(mask)?);
        }
    }
    let mut listed = Vec::new();
    for line in lines().filter(|line| !line.starts_with("writable ")) {
        let words = words(line);
        let malformed = || format!("not understood: {line}");
        let [_, id, size, value, get, set] = &words[..] else {
            return Err(malformed());
        };
        let raw = hexadecimal(id)?;
        let id = RegisterId::from_raw(raw);
        let errno = |word: &str, name: &str| {
            let errno = word.strip_prefix(name).and_then(|errno| errno.parse().ok());
            errno.ok_or_else(malformed)
        };
        let size: usize = size.parse().map_err(|_| malformed())?;
        let at_reset = match errno(get, "get=")? {
            0 => AtReset::of(id, value_of(value, size).ok_or_else(malformed)?),
            errno => AtReset::Unreadable(errno),
        };
        listed.push(Listed {
            id,
            at_reset,
            write_back: errno(set, "set=")?,
            writable: writable.get(&raw).copied(),
        });
    }
    Ok(listed)
}

/// The word behind this one.
fn after<'a>(line: &'a str, word: &str) -> std::result::Result<&'a str, String> {
    let mut words = line.split(' ').skip_while(|other| *other != word);
    words
        .nth(1)
        .ok_or_else(|| format!("no `{word}` in `{line}`"))
}

/// The names of `KVM_ARM_VCPU_*` bits (Linux `arch/arm64/include/uapi/asm/kvm.h`). Every guest has PSCI 0.2, and whether it is
/// switched on is none of its features.
fn features(mask: u64) -> Vec<String> {
    // The two halves of pointer authentication are only ever asked for together.
    let names = [
        (1, "el1-32bit"),
        (3, "pmu"),
        (4, "sve"),
        (5, "ptrauth"),
        (7, "el2"),
        (8, "el2-e2h0"),
    ];
    let names = names.into_iter().filter(|(bit, _)| mask >> bit & 1 == 1);
    names.map(|(_, name)| name.to_owned()).collect()
}

fn hexadecimal(text: &str) -> std::result::Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|_| format!("`{text}` is no hexadecimal number"))
}

/// A value of so many bytes; a wide one of zeros is written `0`.
fn value_of(text: &str, size: usize) -> Option<Value> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if size <= 8 {
        return u64::from_str_radix(digits, 16).ok().map(Value::Small);
    }
    let digits = format!("{digits:0>width$}", width = 2 * size);
    let bytes = digits.as_bytes().rchunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    (bytes.len() == size).then(|| Value::Wide(bytes.into()))
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
    fn a_file_is_read() {
        let read = Read::of(FILE).expect("it is well formed");
        assert_eq!(
            (&*read.release, &*read.package),
            ("6.12.1-test", "6.12.1-1")
        );
        assert_eq!(
            (&*read.recording.cpu, &*read.recording.mode),
            ("max", "mte")
        );
        assert_eq!(read.recording.features, ["pmu", "sve", "ptrauth", "mte"]);
        assert!(read.recording.tells_writable);
        let [midr, pire0, vls, pmmir] = &read.listed[..] else {
            panic!("four are listed, not {}", read.listed.len());
        };
        assert_eq!(midr.at_reset, AtReset::Value(Value::Small(0xf0510)));
        assert_eq!(midr.writable, Some(0xf0));
        assert_eq!((&pire0.at_reset, pire0.writable), (&AtReset::Poison, None));
        let mut lengths = [0; 64];
        lengths[..2].fill(0xff);
        assert_eq!(vls.at_reset, AtReset::Value(Value::Wide(lengths.into())));
        assert_eq!(vls.write_back, 1);
        assert_eq!(pmmir.at_reset, AtReset::Unreadable(22));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let damaged = |from: &str, to: &str| {
            let text = FILE.replace(from, to);
            assert_ne!(text, FILE);
            Read::of(&text).err().expect("it is damaged")
        };
        assert_eq!(
            damaged("n 4", "n 5"),
            "5 registers are announced, and 4 are there"
        );
        assert_eq!(damaged("# outer cpu", "# cpu"), "no line `# outer cpu …`");
        assert!(damaged(" get=22", "").starts_with("not understood: "));
    }
}
