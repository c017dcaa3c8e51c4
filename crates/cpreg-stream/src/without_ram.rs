//! A stream without its RAM: the list of RAM blocks stays, their pages do not.
//!
//! What is left is what a loader judges before the guest runs: the machine type, the layout of RAM, every device's
//! state. A VM of 2 GiB and 4 vCPUs becomes 59 KB, and every QEMU from 5.2 to 11.1 loads it, in a machine whose RAM
//! is zero. How it is loaded lives in [`crate::rehearse`].
//!
//! | in the stream | in the skeleton |
//! |---|---|
//! | header, machine type, page size, UUID | the same |
//! | capabilities (`mapped-ram`, `x-ignore-shared`) | none: it is always a plain stream |
//! | `ram` | START with the list, END; no page records, page sizes or addresses |
//! | other live sections (disks' bitmaps, VFIO) | none |
//! | commands, a postcopy package | none; the sections out of the package |
//! | device sections | the same, in the same order |
//! | description | the same; `{}` where sections were left out or changed their length |

use crate::Stream;
use crate::element::{
    CONFIGURATION, Configuration, END, EOF, FOOTER, MAGIC, START, SUBSECTION, Section,
    VMDESCRIPTION,
};
use crate::error::{Error, ErrorKind};
use crate::ram::{self, RamBlock};
use crate::replacement::{Edit, Replacement};

/// What becomes of one section of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionChange {
    /// It is not in the skeleton.
    Omit,
    /// Its payload is replaced by these bytes.
    Payload(Vec<u8>),
    /// So many bytes of its payload, from this offset in it on, are replaced by these.
    Patch(u64, Vec<u8>),
}

impl Stream {
    /// The edit that leaves RAM out of the file this was opened from, and changes sections on the way.
    ///
    /// `changes` are by index into [`Stream::sections`], at most one of a whole section, and patches that do not touch
    /// each other. RAM pages are not read; [`Edit::over`] gives the skeleton without writing it anywhere.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the lengths of the RAM blocks do not add up to a number of 64 bits;
    /// [`ErrorKind::BadEdit`] if a change is none of a section.
    pub fn without_ram(&self, changes: &[(usize, SectionChange)]) -> Result<Edit, Error> {
        self.without_ram_and_blocks(changes, &|_| false)
    }

    /// Like [`Self::without_ram`], and leaves those RAM blocks out of the list whose names `left_out` picks.
    ///
    /// # Errors
    /// Those of [`Self::without_ram`].
    pub fn without_ram_and_blocks(
        &self,
        changes: &[(usize, SectionChange)],
        left_out: &dyn Fn(&str) -> bool,
    ) -> Result<Edit, Error> {
        let sections = self.sections();
        if let Some((index, _)) = changes.iter().find(|(index, _)| *index >= sections.len()) {
            return Err(Error::new(
                ErrorKind::BadEdit,
                format!("no section {index}: the stream has {}", sections.len()),
            ));
        }
        // A stream may have thousands of sections with hundreds of patches each.
        let mut by_section: Vec<Vec<&SectionChange>> = vec![Vec::new(); sections.len()];
        for (index, change) in changes {
            by_section[*index].push(change);
        }
        let mut replacements = Vec::with_capacity(sections.len() + 2);
        let mut pending = self.encode_setup_without(left_out)?;
        let mut at = 0;
        let mut as_described = self.description.is_some();
        for (section, changes) in sections.iter().zip(by_section) {
            if changes.contains(&&SectionChange::Omit) {
                as_described = false;
                continue;
            }
            for change in changes {
                let new = replacement(section, change)?;
                as_described &= new.range.end - new.range.start == new.bytes.len() as u64;
                replacements.push(new);
            }
            replacements.push(Replacement {
                range: at..section.range.start,
                bytes: std::mem::take(&mut pending),
            });
            at = section.range.end;
        }
        self.append_end(&mut replacements, pending, at, as_described);
        Ok(Edit::new(replacements, self.length()))
    }

