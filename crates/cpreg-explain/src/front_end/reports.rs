//! Table of the reports of front ends, with the places of the real reasons.
//!
//! A front end runs QEMU or another VMM. Its own line says that something failed; QEMU's line, in
//! another log, has the reason.

use crate::situation::Situation;

/// Front end: a program that runs a VMM.
#[derive(Debug, PartialEq, Eq)]
pub struct FrontEnd {
    /// Name of the program.
    pub name: &'static str,
    /// Place of the reason, in words.
    pub log: &'static str,
    /// Commands that show the reason; the last one is the most specific. Words in capitals stand
    /// for names.
    pub steps: &'static [Step],
    /// Source of these facts.
    pub source: &'static str,
}

/// Command of a front end.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Command line.
    pub command: &'static str,
    /// Result of the command.
    pub result: &'static str,
}

/// Report of a front end about a failure.
#[derive(Debug, PartialEq, Eq)]
pub struct FrontEndReport {
    /// First words of the report.
    pub prefix: &'static str,
    /// Front end.
    pub front_end: &'static FrontEnd,
    /// Activity that failed.
    pub situation: Situation,
    /// Words of which the line has at least one; empty if the prefix is enough.
    pub context: &'static [&'static str],
}

const fn step(command: &'static str, result: &'static str) -> Step {
    Step { command, result }
}

/// libvirt.
pub const LIBVIRT: &FrontEnd = &FrontEnd {
    name: "libvirt",
    log: "QEMU's lines are in /var/log/libvirt/qemu/VM.log, after a migration on the destination",
    steps: &[step(
        "cpreg explain --file /var/log/libvirt/qemu/VM.log",
        "explains QEMU's own lines; run it on the host whose QEMU exited",
    )],
    source: "libvirt reports only the end of QEMU's output",
};

/// Proxmox VE.
pub const PROXMOX: &FrontEnd = &FrontEnd {
    name: "Proxmox VE",
    log: "QEMU's lines are in the task log, above this one; after a migration in that of the \
          target",
    steps: &[
        step(
            "qm start VMID",
            "starts the VM from a terminal, where QEMU prints its reason",
        ),
        step(
            "journalctl -b -t pvedaemon -t qm -t kvm",
            "shows the lines of the tasks and of QEMU on this node",
        ),
    ],
    source: "Proxmox VE, QemuServer.pm and QemuMigrate.pm",
};

/// Incus and LXD.
pub const INCUS: &FrontEnd = &FrontEnd {
    name: "Incus or LXD",
    log: "QEMU's lines are in /var/log/incus/NAME/qemu.log (LXD: /var/log/lxd/NAME/qemu.log)",
    steps: &[step(
        "incus info NAME --show-log",
        "shows QEMU's log (LXD: lxc info NAME --show-log); after a migration on the target server",
    )],
    source: "Incus and LXD documentation",
};

/// Multipass.
pub const MULTIPASS: &FrontEnd = &FrontEnd {
    name: "Multipass",
    log: "QEMU's lines are in the log of the daemon: /Library/Logs/Multipass/multipassd.log on \
          macOS, the journal on Linux",
    steps: &[
        step(
            "journalctl --unit 'snap.multipass*'",
            "shows the daemon's log on Linux",
        ),
        step(
            "sudo cpreg explain --file /Library/Logs/Multipass/multipassd.log",
            "explains the daemon's log on macOS",
        ),
    ],
    source: "Multipass documentation, Access logs",
};

/// UTM.
pub const UTM: &FrontEnd = &FrontEnd {
    name: "UTM",
    log: "QEMU's lines are in debug.log inside the VM's .utm bundle, once `Debug Logging` is on \
          (the VM's settings, QEMU)",
    steps: &[step(
        "cpreg explain --file VM.utm/Data/debug.log",
        "explains QEMU's lines, after a start with the debug log on",
    )],
    source: "UTM documentation, QEMU settings",
};

/// OpenStack Nova.
pub const NOVA: &FrontEnd = &FrontEnd {
    name: "OpenStack Nova",
    log: "QEMU's lines are in /var/log/libvirt/qemu/instance-NUMBER.log of the destination's \
          compute node; nova-compute's log repeats only the last",
    steps: &[
        step(
            "openstack server show SERVER -c OS-EXT-SRV-ATTR:instance_name -c \
             OS-EXT-SRV-ATTR:host",
            "shows the name of the log and the host that the server runs on",
        ),
        step(
            "cpreg explain --file /var/log/libvirt/qemu/instance-NUMBER.log",
            "explains QEMU's lines; run it on the destination's compute node",
        ),
    ],
    source: "Nova's libvirt driver",
};

/// KubeVirt.
pub const KUBEVIRT: &FrontEnd = &FrontEnd {
    name: "KubeVirt",
    log: "QEMU's lines are in the log of the virt-launcher pod, after a migration in that of the \
          target pod",
    steps: &[
        step(
            "kubectl get pods -l kubevirt.io=virt-launcher -o wide",
            "shows the source's and the target's pod",
        ),
        step(
            "kubectl logs POD -c compute | cpreg explain -",
            "explains QEMU's lines of a pod",
        ),
    ],
    source: "KubeVirt user guide, Debug",
};

