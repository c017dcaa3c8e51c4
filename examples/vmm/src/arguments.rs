//! The command line.

use clap::{Args, Parser, Subcommand};
use cpreg::destination::Features;
use cpreg::plan::{Consents, SetConsent};
use cpreg::register::{Naming, RegisterId, parse_u64};
use cpreg::severity::Severity;

/// A small VMM whose guest moves live between hosts
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the guest here
    Run {
        #[command(flatten)]
        guest: Guest,
        /// Run for this number of seconds
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Run the guest here for a while, then move it to the other end
    Send {
        /// `host:port`, or the path of a serial line
        address: String,
        #[command(flatten)]
        guest: Guest,
        /// Run the guest here for this number of seconds first
        #[arg(long, default_value_t = 2)]
        seconds_before: u64,
        /// Run a guest that stays for this number of seconds more
        #[arg(long, default_value_t = 3)]
        seconds_after: u64,
        /// Timeout for the other end at each step, in seconds
        #[arg(long, default_value_t = 30)]
        timeout: u64,
        /// Limit for the bandwidth, in KiB per second
        #[arg(long, value_name = "KIB")]
        bandwidth: Option<u32>,
    },
    /// Receive a guest from the other end and run it here
    Receive {
        /// `host:port` to listen on, or the path of a serial line
        address: String,
        /// Accept an adjustment: a register, or a severity (low, medium)
        #[arg(long, value_name = "REG|SEVERITY", value_parser = accept)]
        accept: Vec<AcceptArg>,
        /// Set a register to this value
        #[arg(long, value_name = "REG=VALUE", value_parser = set)]
        set: Vec<SetConsent>,
        /// Run the guest for this number of seconds
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Then move the guest on to this address
        #[arg(long, value_name = "ADDRESS")]
        then_send: Option<String>,
        /// Timeout for the other end at each step, in seconds
        #[arg(long, default_value_t = 30)]
        timeout: u64,
    },
    /// Measure the time to load the registers of a VM
    BenchLoad {
        #[command(flatten)]
        guest: Guest,
        /// Number of loads, of which the median is printed
        #[arg(long, default_value_t = 5)]
        times: usize,
    },
}

/// Properties of the guest.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Guest {
    /// Number of vCPUs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) vcpus: u16,
    /// vCPU features: pmu, sve, ptrauth with commas between, or none (default: all that the host
    /// has)
    #[arg(long, value_parser = features)]
    pub(crate) features: Option<Features>,
    /// Memory in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(4..=1024))]
    pub(crate) memory: u64,
    /// Revision of KVM's GIC, for older destinations (default: the newest that the kernel emulates)
    #[arg(long)]
    pub(crate) gic_revision: Option<u8>,
    /// Do not use the physical timer, which kernels before 6.4 do not save
    #[arg(long)]
    pub(crate) no_physical_timer: bool,
}

/// Argument of `--accept`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AcceptArg {
    Register(RegisterId),
    Severity(Severity),
}

fn features(text: &str) -> Result<Features, String> {
    let known = Features::PMU | Features::SVE | Features::POINTER_AUTHENTICATION;
    Features::from_names(text)
        .filter(|features| known.contains(*features))
        .ok_or_else(|| "expected pmu, sve, ptrauth with commas between, or none".to_owned())
}

fn register(text: &str) -> Result<RegisterId, String> {
    RegisterId::parse_in(text, Naming::Kvm).map_err(|error| error.to_string())
}

fn accept(text: &str) -> Result<AcceptArg, String> {
    match Severity::from_name(text) {
        Some(severity @ (Severity::Low | Severity::Medium)) => Ok(AcceptArg::Severity(severity)),
        Some(severity) => Err(format!(
            "changes of {severity} severity have no common consent"
        )),
        None => register(text).map(AcceptArg::Register),
    }
}

fn set(text: &str) -> Result<SetConsent, String> {
    let (name, value) = text.split_once('=').ok_or("expected REG=VALUE")?;
    let register = register(name)?;
    let value = register
        .value_by_name(value)
        .or_else(|| parse_u64(value).ok());
    Ok(SetConsent {
        register,
        mask: u64::MAX,
        value: value.ok_or("the value is not a number")?,
    })
}

/// Returns the consents of the user.
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "aarch64")),
    expect(dead_code, reason = "used only on hosts with KVM")
)]
pub(crate) fn consents(accept: &[AcceptArg], set: Vec<SetConsent>) -> Consents {
    let mut consents = Consents {
        set,
        ..Consents::default()
    };
    for accept in accept {
        match accept {
            AcceptArg::Register(register) => consents.accept.push(*register),
            AcceptArg::Severity(severity) => {
                consents.accept_up_to = consents.accept_up_to.max(Some(*severity));
            }
        }
    }
    consents
}
