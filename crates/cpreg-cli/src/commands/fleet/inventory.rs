//! [`FleetInputs`]: nodes of a fleet, from the arguments of a command.
//!
//! | argument | nodes |
//! |---|---|
//! | a name of recorded hosts | one for each recorded host |
//! | a file of `cpreg probe kvm`, or a profile | one with the name of the file: NODE.json |
//! | a directory | those of its files |
//! | an inventory | those of its lines or items |
//!
//! A file is an inventory if it is a JSON object without the name of a schema of cpreg.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use cpreg_fleet::inventory::{Fault, Item, NodeItem, Problem, VmState, reader};
use cpreg_fleet::{Host, Inventory};
use cpreg_hosts::HostRecord;
use cpreg_report::text::list_first;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::arguments::{LoaderArgs, NodeArgs};
use crate::destination::{self, kvm};
use crate::failure::Failure;
use crate::fleet_hosts;
use crate::input::open_decompressed;
use crate::printer::Printer;

/// Name of standard input.
const STANDARD_INPUT: &str = "-";
/// Most bytes of a file that is read whole to recognise an equal record. A record has some hundred
/// kilobytes, and a saved VM can have many gigabytes.
const MAX_RECORD_LEN: u64 = 16 << 20;
/// Bytes at the start of a file in which the name of its schema is.
const START_LEN: u64 = 512;

/// Nodes of a fleet, and the inventories that may also have VMs.
pub(super) struct FleetInputs {
    pub(super) inventory: Inventory,
    pub(super) streams: Vec<Stream>,
    /// Arguments with VMs that are no inventories.
    pub(super) vms: Vec<PathBuf>,
}

/// Inventory that can be read again.
pub(super) struct Stream {
    /// Path, as given.
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Stream {
    fn open(path: &Path) -> Result<Self, Failure> {
        let (file, _) = open_decompressed(path)?;
        let length = file.metadata().map(|metadata| metadata.len());
        if length.is_ok_and(|length| length == 0) {
            let name = path.display();
            return Err(Failure::new(format!("the inventory {name} is empty")).with_path(path));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Reads all items from the start.
    pub(super) fn read(
        &self,
        receive: &mut dyn FnMut(Result<Item, String>),
    ) -> Result<(), Failure> {
        let failure = |error| Failure::io("read", &self.path, error);
        let mut file = self.file.try_clone().map_err(failure)?;
        file.rewind().map_err(failure)?;
        reader::read_items(BufReader::with_capacity(1 << 16, file), receive).map_err(failure)
    }

    /// Returns a path in the inventory as seen from the current folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        let folder = self.path.parent();
        match folder.filter(|_| self.path != Path::new(STANDARD_INPUT)) {
            Some(folder) => folder.join(path),
            None => PathBuf::from(path),
        }
    }
}

/// Opens the nodes of all arguments. `vms` are further arguments whose inventories may have nodes.
///
/// # Errors
/// Returns an error if an argument names nothing, or if no node is left.
pub(super) fn open(
    arguments: &NodeArgs,
    vms: &[PathBuf],
    printer: &Printer,
) -> Result<FleetInputs, Failure> {
    let mut opener = Opener {
        loader: &arguments.loader,
        printer,
        inventory: Inventory::default(),
        records: HashMap::new(),
        named: HashMap::new(),
        inline: HashMap::new(),
    };
    let mut streams = Vec::new();
    for path in &arguments.hosts {
        streams.extend(opener.add(path)?);
    }
    let mut others = Vec::new();
    for path in vms {
        if is_inventory(path)? {
            streams.push(Stream::open(path)?);
        } else {
            others.push(path.clone());
        }
    }
    let loader = destination::parse_loader(&arguments.loader)?;
    // A list can have the records after the nodes that refer to them.
    for stream in &streams {
        opener.add_records(stream)?;
    }
    for stream in &streams {
        opener.add_stream(stream)?;
    }
    let mut inventory = opener.inventory;
    inventory.check_nodes();
    inventory.map_hosts(|host| host.with_loader(loader));
    if inventory.nodes().is_empty() {
        let failure = Failure::new("the arguments have no node");
        let faults = inventory.faults().iter().take(3);
        return Err(faults.fold(failure, |failure, fault| {
            failure.with_hint(format!("{}: {fault}", fault.subject))
        }));
    }
    Ok(FleetInputs {
        inventory,
        streams,
        vms: others,
    })
}

/// Returns `true` if a path is an inventory: standard input, or a JSON object without a schema of
/// cpreg.
fn is_inventory(path: &Path) -> Result<bool, Failure> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok(true);
    }
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Ok(false);
    }
    let (file, _) = open_decompressed(path)?;
    let mut start = Vec::new();
    file.take(START_LEN)
        .read_to_end(&mut start)
        .map_err(|error| Failure::io("read", path, error))?;
    let has_schema = start.windows(8).any(|window| window == b"\"schema\"");
    Ok(start.trim_ascii_start().starts_with(b"{") && !has_schema)
}

