//! Changes the CPU state in a stream, as replacements of byte ranges.
//!
//! An edit changes the payloads of `cpu` sections. The description and the length of a postcopy
//! package change with them. All other bytes stay the same. An edit that changes nothing has no
//! replacements. [`crate::write`] and [`crate::in_place`] apply an edit to a file.

use std::collections::HashMap;

use cpreg::destination::hvf;
use cpreg::register::RegisterId;
use cpreg::vm::{Content, Extension, Vcpu, Vm};

use crate::cpu::{self, Cpu, Subsection};
use crate::cursor::read_bytes;
use crate::description_edit::{apply_patches, collect_patches};
use crate::element::{CPU, SUBSECTION};
use crate::error::{Error, ErrorKind, PrependPath};
use crate::replacement::{Edit, Replacement};
use crate::source::ReadAt;
use crate::stream::{OpenMethod, Stream};

/// Name of the section with the state of a vCPU that all architectures share.
const CPU_COMMON: &str = "cpu_common";
/// Version of the section whose layout is known: `halted` is the first field.
const CPU_COMMON_VERSION: u32 = 1;
/// Length of `halted` in bytes.
const HALTED_LEN: usize = 4;
/// PSCI power state of a vCPU that is switched on.
const POWER_ON: u8 = 0;

/// Requested changes of one vCPU's section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuEdit {
    /// New register list, ascending by id or in the unsorted order of HVF ([`hvf`]); `None` leaves
    /// the list unchanged.
    pub registers: Option<Vec<(RegisterId, u64)>>,
    /// Changes of the vCPU's extensions, applied in this order.
    pub extensions: Vec<ExtensionChange>,
    /// `true` to let the vCPU execute instructions after the load.
    pub wake: bool,
}

impl CpuEdit {
    /// Returns `true` if the edit changes nothing in the `cpu` section.
    fn leaves_section_unchanged(&self) -> bool {
        self.registers.is_none() && self.extensions.is_empty()
    }
}

/// Requested change of one extension of a vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionChange {
    /// Removes the extension with this name and all subsections inside it. [`Extension::FEATURES`],
    /// which is not a subsection, is set to 0.
    Remove(String),
    /// Sets the content of the extension; adds the extension if it is missing.
    Set(Extension),
}

impl Stream {
    /// Returns the changes after which the stream holds this CPU state.
    ///
    /// Registers and extensions that `vm` lacks are removed.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if the number of vCPUs in `vm` differs from the stream's, or if `vm`
    /// has a register wider than 64 bits.
    pub fn diff_to(&self, vm: &Vm) -> Result<Vec<CpuEdit>, Error> {
        if vm.vcpus.len() != self.cpus().len() {
            return Err(bad_edit(format!(
                "the stream has {} vCPUs, the state to write has {}",
                self.cpus().len(),
                vm.vcpus.len()
            )));
        }
        self.vm()?
            .vcpus
            .iter()
            .zip(&vm.vcpus)
            .zip(self.cpus())
            .map(|((old, new), cpu)| diff_cpu(cpu, old, new).prepend_path(|| cpu_path(cpu)))
            .collect()
    }

    /// Plans an edit: one [`CpuEdit`] for each vCPU, in the order of [`Stream::cpus`].
    ///
    /// `source` is the file that the stream was opened from. If the stream was opened by its
    /// description, this function also opens the edited stream by its description and compares the
    /// changed sections.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if the edit cannot be applied; errors of reading `source`.
    pub fn edit(&self, source: &dyn ReadAt, edits: &[CpuEdit]) -> Result<Edit, Error> {
        let (edit, changed) = self.plan_edit(source, edits)?;
        if !changed.is_empty() {
            self.read_back(source, &edit, &changed)?;
        }
        Ok(edit)
    }

    /// Plans an edit like [`Self::edit`], without opening the edited stream.
    ///
    /// The caller opens the edited stream and checks it before writing it.
    ///
    /// # Errors
    /// Those of [`Self::edit`].
    pub fn edit_unverified(&self, source: &dyn ReadAt, edits: &[CpuEdit]) -> Result<Edit, Error> {
        self.plan_edit(source, edits).map(|(edit, _)| edit)
    }

