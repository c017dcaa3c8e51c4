//! Arguments of `cpreg fleet`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::shared::{ConsentArgs, Format, LoaderArgs, ToleranceArgs, VerbosityArgs};

#[derive(Debug, Args)]
pub(crate) struct Fleet {
    #[command(subcommand)]
    pub(crate) command: FleetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// Check every VM against every class of nodes. Exit status 1: a VM has no other node.
    Check(FleetCheck),
    /// Check which VMs of a node cannot leave it, and print the commands that move the others.
    ///
    /// Each VM gets one node that takes it, in turn. The platform's scheduler knows the memory and
    /// the CPUs of the nodes.
    Drain(FleetDrain),
    /// Find the order of a rolling upgrade, and the steps without return.
    ///
    /// A step upgrades all nodes whose records decide alike. Nodes with another CPU are left as
    /// they are.
    Plan(FleetPlan),
    /// Write one page for a browser: nodes, VMs worst first, and the steps of an upgrade.
    ///
    /// Each cell shows its registers, reasons, commits and remedies. The page needs no network.
    Page(FleetPage),
    /// Print what each node takes, as labels that the platform's scheduler obeys.
    Labels(FleetLabels),
}

/// Nodes of the fleet.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Nodes and their records: files of `cpreg probe kvm` (NODE.json), directories of such files,
    /// recorded hosts by name, and inventories (JSON Lines, `kubectl get nodes,vmi -A -o json`);
    /// `-` for an inventory on standard input.
    #[arg(value_name = "HOST", required = true)]
    pub(crate) hosts: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
}

/// VMs of the fleet.
#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    /// VMs: each SOURCE that `cpreg check` takes, directories with a directory for each node, and
    /// inventories. `libvirt:` and `libvirt:URI#` stand for all running domains of libvirt. The VMs
    /// in the inventories of HOST are planned, too.
    #[arg(long, value_name = "VM", num_args = 1..)]
    pub(crate) vms: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FleetCheck {
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    #[command(flatten)]
    pub(crate) vms: VmArgs,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct FleetDrain {
    /// Node to drain.
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    #[command(flatten)]
    pub(crate) vms: VmArgs,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    /// Platform of the commands; default: that of each VM, and libvirt for a file.
    #[arg(long, value_enum, value_name = "PLATFORM")]
    pub(crate) platform: Option<PlatformName>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: DrainFormat,
}

/// Format of the report on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DrainFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON document with a versioned schema.
    Json,
    /// Commands of virsh, kubectl or openstack, for a shell.
    Commands,
}

/// Platform that runs VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlatformName {
    /// `virsh migrate`.
    Libvirt,
    /// `kubectl create` of a migration of KubeVirt.
    Kubevirt,
    /// `openstack server migrate`.
    Openstack,
}

#[derive(Debug, Args)]
pub(crate) struct FleetPlan {
    /// Host that all nodes with its CPU become: a recorded host, or its file.
    #[arg(long, value_name = "HOST")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    #[command(flatten)]
    pub(crate) vms: VmArgs,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct FleetPage {
    /// Host that all nodes with its CPU become, as for `fleet plan`: the page also shows the fleet
    /// after each step.
    #[arg(long, value_name = "HOST")]
    pub(crate) to: Option<PathBuf>,
    /// File to write, whole or not at all. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    #[command(flatten)]
    pub(crate) vms: VmArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FleetLabels {
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    /// System whose format the labels have; default: text for people.
    #[arg(long = "for", value_enum, value_name = "SYSTEM")]
    pub(crate) system: Option<LabelSystem>,
    /// Print the labels of this node only.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// File to write, or directory for one file of each node, each with its name. A file is
    /// replaced by a complete one. Default: standard output.
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Features of further guests (pmu,sve; none); repeatable. The guests with the features that
    /// QEMU gives them on each host always have labels.
    #[arg(long, value_name = "FEATURES")]
    pub(crate) features: Vec<String>,
    /// Days after which the labels are void, for the systems that know an expiry.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) valid_days: Option<u32>,
    #[command(flatten)]
    pub(crate) tolerances: ToleranceArgs,
}

/// System that obeys labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabelSystem {
    /// Features file of Node Feature Discovery, one for each node.
    Nfd,
    /// `NodeFeature` objects of Node Feature Discovery.
    NodeFeature,
    /// `NodeFeatureRule` object: the VMs that nodes of each profile take.
    NodeFeatureRule,
    /// `ConfigMap` object for each different record, which `cpreg fleet` reads back.
    ConfigMap,
    /// Text file of Prometheus' node exporter.
    Prometheus,
    /// `provider.yaml` of OpenStack's nova-compute, one for each node.
    Placement,
    /// Commands of Ganeti that add tags.
    Ganeti,
    /// Facts file of Ansible, one for each node.
    Ansible,
    /// One JSON document with a versioned schema.
    Json,
}