/// Record of a node: its host, and the release of its kernel.
#[derive(Clone)]
struct OpenedRecord {
    host: usize,
    release: Option<String>,
}

struct Opener<'a> {
    loader: &'a LoaderArgs,
    printer: &'a Printer,
    inventory: Inventory,
    /// Records by the digest of their file.
    records: HashMap<Vec<u8>, OpenedRecord>,
    /// Records, or the reason why they cannot be used, by path or name in an inventory.
    named: HashMap<PathBuf, Result<OpenedRecord, String>>,
    /// Records in the inventories, or the reason why they cannot be used, by identifier.
    inline: HashMap<String, Result<OpenedRecord, String>>,
}

impl Opener<'_> {
    /// Adds the nodes of an argument, and returns the inventories that it names.
    fn add(&mut self, path: &Path) -> Result<Vec<Stream>, Failure> {
        if is_inventory(path)? {
            return Ok(vec![Stream::open(path)?]);
        }
        if let Some(hosts) = fleet_hosts::find_by_name(path)? {
            for host in hosts {
                let name = host.name().to_owned();
                let record = self.intern(host);
                self.add_node(&name, &record);
            }
            return Ok(Vec::new());
        }
        if kvm::is_kvm_path(path) {
            return Err(
                Failure::new("this machine's KVM is no node of this command")
                    .with_hint("record it first: `cpreg probe kvm -o NODE.json`"),
            );
        }
        let mut streams = Vec::new();
        let is_directory = path.is_dir();
        for file in fleet_hosts::files(path)? {
            if is_directory && is_inventory(&file)? {
                streams.push(Stream::open(&file)?);
                continue;
            }
            let stem = file.file_stem().unwrap_or(file.as_os_str());
            let name = stem.to_string_lossy().into_owned();
            match self.open_record(&file) {
                Ok(record) => self.add_node(&name, &record),
                // A single argument that is wrong is an error of the user.
                Err(failure) if !is_directory => return Err(failure),
                Err(failure) => {
                    let problem = Problem::Unreadable(describe(&failure));
                    self.inventory.reject_node(&name, problem);
                }
            }
        }
        Ok(streams)
    }

    fn add_node(&mut self, name: &str, record: &OpenedRecord) {
        let release = record.release.as_deref();
        self.inventory.add_node(name, Some(record.host), release);
    }

    fn intern(&mut self, host: Host) -> OpenedRecord {
        let release = host.record().map(|record| record.identity.release.clone());
        OpenedRecord {
            release,
            host: self.inventory.add_host(host),
        }
    }

    /// Opens a record. A file with the bytes of an earlier one is not parsed again.
    fn open_record(&mut self, path: &Path) -> Result<OpenedRecord, Failure> {
        let is_record_size =
            |metadata: &fs::Metadata| metadata.is_file() && metadata.len() <= MAX_RECORD_LEN;
        let digest = if path.metadata().is_ok_and(|it| is_record_size(&it)) {
            let bytes = fs::read(path).map_err(|error| Failure::io("read", path, error))?;
            Some(Sha256::digest(bytes).to_vec())
        } else {
            None
        };
        if let Some(record) = digest.as_ref().and_then(|digest| self.records.get(digest)) {
            return Ok(record.clone());
        }
        let host = fleet_hosts::open_file(path, self.loader, self.printer)?;
        let record = self.intern(host);
        if let Some(digest) = digest {
            self.records.insert(digest, record.clone());
        }
        Ok(record)
    }

    /// Adds the records in an inventory.
    fn add_records(&mut self, stream: &Stream) -> Result<(), Failure> {
        stream.read(&mut |item| {
            if let Ok(Item::Record(record)) = item {
                let opened = HostRecord::from_json(record.json.as_bytes());
                let opened = opened
                    .map(|opened| self.intern(Host::recorded(record.name, opened)))
                    .map_err(|error| format!("the record {}: {error}", record.id));
                self.inline.insert(record.id, opened);
            }
        })
    }

    /// Adds the nodes in an inventory, and the recorded hosts on which its VMs were born.
    fn add_stream(&mut self, stream: &Stream) -> Result<(), Failure> {
        let subject = stream.path.display().to_string();
        stream.read(&mut |item| match item {
            Ok(Item::Node(node)) => self.add_item(stream, &node),
            Ok(Item::Vm(vm)) => {
                if let VmState::Inferred {
                    born_on: Some(name),
                    ..
                } = &vm.state
                {
                    self.add_birth(name);
                }
            }
            Ok(Item::Record(_) | Item::Other) => {}
            Err(message) => {
                let problem = Problem::Unreadable(message);
                self.inventory.add_fault(Fault::new(&subject, problem));
            }
        })
    }

    fn add_item(&mut self, stream: &Stream, node: &NodeItem) {
        if let Some(host) = &node.host {
            match self.resolve_host(stream, host) {
                Ok(record) => self.add_node(&node.name, &record),
                Err(reason) => {
                    let problem = Problem::Unreadable(reason);
                    self.inventory.reject_node(&node.name, problem);
                }
            }
        }
        if let Some(id) = &node.record {
            match self.inline.get(id) {
                Some(Ok(record)) => {
                    let kernel = node.recorded_kernel.as_deref();
                    let kernel = kernel.or(record.release.as_deref());
                    let host = record.host;
                    self.inventory.add_node(&node.name, Some(host), kernel);
                }
                Some(Err(reason)) => {
                    let problem = Problem::Unreadable(reason.clone());
                    self.inventory.reject_node(&node.name, problem);
                }
                // The user can have given the nodes without the records.
                None => {}
            }
        }
        self.inventory.add_node(&node.name, None, None);
        if let Some(kernel) = &node.kernel {
            self.inventory.set_running_kernel(&node.name, kernel);
        }
        if let Some(expires) = &node.expires {
            let problem = match OffsetDateTime::parse(expires, &Rfc3339) {
                Ok(time) if time > OffsetDateTime::now_utc() => return,
                Ok(_) => Problem::Expired(expires.clone()),
                Err(_) => Problem::Unreadable(format!("`expires`: {expires} is no time")),
            };
            self.inventory.reject_node(&node.name, problem);
        }
    }

    /// Returns the record that an inventory names, as a recorded host or as a file.
    fn resolve_host(&mut self, stream: &Stream, text: &str) -> Result<OpenedRecord, String> {
        let path = stream.resolve(text);
        if let Some(known) = self.named.get(&path) {
            return known.clone();
        }
        let opened = if path.exists() {
            self.open_record(&path)
        } else {
            match fleet_hosts::find_one_by_name(Path::new(text)) {
                Ok(Some(host)) => Ok(self.intern(host)),
                Ok(None) => self.open_record(&path),
                Err(failure) => Err(failure),
            }
        };
        let opened = opened.map_err(|failure| describe(&failure));
        self.named.insert(path, opened.clone());
        opened
    }

    /// Adds a recorded host on which a VM was born. A name of something else adds nothing.
    fn add_birth(&mut self, name: &str) {
        let path = PathBuf::from(name);
        if self.named.contains_key(&path) {
            return;
        }
        let opened = match fleet_hosts::find_one_by_name(&path) {
            Ok(Some(host)) => Ok(self.intern(host)),
            _ => Err(String::new()),
        };
        self.named.insert(path, opened);
    }
}

/// Returns an error with its causes in one line.
pub(super) fn describe(failure: &Failure) -> String {
    let causes = failure.causes().into_iter();
    causes.fold(failure.to_string(), |text, cause| {
        format!("{text}: {cause}")
    })
}

/// Returns the index of the node.
pub(super) fn find_node(inventory: &Inventory, name: &str) -> Result<usize, Failure> {
    inventory.find_node(name).ok_or_else(|| {
        let names = inventory.nodes().iter().map(|node| &*node.name);
        let names: Vec<_> = names.collect();
        Failure::new(format!("the fleet has no node {name}"))
            .with_hint(format!("its nodes: {}", list_first(&names, 10)))
    })
}
