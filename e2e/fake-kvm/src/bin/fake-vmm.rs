//! `fake-vmm`: a VMM with QEMU's register calls and no guest, for tests of `libcpreg_interpose.so`.
//!
//! ```text
//! fake-vmm values STREAM VCPUS > VALUES
//! fake-vmm policy HOST
//! fake-vmm load VALUES [fork|spawn|reuse]
//! fake-vmm cost VALUES CALLS
//! ```
//!
//! VALUES has a line `VCPU ID VALUE` for each incoming register, in hexadecimal. `values` makes it
//! from a recorded stream, and `policy` prints the library's policy for a recorded host. `load`
//! prints `runs`, or the pass in which a call failed. `cost` prints nanoseconds per call as JSON.
#![allow(unsafe_code, reason = "ioctls take pointers")]
#![allow(clippy::print_stdout, reason = "the result")]

#[path = "fake-vmm/calls.rs"]
mod calls;
#[path = "fake-vmm/cost.rs"]
mod cost;
#[path = "fake-vmm/prepare.rs"]
mod prepare;

use std::process::{Command, ExitCode};
use std::sync::Barrier;
use std::thread;

use calls::{Values, Vcpu, VmHandle};

/// Passes in which QEMU writes all registers of its list.
const PASSES: [&str; 4] = ["init", "reset", "load", "post-init"];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["load", values, modes @ ..] => match load(&read_values(values), modes) {
            Ok(()) => {
                println!("runs");
                ExitCode::SUCCESS
            }
            Err(pass) => {
                println!("refused: {pass}");
                ExitCode::FAILURE
            }
        },
        ["cost", values, count] => {
            let count = count.parse().expect("a number of calls");
            println!("{}", cost::measure(&read_values(values), count));
            ExitCode::SUCCESS
        }
        ["values", stream, vcpus] => {
            let vcpus = vcpus.parse().expect("a number of vCPUs");
            print!("{}", prepare::values(stream, vcpus));
            ExitCode::SUCCESS
        }
        ["policy", host] => {
            println!("{}", prepare::policy(host));
            ExitCode::SUCCESS
        }
        _ => panic!("fake-vmm values|policy|load|cost ARGUMENTS"),
    }
}

/// Reads the incoming values of each vCPU.
fn read_values(path: &str) -> Vec<Values> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let mut vcpus: Vec<Values> = Vec::new();
    for line in text.lines() {
        let mut numbers = line
            .split(' ')
            .map(|word| u64::from_str_radix(word, 16).expect("a hexadecimal number"));
        let mut next = || numbers.next().expect("three numbers");
        let vcpu = usize::try_from(next()).expect("a vCPU");
        if vcpus.len() <= vcpu {
            vcpus.resize(vcpu + 1, Values::new());
        }
        vcpus[vcpu].insert(next(), next());
    }
    vcpus
}

/// Loads a VM with one thread for each vCPU.
fn load(incoming: &[Values], modes: &[&str]) -> Result<(), &'static str> {
    if modes.contains(&"reuse") {
        // The kernel gives out the same descriptors again.
        let first = VmHandle::create(incoming.len());
        first.close();
    }
    let vm = VmHandle::create(incoming.len());
    let forker = modes.contains(&"fork").then(|| thread::spawn(fork_often));
    let barrier = Barrier::new(incoming.len());
    let results: Vec<_> = thread::scope(|scope| {
        let threads = vm.vcpus.iter().zip(incoming).map(|(vcpu, values)| {
            let barrier = &barrier;
            scope.spawn(move || load_vcpu(*vcpu, values, barrier))
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    if modes.contains(&"spawn") {
        let output = Command::new("/bin/echo").arg("child").output();
        let output = output.expect("a program");
        assert!(output.status.success() && output.stdout == b"child\n");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    if let Some(forker) = forker {
        forker.join().expect("the children end");
    }
    results.into_iter().collect()
}

/// Loads one vCPU with QEMU's calls. All vCPUs make each pass at the same time.
fn load_vcpu(vcpu: Vcpu, incoming: &Values, barrier: &Barrier) -> Result<(), &'static str> {
    vcpu.initialize();
    let list = vcpu.list();
    let mut values: Values = list.iter().map(|id| (*id, vcpu.get(*id))).collect();
    let mut result = Ok(());
    for pass in PASSES {
        barrier.wait();
        if pass == "load" {
            if incoming.keys().any(|id| !values.contains_key(id)) {
                result = result.and(Err("list"));
            }
            values.extend(incoming.iter().map(|(id, value)| (*id, *value)));
        }
        if result.is_ok() && values.iter().any(|(id, value)| !vcpu.set(*id, *value)) {
            result = Err(pass);
        }
    }
    barrier.wait();
    if result.is_ok() && !vcpu.run() {
        result = Err("run");
    }
    result
}

/// Forks again and again. Each child closes all descriptors, as programs do before `exec`.
fn fork_often() {
    const FORKS: usize = 50;
    for _ in 0..FORKS {
        assert_eq!(calls::fork_and_close(), 0, "the status of the child");
    }
}