/// Kata Containers.
pub const KATA: &FrontEnd = &FrontEnd {
    name: "Kata Containers",
    log: "the VMM's lines are in the journal, with `enable_debug = true` in the hypervisor's \
          section of configuration.toml",
    steps: &[step(
        "journalctl -t kata | cpreg explain -",
        "explains the runtime's and the VMM's lines",
    )],
    source: "Kata Containers documentation, Developer Guide",
};

/// Cloud Hypervisor, at the source of a migration.
pub const CLOUD_HYPERVISOR: &FrontEnd = &FrontEnd {
    name: "Cloud Hypervisor",
    log: "the destination's Cloud Hypervisor prints the reason to its log (--log-file)",
    steps: &[
        step(
            "ch-remote --api-socket SOCKET info",
            "shows the state of the VM at the source; `ch-remote resume` continues a paused one",
        ),
        step(
            "cpreg explain --file DESTINATION.log",
            "explains the destination's lines",
        ),
    ],
    source: "Cloud Hypervisor, vm-migration",
};

/// Android emulator.
pub const ANDROID_EMULATOR: &FrontEnd = &FrontEnd {
    name: "Android emulator",
    log: "the reason is in the lines before, printed with -verbose",
    steps: &[
        step(
            "emulator -avd NAME -verbose -snapshot default_boot",
            "loads the snapshot again and prints the reason",
        ),
        step(
            "emulator -avd NAME -no-snapshot-load",
            "boots the virtual device without the snapshot; its data stays",
        ),
    ],
    source: "Android emulator documentation, Snapshots",
};

/// Words of KubeVirt's lines.
const KUBEVIRT_WORDS: &[&str] = &["virt-", "irtualMachineInstance", "virError", "kubevirt"];

/// Reports of all front ends.
pub const REPORTS: &[FrontEndReport] = &[
    report("TASK ERROR: start failed", PROXMOX, Situation::Start),
    report(
        "TASK ERROR: migration aborted",
        PROXMOX,
        Situation::Migration,
    ),
    report(
        "TASK ERROR: migration problems",
        PROXMOX,
        Situation::Migration,
    ),
    report(
        "ERROR: online migrate failure",
        PROXMOX,
        Situation::Migration,
    ),
    report("ERROR: migration aborted", PROXMOX, Situation::Migration),
    report(
        "start failed: QEMU exited with code",
        PROXMOX,
        Situation::Start,
    ),
    report(
        "start failed: The following errors occurred",
        MULTIPASS,
        Situation::StartOrLoad,
    ),
    report("Failed to run: forklimits", INCUS, Situation::Start),
    report(
        "Failed restoring checkpoint from stateful",
        INCUS,
        Situation::Restore,
    ),
    report(
        "Failed restoring instance from stateful",
        INCUS,
        Situation::Restore,
    ),
    report(
        "Failed starting stateful restore",
        INCUS,
        Situation::Restore,
    ),
    report(
        "Migration failed on target host",
        INCUS,
        Situation::Migration,
    ),
    report(
        "Error transferring migration data",
        INCUS,
        Situation::Migration,
    ),
    report("QEMU exited from an error", UTM, Situation::StartOrLoad),
    report("QEMU error: QEMU exited", UTM, Situation::StartOrLoad),
    report("Live Migration failure: ", NOVA, Situation::Migration),
    report(
        "Migration operation has aborted",
        NOVA,
        Situation::Migration,
    ),
    report("Failed to start libvirt guest", NOVA, Situation::Start),
    report("Live migration failed", NOVA, Situation::Migration).with_context(&["nova"]),
    report("Live migration failed", KUBEVIRT, Situation::Migration).with_context(KUBEVIRT_WORDS),
    report(
        "encountered during MigrateToURI3",
        KUBEVIRT,
        Situation::Migration,
    ),
    report("FailedMigration", KUBEVIRT, Situation::Migration).with_context(KUBEVIRT_WORDS),
    report("command SyncVMI failed", KUBEVIRT, Situation::Start),
    report("failed to launch qemu: ", KATA, Situation::Start),
    report("Unable to launch /", KATA, Situation::Start).with_context(&["virtcontainers", "kata"]),
    report("MigrateSend(", CLOUD_HYPERVISOR, Situation::Migration),
    report(
        "Failed to load snapshot '",
        ANDROID_EMULATOR,
        Situation::Restore,
    )
    .with_context(&["emulator", "default_boot", " | "]),
    report("error: Failed to start domain", LIBVIRT, Situation::Start),
    report(
        "error: Failed to restore domain from",
        LIBVIRT,
        Situation::Restore,
    ),
];

const fn report(
    prefix: &'static str,
    front_end: &'static FrontEnd,
    situation: Situation,
) -> FrontEndReport {
    FrontEndReport {
        prefix,
        front_end,
        situation,
        context: &[],
    }
}

impl FrontEndReport {
    const fn with_context(self, context: &'static [&'static str]) -> Self {
        Self { context, ..self }
    }

    /// Returns `true` if the line has the words that the report needs.
    pub fn is_in(&self, line: &str) -> bool {
        self.context.is_empty() || self.context.iter().any(|word| line.contains(word))
    }
}
