//! [`plan_all`]: VMs of a fleet, planned at every host of the inventory.
//!
//! VMs are opened and planned in groups on all cores, and handed on before the next group is
//! opened. VMs that load alike are planned once, and inferred VMs of one host and with the same
//! features are built once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpreg::destination::Features;
use cpreg_fleet::inventory::{Fault, Item, Platform, Problem, VmItem, VmState};
use cpreg_fleet::{
    Cell, CellPlanner, Host, HostSet, KeyContent, PlanInputs, Row, Subject, plan_rows,
};

use super::inventory::{self, FleetInputs};
use crate::commands::matrix::source;
use crate::destination::hosts;
use crate::failure::Failure;
use crate::fleet_hosts;
use crate::input::{
    domain_address, libvirt_address, list_running_domains, query_libvirt_host_name,
};
use crate::printer::Printer;
use crate::source_host::SourceHost;

/// VMs that are opened before their results are handed on. It bounds the memory.
const BATCH: usize = 64;

/// VM with what the command makes of its cells.
pub(super) struct PlannedVm<T = Cell> {
    pub(super) name: String,
    /// SOURCE of `cpreg check` that stands for it, if any.
    pub(super) source: Option<String>,
    /// Number of vCPUs.
    pub(super) vcpus: usize,
    /// Index of its node, if known.
    pub(super) node: Option<usize>,
    /// `true` if a new VM of the host of its birth stands for it.
    pub(super) is_inferred: bool,
    /// Key of the host of its birth, if it is inferred.
    pub(super) birth_key: Option<Arc<str>>,
    pub(super) platform: Platform,
    /// Cells at the hosts of the inventory. Inferred VMs share them.
    pub(super) cells: Arc<Vec<T>>,
}

/// VM with a state that is not yet opened.
struct Pending {
    name: String,
    path: PathBuf,
    node: Option<usize>,
    platform: Platform,
    /// `true` if an inventory or libvirt lists the VM, so that it is one even if its state cannot
    /// be read.
    is_listed: bool,
}

/// Receiver of planned VMs.
type Receiver<'a, T> = dyn FnMut(&cpreg_fleet::Inventory, PlannedVm<T>) + 'a;

/// Function that plans a VM at every host.
type RowPlanner<'a, T> = dyn Fn(Subject) -> Row<T> + Sync + 'a;

/// Plans all VMs of the inventories and of the arguments. `is_wanted` chooses VMs by their node.
pub(super) fn plan_all(
    fleet: &mut FleetInputs,
    inputs: PlanInputs<'_>,
    printer: &Printer,
    is_wanted: &dyn Fn(Option<usize>) -> bool,
    receive: &mut Receiver<'_, Cell>,
) -> Result<(), Failure> {
    let hosts = host_set(fleet);
    let cells = CellPlanner::new(&hosts, inputs);
    let settings = Settings {
        hosts: &hosts,
        printer,
        batch_len: BATCH,
    };
    plan_in_detail(
        fleet,
        settings,
        is_wanted,
        &|subject| cells.plan_row(subject),
        receive,
    )
}

/// Returns the hosts of the inventory as destinations.
pub(super) fn host_set(fleet: &FleetInputs) -> HostSet {
    let hosts = fleet.inventory.hosts().iter();
    // Copies share the records.
    HostSet::new(hosts.map(|host| host.with_loader(host.loader())).collect())
}

/// Settings of all plans.
#[derive(Clone, Copy)]
pub(super) struct Settings<'a> {
    /// Hosts of the inventory.
    pub(super) hosts: &'a HostSet,
    pub(super) printer: &'a Printer,
    /// VMs that are opened before their results are handed on. It bounds the memory.
    pub(super) batch_len: usize,
}

