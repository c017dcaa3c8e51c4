//! What is known about one register: the answer of `explain REG [VALUE]`, once, for both forms.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer |
//! | [`kernels`] | which recorded kernels list it, in few words |
//! | [`text`] | its text |
//! | [`model`] | its model, schema `cpreg.explain/2` |
//! | `json` | the answer as its model |
//!
//! Nothing is decided here: kinds, hidden registers and tolerances are those of the crate `cpreg`.

mod json;
mod kernels;
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

/// What is known about a register.
#[derive(Debug)]
pub struct RegisterExplanation<'a> {
    /// The register.
    pub id: RegisterId,
    /// The one field that was asked for.
    pub field: Option<Field>,
    /// The value that was given, of the register or of that field.
    pub value: Option<u64>,
    /// Each recorded kernel, oldest first; of its values only the field, if one was asked for.
    pub kernels: Vec<KernelSummary<'a>>,
    /// The table's entries about it, with their numbers.
    pub tolerances: Vec<(usize, &'a Tolerance)>,
}

impl<'a> RegisterExplanation<'a> {
    /// Looks a register up.
    pub fn new(
        wanted: RegisterSelection,
        value: Option<u64>,
        history: &'a HostIndex,
        tolerances: &'a Tolerances,
    ) -> Self {
        let entries = tolerances.entries().iter().enumerate();
        Self {
            id: wanted.id,
            field: wanted.field,
            value,
            kernels: kernels::kernel_summaries(history, wanted.id, wanted.field),
            tolerances: entries
                .filter(|(_, entry)| entry.registers.contains(wanted.id))
                .collect(),
        }
    }

    /// Its name under KVM, or the spelling that stands for one.
    pub fn name(&self) -> String {
        self.id.to_string()
    }

    /// Its name where ids mean what they encode, if that is another one.
    pub fn name_under_tcg(&self) -> Option<String> {
        self.id.system_register()?;
        let name = self.id.display_in(Naming::Architectural).to_string();
        (name != self.name()).then_some(name)
    }

    /// Whether the tables have a name for it.
    pub fn is_named(&self) -> bool {
        // An AArch32 register of the Secure bank, a slot, a slice are named after the register that they are part of.
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

    /// `S3_0_C2_C0_3` of a system register.
    pub fn encoding(&self) -> Option<String> {
        let it = self.id.system_register()?;
        let (op0, op1, crn, crm, op2) = (it.op0, it.op1, it.crn, it.crm, it.op2);
        Some(format!("S{op0}_{op1}_C{crn}_C{crm}_{op2}"))
    }

    /// What QEMU 11 calls it in messages; `None` where it cannot be met.
    pub fn qemu_name(&self, accelerator: Accelerator) -> Option<String> {
        let is_met = match accelerator {
            Accelerator::Kvm => !matches!(
                self.id.decode(),
                DecodedId::Coprocessor(_) | DecodedId::Unknown
            ),
            Accelerator::Tcg | Accelerator::Hvf => self.id.qemu_key().is_some(),
        };
        is_met.then(|| predict::register_name(self.id, accelerator))
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

    /// Whether KVM is known to have it: a recorded kernel lists it, or lists it for guests that were not recorded.
    pub fn is_kvm_register(&self) -> bool {
        self.kernels.iter().any(|row| row.listed_recordings != 0) || self.hidden_by().is_some()
    }

    /// Whether the id is of a form that lists of registers have.
    pub fn has_known_form(&self) -> bool {
        self.id.decode() != DecodedId::Unknown
    }

    /// Whether it is one of those that only QEMU under TCG has, by its id.
    pub fn is_aarch32(&self) -> bool {
        matches!(self.id.decode(), DecodedId::Coprocessor(_))
    }

    /// What KVM does with values, by the register's kind.
    pub fn accepted_values(&self) -> &'static str {
        match self.kind() {
            RegisterKind::Storage => "holds what it is given, perhaps with some bits masked",
            RegisterKind::Counter => {
                "time itself: what is written becomes an offset for the whole VM"
            }
            RegisterKind::Identification | RegisterKind::CacheType => {
                "takes its own value, and lower values of the fields that the kernel lets the VMM change"
            }
            RegisterKind::Implementation => {
                "takes only its own value, unless the VMM asks for writable implementation registers (v6.15)"
            }
            RegisterKind::CacheLevels | RegisterKind::CacheSize(_) => {
                "takes only its own value before v6.3; since then the kernel makes cache geometry up and takes another"
            }
            RegisterKind::LockStatus => "only the lock itself (OSLK) may differ",
            RegisterKind::PmuModel => "takes 0 or its own value",
            RegisterKind::PsciVersion => "takes every version that the kernel knows, up to its own",
            RegisterKind::Workaround(_) => {
                "compared with what the host needs and offers, not stored: takes a level that promises no more"
            }
            RegisterKind::FirmwareBitmap(_) => {
                "takes any of the services that the kernel has, not others"
            }
            RegisterKind::VectorLengths => {
                "takes lengths that the host has, once, before the vCPU is finalized"
            }
            _ => "nothing tells which values it takes",
        }
    }

    /// Whose it is.
    pub fn scope(&self) -> Scope {
        self.kind().scope()
    }

    /// The ID field that hides it when it is 0.
    pub fn hidden_by(&self) -> Option<&'static FeatureGate> {
        kernel::find_feature_gate(self.id)
    }

    /// The fields that it has where a value says nothing else.
    pub fn fields(&self) -> Vec<Field> {
        match (self.field, self.value) {
            (Some(field), _) => vec![field],
            (None, Some(value)) => self.id.fields_for_value(value).to_vec(),
            (None, None) => self.id.fields().to_vec(),
        }
    }

    /// The fields of the value that was given, and its set bits that belong to none.
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

    /// What the value that was given means, where it has a name.
    pub fn meaning(&self) -> Option<&'static str> {
        let (id, value) = (self.id, self.value?);
        match self.field {
            Some(field) => RegisterField { id, field }.value_name(value),
            None => id.value_name(value).or_else(|| {
                let read = AtReset::from_value(id, Value::U64(value));
                (read == AtReset::Poison).then_some("KVM's reset poison: nothing has been written")
            }),
        }
    }

    /// Values that have names: of the register, or of its fields.
    pub fn named_values(&self) -> Vec<(Option<Field>, u64, &'static str)> {
        let id = self.id;
        let of_fields = self.fields().into_iter().flat_map(|field| {
            let values = RegisterField { id, field }.named_values();
            values.map(move |(value, name)| (Some(field), value, name))
        });
        let whole = id.named_values().map(|(value, name)| (None, value, name));
        whole
            .filter(|_| self.field.is_none())
            .chain(of_fields)
            .collect()
    }

    /// The recorded kernels of which a fresh vCPU held the value that was given.
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
                .any(|held| held.at_reset == given)
        });
        Some(holding.map(|row| &*row.kernel.version).collect())
    }
}