    /// Returns the edit and the sections that it changes, by vCPU number.
    fn plan_edit(
        &self,
        source: &dyn ReadAt,
        edits: &[CpuEdit],
    ) -> Result<(Edit, Vec<(u32, Cpu)>), Error> {
        if edits.len() != self.cpus().len() {
            return Err(bad_edit(format!(
                "{} edits for {} vCPUs",
                edits.len(),
                self.cpus().len()
            )));
        }
        let mut replacements = Vec::new();
        let mut changed = Vec::new();
        let mut growth = 0;
        for (cpu, edit) in self.cpus().iter().zip(edits) {
            if edit.wake {
                replacements.extend(self.wake_replacement(source, cpu)?);
            }
            if edit.leaves_section_unchanged() {
                continue;
            }
            let new = apply_cpu_edit(cpu, edit).prepend_path(|| cpu_path(cpu))?;
            if new.bytes() == cpu.bytes() {
                continue;
            }
            growth += to_i64(new.bytes().len())? - to_i64(cpu.bytes().len())?;
            replacements.push(Replacement {
                range: cpu.section().payload.clone(),
                bytes: new.bytes().to_vec(),
            });
            changed.push((cpu.section().instance, new));
        }
        if changed.is_empty() {
            return Ok((Edit::new(replacements, self.length()), changed));
        }
        if growth != 0 {
            self.reject_move_of_mapped_ram()?;
        }
        replacements.extend(self.package_replacement(growth)?);
        replacements.extend(self.description_replacement(source, &changed)?);
        Ok((Edit::new(replacements, self.length()), changed))
    }

    /// Returns the number of bytes at the beginning that no edit of this stream changes.
    ///
    /// An edit changes the sections `cpu` and `cpu_common`, the length of the package that holds
    /// them, and the description at the end. RAM lies in front of these, unless the sections are in
    /// front of mapped-ram pages.
    pub fn fixed_prefix_len(&self) -> u64 {
        let is_edited = |name: &str| name == CPU || name == CPU_COMMON;
        let sections = self.sections().iter();
        let edited = sections.filter(|section| is_edited(&section.name));
        let starts = edited.map(|section| section.range.start);
        let package = self.package().map(|package| package.length_field);
        starts.chain(package).min().unwrap_or(0)
    }

    /// Returns the change that takes a vCPU out of its halt, if the vCPU is halted.
    fn wake_replacement(
        &self,
        source: &dyn ReadAt,
        cpu: &Cpu,
    ) -> Result<Option<Replacement>, Error> {
        let instance = cpu.section().instance;
        let mut sections = self.sections().iter();
        let section = sections
            .find(|section| section.name == CPU_COMMON && section.instance == instance)
            .filter(|section| section.version == CPU_COMMON_VERSION)
            .filter(|section| section.payload.start + HALTED_LEN as u64 <= section.payload.end)
            .ok_or_else(|| {
                bad_edit("no cpu_common section shows whether the vCPU is halted")
                    .prepend_path(&cpu_path(cpu))
            })?;
        let range = section.payload.start..section.payload.start + HALTED_LEN as u64;
        let halted = read_bytes(source, range.start, HALTED_LEN)?;
        let is_halted = halted.iter().any(|byte| *byte != 0);
        Ok(is_halted.then(|| Replacement {
            range,
            bytes: vec![0; HALTED_LEN],
        }))
    }

    /// Rejects a change of length in front of mapped-ram pages, whose file offsets are fixed.
    fn reject_move_of_mapped_ram(&self) -> Result<(), Error> {
        let pages_end = self
            .ram_blocks()
            .iter()
            .filter_map(|block| block.mapped_ram.as_ref())
            .map(|mapped| mapped.pages.end)
            .max()
            .unwrap_or(0);
        match self
            .cpus()
            .iter()
            .find(|cpu| cpu.section().range.start < pages_end)
        {
            Some(cpu) => Err(bad_edit(
                "the edit changes the length of a section in front of RAM pages with fixed file \
                 offsets",
            )
            .at_offset(cpu.section().range.start)
            .prepend_path(&cpu_path(cpu))),
            None => Ok(()),
        }
    }

