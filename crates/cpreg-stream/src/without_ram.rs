//! A stream without its RAM: the list of RAM blocks stays, their pages are removed.
//!
//! The result contains everything that a loader checks before the guest runs: the machine type, the
//! layout of RAM, every device's state. For a VM with 2 GiB and 4 vCPUs, the result has 59 KB.
//! Every QEMU from 5.2 to 11.1 loads it into a machine whose RAM is zero. The crate `cpreg-qemu`
//! loads it in a rehearsal.
//!
//! | in the stream | without RAM |
//! |---|---|
//! | header, machine type, page size, UUID | the same |
//! | capabilities (`mapped-ram`, `x-ignore-shared`) | none: the result is a plain stream |
//! | `ram` | START with the list, END; no page records, page sizes or addresses |
//! | other live sections (disks' bitmaps, VFIO) | none |
//! | commands, a postcopy package | none; the package's sections stay |
//! | device sections | the same, in the same order |
//! | description | the same; `{}` if sections were omitted or changed their length |

use crate::Stream;
use crate::element::{
    CONFIGURATION, Configuration, END, EOF, FOOTER, MAGIC, START, SUBSECTION, Section,
    VMDESCRIPTION,
};
use crate::error::{Error, ErrorKind};
use crate::ram::{self, RamBlock};
use crate::replacement::{Edit, Replacement};

/// Length in bytes of magic number and version.
const HEADER_LEN: u64 = 8;

/// Change of one section of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionChange {
    /// Omits the section.
    Omit,
    /// Replaces the payload by these bytes.
    Payload(Vec<u8>),
    /// Overwrites bytes of the payload; the number is the offset in the payload of the first one.
    Patch(u64, Vec<u8>),
}

impl Stream {
    /// Returns the edit that removes RAM from the stream's file and applies `changes` to sections.
    ///
    /// Each change has an index into [`Stream::sections`]. A section has at most one change of the
    /// whole section, or patches that do not overlap. RAM pages are not read. [`Edit::apply_to`]
    /// gives the result without writing a file.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`] if the sum of the RAM blocks' lengths exceeds 64 bits.
    /// - [`ErrorKind::BadEdit`] if no section has the index, or a patch exceeds the payload.
    pub fn without_ram(&self, changes: &[(usize, SectionChange)]) -> Result<Edit, Error> {
        self.without_ram_and_blocks(changes, &|_| false)
    }

    /// Does the same as [`Self::without_ram`], and omits the RAM blocks whose names `is_omitted`
    /// selects.
    ///
    /// # Errors
    /// Those of [`Self::without_ram`].
    pub fn without_ram_and_blocks(
        &self,
        changes: &[(usize, SectionChange)],
        is_omitted: &dyn Fn(&str) -> bool,
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
        let mut pending = self.encode_setup_without(is_omitted)?;
        let mut at = 0;
        let mut matches_description = self.description.is_some();
        for (section, changes) in sections.iter().zip(by_section) {
            if changes.contains(&&SectionChange::Omit) {
                matches_description = false;
                continue;
            }
            for change in changes {
                let replacement = replacement(section, change)?;
                matches_description &= replacement.range.end - replacement.range.start
                    == replacement.bytes.len() as u64;
                replacements.push(replacement);
            }
            replacements.push(Replacement {
                range: at..section.range.start,
                bytes: std::mem::take(&mut pending),
            });
            at = section.range.end;
        }
        self.append_end(&mut replacements, pending, at, matches_description);
        Ok(Edit::new(replacements, self.length()))
    }

    /// Returns the edit that gives the stream the configuration and the RAM blocks of `other`.
    ///
    /// A device state ([`Self::is_device_state_only`]) thus becomes a stream that QEMU loads into
    /// the machine of `other`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if a name is longer than a stream can hold.
    pub fn with_setup_of(&self, other: &Self) -> Result<Edit, Error> {
        let max_id = self.sections().iter().map(|section| section.id).max();
        let id = max_id.unwrap_or(0).wrapping_add(1);
        let bytes = encode_setup(other.configuration(), other.ram_blocks(), id, 0)?;
        let setup = Replacement {
            range: 0..HEADER_LEN,
            bytes,
        };
        Ok(Edit::new(vec![setup], self.length()))
    }

    /// Appends `bytes`, EOF and the description, in place of everything after offset `at` of the
    /// stream. A description that no longer matches becomes `{}`.
    fn append_end(
        &self,
        replacements: &mut Vec<Replacement>,
        mut bytes: Vec<u8>,
        at: u64,
        matches_description: bool,
    ) {
        bytes.extend([EOF, VMDESCRIPTION]);
        let kept = self.description().filter(|_| matches_description);
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
            // QEMU prints a message on standard error if the description is missing.
            bytes.extend(2_u32.to_be_bytes());
            bytes.extend(b"{}");
            replacements.push(Replacement {
                range: at..self.length(),
                bytes,
            });
        }
    }

    /// Encodes everything in front of the device sections.
    fn encode_setup_without(&self, is_omitted: &dyn Fn(&str) -> bool) -> Result<Vec<u8>, Error> {
        // If the stream has no RAM, use a section number that no section has.
        let max_id = self.sections().iter().map(|section| section.id).max();
        let ram = self.live_sections().iter().find(|it| it.name == "ram");
        let (id, instance) = ram.map_or((max_id.unwrap_or(0).wrapping_add(1), 0), |ram| {
            (ram.id, ram.instance)
        });
        let mut blocks = self.ram_blocks().to_vec();
        blocks.retain(|block| !is_omitted(&block.name));
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
            format!("the patch is past the end of section {}", section.name),
        ));
    }
    Ok(Replacement { range, bytes })
}

/// Encodes header, configuration and the whole `ram` section with this section number and instance
/// number.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if a name or a block is longer than a stream can hold.
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
        Error::new(ErrorKind::Unsupported, "the name has more than 255 bytes").prepend_path(name)
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
