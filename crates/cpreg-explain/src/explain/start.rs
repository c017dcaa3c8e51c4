//! Explanation of a VM that did not start, so that nothing was migrated.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use cpreg::errno::Errno;

use super::explanation::{Cause, Explanation, FailureKind, cause, error_suffix};
use crate::failure::LoadFailure;
use crate::front_end::reports;
use crate::message::{Emitter, StartDevice, Symptom};

/// Returns the cause of a start that fails on a machine with two kinds of cores.
pub(super) fn heterogeneous_cores_cause() -> Cause {
    cause(
        "if no VM was being migrated: on a machine with two kinds of cores (RK3588, RK3399, \
         phones) QEMU reads a register on one kind and writes it back on the other; pin QEMU to \
         the cores of one kind. Linux 6.3 and later accept the other kind's cache geometry \
         (CCSIDR_EL1)",
        "QEMU issue 1595; Linux v6.3 (7af0c2534f4c)",
    )
}

/// Explains vCPU registers that KVM refused while QEMU started.
pub(super) fn explain_put_failed(failure: &LoadFailure) -> Explanation {
    let explanation = Explanation::new(
        FailureKind::START,
        "a new VM did not start: KVM refused a register's value that QEMU had read from it just \
         before. No line shows that a VM was migrated or loaded",
        vec![heterogeneous_cores_cause()],
        Vec::new(),
    );
    add_pinning(explanation, failure)
}

/// Explains a vCPU of QEMU that could not be initialized.
pub(super) fn explain_vcpu_init(failure: &LoadFailure) -> Explanation {
    let explanation = Explanation::new(
        FailureKind::VCPU_INIT,
        "a new VM did not start: KVM could not initialize a vCPU as requested. Nothing was \
         migrated or loaded",
        vec![
            cause(
                "a machine with two kinds of cores (RK3588, RK3399, phones): QEMU asked for the \
                 CPU of one kind and initialized the vCPU on the other. Pin QEMU to the cores of \
                 one kind",
                "QEMU issue 1595; KVM_ARM_VCPU_INIT checks the core that it runs on",
            ),
            cause(
                "a CPU option that this host does not support (pmu, sve, pauth, mte, aarch64=off, \
                 kvm-psci-version)",
                "KVM_ARM_VCPU_INIT checks the features",
            ),
        ],
        Vec::new(),
    );
    add_pinning(explanation, failure)
}

/// Explains a device of KVM that does not start.
pub(super) fn explain_device(device: StartDevice, error: Option<Errno>) -> Explanation {
    const NO_MIGRATION: &str = "Nothing was migrated or loaded";
    match device {
        StartDevice::InterruptController => Explanation::new(
            FailureKind::START,
            format!(
                "a new VM did not start: KVM cannot make the interrupt controller that the VM asks \
                 for{}. {NO_MIGRATION}",
                error_suffix(error)
            ),
            vec![
                cause(
                    "a host with a GICv3 and a VM with the GICv2, QEMU's default, or the reverse",
                    "linuxkit pull request 2494",
                ),
                cause(
                    "a kernel without support for the host's controller (QEMU can emulate one with \
                     kernel-irqchip=off, which needs KVM_CAP_ARM_USER_IRQ)",
                    "QEMU's hw/intc/arm_gic_kvm.c",
                ),
            ],
            Vec::new(),
        )
        .with_command(
            "qemu-system-aarch64 -machine virt,gic-version=host -accel kvm -cpu host …",
            "starts the VM with the host's controller (libvirt: <gic version='3'/> in <features>)",
        ),
        StartDevice::Pmu => Explanation::new(
            FailureKind::START,
            format!(
                "a new VM did not start: KVM cannot make the PMU that the VM asks for{}. \
                 {NO_MIGRATION}",
                error_suffix(error)
            ),
            vec![cause(
                "a host whose interrupt controller or kernel has no PMU for guests; QEMU's default \
                 controller is the GICv2",
                "coreos-assembler pull request 432, Red Hat bug 1661976",
            )],
            Vec::new(),
        )
        .with_command(
            "qemu-system-aarch64 -machine virt,gic-version=host -accel kvm -cpu host,pmu=off …",
            "starts the VM with the host's controller and without a PMU",
        ),
    }
}

/// Adds the commands that pin the VM to cores of one kind, for the program that reported the
/// failure: Proxmox, libvirt or QEMU.
pub(super) fn add_pinning(explanation: Explanation, failure: &LoadFailure) -> Explanation {
    let explanation = explanation.with_command(
        "grep 'CPU part' /proc/cpuinfo | uniq -c",
        "counts the cores of each kind; the output is in the order of the core numbers",
    );
    let is_proxmox = failure.symptoms().any(|symptom| match symptom {
        Symptom::FrontEnd { report } => report.front_end == reports::PROXMOX,
        _ => false,
    });
    let explanation = if is_proxmox {
        explanation.with_command(
            "qm set VMID --affinity 4-7",
            "pins the VM to the cores 4 to 7; use the core numbers of one kind",
        )
    } else if failure.has_emitter(Emitter::LIBVIRT) {
        explanation.with_command(
            "virsh vcpupin VM VCPU 4-7 --config && virsh emulatorpin VM 4-7 --config",
            "pins the VM to the cores 4 to 7; repeat vcpupin for each VCPU, and use the core \
             numbers of one kind",
        )
    } else {
        explanation.with_command(
            "taskset -c 4-7 qemu-system-aarch64 …",
            "starts QEMU on the cores 4 to 7; use the core numbers of one kind",
        )
    };
    explanation.with_command(
        "uname -r",
        "shows the kernel: Linux 6.3 and later accept the cache geometry of another kind of core",
    )
}

/// Returns `true` if KVM refused registers at QEMU's first write, which initialises the vCPUs.
///
/// The caller has checked that no line names a register or the load of a vCPU.
pub(super) fn is_failed_start(failure: &LoadFailure) -> bool {
    let is_first_write =
        |symptom: &Symptom| matches!(symptom, Symptom::PutFailed { stage, .. } if stage == "init");
    failure.symptoms().any(is_first_write)
}