    fn package_replacement(&self, growth: i64) -> Result<Option<Replacement>, Error> {
        let Some(package) = self.package().filter(|_| growth != 0) else {
            return Ok(None);
        };
        let length = package.range.end - package.range.start;
        Ok(Some(Replacement {
            range: package.length_field..package.length_field + 4,
            bytes: grown_package_length(length, growth)?.to_be_bytes().to_vec(),
        }))
    }

    /// Returns the description with the new list lengths and subsections, if it was parsed.
    fn description_replacement(
        &self,
        source: &dyn ReadAt,
        changed: &[(u32, Cpu)],
    ) -> Result<Option<Replacement>, Error> {
        let (Some(description), Some(range)) = (&self.description, self.layout.description.clone())
        else {
            return Ok(None);
        };
        let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let text = read_bytes(source, range.start, count)?;
        let changed: HashMap<u32, &Cpu> = changed
            .iter()
            .map(|(instance, cpu)| (*instance, cpu))
            .collect();
        let mut patches = Vec::new();
        for device in &description.devices {
            if let (Some(state), Some(cpu)) = (&device.state, changed.get(&device.instance)) {
                let distance = device.state_distance;
                let own = collect_patches(&text[distance..], state, cpu);
                patches.extend(own.into_iter().map(|(range, new)| {
                    let range = range.start + distance..range.end + distance;
                    (range, new)
                }));
            }
        }
        let text = apply_patches(&text, patches);
        let length = u32::try_from(text.len())
            .map_err(|_| bad_edit("the description would exceed 4 GiB"))?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(text);
        Ok(Some(Replacement {
            range: range.start - 4..range.end,
            bytes,
        }))
    }

    /// Opens the edited stream and checks that it holds the changed sections.
    fn read_back(
        &self,
        source: &dyn ReadAt,
        edit: &Edit,
        changed: &[(u32, Cpu)],
    ) -> Result<(), Error> {
        if !matches!(
            self.open_method(),
            OpenMethod::Description | OpenMethod::Verified
        ) {
            return Ok(());
        }
        let mismatch = || bad_edit("the edited stream does not read back as intended");
        let edited = Self::open_by_description(&edit.apply_to(source)).map_err(|_| mismatch())?;
        let is_same = edited.cpus().len() == self.cpus().len()
            && changed.iter().all(|(instance, cpu)| {
                edited.cpus().iter().any(|other| {
                    other.section().instance == *instance && other.bytes() == cpu.bytes()
                })
            });
        if is_same { Ok(()) } else { Err(mismatch()) }
    }
}

impl Cpu {
    /// Returns the section with `state` in place of its current state.
    ///
    /// The result equals that of [`Stream::edit`] with the changes of [`Stream::diff_to`]. This
    /// function parses the new section and compares the parsed state with `state`.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if the section cannot hold `state`.
    pub fn with_state(&self, state: &Vcpu) -> Result<Self, Error> {
        if state.is_halted.is_some() {
            return Err(bad_edit("another section holds the state of the halt")
                .prepend_path(&cpu_path(self)));
        }
        let edit = diff_cpu(self, &self.vcpu()?, state).prepend_path(|| cpu_path(self))?;
        let changed = apply_cpu_edit(self, &edit).prepend_path(|| cpu_path(self))?;
        if changed.vcpu()?.is_same_state(state) {
            Ok(changed)
        } else {
            Err(
                bad_edit("the edited section does not read back as intended")
                    .prepend_path(&cpu_path(self)),
            )
        }
    }
}

/// Returns the length of a package after its content has grown.
pub(crate) fn grown_package_length(length: u64, growth: i64) -> Result<u32, Error> {
    length
        .checked_add_signed(growth)
        .and_then(|length| u32::try_from(length).ok())
        .ok_or_else(|| bad_edit("the package would exceed 4 GiB"))
}

fn cpu_path(cpu: &Cpu) -> String {
    format!("cpu[{}]", cpu.section().instance)
}

fn bad_edit(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadEdit, message)
}

pub(crate) fn to_i64(length: usize) -> Result<i64, Error> {
    i64::try_from(length).map_err(|_| bad_edit("the section exceeds the maximum length of a file"))
}