/// Does the same as [`plan_all`], and hands on the rows of `plan_row`.
pub(super) fn plan_in_detail<T: Clone + Send + Sync + From<Cell>>(
    fleet: &mut FleetInputs,
    settings: Settings<'_>,
    is_wanted: &dyn Fn(Option<usize>) -> bool,
    plan_row: &RowPlanner<'_, T>,
    receive: &mut Receiver<'_, T>,
) -> Result<(), Failure> {
    let sources = fleet.inventory.hosts().iter().map(|host| {
        let record = host.record()?;
        Some(SourceHost::from_record(host.name(), record))
    });
    let (streams, vms) = (
        std::mem::take(&mut fleet.streams),
        std::mem::take(&mut fleet.vms),
    );
    let mut planner = Planner {
        sources: sources.collect(),
        fleet,
        settings,
        is_wanted,
        plan_row,
        receive,
        batch: Vec::new(),
        inferred: HashMap::new(),
        births: HashMap::new(),
    };
    for stream in &streams {
        // Faults of the items were reported when the nodes were read.
        stream.read(&mut |item| {
            if let Ok(Item::Vm(vm)) = item {
                planner.add_item(&stream.resolve(""), *vm);
            }
        })?;
    }
    for path in &vms {
        planner.add_argument(path)?;
    }
    planner.flush();
    Ok(())
}

struct Planner<'a, 'r, T> {
    fleet: &'a mut FleetInputs,
    /// Properties of the VMs' hosts, by host.
    sources: Vec<Option<SourceHost>>,
    settings: Settings<'a>,
    is_wanted: &'a dyn Fn(Option<usize>) -> bool,
    plan_row: &'a RowPlanner<'a, T>,
    receive: &'a mut Receiver<'r, T>,
    batch: Vec<Pending>,
    /// Cells and key of the new VMs of a host, by the features of their guests.
    inferred: HashMap<(usize, Features), Result<Inferred<T>, String>>,
    /// Hosts by the names in `born_on`.
    births: HashMap<String, Option<(usize, Option<Features>)>>,
}

/// Plan of the new VMs of a host.
#[derive(Clone)]
struct Inferred<T> {
    name: String,
    vcpus: usize,
    cells: Arc<Vec<T>>,
    key: Option<Arc<str>>,
}

impl<T: Clone + Send + Sync + From<Cell>> Planner<'_, '_, T> {
    /// Adds a VM of an inventory in `folder`.
    fn add_item(&mut self, folder: &Path, vm: VmItem) {
        let node = match &vm.node {
            None => None,
            Some(name) => {
                let node = self.fleet.inventory.find_node(name);
                if node.is_none() {
                    let problem = Problem::UnknownNode(name.clone());
                    self.add_fault(&vm.name, problem);
                }
                node
            }
        };
        if !(self.is_wanted)(node) {
            return;
        }
        match vm.state {
            VmState::Source(path) => {
                let is_domain = matches!(domain_address(Path::new(&path)), Ok(Some(_)));
                let path = if is_domain {
                    PathBuf::from(path)
                } else {
                    folder.join(path)
                };
                self.push(Pending {
                    name: vm.name,
                    path,
                    node,
                    platform: vm.platform,
                    is_listed: true,
                });
            }
            VmState::Inferred {
                born_on,
                features,
                without,
            } => match self.find_birth(node, born_on.as_deref()) {
                Ok((host, of_key)) => {
                    let default = self.settings.hosts.hosts().get(host);
                    let default = default.map_or(Features::NONE, Host::default_features);
                    let features = features.or(of_key).unwrap_or(default);
                    let features = features.difference(without);
                    self.add_inferred(&vm.name, node, vm.platform, host, features);
                }
                Err(reason) => self.add_undecidable(vm.name, node, vm.platform, &reason),
            },
        }
    }