    /// Ends the skeleton behind the offset `at` of the stream: `bytes`, EOF, the description if it still fits.
    fn append_end(
        &self,
        replacements: &mut Vec<Replacement>,
        mut bytes: Vec<u8>,
        at: u64,
        as_described: bool,
    ) {
        bytes.extend([EOF, VMDESCRIPTION]);
        let kept = self.description().filter(|_| as_described);
        let length = kept
            .as_ref()
            .and_then(|it| u32::try_from(it.end - it.start).ok());
        if let Some((description, length)) = kept.zip(length) {
            bytes.extend(length.to_be_bytes());
            replacements.push(Replacement {
                range: at..description.start,
                bytes,
            });
            replacements.push(Replacement {
                range: description.end..self.length(),
                bytes: Vec::new(),
            });
        } else {
            // QEMU says something on its standard error if there is none at all.
            bytes.extend(2_u32.to_be_bytes());
            bytes.extend(b"{}");
            replacements.push(Replacement {
                range: at..self.length(),
                bytes,
            });
        }
    }

    /// What stands before the devices.
    fn encode_setup_without(&self, left_out: &dyn Fn(&str) -> bool) -> Result<Vec<u8>, Error> {
        // A number that no section has, if the stream has no RAM.
        let free = self.sections().iter().map(|section| section.id).max();
        let ram = self.live_sections().iter().find(|it| it.name == "ram");
        let (id, instance) = ram.map_or((free.unwrap_or(0).wrapping_add(1), 0), |ram| {
            (ram.id, ram.instance)
        });
        let mut blocks = self.ram_blocks().to_vec();
        blocks.retain(|block| !left_out(&block.name));
        encode_setup(self.configuration(), &blocks, id, instance)
    }
}

fn replacement(section: &Section, change: &SectionChange) -> Result<Replacement, Error> {
    let (range, bytes) = match change {
        SectionChange::Patch(offset, bytes) => {
            let start = section.payload.start.saturating_add(*offset);
            (
                start..start.saturating_add(bytes.len() as u64),
                bytes.clone(),
            )
        }
        SectionChange::Payload(bytes) => (section.payload.clone(), bytes.clone()),
        SectionChange::Omit => (section.payload.clone(), Vec::new()),
    };
    if range.end > section.payload.end {
        return Err(Error::new(
            ErrorKind::BadEdit,
            format!("a patch behind the end of section {}", section.name),
        ));
    }
    Ok(Replacement { range, bytes })
}

/// Header, configuration and the whole `ram` section, with these numbers.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if a name or a block is longer than a stream can say.
pub fn encode_setup(
    configuration: Option<&Configuration>,
    blocks: &[RamBlock],
    id: u32,
    instance: u32,
) -> Result<Vec<u8>, Error> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(3_u32.to_be_bytes());
    if let Some(configuration) = configuration {
        write_configuration(&mut bytes, configuration)?;
    }
    bytes.push(START);
    bytes.extend(id.to_be_bytes());
    write_name(&mut bytes, "ram")?;
    bytes.extend(instance.to_be_bytes());
    bytes.extend(ram::VERSION.to_be_bytes());
    ram::write_block_list(&mut bytes, blocks)?;
    write_footer(&mut bytes, id);
    bytes.push(END);
    bytes.extend(id.to_be_bytes());
    bytes.extend(ram::END_OF_PAYLOAD.to_be_bytes());
    write_footer(&mut bytes, id);
    Ok(bytes)
}

fn write_name(bytes: &mut Vec<u8>, name: &str) -> Result<(), Error> {
    let length = u8::try_from(name.len()).map_err(|_| {
        Error::new(ErrorKind::Unsupported, "a name of more than 255 bytes").prepend_path(name)
    })?;
    bytes.push(length);
    bytes.extend(name.as_bytes());
    Ok(())
}

fn write_footer(bytes: &mut Vec<u8>, id: u32) {
    bytes.push(FOOTER);
    bytes.extend(id.to_be_bytes());
}

fn write_configuration(bytes: &mut Vec<u8>, configuration: &Configuration) -> Result<(), Error> {
    let machine = configuration.machine.as_bytes();
    bytes.push(CONFIGURATION);
    bytes.extend(u32::try_from(machine.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(machine);
    let mut subsection = |name: &str, content: &[u8]| {
        bytes.push(SUBSECTION);
        write_name(bytes, name)?;
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend(content);
        Ok(())
    };
    if let Some(bits) = configuration.target_page_bits {
        subsection("configuration/target-page-bits", &bits.to_be_bytes())?;
    }
    if let Some(uuid) = &configuration.uuid {
        subsection("configuration/uuid", uuid)?;
    }
    Ok(())
}
