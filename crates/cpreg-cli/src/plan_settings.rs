//! [`PlanSettings`]: tolerances and consents for plans of many VMs.

use cpreg::plan::Consents;
use cpreg::register::Naming;
use cpreg::tolerance::Tolerances;
use cpreg_fleet::PlanInputs;

use crate::arguments::ConsentArgs;
use crate::consents;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::tolerances;

/// Tolerances and consents for plans of many VMs.
pub(crate) struct PlanSettings {
    pub(crate) tolerances: Tolerances,
    consents: Consents,
}

impl PlanSettings {
    /// Reads the tolerance files and the consents in the arguments.
    ///
    /// # Errors
    /// Those of [`tolerances::read`] and [`consents::read_for_any_vm`].
    pub(crate) fn read(arguments: &ConsentArgs, printer: &Printer) -> Result<Self, Failure> {
        Ok(Self {
            tolerances: tolerances::read(&arguments.tolerances, printer)?,
            consents: consents::read_for_any_vm(arguments, Naming::Kvm)?,
        })
    }

    pub(crate) fn inputs(&self) -> PlanInputs<'_> {
        PlanInputs {
            tolerances: &self.tolerances,
            consents: &self.consents,
        }
    }
}