    /// Returns the host on which a VM was born, and the features that the name tells.
    fn find_birth(
        &mut self,
        node: Option<usize>,
        born_on: Option<&str>,
    ) -> Result<(usize, Option<Features>), String> {
        let inventory = &self.fleet.inventory;
        let Some(name) = born_on else {
            let node = node.ok_or("neither its node nor the host of its birth is known")?;
            let host = inventory.usable_host(node);
            return match host {
                Some(host) => Ok((host, None)),
                None => Err("its node has no usable record".to_owned()),
            };
        };
        if let Some(known) = self.births.get(name) {
            return known.ok_or_else(|| format!("no host has the name or key {name}"));
        }
        let of_node = inventory.find_node(name);
        let of_node = of_node.and_then(|node| inventory.nodes().get(node)?.host);
        let of_name = || {
            // The name of a recorded host was added to the inventory with the nodes.
            let host = fleet_hosts::find_one_by_name(Path::new(name));
            inventory.position(&host.ok().flatten()?)
        };
        let found = of_node
            .map(|host| (host, None))
            .or_else(|| {
                let (host, features) = inventory.find_key(name)?;
                Some((host, Some(features)))
            })
            .or_else(|| Some((of_name()?, None)));
        self.births.insert(name.to_owned(), found);
        found.ok_or_else(|| format!("no host has the name or key {name}"))
    }

    fn add_inferred(
        &mut self,
        name: &str,
        node: Option<usize>,
        platform: Platform,
        host: usize,
        features: Features,
    ) {
        if !self.inferred.contains_key(&(host, features)) {
            let planned = self.plan_new(host, features);
            self.inferred.insert((host, features), planned);
        }
        match self.inferred.get(&(host, features)) {
            Some(Ok(inferred)) => {
                let vm = PlannedVm {
                    name: name.to_owned(),
                    source: Some(inferred.name.clone()),
                    vcpus: inferred.vcpus,
                    node,
                    is_inferred: true,
                    birth_key: inferred.key.clone(),
                    platform,
                    cells: Arc::clone(&inferred.cells),
                };
                (self.receive)(&self.fleet.inventory, vm);
            }
            Some(Err(reason)) => {
                let reason = reason.clone();
                self.add_undecidable(name.to_owned(), node, platform, &reason);
            }
            None => {}
        }
    }

    /// Plans a new VM of a host at all hosts.
    fn plan_new(&self, host: usize, features: Features) -> Result<Inferred<T>, String> {
        let hosts = self.settings.hosts.hosts();
        let host = hosts.get(host).ok_or("no such host")?;
        let subject = Subject::new_vm(host, features).map_err(|error| error.to_string())?;
        let row = (self.plan_row)(subject);
        let content = KeyContent::new(host, features).ok();
        Ok(Inferred {
            name: row.name,
            vcpus: row.vcpus,
            cells: Arc::new(row.cells),
            key: content.map(|content| content.key().to_string().into()),
        })
    }

    /// Adds the VMs of an argument: a file, the files of a directory, a domain of libvirt, or all
    /// its running domains. A directory in a directory that has the name of a node has the VMs of
    /// the node.
    fn add_argument(&mut self, path: &Path) -> Result<(), Failure> {
        if let Some(libvirt) = libvirt_address(path) {
            let domains = list_running_domains(path, &libvirt)?;
            if domains.is_empty() {
                let printer = self.settings.printer;
                printer.note(format_args!("{}: no domain runs", path.display()));
            }
            let node = self.find_libvirt_node(path, libvirt.uri);
            for domain in domains {
                self.push_path(domain.to_string().into(), node, true);
            }
            return Ok(());
        }
        if let Some(domain) = domain_address(path)? {
            let node = match domain.remote_host() {
                Some(_) => None,
                None => self.find_libvirt_node(path, domain.uri),
            };
            self.push_path(path.to_owned(), node, false);
            return Ok(());
        }
        let is_directory = path.is_dir();
        if !hosts::exists(path) && fleet_hosts::find_by_name(path)?.is_none() {
            path.metadata()
                .map_err(|error| Failure::io("open", path, error))?;
        }
        if is_directory {
            let entries = path.read_dir();
            let entries = entries.map_err(|error| Failure::io("read", path, error))?;
            let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            folders.sort();
            let mut has_node = false;
            for folder in folders {
                let name = folder.file_name().and_then(|name| name.to_str());
                let node = name.and_then(|name| self.fleet.inventory.find_node(name));
                if let Some(node) = node.filter(|_| folder.is_dir()) {
                    has_node = true;
                    // An empty directory is a node without VMs.
                    let files = fleet_hosts::files(&folder).unwrap_or_default();
                    for file in files {
                        self.push_path(file, Some(node), false);
                    }
                }
            }
            if has_node {
                return Ok(());
            }
        } else if fleet_hosts::find_by_name(path)?.is_some() {
            return Err(Failure::new(format!(
                "--vms {}: a recorded host is no VM of a fleet",
                path.display()
            ))
            .with_hint("write a line of an inventory: {\"vm\":\"NAME\",\"born_on\":\"HOST\"}"));
        }
        for file in fleet_hosts::files(path)? {
            self.push_path(file, None, false);
        }
        Ok(())
    }