/// Returns the edit that turns one vCPU's state into another's.
fn diff_cpu(cpu: &Cpu, old: &Vcpu, new: &Vcpu) -> Result<CpuEdit, Error> {
    let mut registers = new
        .registers
        .iter()
        .map(|(id, value)| match value.as_u64() {
            Some(value) => Ok((id, value)),
            None => Err(bad_edit(format!(
                "register {:#018x} is wider than 64 bits",
                id.raw()
            ))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let is_order = |extension: &&Extension| extension.name == Extension::HVF_ORDER;
    if new.extensions.iter().any(|extension| is_order(&extension)) {
        hvf::unsort(&mut registers);
    }
    let mut extensions = Vec::new();
    for extension in old.extensions.iter().filter(|it| !is_order(it)) {
        if !new
            .extensions
            .iter()
            .any(|other| other.name == extension.name)
        {
            extensions.push(ExtensionChange::Remove(extension.name.to_string()));
        }
    }
    for extension in new.extensions.iter().filter(|it| !is_order(it)) {
        if !old.extensions.contains(extension) {
            extensions.push(ExtensionChange::Set(extension.clone()));
        }
    }
    // Keep the bytes of an equal list, even if cpreg would encode it differently.
    let is_unchanged = registers.iter().copied().eq(cpu.registers());
    // A vCPU that is switched off stays halted.
    let is_on = cpu.trailing_fields().power_state == POWER_ON;
    Ok(CpuEdit {
        registers: (!is_unchanged).then_some(registers),
        extensions,
        wake: new.is_halted == Some(false) && is_on,
    })
}

/// Subsection that an edit builds.
struct SubsectionDraft {
    name: String,
    version: u32,
    content: Vec<u8>,
    subsections: Vec<Self>,
}

impl SubsectionDraft {
    fn from_subsection(cpu: &Cpu, subsection: &Subsection) -> Self {
        Self {
            name: subsection.name.clone(),
            version: subsection.version,
            content: cpu.content(subsection).to_vec(),
            subsections: subsection
                .subsections
                .iter()
                .map(|inner| Self::from_subsection(cpu, inner))
                .collect(),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let length = u8::try_from(self.name.len())
            .map_err(|_| bad_edit("the name has more than 255 bytes").prepend_path(&self.name))?;
        bytes.extend([SUBSECTION, length]);
        bytes.extend(self.name.as_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(&self.content);
        self.subsections
            .iter()
            .try_for_each(|subsection| subsection.write(bytes))
    }

    /// Appends the names of `drafts` and of all subsections inside them, in stream order.
    fn collect_names<'d>(drafts: &'d [Self], names: &mut Vec<&'d String>) {
        for draft in drafts {
            names.push(&draft.name);
            Self::collect_names(&draft.subsections, names);
        }
    }
}

/// Returns the section with the edit applied.
fn apply_cpu_edit(cpu: &Cpu, edit: &CpuEdit) -> Result<Cpu, Error> {
    let old = cpu.bytes();
    let mut bytes = old[..cpu::COUNT_OFFSET].to_vec();
    match &edit.registers {
        Some(registers) => write_registers(&mut bytes, registers)?,
        None => bytes.extend(&old[cpu::COUNT_OFFSET..cpu.trailing_fields_start()]),
    }
    let mut trailing_fields =
        old[cpu.trailing_fields_start()..][..cpu::TRAILING_FIELDS_LEN].to_vec();
    let mut drafts: Vec<SubsectionDraft> = cpu
        .subsections()
        .iter()
        .map(|subsection| SubsectionDraft::from_subsection(cpu, subsection))
        .collect();
    for change in &edit.extensions {
        match change {
            ExtensionChange::Remove(name) if name == Extension::FEATURES => {
                set_features(&mut trailing_fields, 0);
            }
            ExtensionChange::Remove(name) => remove_draft(&mut drafts, name)?,
            ExtensionChange::Set(extension) if extension.name == Extension::FEATURES => {
                match extension.content {
                    Content::Number(features) => set_features(&mut trailing_fields, features),
                    Content::Bytes(_) => {
                        return Err(
                            bad_edit("the content must be a number").prepend_path(&extension.name)
                        );
                    }
                }
            }
            ExtensionChange::Set(extension) => set_extension(&mut drafts, extension)?,
        }
    }
    bytes.extend(trailing_fields);
    drafts
        .iter()
        .try_for_each(|draft| draft.write(&mut bytes))?;

    let mut section = cpu.section().clone();
    section.payload.end = section.payload.start + bytes.len() as u64;
    let edited = Cpu::parse(section.clone(), bytes, None).map_err(|error| {
        let mut message = String::from("the edited section cannot be read: ");
        message += error.message();
        bad_edit(message).prepend_path(error.path())
    })?;
    // The parser may read a new subsection as content of a preceding one of unknown length.
    let mut names = Vec::new();
    SubsectionDraft::collect_names(&drafts, &mut names);
    let parsed_subsections = edited.all_subsections();
    if !parsed_subsections
        .iter()
        .map(|parsed| &parsed.name)
        .eq(names)
    {
        return Err(bad_edit(
            "the edited section parses into other subsections than intended",
        ));
    }
    Ok(edited)
}

fn write_registers(bytes: &mut Vec<u8>, registers: &[(RegisterId, u64)]) -> Result<(), Error> {
    let count = i32::try_from(registers.len())
        .ok()
        .filter(|_| registers.len() <= cpu::MAX_REGISTERS)
        .ok_or_else(|| bad_edit(format!("the list has {} registers", registers.len())))?;
    let ids: Vec<_> = registers.iter().map(|(id, _)| *id).collect();
    let is_ascending_required = !hvf::is_unsorted_order(&ids);
    for (index, (id, value)) in registers.iter().enumerate() {
        let raw = id.raw();
        let fault = |problem: &str| {
            Err(bad_edit(format!("{raw:#018x} {problem}"))
                .prepend_path(&format!("cpreg_vmstate_indexes[{index}]")))
        };
        if !cpu::is_register(raw) {
            return fault("is not a register id that QEMU accepts");
        }
        if is_ascending_required && index > 0 && registers[index - 1].0 >= *id {
            return fault("is not greater than the id before it");
        }
        // Bits 55:52: log2 of the size in bytes.
        if raw >> 52 & 15 == 2 && *value > u64::from(u32::MAX) {
            return fault("is a 32-bit register, but its value needs more bits");
        }
    }
    bytes.extend(count.to_be_bytes());
    for (id, _) in registers {
        bytes.extend(id.raw().to_be_bytes());
    }
    for (_, value) in registers {
        bytes.extend(value.to_be_bytes());
    }
    Ok(())
}

fn set_features(trailing_fields: &mut [u8], features: u64) {
    trailing_fields[cpu::FEATURES_OFFSET..][..8].copy_from_slice(&features.to_be_bytes());
}

/// Returns the list that contains the subsection of this name, and the index in that list.
fn find_draft<'d>(
    drafts: &'d mut Vec<SubsectionDraft>,
    name: &str,
) -> Option<(&'d mut Vec<SubsectionDraft>, usize)> {
    if let Some(index) = drafts.iter().position(|draft| draft.name == name) {
        return Some((drafts, index));
    }
    drafts
        .iter_mut()
        .find_map(|draft| find_draft(&mut draft.subsections, name))
}

fn remove_draft(drafts: &mut Vec<SubsectionDraft>, name: &str) -> Result<(), Error> {
    match find_draft(drafts, name) {
        Some((list, index)) => {
            list.remove(index);
            Ok(())
        }
        None => Err(bad_edit("the subsection to remove does not exist").prepend_path(name)),
    }
}

fn set_extension(drafts: &mut Vec<SubsectionDraft>, extension: &Extension) -> Result<(), Error> {
    let name = &*extension.name;
    let content = match &extension.content {
        Content::Number(number) => number.to_be_bytes().to_vec(),
        Content::Bytes(bytes) => bytes.clone(),
    };
    if let Some((list, index)) = find_draft(drafts, name) {
        list[index].content = content;
        return Ok(());
    }
    let fault = |message: &'static str| Err(bad_edit(message).prepend_path(name));
    if !name.starts_with("cpu/") || !crate::cursor::is_name(name.as_bytes()) {
        return fault("not a valid subsection name");
    }
    let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
    let list = if parent == CPU {
        drafts
    } else {
        match find_draft(drafts, parent) {
            Some((list, index)) => &mut list[index].subsections,
            None => return fault("its parent subsection is missing"),
        }
    };
    list.push(SubsectionDraft {
        name: name.to_owned(),
        version: cpu::subsection_version(name),
        content,
        subsections: Vec::new(),
    });
    Ok(())
}
