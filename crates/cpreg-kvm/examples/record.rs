//! Records the KVM of this machine and prints a summary: the shortest program for a VMM author to
//! inspect a host.
//!
//! With the argument `tables` the program prints each register (features, id, size, value, errno of
//! reading and of writing back), writable masks, and trials.
#![expect(clippy::print_stdout, reason = "the example prints its result")]

use std::collections::BTreeMap;
use std::error::Error;

use cpreg_hosts::record::AtReset;
use cpreg_kvm::Kvm;
use cpreg_kvm::probe;

fn main() -> Result<(), Box<dyn Error>> {
    let with_tables = std::env::args().nth(1).is_some_and(|word| word == "tables");
    let kvm = Kvm::open()?;
    let record = probe::probe(&kvm, |event| {
        if let Some(warning) = event.warning() {
            println!("{warning}");
        }
    })?;
    let identity = &record.identity;
    println!("host {} {}", identity.release, identity.version);
    println!(
        "cpu {} midr {:#x} mode '{}' emulated {}",
        identity.cpu, identity.midr, identity.mode, identity.emulated
    );
    for (name, value) in &record.capabilities {
        println!("capability {name} {value}");
    }
    for (features, guest) in &record.guests {
        let trials = guest.registers.iter().map(|register| register.trials.len());
        println!(
            "guest {features}: {} registers, {} masks, {} trials",
            guest.registers.len(),
            guest.writable.as_ref().map_or(0, BTreeMap::len),
            trials.sum::<usize>()
        );
        if !with_tables {
            continue;
        }
        for register in &guest.registers {
            let (value, errno) = match &register.at_reset {
                AtReset::Value(value) => (value.to_string(), 0),
                AtReset::Poison => ("poison".to_owned(), 0),
                AtReset::Counter => ("counter".to_owned(), 0),
                AtReset::Unreadable(errno) => ("unreadable".to_owned(), *errno),
            };
            println!(
                "R {features} {:016x} {} {value} {errno} {} {}",
                register.id.raw(),
                register.id.size_bytes().unwrap_or(0),
                register.write_back,
                u8::from(register.differs_by_vcpu)
            );
            for trial in &register.trials {
                println!(
                    "P {features} {:016x} {:#x} {} {:#x}",
                    register.id.raw(),
                    trial.value,
                    trial.errno,
                    trial.read_back
                );
            }
        }
        for (id, mask) in guest.writable.iter().flatten() {
            println!("M {features} {:016x} {mask:#x}", id.raw());
        }
    }
    Ok(())
}
