//! Generator of the table of `cpreg_explain::list_lengths` from `tests/fixtures/recorded`, and the
//! test that it is current.
//!
//! With `BLESS=1`, which `cargo xtask bless` sets, the test writes the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cpreg::register::RegisterId;

type Ids = BTreeSet<u64>;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the first vCPU's list of every recorded stream that was not edited, by stream name.
fn recorded_lists() -> BTreeMap<String, Ids> {
    let path = repository().join("tests/fixtures/recorded/registers.txt.xz");
    let file = fs::File::open(path).expect("the fixture is checked in");
    let mut text = String::new();
    lzma_rust2::XzReader::new(file, true)
        .read_to_string(&mut text)
        .expect("the fixture is a whole xz file");
    let mut lists: BTreeMap<String, Ids> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("stream ") {
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("vcpu ")
            && !current.starts_with("edited/")
        {
            lists.entry(current.clone()).or_insert_with(|| {
                let words = rest.split(' ').filter(|word| !word.starts_with('+'));
                words
                    .filter_map(|word| word.split('=').next())
                    .map(|id| u64::from_str_radix(id, 16).expect("hexadecimal"))
                    .collect()
            });
        }
    }
    lists
}

/// Returns the accelerator, the CPU, and the kernel or QEMU version that decides the list of a
/// stream.
fn parse_stream_name(name: &str) -> (&'static str, String, String) {
    if let Some(rest) = name.strip_prefix("kvm/") {
        let parts: Vec<&str> = rest.split("__").collect();
        return ("Kvm", parts[2].to_owned(), parts[0].to_owned());
    }
    let rest = name.strip_prefix("tcg/q").expect("kvm or tcg");
    let (qemu, variant) = rest.split_once("__").expect("QEMU__VARIANT");
    // virt-7.2-cortex-a57-smp1…
    let (before, _) = variant.split_once("-smp").expect("…-smpN");
    let cpu = before.splitn(3, '-').nth(2).expect("virt-VERSION-CPU");
    ("Tcg", cpu.to_owned(), qemu.to_owned())
}

/// Returns the sort key of a release: `6.12.43` sorts before `6.12.107`.
fn version_key(release: &str) -> Vec<u32> {
    release
        .split('.')
        .map(|part| part.parse().expect("a number"))
        .collect()
}

fn table() -> String {
    let mut families: BTreeMap<(&str, String), BTreeMap<Ids, BTreeSet<String>>> = BTreeMap::new();
    for (name, ids) in recorded_lists() {
        let (accelerator, cpu, version) = parse_stream_name(&name);
        let lists = families.entry((accelerator, cpu)).or_default();
        lists.entry(ids).or_default().insert(version);
    }
    let mut text = String::from(
        "//! Lengths of recorded register lists, and their differences. Generated from\n\
         //! `tests/fixtures/recorded` by `crates/cpreg-explain/tests/recorded_lists.rs`.\n\
         //! Do not edit: `cargo xtask bless` writes it.\n\n\
         use cpreg::destination::Accelerator;\n\n\
         use crate::list_lengths::{Family, List};\n\n\
         /// One family for each accelerator and CPU.\n\
         pub(super) const FAMILIES: &[Family] = &[\n",
    );
    for ((accelerator, cpu), lists) in &families {
        let all: Ids = lists.keys().flatten().copied().collect();
        let varying: Vec<u64> = all
            .into_iter()
            .filter(|id| !lists.keys().all(|list| list.contains(id)))
            .collect();
        assert!(
            varying.len() <= 128,
            "{cpu}: more registers than a u128 has bits"
        );
        let _ = writeln!(
            text,
            "    Family {{\n        accelerator: Accelerator::{accelerator},\n        cpu: \"{cpu}\",\n        varying: &["
        );
        for id in &varying {
            let digits = format!("{id:016x}");
            let groups: Vec<&str> = (0..4).map(|n| &digits[n * 4..n * 4 + 4]).collect();
            let name = RegisterId::from_raw(*id);
            let _ = writeln!(text, "            0x{}, // {name}", groups.join("_"));
        }
        text.push_str("        ],\n        lists: &[\n");
        let mut rows: Vec<(Vec<&String>, &Ids)> = lists
            .iter()
            .map(|(ids, hosts)| {
                let mut hosts: Vec<&String> = hosts.iter().collect();
                hosts.sort_by_key(|host| version_key(host));
                (hosts, ids)
            })
            .collect();
        rows.sort_by_key(|(hosts, ids)| {
            let order: Vec<_> = hosts.iter().map(|host| version_key(host)).collect();
            (order, ids.len())
        });
        for (hosts, ids) in rows {
            let has = varying
                .iter()
                .enumerate()
                .filter(|(_, id)| ids.contains(id))
                .fold(0_u128, |bits, (bit, _)| bits | 1 << bit);
            let digits = format!("{has:032x}");
            let groups: Vec<&str> = (0..8).map(|n| &digits[n * 4..n * 4 + 4]).collect();
            let _ = writeln!(
                text,
                "            List {{\n                hosts: &{hosts:?},\n                count: {},\n                has: 0x{},\n            }},",
                ids.len(),
                groups.join("_")
            );
        }
        text.push_str("        ],\n    },\n");
    }
    text.push_str("];\n");
    text
}

#[test]
fn list_lengths_are_current() {
    let path = repository().join("crates/cpreg-explain/src/recorded_list_lengths.rs");
    let generated = table();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &generated).expect("the table can be written");
        return;
    }
    // rustfmt may break lines at other places.
    let squeeze = |text: &str| -> String {
        text.chars()
            .filter(|character| !character.is_whitespace() && *character != ',')
            .collect()
    };
    let current = fs::read_to_string(path).expect("the table is checked in");
    assert!(
        squeeze(&generated) == squeeze(&current),
        "crates/cpreg-explain/src/recorded_list_lengths.rs is out of date; run cargo xtask bless"
    );
}
