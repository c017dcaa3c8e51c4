//! Report of `explain REG [VALUE]`: one register.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the explanation, for both forms |
//! | `kernels` | summary of the recorded kernels that list the register |
//! | [`text`] | text of the explanation |
//! | [`model`] | its model, schema `cpreg.explain/2` |
//! | `json` | conversion of the explanation to the model |
//!
//! This module decides nothing: kinds, hidden registers and tolerances come from the crate `cpreg`.

mod json;
pub(crate) mod kernels;
pub mod model;
pub mod text;

use cpreg::destination::Accelerator;
use cpreg::destination::kernel::{self, FeatureGate, RegisterKind, Scope};
use cpreg::register::{DecodedId, Field, Naming, RegisterField, RegisterId, Value};
use cpreg::tolerance::{Tolerance, Tolerances};
use cpreg_explain::qemu::predict;
use cpreg_hosts::HostIndex;
use cpreg_hosts::record::AtReset;

use crate::field::{FieldValue, RegisterSelection, decode_fields};
use kernels::KernelSummary;

/// Explanation of a register.
#[derive(Debug)]
pub struct RegisterExplanation<'a> {
    /// The register.
    pub id: RegisterId,
    /// The selected field.
    pub field: Option<Field>,
    /// The given value of the register or of the selected field.
    pub value: Option<u64>,
    /// Recorded kernels, oldest first, with values of the selected field only.
    pub kernels: Vec<KernelSummary<'a>>,
    /// Tolerances of the register, with their numbers in the table.
    pub tolerances: Vec<(usize, &'a Tolerance)>,
}

impl<'a> RegisterExplanation<'a> {
    /// Looks up a register.
    pub fn new(
        selection: RegisterSelection,
        value: Option<u64>,
        history: &'a HostIndex,
        tolerances: &'a Tolerances,
    ) -> Self {
        let entries = tolerances.entries().iter().enumerate();
        Self {
            id: selection.id,
            field: selection.field,
            value,
            kernels: kernels::kernel_summaries(history, selection.id, selection.field),
            tolerances: entries
                .filter(|(_, entry)| entry.registers.contains(selection.id))
                .collect(),
        }
    }

    /// Returns the name under KVM, or the spelling of a register without a name.
    pub fn name(&self) -> String {
        self.id.to_string()
    }

    /// Returns the name under TCG, where the id has its architectural meaning, if it differs.
    pub fn name_under_tcg(&self) -> Option<String> {
        self.id.system_register()?;
        let name = self.id.display_in(Naming::Architectural).to_string();
        (name != self.name()).then_some(name)
    }

    /// Returns `true` if the tables have a name for the register.
    pub fn is_named(&self) -> bool {
        // Secure AArch32 registers, slots and slices have the name of the register they belong to.
        let is_part = matches!(
            self.id.decode(),
            DecodedId::Demux { index: 0, .. }
                | DecodedId::SveZ { .. }
                | DecodedId::SveP { .. }
                | DecodedId::SveFfr { .. }
        );
        let naming = [Naming::Kvm, Naming::Architectural];
        is_part || naming.iter().any(|it| self.id.name_in(*it).is_some())
    }

    /// Returns the encoding of a system register: `S3_0_C2_C0_3`.
    pub fn encoding(&self) -> Option<String> {
        let it = self.id.system_register()?;
        let (op0, op1, crn, crm, op2) = (it.op0, it.op1, it.crn, it.crm, it.op2);
        Some(format!("S{op0}_{op1}_C{crn}_C{crm}_{op2}"))
    }

    /// Returns the name in QEMU 11's messages; `None` if the register cannot occur there.
    pub fn qemu_name(&self, accelerator: Accelerator) -> Option<String> {
        let can_occur = match accelerator {
            Accelerator::Kvm => !matches!(
                self.id.decode(),
                DecodedId::Coprocessor(_) | DecodedId::Unknown
            ),
            Accelerator::Tcg | Accelerator::Hvf => self.id.qemu_key().is_some(),
        };
        can_occur.then(|| predict::register_name(self.id, accelerator))
    }

