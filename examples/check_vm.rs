//! Decides if a saved VM loads on a recorded host: `check_vm STREAM HOST/FEATURES`.

use std::env;
use std::error::Error;
use std::fs::File;

use cpreg::destination::loader::{Loader, Program};
use cpreg::plan::{Action, Check, Consents, Verdict};
use cpreg::tolerance::Tolerances;
use cpreg_hosts::HostIndex;
use cpreg_stream::Stream;

#[expect(clippy::print_stdout, reason = "an example prints for its user")]
fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    let [_, stream, host] = words.as_slice() else {
        return Err("usage: check_vm STREAM HOST/FEATURES".into());
    };
    // The VM: what each vCPU holds. The RAM is not read.
    let vm = Stream::open(&File::open(stream)?)?.vm()?;
    // The destination: what its kernel lists, holds and accepts for a guest with these features.
    let index = HostIndex::built_in()?;
    let named = index.resolve(host)?;
    let features = named.features.ok_or("name the features: HOST/pmu")?;
    let mut destination = named.host.destination(features, Program::QEMU)?;
    destination.loader = Some(Loader::qemu(10, 0));

    let tolerances = Tolerances::default();
    let check = Check::new(&vm, &destination, &tolerances, &Consents::default());
    println!("{}", check.verdict.name());
    for (_, decision) in check.plan.decisions() {
        if matches!(decision.action, Action::Refuse | Action::Undecided) {
            let reason = decision.reason.display(&tolerances);
            println!("{}: {reason}", decision.register);
        }
    }
    for change in &check.plan.proposed_adjustments {
        println!("--accept {} ({})", change.register, change.severity);
    }
    match check.verdict {
        Verdict::Loads | Verdict::Converts => Ok(()),
        _ => Err("the VM stays where it is".into()),
    }
}
