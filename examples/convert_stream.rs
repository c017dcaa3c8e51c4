//! Shows a saved VM, converts it for a recorded host, and shows the changes:
//! `convert_stream STREAM HOST/FEATURES NEW_FILE`.
#![expect(clippy::print_stdout, reason = "an example prints for its user")]

use std::env;
use std::error::Error;
use std::fs::File;
use std::path::Path;

use cpreg::destination::loader::Program;
use cpreg::plan::{Consents, Plan, PlanOutcome};
use cpreg::tolerance::Tolerances;
use cpreg_hosts::HostIndex;
use cpreg_stream::{Stream, WriteOptions, convert, write_new};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    let [_, path, host, new_path] = words.as_slice() else {
        return Err("usage: convert_stream STREAM HOST/FEATURES NEW_FILE".into());
    };
    let source = File::open(path)?;
    let stream = Stream::open(&source)?;
    show(path, &stream)?;

    let index = HostIndex::built_in()?;
    let named = index.resolve(host)?;
    let features = named.features.ok_or("name the features: HOST/pmu")?;
    let destination = named.host.destination(features, Program::QEMU)?;
    let vm = stream.vm()?;
    let plan = Plan::new(
        &vm,
        &destination,
        &Tolerances::default(),
        &Consents::default(),
    );
    if plan.outcome() != PlanOutcome::Ready {
        return Err("the VM needs a decision; nothing was written".into());
    }
    let planned = plan.apply(&vm);
    // The edit is made, read back and compared with the plan before anything is written.
    let edit = convert(&stream, &source, &planned)?;
    // The new file appears whole or not at all.
    write_new(&source, &edit, Path::new(new_path), WriteOptions::default())?;

    show(new_path, &Stream::open(&File::open(new_path)?)?)?;
    for (number, (old, new)) in vm.vcpus.iter().zip(&planned.vcpus).enumerate() {
        for (register, value) in old.registers.iter() {
            match new.registers.get(register) {
                Some(new_value) if new_value == value => {}
                Some(new_value) => println!("vCPU {number}: {register}: {value} -> {new_value}"),
                None => println!("vCPU {number}: {register}: removed"),
            }
        }
    }
    Ok(())
}

/// Prints the machine, and the number of registers of each vCPU.
fn show(path: &str, stream: &Stream) -> Result<(), cpreg_stream::Error> {
    println!("{path}: {}", stream.machine().unwrap_or("unknown machine"));
    for (number, vcpu) in stream.vm()?.vcpus.iter().enumerate() {
        println!("  vCPU {number}: {} registers", vcpu.registers.len());
    }
    Ok(())
}