    /// Returns the purpose in a sentence.
    pub fn purpose(&self) -> Option<&'static str> {
        let kvm = self.id.purpose(Naming::Kvm);
        kvm.or_else(|| self.id.purpose(Naming::Architectural))
    }

    /// Returns the kind by which KVM treats it.
    pub fn kind(&self) -> RegisterKind {
        RegisterKind::from_id(self.id)
    }

    /// Returns `true` if KVM is known to have the register: a recorded kernel lists it, or an ID
    /// field is known to hide it.
    pub fn is_kvm_register(&self) -> bool {
        self.kernels.iter().any(|row| row.listed_recordings != 0) || self.hidden_by().is_some()
    }

    /// Returns `true` if the id has a form that register lists contain.
    pub fn has_known_form(&self) -> bool {
        self.id.decode() != DecodedId::Unknown
    }

    /// Returns `true` if the id is that of an AArch32 register, which only QEMU under TCG has.
    pub fn is_aarch32(&self) -> bool {
        matches!(self.id.decode(), DecodedId::Coprocessor(_))
    }

    /// Returns the values that KVM accepts for registers of this kind.
    pub fn accepted_values(&self) -> &'static str {
        accepted_values(self.id)
    }

    /// Returns the scope of the register.
    pub fn scope(&self) -> Scope {
        self.kind().scope()
    }

    /// Returns the ID field that hides the register when it is 0.
    pub fn hidden_by(&self) -> Option<&'static FeatureGate> {
        kernel::find_feature_gate(self.id)
    }

    /// Returns the selected field, or all fields; those of the given value if fields depend on the
    /// value.
    pub fn fields(&self) -> Vec<Field> {
        match (self.field, self.value) {
            (Some(field), _) => vec![field],
            (None, Some(value)) => self.id.fields_for_value(value).to_vec(),
            (None, None) => self.id.fields().to_vec(),
        }
    }

    /// Returns the fields of the given value, and its set bits that belong to no field.
    pub fn decoded_fields(&self) -> Vec<FieldValue> {
        let Some(value) = self.value else {
            return Vec::new();
        };
        match self.field {
            Some(field) => vec![FieldValue {
                field,
                value,
                meaning: self.meaning(),
            }],
            None => decode_fields(self.id, value),
        }
    }

    /// Returns the meaning of the given value, if it has a name.
    pub fn meaning(&self) -> Option<&'static str> {
        let (id, value) = (self.id, self.value?);
        match self.field {
            Some(field) => RegisterField { id, field }.value_name(value),
            None => id.value_name(value).or_else(|| {
                let read = AtReset::from_value(id, Value::U64(value));
                (read == AtReset::Poison).then_some("KVM's reset poison: not written yet")
            }),
        }
    }

    /// Returns the named values of the register and of its fields.
    pub fn named_values(&self) -> Vec<(Option<Field>, u64, &'static str)> {
        let id = self.id;
        let field_values = self.fields().into_iter().flat_map(|field| {
            let values = RegisterField { id, field }.named_values();
            values.map(move |(value, name)| (Some(field), value, name))
        });
        let whole = id.named_values().map(|(value, name)| (None, value, name));
        whole
            .filter(|_| self.field.is_none())
            .chain(field_values)
            .collect()
    }

    /// Returns the recorded kernels of which a fresh vCPU held the given value.
    pub fn kernels_with_value(&self) -> Option<Vec<&'a str>> {
        let given = self.value?;
        let given = match self.field {
            Some(_) => AtReset::Value(Value::U64(given)),
            None => AtReset::from_value(self.id, Value::U64(given)),
        };
        let rows = self.kernels.iter();
        let holding = rows.filter(|row| {
            row.observations
                .values
                .iter()
                .any(|value| value.at_reset == given)
        });
        Some(holding.map(|row| &*row.kernel.version).collect())
    }
}

/// Returns the values that KVM accepts for registers of the kind of `id`.
pub(crate) fn accepted_values(id: RegisterId) -> &'static str {
    match RegisterKind::from_id(id) {
        RegisterKind::Storage => "accepts any value, perhaps with some bits masked",
        RegisterKind::Counter => "a counter: a written value becomes an offset for the whole VM",
        RegisterKind::Identification | RegisterKind::CacheType => {
            "accepts its own value, and lower values of the fields that the VMM may change"
        }
        RegisterKind::Implementation => {
            "accepts only its own value, unless the VMM enables writable implementation registers (v6.15)"
        }
        RegisterKind::CacheLevels | RegisterKind::CacheSize(_) => {
            "accepts only its own value before v6.3; since then the cache geometry is synthetic, and \
             another one is accepted"
        }
        RegisterKind::LockStatus => "only the lock itself (OSLK) may differ",
        RegisterKind::PmuModel => "accepts 0 or its own value",
        RegisterKind::PsciVersion => {
            "accepts every version that the kernel implements, up to its own"
        }
        RegisterKind::Workaround(_) => {
            "compared with the host's level, not stored: accepts a level that promises no more"
        }
        RegisterKind::FirmwareBitmap(_) => {
            "accepts any of the services that the kernel has, and no others"
        }
        RegisterKind::VectorLengths => {
            "accepts lengths that the host has, once, before the vCPU is finalized"
        }
        _ => "the accepted values are not known",
    }
}