    /// Returns the node that is this machine, because libvirt passes file descriptors only to
    /// domains of its own host. Adds a fault if the node is not known.
    fn find_libvirt_node(&mut self, argument: &Path, uri: Option<String>) -> Option<usize> {
        let host = match query_libvirt_host_name(uri) {
            Ok(host) => host,
            Err(failure) => {
                let problem = Problem::Unreadable(inventory::describe(&failure));
                self.add_fault(&argument.display().to_string(), problem);
                return None;
            }
        };
        let inventory = &self.fleet.inventory;
        let short = host.split('.').next().unwrap_or_default();
        let names = [&*host, short];
        let node = names.iter().find_map(|name| inventory.find_node(name));
        if node.is_none() {
            self.add_fault(&argument.display().to_string(), Problem::UnknownNode(host));
        }
        node
    }

    /// Adds the VM of a file, or the domain of an address of libvirt.
    fn push_path(&mut self, path: PathBuf, node: Option<usize>, is_listed: bool) {
        if (self.is_wanted)(node) {
            self.push(Pending {
                name: path.display().to_string(),
                path,
                node,
                platform: Platform::Libvirt,
                is_listed,
            });
        }
    }

    fn push(&mut self, vm: Pending) {
        self.batch.push(vm);
        if self.batch.len() >= self.settings.batch_len {
            self.flush();
        }
    }

    /// Opens, plans and hands on the VMs of the group.
    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let open = |vm: &Pending| {
            let host = vm
                .node
                .and_then(|node| self.fleet.inventory.usable_host(node));
            let from = host.and_then(|host| self.sources.get(host)?.as_ref());
            source::open_file(&vm.path, from, self.settings.printer)
        };
        let rows = plan_rows(&batch, open, self.plan_row);
        for (vm, row) in batch.into_iter().zip(rows) {
            match row {
                Ok(row) => (self.receive)(
                    &self.fleet.inventory,
                    PlannedVm {
                        name: vm.name,
                        source: Some(vm.path.display().to_string()),
                        vcpus: row.vcpus,
                        node: vm.node,
                        is_inferred: row.is_new,
                        birth_key: None,
                        platform: vm.platform,
                        cells: Arc::new(row.cells),
                    },
                ),
                Err(failure) if vm.is_listed => {
                    let reason = inventory::describe(&failure);
                    self.add_undecidable(vm.name, vm.node, vm.platform, &reason);
                }
                Err(failure) => {
                    let problem = Problem::Unreadable(inventory::describe(&failure));
                    self.add_fault(&vm.name, problem);
                }
            }
        }
    }

    /// Hands on a VM of which nothing is known.
    fn add_undecidable(
        &mut self,
        name: String,
        node: Option<usize>,
        platform: Platform,
        reason: &str,
    ) {
        let cell = T::from(Cell::undecidable(reason.to_owned()));
        let vm = PlannedVm {
            name,
            source: None,
            vcpus: 0,
            node,
            is_inferred: false,
            birth_key: None,
            platform,
            cells: Arc::new(vec![cell; self.settings.hosts.hosts().len()]),
        };
        (self.receive)(&self.fleet.inventory, vm);
    }

    fn add_fault(&mut self, subject: &str, problem: Problem) {
        let fault = Fault::new(subject, problem);
        self.fleet.inventory.add_fault(fault);
    }
}
