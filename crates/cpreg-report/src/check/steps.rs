//! Next steps of a check, with commands that the user can type.

use cpreg::destination::ValueOrigin;
use cpreg::destination::loader::Program;
use cpreg::plan::{Action, Decision, HardwareAction, Verdict};

use super::hardware::{self, RECORD};
use super::{CheckFindings, SourceKind, WrittenFile, cpu_template, snapshot_editor};
use crate::command::{CommandKind, STANDARD_STREAM, Step, quote};
use crate::remedy::Vmm;

/// Placeholder for the name of a stream.
const STREAM: &str = "STREAM";
/// Placeholder for the name of a new file.
const OUTPUT: &str = "OUTPUT";
impl CheckFindings<'_> {
    /// Returns the next steps, best first. The list is empty if nothing is left to do.
    pub fn next_steps(&self) -> Vec<Step> {
        match self.verdict() {
            Verdict::Unknown => self.steps_for_unknown(),
            Verdict::Refused => self.steps_for_refused(),
            Verdict::Loads | Verdict::Converts if self.is_loaded_by_plan() => Vec::new(),
            verdict => self.steps_for_load(verdict),
        }
    }

    /// Returns the first command of the next steps, if it can be typed.
    pub fn next_command(&self) -> Option<String> {
        let step = self.next_steps().into_iter().next()?;
        step.commands.into_iter().next()
    }

    /// Returns the steps that load a VM, converted if the verdict says so.
    fn steps_for_load(&self, verdict: Verdict) -> Vec<Step> {
        let typed = &self.command;
        if let Some(loader) = self.destination.loader
            && loader.writes_only_incoming()
        {
            return self.steps_for_snapshot(loader.program, verdict);
        }
        match (typed.kind, self.source.kind) {
            // A program that reads standard output has the stream.
            (CommandKind::Convert, _)
                if self
                    .written
                    .as_ref()
                    .is_some_and(WrittenFile::is_standard_output) =>
            {
                Vec::new()
            }
            (CommandKind::Convert, _) => {
                let file = self.written.as_ref().map_or(&typed.source, |it| &it.path);
                let (purpose, command) = self.source.loading.step(file);
                vec![Step::new(purpose, [command])]
            }
            (CommandKind::Check, SourceKind::NewVm) => vec![Step::new(
                "a running VM holds other values than a new one: save it, and check its stream",
                [typed.check(STREAM, &typed.destination)],
            )],
            (CommandKind::Check, _) if verdict == Verdict::Loads => vec![Step::new(
                "to test its devices too, load it without RAM on the destination; COMMAND is the \
                 QEMU command line of the VM there",
                [format!(
                    "cpreg rehearse {} -- COMMAND",
                    quote(&typed.source)
                )],
            )],
            // Standard input can be read only once.
            (CommandKind::Check, SourceKind::Stream) if typed.source == STANDARD_STREAM => {
                vec![Step::new("convert the VM", [typed.convert(STREAM, OUTPUT)])]
            }
            (CommandKind::Check, SourceKind::Stream) => vec![Step::new(
                "convert the VM",
                [typed.convert(&typed.source, &typed.output())],
            )],
            (CommandKind::Check, SourceKind::Report) => vec![Step::new(
                "convert the stream from which the report was made",
                [typed.convert(STREAM, OUTPUT)],
            )],
            (CommandKind::Check, SourceKind::Monitor) => vec![Step::new(
                "migrate the running VM through the relay, which converts it",
                [format!(
                    "cpreg relay --listen ADDRESS --connect ADDRESS --to {} --from {}{}",
                    quote(&typed.destination),
                    quote(&typed.source),
                    self.consent_options()
                )],
            )],
            (CommandKind::Filter | CommandKind::Relay | CommandKind::Rehearse, _)
            | (CommandKind::Check, SourceKind::Setup) => Vec::new(),
        }
    }

    /// Returns the steps that load a snapshot of Firecracker or Cloud Hypervisor.
    fn steps_for_snapshot(&self, program: Program, verdict: Verdict) -> Vec<Step> {
        let typed = &self.command;
        if typed.kind == CommandKind::Convert {
            let file = self.written.as_ref().map_or(&typed.source, |it| &it.path);
            let file = quote(file);
            let purpose = if program == Program::FIRECRACKER {
                format!("load {file} with the VM's own memory file (`PUT /snapshot/load`)")
            } else {
                format!("put {file} into the snapshot's folder as `state.json`, and restore the VM")
            };
            let mut steps = vec![Step::new(purpose, [])];
            steps.extend(self.template_step());
            return steps;
        }
        if verdict == Verdict::Loads {
            return Vec::new();
        }
        let convert = typed.convert(&typed.source, &typed.output());
        let mut steps = vec![Step::new("convert the VM", [convert])];
        if program == Program::FIRECRACKER
            && let Some(removed) = snapshot_editor::removed_registers(self)
        {
            let command = snapshot_editor::command(&removed, &typed.source, &typed.output());
            steps.push(Step::new(
                "make the same change with Firecracker's own program",
                [command],
            ));
        }
        steps.extend(self.template_step());
        steps
    }

    /// Returns the step that starts the next VM of Firecracker without a difference that a setting
    /// avoids.
    fn template_step(&self) -> Option<Step> {
        if self.vmm() != Vmm::Firecracker {
            return None;
        }
        let plan = &self.check.plan;
        let values = plan.birth_values(self.destination, self.tolerances);
        (!values.is_empty()).then(|| {
            Step::new(
                "for the next VM: give both hosts' VMs the same registers with a CPU template, \
                 before the VM first boots",
                [cpu_template::command(&values)],
            )
        })
    }

    /// Returns the user's options that `relay` also has, each after a space.
    fn consent_options(&self) -> String {
        let mut words = self.command.options.iter();
        let mut text = String::new();
        while let Some(word) = words.next() {
            if word == "--from" {
                words.next();
            } else {
                text.push(' ');
                text.push_str(&quote(word));
            }
        }
        text
    }

    fn steps_for_refused(&self) -> Vec<Step> {
        let mut steps: Vec<_> = self.proposal_step().into_iter().collect();
        let is_refused = |decision: &Decision| decision.action == Action::Refuse;
        let refused = self.check.plan.decisions_where(is_refused);
        let refused = refused.first();
        if steps.is_empty()
            && let Some((_, decision)) = refused
        {
            let name = self.value_format.name(decision.register);
            steps.push(Step::new(
                "no option of cpreg resolves every blocker; see the fixes below. About the first \
                 register",
                [format!("cpreg explain {}", quote(&name))],
            ));
        }
        if steps.is_empty() {
            steps.push(Step::new(
                "no option of cpreg resolves the blockers; see the fixes below",
                [],
            ));
        }
        steps.extend(self.template_step());
        steps
    }

    /// Returns the step that accepts all proposed changes, if they resolve all blockers.
    fn proposal_step(&self) -> Option<Step> {
        let purpose = if self.verdict() == Verdict::Unknown {
            "change the values in doubt to values that the destination is known to accept, if the \
             guest may notice that"
        } else {
            "accept the changes of value that are proposed below, if the guest may notice them"
        };
        let consents = self.consent_words();
        self.are_proposals_sufficient()
            .then(|| Step::new(purpose, [self.command.with_options(&consents)]))
    }

    /// Returns the steps that give the missing information, best first.
    fn steps_for_unknown(&self) -> Vec<Step> {
        let mut steps = match self.decisive_alternatives() {
            Some(alternatives) => alternatives.steps(),
            None => self.steps_for_plan(),
        };
        if matches!(self.vmm(), Vmm::Qemu | Vmm::Unknown) {
            steps.push(self.rehearse_step());
        }
        steps
    }

    fn rehearse_step(&self) -> Step {
        let (purpose, source) = if self.source.kind == SourceKind::NewVm {
            (
                "start the VM on its host and save it (QEMU's monitor: `migrate file:vm.stream`); \
                 then load it without RAM into QEMU on the destination, where COMMAND is its \
                 QEMU command line",
                "vm.stream",
            )
        } else {
            (
                "load the VM without RAM into QEMU on the destination, where COMMAND is its QEMU \
                 command line; nothing is changed",
                &*self.command.source,
            )
        };
        let command = format!("cpreg rehearse {} -- COMMAND", quote(source));
        Step::new(purpose, [command])
    }

    /// Returns the steps that give the information which the shown plan lacks.
    fn steps_for_plan(&self) -> Vec<Step> {
        let undecided = self.hardware_with(HardwareAction::Undecided);
        let mut steps = hardware::steps(&undecided, &self.command);
        let check = || self.command.check(&self.command.source, RECORD);
        if self.destination.value_origin != ValueOrigin::Reset {
            steps.push(if matches!(self.vmm(), Vmm::Qemu | Vmm::Unknown) {
                Step::new(
                    "record QEMU on the destination, where COMMAND is its command line for the \
                     VM, and check again",
                    [format!("cpreg probe qemu -o {RECORD} -- COMMAND"), check()],
                )
            } else {
                Step::new(
                    "record the destination, and check again",
                    [format!("cpreg probe kvm -o {RECORD}"), check()],
                )
            });
        }
        steps.extend(self.loader_step());
        steps.extend(self.proposal_step());
        steps
    }

    /// Returns the step that names the loader, if a version of QEMU gives a verdict.
    fn loader_step(&self) -> Option<Step> {
        let decided = self.loader_verdicts.iter();
        let decided: Vec<_> = decided
            .filter(|(_, verdict)| *verdict != Verdict::Unknown)
            .collect();
        let (loader, _) = decided.last()?;
        let results = decided
            .iter()
            .map(|(loader, verdict)| format!("{}: {}", loader.version, verdict.name()));
        let results: Vec<_> = results.collect();
        let option = ["--loader".to_owned(), loader.to_string()];
        Some(Step::new(
            format!(
                "name the QEMU that will load the VM ({})",
                results.join(", ")
            ),
            [self.command.with_options(&option)],
        ))
    }
}
