//! `cpreg check SOURCE DEST`: will it load there? why not? what to do?

use cpreg::destination::{Destination, Features};
use cpreg::plan::{Check, Verdict};
use cpreg::register::Value;
use cpreg::shape::Shape;
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};
use cpreg_report as report;
use cpreg_report::attempt::Attempted;
use cpreg_report::check::{About, Answer};
use cpreg_report::value::Printing;

use crate::arguments;
use crate::arguments::{Consenting, Format};
use crate::consents;
use crate::destination::{self, Named, kvm};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::{Printer, print_json};
use crate::tolerance_file;

pub(crate) fn run(arguments: &arguments::Check, printer: &mut Printer) -> Result<Status, Failure> {
    let reading = &arguments.reading;
    let source = Input::open(&arguments.source, reading.verify, printer)?;
    let kvm = kvm::is_named(&arguments.dest).then(kvm::open).transpose()?;
    let tolerances = tolerance_file::read(&arguments.consenting.tolerances)?;
    let (named, features) = if let Some(kvm) = &kvm {
        let mut asked = kvm::ask(kvm, &arguments.dest, &source, &arguments.going)?;
        kvm::teach(kvm, &mut asked, &source, &tolerances, &arguments.consenting)?;
        (asked.named, asked.features)
    } else {
        let (dest, going) = (&arguments.dest, &arguments.going);
        let named = destination::resolve(dest, &source, going, reading.verify, printer)?;
        (named, Features::NONE)
    };
    let printing = Printing::new(named.destination.accelerator, reading.secrets);
    let mut answer = answer(
        &source,
        &named,
        &tolerances,
        &arguments.consenting,
        printing,
        printer,
    )?;
    answer.attempt = kvm.and_then(|kvm| kvm::attempt(&kvm, features, &answer.check.plan));
    if answer.loads_by_plan() && answer.attempt.as_ref().is_some_and(Attempted::succeeded) {
        answer.check.plan.was_carried_out();
    }
    report(printer, &answer, reading.format, arguments.all)?;
    Ok(status(answer.verdict()))
}

/// Reports, for `check` and `convert` alike. `all`: also what is simply copied.
pub(crate) fn report(
    printer: &mut Printer,
    answer: &Answer<'_>,
    format: Format,
    all: bool,
) -> Result<(), Failure> {
    match format {
        Format::Text => report::check::text::print(printer, answer, all),
        Format::Json => print_json(printer, &report::check::model::Report::from(answer))?,
    }
    Ok(())
}

/// Whose registers are looked at.
pub(crate) struct Subject {
    about: About,
    vm: Vm,
    /// Its outline, if it has one.
    shape: Option<Shape>,
}

impl Subject {
    /// The VM in a stream.
    pub(crate) fn of_stream(source: &Input) -> Result<Self, Failure> {
        let stream = source.stream()?;
        let vm = stream.vm().map_err(|error| {
            Failure::new(format!("cannot use {}", source.path.display())).because(error)
        })?;
        let shape = stream.shape();
        Ok(Self {
            about: About {
                name: source.name(),
                machine: shape.machine.clone(),
                vcpus: shape.vcpus,
                accelerator: stream.accelerator(),
                run_state: stream.run_state().map(str::to_owned),
                opened: stream.opened().to_string(),
            },
            vm,
            shape: Some(shape),
        })
    }

    /// A VM of which nothing is known but the host that it runs on: its registers hold what they hold there at reset, and those of which
    /// even that is not known hold 0.
    pub(crate) fn of_host(host: &Destination) -> Self {
        let vcpus = host.vcpus.iter().map(|vcpu| {
            let pairs = vcpu.registers().iter().map(|register| {
                let value = register.value.clone();
                (register.id, value.unwrap_or(Value::Small(0)))
            });
            Vcpu {
                // A host lists no register twice.
                registers: Registers::from_pairs(pairs).unwrap_or_default(),
                extensions: Vec::new(),
            }
        });
        Self {
            about: About {
                name: format!("a VM on {}", host.name),
                machine: None,
                vcpus: host.vcpus.len(),
                accelerator: host.accelerator,
                run_state: None,
                opened: "of which its host is known".to_owned(),
            },
            vm: Vm {
                vcpus: vcpus.collect(),
            },
            shape: None,
        }
    }
}

/// Plans, for `check` and `convert` alike; what the user decided and decides nothing is told at once.
pub(crate) fn answer<'a>(
    source: &Input,
    named: &'a Named,
    tolerances: &'a Tolerances,
    consenting: &Consenting,
    printing: Printing,
    printer: &Printer,
) -> Result<Answer<'a>, Failure> {
    let subject = Subject::of_stream(source)?;
    answer_about(subject, named, tolerances, consenting, printing, printer)
}

/// The same, whatever the VM is known from.
pub(crate) fn answer_about<'a>(
    subject: Subject,
    named: &'a Named,
    tolerances: &'a Tolerances,
    consenting: &Consenting,
    printing: Printing,
    printer: &Printer,
) -> Result<Answer<'a>, Failure> {
    let consents = consents::read(consenting, printing.naming)?;
    let Subject { about, vm, shape } = subject;
    if let (Some(here), Some(there)) = (about.accelerator, named.destination.accelerator)
        && here != there
    {
        return Err(Failure::new(format!(
            "{} ran under {here}, and {} is a destination under {there}",
            about.name, named.destination.name
        ))
        .hint("a VM moves only between hosts that execute it the same way"));
    }
    let check = Check::new(&vm, &named.destination, tolerances, &consents);
    for note in consents::idle(&consents, &vm, &check, printing.naming) {
        printer.note(note);
    }
    let shapes = shape.as_ref().zip(named.destination.shape.as_ref());
    Ok(Answer {
        source: about,
        destination: &named.destination,
        evidence: &named.evidence,
        tolerances,
        shape: shapes
            .map(|(here, there)| here.differences(there))
            .unwrap_or_default(),
        sets: consents.set,
        vm,
        check,
        printing,
        attempt: None,
    })
}

/// The exit status that goes with a verdict.
pub(crate) const fn status(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Loads | Verdict::Converts => Status::Done,
        Verdict::Refused => Status::Refused,
        Verdict::Unknown => Status::Unknown,
    }
}
