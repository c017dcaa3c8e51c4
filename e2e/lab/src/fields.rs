//! `cargo xtask lab fields`: compares cpreg's predictions about ID registers with the results of
//! `KVM_SET_ONE_REG`.
//!
//! The example `id_fields` of `cpreg-kvm` runs in each host. It writes the lowest and
//! highest values of every field of every ID register and of CTR_EL0, and random combinations. It
//! compares the results with predictions from the host's record in the repository.

use std::fs;
use std::sync::Mutex;

use clap::Args;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::{self, Kernel};
use e2e_framework::{Result, parallel};

use crate::options::{KernelArgs, MAX_CONCURRENT_HOSTS, cpus_or_default};

/// Example that compares predictions with KVM.
pub(crate) const ID_FIELDS: &str = "id_fields";

/// Script that runs the example.
pub(crate) const SCRIPT: &str = "\
id_fields 2000 1 > /out/id_fields 2>&1
echo $? > /out/id_fields.status
";

/// Default kernels: without writable masks, with the first ones, with most of them, and the newest.
const KERNELS: [&str; 4] = ["6.1.176", "6.12.107", "6.16.12", "7.3.4"];
/// Default CPU models: of Armv8.2, of Armv8.4, and with the features of later architectures.
const CPUS: [&str; 3] = ["neoverse-n1", "neoverse-v1", "max"];

/// Compare cpreg's predictions about ID registers with KVM
///
/// The hosts must be in the checked-in history. Default: 6.1.176, 6.12.107, 6.16.12 and 7.3.4 on
/// neoverse-n1, neoverse-v1 and max.
#[derive(Debug, Args)]
pub(crate) struct FieldsArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// CPU model (repeatable)
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
}

/// Runs `cargo xtask lab fields`.
///
/// # Errors
/// Returns an error with the names of the hosts on which a prediction is wrong. The output has the
/// predictions.
pub(crate) fn run(lab: &Lab, arguments: &FieldsArgs) -> Result<()> {
    let kernels = if arguments.kernels.count() == 0 {
        lab.with_make_lock(|| kernels::fetch_versions(&lab.folder, &KERNELS))?
    } else {
        arguments.kernels.get(lab)?
    };
    let cpus = cpus_or_default(&arguments.cpus, &CPUS)?;
    let programs = lab.build_programs_and_examples(&["cpreg-kvm"], &[ID_FIELDS])?;
    lab.prepare(false)?;
    let job = Job {
        script: SCRIPT.to_owned(),
        programs: vec![programs.join("examples").join(ID_FIELDS)],
        ..Job::default()
    };
    let hosts: Vec<(&Kernel, &Cpu)> = kernels
        .iter()
        .flat_map(|kernel| cpus.iter().map(move |cpu| (kernel, cpu)))
        .collect();
    let failed = Mutex::new(Vec::new());
    parallel::for_each(MAX_CONCURRENT_HOSTS, hosts.iter(), |(kernel, cpu)| {
        let host = EmulatedHost::new(kernel, cpu);
        let results = lab.folder.join("results/fields").join(host.name());
        let outcome = host.run(lab, &job, &results).and_then(|()| {
            let output = fs::read_to_string(results.join(ID_FIELDS))?;
            let status = fs::read_to_string(results.join(format!("{ID_FIELDS}.status")))?;
            if status.trim() == "0" {
                Ok(output)
            } else {
                Err(format!("exit status {}\n{output}", status.trim()).into())
            }
        });
        match outcome {
            Ok(output) => println!("ok      {}\n{output}", host.name()),
            Err(error) => {
                println!("FAILED  {}\n{error}", host.name());
                if let Ok(mut failed) = failed.lock() {
                    failed.push(host.name());
                }
            }
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("wrong predictions on {}", failed.join(", ")).into())
    }
}
