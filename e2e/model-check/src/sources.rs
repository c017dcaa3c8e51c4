//! The recorded streams that are edited, and what is in all of them: ids and values to edit with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use cpreg_stream::Stream;
use cpreg_stream::{Cpu, ReadAt};

use e2e_framework::Result;
use e2e_framework::paths::repository;

/// The folders below `tests/fixtures` that hold them.
const FOLDERS: [&str; 4] = ["tcg", "streams/tcg", "streams/kvm", "streams/edited"];

/// A block of zeros of this length becomes a hole, in bytes.
const BLOCK: usize = 64 << 10;

/// A recorded stream.
pub(crate) struct Source {
    /// `tcg/qemu-10.0-max-running`.
    pub(crate) name: String,
    /// It without its RAM.
    pub(crate) bytes: Vec<u8>,
    /// What is in `bytes`.
    pub(crate) stream: Stream,
}

impl Source {
    fn read(name: String, path: &Path) -> Result<Self> {
        let whole = unpack(path)?;
        let stream = Stream::open(&whole)?;
        let edit = stream.without_ram(&[])?;
        let mut bytes = vec![0; usize::try_from(edit.new_length())?];
        edit.apply_to(&whole).read_exact_at(&mut bytes, 0)?;
        let stream = Stream::open(&bytes)?;
        Ok(Self {
            name,
            bytes,
            stream,
        })
    }
}

/// A recorded stream as it stands, in a file that is gone when closed.
pub(crate) fn unpack(path: &Path) -> Result<File> {
    let mut from = lzma_rust2::XzReader::new(File::open(path)?, true);
    let mut file = tempfile::tempfile()?;
    let mut block = Vec::with_capacity(BLOCK);
    let mut length = 0;
    loop {
        block.clear();
        let count = from.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        if count == 0 {
            break;
        }
        if block.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(length))?;
            file.write_all(&block)?;
        }
        length += count as u64;
    }
    file.set_len(length)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// All recorded streams, in the order of their names.
///
/// # Errors
/// If one cannot be read, or if there are suspiciously few.
pub(crate) fn all(jobs: usize) -> Result<Vec<Source>> {
    let mut waiting = Vec::new();
    for folder in FOLDERS {
        let from = repository().join("tests/fixtures").join(folder);
        for entry in fs::read_dir(&from)? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(stem) = file.strip_suffix(".stream.xz") {
                waiting.push((format!("{folder}/{stem}"), path));
            }
        }
    }
    if waiting.len() < 40 {
        return Err(format!("only {} recorded streams in tests/fixtures", waiting.len()).into());
    }
    let waiting = Mutex::new(waiting);
    let read = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.pop());
                    let Some((name, path)) = next else { return };
                    let source = Source::read(name.clone(), &path)
                        .map_err(|error| format!("{name}: {error}"));
                    if let Ok(mut read) = read.lock() {
                        read.push(source);
                    }
                }
            });
        }
    });
    let read = read.into_inner().unwrap_or_default();
    let mut sources = read
        .into_iter()
        .collect::<std::result::Result<Vec<_>, _>>()?;
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

/// Every id in any source, with every value that it has in one.
pub(crate) fn pool(sources: &[Source]) -> BTreeMap<u64, Vec<u64>> {
    let mut pool: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let cpus = sources.iter().flat_map(|source| source.stream.cpus());
    for (id, value) in cpus.flat_map(Cpu::registers) {
        let values = pool.entry(id.raw()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    pool
}
