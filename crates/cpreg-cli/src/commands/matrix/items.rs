//! [`Item`]: a source of a matrix before it is opened, and the expansion of the arguments.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use cpreg_fleet::Host;

use crate::arguments;
use crate::failure::Failure;
use crate::fleet_hosts;
use crate::printer::Printer;

/// Argument for standard input.
const STANDARD_INPUT: &str = "-";
/// Longest line of a list. Linux has no longer path.
const MAX_LINE_LEN: usize = 1 << 16;

/// Source of a matrix.
pub(super) enum Item {
    /// New VM of a host.
    NewVm(Box<Host>),
    /// VM or host in a file.
    File(PathBuf),
    /// Argument that names nothing.
    Unusable(PathBuf, Failure),
}

impl Item {
    /// Returns the name of the source, as given.
    pub(super) fn name(&self) -> String {
        match self {
            Self::NewVm(host) => host.name().to_owned(),
            Self::File(path) | Self::Unusable(path, _) => path.display().to_string(),
        }
    }
}

/// Returns the sources of the arguments and lists, each once.
pub(super) fn expand(
    arguments: &arguments::Matrix,
    printer: &Printer,
) -> Result<Vec<Item>, Failure> {
    let mut paths = arguments.sources.clone();
    for list in &arguments.list {
        paths.extend(read_list(list)?);
    }
    let mut items = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        let expanded = match fleet_hosts::find_by_name(&path) {
            Ok(Some(hosts)) => Ok(hosts
                .into_iter()
                .map(|host| Item::NewVm(Box::new(host)))
                .collect()),
            Ok(None) => fleet_hosts::files(&path)
                .map(|files| files.into_iter().map(Item::File).collect::<Vec<_>>()),
            Err(failure) => Err(failure),
        };
        let expanded =
            expanded.unwrap_or_else(|failure| vec![Item::Unusable(path.clone(), failure)]);
        for item in expanded {
            if seen.insert(identity(&item)) {
                items.push(item);
            } else {
                printer.note(format_args!("{} is planned once", item.name()));
            }
        }
    }
    Ok(items)
}

/// Returns what is equal for two arguments that name the same source.
fn identity(item: &Item) -> PathBuf {
    match item {
        Item::NewVm(host) => PathBuf::from(host.name()),
        Item::Unusable(path, _) => path.clone(),
        Item::File(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
    }
}

/// Reads a list of sources, one a line. Empty lines name nothing.
fn read_list(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = |reader: &mut dyn io::Read| {
        let mut paths = Vec::new();
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = io::Read::take(&mut reader, MAX_LINE_LEN as u64);
            if limited.read_until(b'\n', &mut line)? == 0 {
                return Ok(paths);
            }
            if line.len() == MAX_LINE_LEN {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line is too long for a path",
                ));
            }
            let text = String::from_utf8(line.clone());
            let text = text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let text = text.trim_end_matches(['\n', '\r']);
            if !text.is_empty() {
                paths.push(PathBuf::from(text));
            }
        }
    };
    let paths = if path == Path::new(STANDARD_INPUT) {
        read(&mut io::stdin().lock())
    } else {
        fs::File::open(path).and_then(|mut file| read(&mut file))
    };
    paths.map_err(|error| Failure::io("read the list", path, error))
}
