//! Whole runs of the command on recorded streams, with their output and exit status.
//!
//! Helpers: [`run`] starts the command; [`fixtures`] makes inputs; [`fake_qemu`] and
//! `relay_process` stand in for QEMU; [`models`] and [`schema`] check JSON documents;
//! [`picture`] draws a report for the README.
//!
//! | module | subject |
//! |---|---|
//! | [`baseline`] | settings of new VMs |
//! | [`check`], [`consents`], [`convert`], [`diff`], [`show`] | text and exit status |
//! | [`incompatible`] | other accelerators, and machine types that a QEMU lacks |
//! | [`source_host`] | hosts of VMs: `--from`, and hosts as SOURCE |
//! | [`fleet`] | inventories, drains, upgrade plans, labels |
//! | [`hosts`], [`report`], [`tolerances`] | text and exit status |
//! | [`export`] | tolerances for other programs, accepted by them |
//! | `examples` | programs that use the crates |
//! | [`explain`] | error lines of VMMs |
//! | [`explain_register`] | registers |
//! | [`explain_symptoms`] | answers to pasted lines |
//! | [`host_records`] | recorded hosts as files, and this machine's KVM |
//! | [`json`] | documents of every kind |
//! | [`documents`] | README and docs, against the command |
//! | [`error_documents`] | errors as JSON |
//! | [`errors`] | invalid files, and files of other programs |
//! | [`gic`] | limits of the GICv3 |
//! | [`filter`] | streams from pipe to pipe, and their failures |
//! | `relay`, `relay_faults`, `relay_json` | live migrations, their failures and documents |
//! | `relay_guard` | guard process, which outlives its relay |
//! | `relay_serve` | service for many migrations |
//! | [`faults`] | full disks, signals, processes killed while they write files |
//! | [`probe_faults`] | programs other than QEMU, and Ctrl-C during a probe |
//! | [`rehearse`] | loads in a fake QEMU, and their reports |
//! | [`rehearse_faults`] | QEMUs that fail, and inputs other than VMs |
//! | [`saved_vms`] | save images of libvirt, folders, files of other programs |
//! | [`domains`] | domains of libvirt |
//! | `hook` | events of libvirt, on which the hook acts |
//! | `install` | installations into folders |
//! | [`running`] | running VMs, queried through their monitors |
//! | [`missing_facts`] | unknown verdicts: what is missing, and how to find it |
//! | [`tolerance_files`] | tolerances of an operator: default files, and reasons of their entries |
//! | [`undetermined_pmu`] | streams that do not show whether their guests have a PMU |
//! | [`bounded`] | bytes read of 8 GiB |
//! | [`shells`] | completion in shells, man pages |
//! | [`output`] | colour, secrets, closed pipes |
//!
//! The text of a run is in `snapshots/`; `cargo xtask bless` writes it.

mod baseline;
mod bounded;
mod busy;
mod check;
mod consents;
mod convert;
mod diff;
mod documents;
mod domains;
mod error_documents;
mod errors;
#[cfg(target_os = "linux")]
mod examples;
mod explain;
mod explain_register;
mod explain_symptoms;
mod export;
mod fake_qemu;
mod fatal;
mod faults;
mod filter;
mod fixtures;
mod fleet;
mod fleet_libvirt;
mod gic;
#[cfg(target_os = "linux")]
mod guest_check;
mod hook;
mod hookscript;
mod host_names;
mod host_records;
mod hosts;
mod hvf;
mod incompatible;
#[cfg(target_os = "linux")]
mod install;
mod json;
mod matrix;
mod missing_facts;
mod models;
mod output;
mod picture;
mod probe_faults;
mod rehearse;
mod rehearse_faults;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod relay_faults;
#[cfg(target_os = "linux")]
mod relay_guard;
#[cfg(target_os = "linux")]
mod relay_json;
#[cfg(target_os = "linux")]
mod relay_process;
#[cfg(target_os = "linux")]
mod relay_serve;
#[cfg(target_os = "linux")]
mod relay_sockets;
mod report;
mod run;
#[cfg(target_os = "linux")]
mod run_libvirt;
#[cfg(target_os = "linux")]
mod run_policy;
mod running;
mod saved_registers;
mod saved_vms;
mod schema;
mod shells;
mod show;
mod source_host;
mod tolerance_files;
mod tolerances;
mod undetermined_pmu;
mod verbosity;
