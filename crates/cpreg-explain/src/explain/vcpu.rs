//! Explanation of single lines about a vCPU: parts of its state, its features, and aborts.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use cpreg::errno::Errno;
use cpreg::remedy::Remedy;

use super::explanation::{Cause, Explanation, FailureKind, cause};
use super::start;
use crate::failure::LoadFailure;
use crate::message::{Access, Emitter, Statement, Symptom};

/// Explains a line about a vCPU.
pub(super) fn explain(statement: &Statement, failure: &LoadFailure) -> Option<Explanation> {
    Some(match &statement.symptom {
        Symptom::UnknownSubsection { name, section } if section == "cpu" => Explanation::new(
            FailureKind::CPU_SUBSECTION,
            format!(
                "the VM's CPU state has a subsection `{name}` that the destination's QEMU does not \
                 know"
            ),
            subsection_cause(name).into_iter().collect(),
            vec![Remedy::CHECK, Remedy::Convert],
        ),
        Symptom::Aborted {
            function,
            assertion,
        } => explain_abort(function, assertion),
        Symptom::UnknownSection { device, .. } if device == "cpu" || device == "cpu_common" => {
            Explanation::new(
                FailureKind::CPU_SECTION,
                "the VM has more vCPUs than the destination was started with",
                vec![cause(
                    "another -smp on the two command lines",
                    "each vCPU is a section",
                )],
                vec![Remedy::SHOW, Remedy::Rehearse],
            )
        }
        Symptom::VcpuInit { .. } if statement.emitter == Emitter::QEMU => {
            start::explain_vcpu_init(failure)
        }
        Symptom::VcpuInit {
            error: None | Some(Errno::EINVAL),
        } => Explanation::new(
            FailureKind::VCPU_INIT,
            "KVM could not initialize a vCPU as requested; nothing was loaded",
            vec![cause(
                "a CPU option that this host does not support (pmu, sve, pauth, aarch64=off, \
                 kvm-psci-version), or a PMU in a snapshot of Firecracker",
                "KVM_ARM_VCPU_INIT checks the features",
            )],
            vec![Remedy::Compare],
        ),
        Symptom::DeviceStart { device, error } => start::explain_device(*device, *error),
        Symptom::GuestCpu { features } => Explanation::new(
            FailureKind::GUEST_CPU,
            format!(
                "libvirt compared the guest's CPU with the one it was started with, and they \
                 differ: {features}"
            ),
            vec![cause(
                "another host CPU, kernel or QEMU. On aarch64 libvirt compares hardly anything, \
                 and misses most differences",
                "libvirt's cpu_arm.c",
            )],
            vec![Remedy::Compare],
        ),
        Symptom::UnnamedRegister {
            access: Access::Read,
            ..
        } => Explanation::new(
            FailureKind::NOT_SAVED,
            "the VM could not be saved: the program could not read a register that it expects \
             every vCPU to have",
            vec![cause(
                "a CPU with SVE: KVM then has no V registers, only Z registers. Cloud Hypervisor \
                 reads these from v53 on",
                "Cloud Hypervisor issue 8057, commit 5c25d82f5",
            )],
            Vec::new(),
        )
        .with_command(
            "cloud-hypervisor --version",
            "shows the version: v53 and later save VMs on a CPU with SVE",
        ),
        _ => return None,
    })
}

fn subsection_cause(name: &str) -> Option<Cause> {
    // First QEMU versions that send these subsections, as in cpreg::destination::extension.
    let since = match name {
        "cpu/wfxt-timer" | "cpu/vfp/fpcr_fpsr" => "9.1",
        "cpu/syndrome64" | "cpu/pstate64" => "10.2",
        "cpu/event" => "11.0",
        _ => return None,
    };
    Some(cause(
        format!("the source is QEMU {since} or later, and the destination is older"),
        "QEMU's target/arm/machine.c",
    ))
}

fn explain_abort(function: &str, assertion: &str) -> Explanation {
    match function {
        "vmstate_load_state" => Explanation::new(
            FailureKind::ABORT,
            "the destination's QEMU aborted while it read a section: it mistook the content for \
             something else",
            vec![cause(
                "QEMU 10.0 under TCG aborts on the subsection `cpu/wfxt-timer`, which 11.1 sends",
                "recorded with QEMU 11.1.3 and 10.0.13",
            )],
            vec![Remedy::CHECK],
        ),
        "cpu_pre_load" | "cpu_post_load" | "cpu_pre_save" => Explanation::new(
            FailureKind::ABORT,
            "the destination's QEMU aborted in its own handling of the register list. QEMU 11.0 \
             has this bug under HVF (macOS), where every restore aborts; 11.1 fixes it. The saved \
             VM is intact: load it with QEMU 10.0 or 11.1",
            vec![
                cause(
                    "under HVF every restore with QEMU 11.0: the arrays of the list are not \
                     initialized as under KVM",
                    "QEMU commits ab2ddc7b66 and 06fd39e426",
                ),
                cause(
                    "a second load after one that failed, in the same QEMU",
                    "QEMU 11.0.3's target/arm/machine.c",
                ),
            ],
            Vec::new(),
        )
        .with_command(
            "qemu-system-aarch64 --version",
            "shows the version: 11.0 has the bug; 10.0 and 11.1 load the VM",
        ),
        _ => Explanation::new(
            FailureKind::ABORT,
            format!("the program aborted: the assertion `{assertion}` failed in `{function}`"),
            Vec::new(),
            vec![Remedy::Rehearse, Remedy::Report],
        ),
    }
}
